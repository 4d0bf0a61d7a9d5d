//! The configuration file as it is written, and what it means.
//!
//! [`Config::load`] turns the one into the other: every default and every rule stands in [`sections`], paths are resolved
//! against the file's own folder (so that cron's working directory doesn't matter), and all that is wrong is said at
//! once. Nothing after it looks at the file or the environment again. Keys and defaults are those of
//! manual/config.md.

pub mod container_options;
pub mod csv;
mod docker_args;
pub mod edit;
mod environment;
mod exclude;
mod executor;
mod gpu;
mod keys;
mod problem;
#[cfg(test)]
mod properties;
mod reader;
mod script;
mod sections;
mod values;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf, absolute};
use std::str::Utf8Error;
use std::time::Duration;

use thiserror::Error;

pub use environment::Environment;
pub use exclude::{Exclude, PathKind};
use executor::read_executor;
use problem::Findings;
pub use problem::Problem;
use reader::Reader;
pub use script::ScriptSource;
use sections::{read_agent, read_outputs, read_paths, read_server};
pub use values::{clean_base_url, is_api_key, is_service_id};

use crate::config::container_options::ContainerOptions;
use crate::data_dir::DataDir;
use crate::shell::init_command;

/// Where the workspace stands in every container (PROTOCOL, "The container contract").
pub const WORKSPACE: &str = "/workspace";

/// Everything that the program was told, checked and resolved.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file itself, absolute.
    pub file: PathBuf,
    /// `[server]`.
    pub server: ServerConfig,
    /// `[agent]`.
    pub agent: AgentConfig,
    /// `[executor]`.
    pub executor: ExecutorConfig,
    /// `[paths]`.
    pub paths: PathsConfig,
    /// `[outputs]`.
    pub outputs: OutputsConfig,
    /// What has no effect in the file, such as unknown keys.
    pub warnings: Vec<Problem>,
}

/// How to reach the Server.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Scheme, host and perhaps a path prefix, without trailing slashes.
    pub base_url: String,
    /// Time between polls.
    pub poll_interval: Duration,
    /// Whether the proxy variables of the environment count.
    pub use_system_proxy: bool,
    /// The variables of the environment that count on the way to the Server.
    pub environment: Environment,
    /// How many calls a minute all threads together may make; 0 is no limit. The Server's own limit is 150 for all
    /// agents of a service (PROTOCOL 6).
    pub max_requests_per_minute: usize,
}

/// Who we are on the Server.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Both values from the registration, or `None` before it.
    pub credentials: Option<Credentials>,
    /// The agent's name.
    pub name: String,
}

/// What the Server gave us when we registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The service that we work for.
    pub service_id: String,
    /// Its secret.
    pub api_key: Secret,
}

/// A text that is never shown: its debug form is three dots.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps the text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that has to send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// What runs in the container.
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

/// How tasks are executed.
#[derive(Debug, Clone)]
pub struct ExecutorConfig {
    /// What runs in the container.
    pub program: Program,
    /// The image's name.
    pub image: String,
    /// How many tasks run at once.
    pub capacity: usize,
    /// How long a container may run, in minutes as written; 0 means as long as it likes.
    pub timeout_minutes: u64,
    /// docker's `-m`, as written.
    pub memory_limit: Option<String>,
    /// The container's working directory.
    pub working_dir: String,
    /// The docker client: a name that is looked for in PATH, or an absolute path.
    pub docker: String,
    /// After how many minutes without output a container is stopped, as written; 0 means never.
    pub idle_timeout_minutes: u64,
    /// What the container may do and use.
    pub options: ContainerOptions,
    /// What its environment has beside the agent's own variables.
    pub env: Vec<Variable>,
}

/// A variable of a container's environment that stands in no command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Secret,
}

impl ExecutorConfig {
    /// How long a container may run.
    pub fn timeout(&self) -> Option<Duration> {
        (self.timeout_minutes > 0).then(|| Duration::from_secs(self.timeout_minutes * 60))
    }

    /// How long a container may print nothing.
    pub fn idle_timeout(&self) -> Option<Duration> {
        (self.idle_timeout_minutes > 0).then(|| Duration::from_secs(self.idle_timeout_minutes * 60))
    }
}

/// Folders of this machine.
#[derive(Debug, Clone)]
pub struct PathsConfig {
    /// Where the agent keeps everything.
    pub data_dir: DataDir,
    /// What containers see beside their workspace.
    pub mounts: Vec<Mount>,
    /// How many MiB the data_dir's disk has to have left for a new task; 0 is no limit.
    pub min_free_disk_mb: u64,
    /// How long what was delivered is kept; `None` is for ever.
    pub retention_hours: Option<u64>,
}

/// What of a task's files is delivered at most; what is beyond stays here and is named.
#[derive(Debug, Clone)]
pub struct OutputsConfig {
    /// Bytes of one file. The Server takes 50 MB unless it is told otherwise (PROTOCOL 7).
    pub max_file: u64,
    /// Files of one task; those under `output/` go first.
    pub max_files: usize,
    /// Bytes of one task.
    pub max_total: u64,
    /// What is never delivered.
    pub exclude: Exclude,
}

/// A `[[paths.mounts]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The folder or file on this machine, absolute.
    pub host: PathBuf,
    /// Whether it was written as a relative path: such a folder is made when it doesn't exist.
    pub relative: bool,
    /// Where the container sees it.
    pub container: String,
    /// Whether the container may only read it.
    pub readonly: bool,
}

/// Why there is no [`Config`].
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("there is no configuration file `{}`; make one with `{}`", .0.display(), init_command(.0))]
    Missing(PathBuf),
    #[error("the configuration file `{}` can't be read: {}", .0.display(), .1)]
    Unreadable(PathBuf, io::Error),
    /// The file has one or more mistakes; one a line.
    #[error("{}", .0.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))]
    Wrong(Vec<Problem>),
}

/// What is wanted of a file's registration.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Registration {
    /// It has to be good, or absent.
    AsWritten,
    /// Nothing.
    Replaced,
}

/// Where a file ceases to be text.
fn not_text(file: &Path, bytes: &[u8], error: Utf8Error) -> Problem {
    let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let message = "the file isn't UTF-8 from here on; save it as UTF-8".to_owned();
    Problem { file: file.to_owned(), place: Some((line, column)), message }
}

impl Config {
    /// Reads and checks a file. Does not touch anything else on the disk.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        Self::load_with(file, Registration::AsWritten)
    }

    /// The same for a file whose registration is about to be replaced: what is wrong with the old one doesn't matter.
    pub fn load_to_register(file: &Path) -> Result<Self, ConfigError> {
        Self::load_with(file, Registration::Replaced)
    }

    fn load_with(file: &Path, registration: Registration) -> Result<Self, ConfigError> {
        let file = absolute(file).map_err(|error| ConfigError::Unreadable(file.to_owned(), error))?;
        let bytes = match fs::read(&file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ConfigError::Missing(file)),
            Err(error) => return Err(ConfigError::Unreadable(file, error)),
        };
        let text =
            std::str::from_utf8(&bytes).map_err(|error| ConfigError::Wrong(vec![not_text(&file, &bytes, error)]))?;
        let mut config = Self::parse_with(&file, text, registration)?;
        config.server.environment = Environment::from_process();
        Ok(config)
    }

    /// The data_dir of a file that may be wrong elsewhere, if that can be told.
    pub fn data_dir_of(file: &Path) -> Option<DataDir> {
        let file = absolute(file).ok()?;
        let text = fs::read_to_string(&file).ok()?;
        let reader = Reader::parse(&file, &text).ok()?;
        let mut findings = Findings::default();
        read_paths(reader.root().section("paths"), &file, &mut findings).map(|paths| paths.data_dir)
    }

    /// Checks the text of a file whose absolute path is `file`. The environment counts as empty.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        Self::parse_with(file, text, Registration::AsWritten)
    }

    fn parse_with(file: &Path, text: &str, registration: Registration) -> Result<Self, ConfigError> {
        let reader = Reader::parse(file, text).map_err(ConfigError::Wrong)?;
        let mut findings = Findings::default();
        let mut root = reader.root();
        let server = read_server(root.section("server"), &mut findings);
        let agent = match registration {
            Registration::AsWritten => read_agent(root.section("agent"), &mut findings),
            Registration::Replaced => {
                let agent = read_agent(root.section("agent"), &mut Findings::default());
                AgentConfig { credentials: None, ..agent }
            }
        };
        let executor = read_executor(root.section("executor"), file, &mut findings);
        let paths = read_paths(root.section("paths"), file, &mut findings);
        let outputs = read_outputs(root.section("outputs"), &mut findings);
        root.finish(&mut findings);
        match (server, paths) {
            (Some(server), Some(paths)) if findings.errors.is_empty() => {
                Ok(Self { file: file.to_owned(), server, agent, executor, paths, outputs, warnings: findings.warnings })
            }
            _ => Err(ConfigError::Wrong(findings.in_order())),
        }
    }
}

#[cfg(test)]
mod tests;
