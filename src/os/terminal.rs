//! A line on standard error that shows progress on a terminal, and nothing elsewhere.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

/// Back to the front of the line, and erase it (ECMA-48: CR, EL).
const CLEAR_LINE: &str = "\r\u{1b}[K";

/// A line that is replaced by the next one, and cleared at the end.
#[derive(Debug)]
pub struct ProgressLine {
    is_terminal: bool,
    is_shown: bool,
}

impl ProgressLine {
    pub fn new() -> Self {
        Self { is_terminal: io::stderr().is_terminal(), is_shown: false }
    }

    /// Whether a person can see the line.
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    pub fn show(&mut self, text: impl Display) {
        if self.is_terminal {
            self.is_shown = true;
            // The cursor is back at the front, so that a line of the log is written over this one.
            to_terminal(format_args!("{CLEAR_LINE}{text}\r"));
        }
    }

    pub fn clear(&mut self) {
        if self.is_shown {
            self.is_shown = false;
            to_terminal(CLEAR_LINE);
        }
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        self.clear();
    }
}

/// An error means that the terminal is closed, so that the text isn't missed.
fn to_terminal(text: impl Display) {
    let _ = write!(io::stderr(), "{text}");
}
