//! What a terminal is shown: a line on standard error with the progress, and the output of containers; and what standard
//! output can show.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use crate::text::Escaper;

/// Back to the front of the line, and erase it (ECMA-48: CR, EL).
const CLEAR_LINE: &str = "\r\u{1b}[K";

/// How many columns standard output has; `None` where it is no terminal, or one without a width.
pub fn width() -> Option<usize> {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    terminal_size::terminal_size().map(|(width, _)| usize::from(width.0)).filter(|width| *width > 0)
}

/// Whether standard output is a terminal that shows colours, and the user wants them (<https://no-color.org>).
pub fn has_colours() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb
}

/// How the output of a container is shown on a terminal. A file or a pipe gets it unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// What a terminal would obey is escaped.
    Escaped,
    /// As it is (`--raw`).
    Raw,
}

impl Shown {
    pub fn from_flag(raw: bool) -> Self {
        if raw { Self::Raw } else { Self::Escaped }
    }

    /// Whether the output has to be escaped for this stream.
    pub fn is_escaped_for(self, stream: &impl IsTerminal) -> bool {
        self == Self::Escaped && stream.is_terminal()
    }

    /// The stream, with escapes where it needs them.
    pub fn on<W: Write + IsTerminal + Send + 'static>(self, stream: W) -> Box<dyn Write + Send> {
        if self.is_escaped_for(&stream) { Box::new(Escaper::new(stream)) } else { Box::new(stream) }
    }
}

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
