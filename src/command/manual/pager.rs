//! A page on a terminal: by `man`, where there is one, else as plain text by the pager.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::command::failure::Failure;
use crate::os::trust::{SearchPath, check_program};

/// The pager where `PAGER` names none.
const PAGER: &str = "less";

/// Shows `roff` by `man`. Without `man` the pager shows `plain`. Returns whether one of them could be started.
pub fn show(roff: &str, plain: &str) -> Result<bool, Failure> {
    // The pager handles Ctrl+C. Without a handler here, Ctrl+C would end this program while the pager still runs.
    ctrlc::set_handler(|| {}).map_err(Failure::context("signals can't be handled"))?;
    let pager = std::env::var("PAGER").ok().and_then(|pager| shlex::split(&pager)).unwrap_or_default();
    let pager = if pager.is_empty() { vec![PAGER.to_owned()] } else { pager };
    let man = ["man", "-l", "-"].map(str::to_owned);
    Ok(feed(&man, Stdio::null(), roff) || feed(&pager, Stdio::inherit(), plain))
}

/// Whether the program could be started, read the text and exited with 0.
fn feed(words: &[String], stderr: Stdio, text: &str) -> bool {
    let Some((program, arguments)) = words.split_first() else { return false };
    // Another user may have put a program of this name into a folder of PATH.
    let Ok(Some(program)) = check_program(program.as_ref()) else { return false };
    let mut command = Command::new(program);
    if let Some(search_path) = SearchPath::of_process() {
        search_path.set_for(&mut command);
    }
    let Ok(mut child) = command.args(arguments).stdin(Stdio::piped()).stderr(stderr).spawn() else { return false };
    if let Some(mut stdin) = child.stdin.take() {
        // The program may close the pipe before the end.
        let _ = stdin.write_all(text.as_bytes());
    }
    child.wait().is_ok_and(|status| status.success())
}
