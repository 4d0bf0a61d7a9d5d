//! The subcommands, one file each, and how they fail.

pub mod check;
pub mod completions;
pub mod detach;
pub mod discard;
pub mod init;
pub mod ledger;
pub mod manual;
mod prompt;
pub mod register;
pub mod run;
pub mod status;
pub mod stop;
pub mod task_view;
pub mod tasks;
pub mod trial;

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::agent::ServeError;
use crate::config::{Config, ConfigError};
use crate::shell::register_command;

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

    /// Says it: for whoever reads the log, as lines of that.
    pub fn tell(&self, as_log: bool) {
        if as_log && log::log_enabled!(log::Level::Error) {
            self.message.lines().for_each(|line| log::error!("{line}"));
        } else {
            eprint_line(self);
        }
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

/// A configuration that can't be used is exit status 2, as wrong usage is.
impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        Self::new(error.to_string())
    }
}

/// Prints a line on standard output. That nobody reads it any more, as with `| head`, is no reason to leave half done
/// what was begun.
pub fn say(line: impl fmt::Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// The same on standard error: what is said besides the answer.
pub fn eprint_line(line: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Prints the answer to what was asked.
pub fn answer(text: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    printed(out.write_all(text.as_ref()).and_then(|()| out.flush()))
}

/// What came of printing an answer. Whoever has read enough of it may stop; that there is no room for it is an error.
pub fn printed(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("can't be printed: {error}")))
        }
        _ => Ok(()),
    }
}

/// Why an agent without a registration can't start.
fn not_registered(config: &Config) -> Failure {
    let command = register_command(&config.file);
    Failure::new(format!("not registered; run `{command}` with a token from the Server"))
}

/// What a command returns.
pub type Done = Result<ExitCode, Failure>;
