//! The configuration: the file's values, checked and resolved.
//!
//! [`Config::load`] reads file and environment once; no code reads either of them again. Keys and defaults stand in
//! [`keys`], the rules of each section in [`sections`] and [`executor`]. Paths are resolved against the file's own folder,
//! so that the working directory doesn't matter, and all mistakes are reported at once.

pub mod container_options;
pub mod csv;
mod docker_args;
pub mod edit;
mod environment;
mod exclude;
mod executor;
mod glob;
mod gpu;
mod host_path;
mod keys;
mod load;
mod locate;
mod problem;
#[cfg(test)]
mod properties;
mod reader;
mod script;
mod sections;
mod shared;
mod syntax;
mod values;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

pub use environment::{DOCKER_HOST_KEY, Environment, VariableKeys};
pub use exclude::{Exclude, PathKind};
pub use keys::default_of;
pub use load::ConfigError;
pub use locate::{find_file, find_new_file};
pub use problem::Problem;
pub use script::ScriptSource;
pub use shared::{Reloaded, SharedConfig};
pub use syntax::may_be_secret;
pub use values::{clean_base_url, is_api_key, is_image_name, is_service_id};

use crate::config::container_options::ContainerOptions;
use crate::data_dir::DataDir;
use crate::data_dir::last_used::{LastUsed, Missing};

/// The path of the workspace in every container (PROTOCOL, "The container contract").
pub const WORKSPACE: &str = "/workspace";

/// A whole configuration file, checked and resolved.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file's absolute path.
    pub file: PathBuf,
    pub server: ServerConfig,
    pub agent: AgentConfig,
    pub executor: ExecutorConfig,
    pub paths: PathsConfig,
    pub outputs: OutputsConfig,
    /// Parts of the file that have no effect, such as unknown keys.
    pub warnings: Vec<Problem>,
}

impl Config {
    /// The note of the data_dir that this agent has used, if it is registered.
    pub fn last_used(&self) -> Option<LastUsed> {
        let credentials = self.agent.credentials.as_ref()?;
        Some(LastUsed::new(&self.file, &credentials.service_id, &self.paths.data_dir))
    }

    /// Checks that the data_dir is where this agent has used it: nothing is made in the place of a disk that isn't mounted.
    pub fn check_data_dir_is_there(&self) -> Result<(), Missing> {
        self.last_used().map_or(Ok(()), |last_used| last_used.check())
    }
}

/// `[server]`.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Scheme, host and perhaps a path prefix, without trailing slashes.
    pub base_url: String,
    pub poll_interval: Duration,
    /// Whether the proxy variables in `environment` count.
    pub use_system_proxy: bool,
    /// The variables of the environment that matter for connections to the Server.
    pub environment: Environment,
    /// The limit of calls that all threads together make within a minute; 0 is no limit. The Server's own limit is 150
    /// for all agents of a service (PROTOCOL 6).
    pub max_requests_per_minute: usize,
}

/// `[agent]`.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// `None` before the registration.
    pub credentials: Option<Credentials>,
    pub name: String,
}

/// The Server's answer to the registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    pub service_id: String,
    pub api_key: Secret,
}

/// A text that isn't shown: its debug form is three dots.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the code that sends or stores it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// The command of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// The image's own ENTRYPOINT and CMD.
    Standard,
    /// `bash SCRIPT`.
    Bash(String),
    /// `python SCRIPT`.
    Python(String),
    /// These words in place of the image's ENTRYPOINT and CMD; at least one.
    Custom(Vec<String>),
}

/// `[executor]`.
#[derive(Debug, Clone)]
pub struct ExecutorConfig {
    pub program: Program,
    pub image: String,
    /// How many tasks run at once.
    pub capacity: usize,
    /// The time limit of a container; 0 is no limit.
    pub timeout_minutes: u64,
    /// docker's `--memory`.
    pub memory_limit: Option<String>,
    pub working_dir: String,
    /// The docker client: a name that is looked up in PATH, or an absolute path.
    pub docker: String,
    /// The time limit of a container without output; 0 is no limit.
    pub idle_timeout_minutes: u64,
    pub options: ContainerOptions,
    /// The address of the engine, in the place of `DOCKER_HOST`.
    pub docker_host: Option<String>,
    /// The container's variables beside the agent's own.
    pub env: Vec<Variable>,
}

/// A variable of a container's environment whose value is in no command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    pub name: String,
    pub value: Secret,
}

impl ExecutorConfig {
    /// The time limit of a container.
    pub fn timeout(&self) -> Option<Duration> {
        (self.timeout_minutes > 0).then(|| Duration::from_secs(self.timeout_minutes * 60))
    }

    /// The time limit of a container without output.
    pub fn idle_timeout(&self) -> Option<Duration> {
        (self.idle_timeout_minutes > 0).then(|| Duration::from_secs(self.idle_timeout_minutes * 60))
    }
}

/// `[paths]`.
#[derive(Debug, Clone)]
pub struct PathsConfig {
    pub data_dir: DataDir,
    pub mounts: Vec<Mount>,
    /// The free space in MiB that the data_dir's disk needs for a new task; 0 is no limit.
    pub min_free_disk_mb: u64,
    /// How long delivered tasks are kept; `None` is for ever.
    pub retention_hours: Option<u64>,
}

impl PathsConfig {
    /// [`PathsConfig::min_free_disk_mb`] in bytes.
    pub fn keep_free(&self) -> u64 {
        self.min_free_disk_mb.saturating_mul(1024 * 1024)
    }
}

/// `[outputs]`: limits of what is delivered of a task. Files beyond them stay on this machine, and the report names them.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputsConfig {
    /// Bytes of one file. The Server takes 50 MB unless it is configured otherwise (PROTOCOL 7).
    pub max_file: u64,
    /// Files of one task; those under `output/` are chosen first.
    pub max_files: usize,
    /// Bytes of one task.
    pub max_total: u64,
    pub exclude: Exclude,
    /// Whether the agent sends files of its own about a task, for clients that read nothing but files.
    pub notes: bool,
    pub archive: Archive,
}

/// `outputs.archive`: whose results are sent as one archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archive {
    /// No task's.
    Never,
    /// Those of a task with many files.
    Many,
    /// Every task's.
    Always,
}

/// A `[[paths.mounts]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The folder or file on this machine, absolute.
    pub host: PathBuf,
    /// Whether it was written as a relative path: such a folder is created when it doesn't exist.
    pub relative: bool,
    /// The absolute path in the container, normalized.
    pub container: String,
    pub readonly: bool,
}

#[cfg(test)]
mod tests;
