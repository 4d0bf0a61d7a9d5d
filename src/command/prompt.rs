//! Questions to a person at a terminal.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::text::escape_lines;

/// Whether standard input is a terminal, so that there is a person to ask.
pub fn is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// Asks for something that has a default, which also counts where the input has ended.
pub fn ask_or_default(question: &str, default: &str) -> io::Result<String> {
    let check = |answer: &str| if answer.is_empty() { Err("It is empty.".to_owned()) } else { Ok(answer.to_owned()) };
    match ask(question, Some(default), check) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(default.to_owned()),
        answered => answered,
    }
}

/// Asks until `check` accepts the answer. An empty answer is the default, if there is one.
///
/// # Errors
/// The input has ended; a closed pipe must not be asked for ever.
pub fn ask<T>(question: &str, default: Option<&str>, check: impl Fn(&str) -> Result<T, String>) -> io::Result<T> {
    let mut out = io::stderr();
    loop {
        match default {
            Some(default) => write!(out, "{question} [{default}]: ")?,
            None => write!(out, "{question}: ")?,
        }
        out.flush()?;
        let mut line = String::new();
        if io::stdin().lock().read_line(&mut line)? == 0 {
            writeln!(out)?;
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the input ended before this was answered"));
        }
        let answer = match line.trim() {
            "" => default.unwrap_or_default(),
            given => given,
        };
        match check(answer) {
            Ok(value) => return Ok(value),
            Err(wrong) => writeln!(out, "{}", escape_lines(&wrong))?,
        }
    }
}
