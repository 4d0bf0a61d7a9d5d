//! Why a command fails: a message for a person, and the exit status.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use thiserror::Error;

use crate::config::ConfigError;
use crate::data_dir::instance::InstanceError;
use crate::data_dir::last_used::Missing;
use crate::data_dir::permissions::Refusal;
use crate::docker::UntrustedClient;
use crate::text::escape_lines;

/// What a command returns.
pub type CommandResult = Result<ExitCode, Failure>;

#[derive(Debug, Error)]
pub enum Failure {
    /// The command can't do what it was asked for.
    #[error("{0}")]
    Failed(String),
    /// The Server doesn't know the registration token.
    #[error("{0}")]
    UnknownToken(String),
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Instance(#[from] InstanceError),
    #[error(transparent)]
    DataDir(#[from] Refusal),
    #[error(transparent)]
    MissingDataDir(#[from] Missing),
    #[error(transparent)]
    Docker(#[from] UntrustedClient),
}

/// Where a failure is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportTo {
    /// To the log, for those who read only that.
    Log,
    /// To standard error.
    StandardError,
}

impl Failure {
    pub fn new(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// Puts what can't be done before an error: for `map_err`.
    pub fn context<E: Display>(what: impl Display) -> impl Fn(E) -> Self {
        move |error| Self::new(format!("{what}: {error}"))
    }

    /// Puts a path and what can't be done with it ("can't be read") before an error: for `map_err`.
    pub fn with_path<E: Display>(path: &Path, what: &str) -> impl Fn(E) -> Self {
        Self::context(format!("`{}` {what}", path.display()))
    }

    /// The same for a folder that can't be used.
    pub fn unusable(folder: &Path) -> impl Fn(io::Error) -> Self {
        Self::with_path(folder, "can't be used")
    }

    /// Reports the message once.
    pub fn report(&self, to: ReportTo) {
        if to == ReportTo::Log && log::log_enabled!(log::Level::Error) {
            self.to_string().lines().for_each(|line| log::error!("{line}"));
        } else {
            // A closed standard error leaves no place for the message.
            let _ = writeln!(io::stderr(), "agent-core: {}", escape_lines(&self.to_string()));
        }
    }

    /// 2 where the command line or the configuration is wrong, otherwise 1.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(if matches!(self, Self::Usage(_) | Self::Config(_)) { 2 } else { 1 })
    }
}
