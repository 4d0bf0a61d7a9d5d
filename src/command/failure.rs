//! Why a command fails: a message for a person, and the exit status.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use thiserror::Error;

use crate::agent::ServeError;
use crate::config::ConfigError;
use crate::data_dir::instance::InstanceError;

/// What a command returns.
pub type CommandResult = Result<ExitCode, Failure>;

/// A message for a person, and the exit status.
#[derive(Debug, Error)]
#[error("agent-core: {message}")]
pub struct Failure {
    message: String,
    code: u8,
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
    /// The command can't do what it was asked for (exit status 1).
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1 }
    }

    /// The command line or the configuration is wrong (exit status 2).
    pub fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 2 }
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
            self.message.lines().for_each(|line| log::error!("{line}"));
        } else {
            // A closed standard error leaves no place for the message.
            let _ = writeln!(io::stderr(), "{self}");
        }
    }

    /// The process's exit status.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

/// A configuration that can't be used is exit status 2, as wrong usage is.
impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<InstanceError> for Failure {
    fn from(error: InstanceError) -> Self {
        Self::new(error.to_string())
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        Self::new(error.to_string())
    }
}
