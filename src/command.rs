//! The subcommands, one file each, and how they fail.

pub mod check;
pub mod detach;
pub mod discard;
pub mod init;
pub mod ledger;
pub mod register;
pub mod run;
pub mod shell;
pub mod status;
pub mod stop;
pub mod tasks;
pub mod trial;

use std::fmt;
use std::process::ExitCode;

use crate::config::ConfigError;

/// Why a command ends here: a message for a person, and the exit status.
#[derive(Debug)]
pub struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// What was asked for can't be done (exit status 1).
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1 }
    }

    /// It was asked for in a way that can't be understood (exit status 2).
    pub fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 2 }
    }

    /// The process's exit status.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "agent-core: {}", self.message)
    }
}

/// A wrong configuration is exit status 2, as wrong usage is.
impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let code = if matches!(error, ConfigError::Wrong(_)) { 2 } else { 1 };
        Self { message: error.to_string(), code }
    }
}

/// What a command returns.
pub type Done = Result<ExitCode, Failure>;
