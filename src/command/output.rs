//! Printing to standard output and standard error. A closed pipe, as with `| head`, doesn't end a command.

use std::fmt::Display;
use std::io::{self, Write};

use serde::Serialize;

use super::failure::Failure;
use crate::text::{escape_json, escape_lines};

/// How a command prints its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputFormat {
    /// Lines for people.
    Text,
    /// JSON for programs (`--json`).
    Json,
}

impl OutputFormat {
    /// The format that `--json` selects.
    pub fn from_flag(json: bool) -> Self {
        if json { Self::Json } else { Self::Text }
    }
}

/// JSON for a program, or for a person at a terminal, which obeys no character of it.
pub fn to_json(value: &impl Serialize) -> Result<String, Failure> {
    let json = serde_json::to_string(value).map_err(Failure::context("no JSON"))?;
    Ok(escape_json(&json).into_owned())
}

/// The same in lines.
pub fn to_pretty_json(value: &impl Serialize) -> Result<String, Failure> {
    let json = serde_json::to_string_pretty(value).map_err(Failure::context("no JSON"))?;
    Ok(escape_json(&json).into_owned())
}

/// Prints lines about what the command does. What can't be printed doesn't stop the command halfway. Names of files and
/// texts of others may be in them, so a terminal obeys no character of them.
pub fn print_line(line: impl Display) {
    let _ = writeln!(io::stdout(), "{}", escape_lines(&line.to_string()));
}

/// Prints lines of columns, whose texts are escaped already.
pub fn print_columns(lines: impl Display) {
    let _ = writeln!(io::stdout(), "{lines}");
}

/// Prints lines on standard error, as [`print_line`] does.
pub fn eprint_line(line: impl Display) {
    let _ = writeln!(io::stderr(), "{}", escape_lines(&line.to_string()));
}

/// Prints the result of a command.
pub fn print_output(text: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    ignore_broken_pipe(out.write_all(text.as_ref()).and_then(|()| out.flush()))
}

/// The result of printing. A closed pipe is no failure of the command, but a full disk is one.
pub fn ignore_broken_pipe(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::context("can't print the output")(error))
        }
        _ => Ok(()),
    }
}
