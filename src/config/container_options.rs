//! What a container may do and use, as the configuration says it. `docker` makes the arguments of `docker run` from it.

use std::path::PathBuf;

/// How far a container is isolated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Isolation {
    /// For every image that needs no setuid programs, raw sockets or device nodes.
    #[default]
    Standard,
    /// For images that need no capability at all and write to the workspace and `/tmp` only.
    Strict,
    /// docker's own defaults.
    None,
}

/// When docker pulls the image from its registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pull {
    /// Where the engine doesn't have it.
    Missing,
    Always,
    Never,
}

/// Further arguments for `docker run`, with what the agent has to know of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DockerArgs {
    /// The arguments, as written.
    pub args: Vec<String>,
    /// The absolute paths of this machine that they mount.
    pub sources: Vec<PathBuf>,
    /// The absolute paths in the container where they mount something, normalized.
    pub targets: Vec<String>,
    /// The value of `--platform`.
    pub platform: Option<String>,
}

/// What a container may do and use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerOptions {
    /// The level that the other options vary.
    pub isolation: Isolation,
    /// docker's `--network`.
    pub network: Option<String>,
    /// docker's `--cpus`.
    pub cpus: Option<String>,
    /// Replaces the level's limit of processes; 0 is no limit.
    pub pids_limit: Option<u64>,
    /// docker's `--shm-size`.
    pub shm_size: Option<String>,
    /// docker's `--user`.
    pub user: Option<String>,
    /// docker's `--gpus`.
    pub gpus: Option<String>,
    /// docker's `--device`, each.
    pub devices: Vec<String>,
    /// Whether `host.docker.internal` is this machine.
    pub host_access: bool,
    /// docker's `--pull`; without it, docker decides.
    pub pull: Option<Pull>,
    pub docker_args: DockerArgs,
}
