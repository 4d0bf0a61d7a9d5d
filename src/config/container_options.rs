//! What a container may do and use, as the configuration says it. `docker` makes the arguments of `docker run` from it.

use std::path::{Component, Path, PathBuf};

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
    /// The folders and files of this machine that they mount.
    pub sources: Vec<HostPath>,
    /// The files of this machine that docker reads for them, at each start of a container.
    pub files: Vec<PathBuf>,
    /// The absolute paths in the container where they mount something, normalized.
    pub targets: Vec<String>,
    /// The value of `--platform`.
    pub platform: Option<String>,
}

/// A folder or file of this machine that containers see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPath {
    /// Its absolute path.
    pub path: PathBuf,
    /// Whether containers may only read it.
    pub readonly: bool,
}

impl HostPath {
    /// Whether a task could replace the other one: it lies in this one, which tasks may write to. By the letters of the
    /// paths, where links may lead elsewhere.
    pub fn exposes(&self, other: &Path) -> bool {
        let (outer, inner) = (without_dots(&self.path), without_dots(other));
        !self.readonly && inner != outer && inner.starts_with(outer)
    }
}

/// The path without `.` and `..`.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
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

impl ContainerOptions {
    /// How many processes and threads a container may have, if there is a limit.
    pub fn most_processes(&self) -> Option<u64> {
        match (self.pids_limit, self.isolation) {
            (Some(0), _) => None,
            (Some(limit), _) => Some(limit),
            (None, Isolation::Standard) => Some(4096),
            (None, Isolation::Strict) => Some(512),
            (None, Isolation::None) => None,
        }
    }
}
