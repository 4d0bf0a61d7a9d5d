//! Copies files, says on a terminal how far that is, and ends early when somebody wants to leave.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::task::CLEAR_LINE;
use crate::text::escape;

/// How often the line is written anew. What takes less time has none.
const PAUSE: Duration = Duration::from_millis(500);

/// See the module.
pub struct Copying<'l> {
    leaving: &'l AtomicBool,
    is_seen: bool,
}

impl<'l> Copying<'l> {
    /// With `leaving`, copying ends.
    pub fn new(leaving: &'l AtomicBool) -> Self {
        Self { leaving, is_seen: io::stderr().is_terminal() }
    }

    /// Copies a file to its end and returns how long it was.
    pub fn copy(&self, name: &str, from: &mut File, to: &mut File) -> io::Result<u64> {
        let total = from.metadata()?.len().max(1);
        let mut buffer = vec![0; 1 << 20];
        let (mut count, mut said, mut is_shown) = (0, Instant::now(), false);
        let copied = loop {
            let read = match from.read(&mut buffer) {
                Ok(0) => break Ok(count),
                Ok(read) => read,
                Err(error) => break Err(error),
            };
            if self.leaving.load(Ordering::Relaxed) {
                break Err(io::Error::other("interrupted"));
            }
            if let Err(error) = to.write_all(&buffer[..read]) {
                break Err(error);
            }
            count += read as u64;
            if self.is_seen && said.elapsed() >= PAUSE {
                (said, is_shown) = (Instant::now(), true);
                show(format_args!("{CLEAR_LINE}Copying {}: {} %", escape(name), (count * 100 / total).min(100)));
            }
        };
        if is_shown {
            show(CLEAR_LINE);
        }
        copied
    }
}

/// What nobody sees any more doesn't matter.
fn show(text: impl Display) {
    let _ = write!(io::stderr(), "{text}");
}
