//! Copies files, says on a terminal how far that is, and ends early when somebody wants to leave.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::os::terminal::ProgressLine;
use crate::text::escape;

/// How often the line is written anew. What takes less time has none.
const PAUSE: Duration = Duration::from_millis(500);

/// See the module.
pub struct Copying<'l> {
    leaving: &'l AtomicBool,
}

impl<'l> Copying<'l> {
    /// With `leaving`, copying ends.
    pub fn new(leaving: &'l AtomicBool) -> Self {
        Self { leaving }
    }

    /// Copies a file to its end and returns how long it was.
    pub fn copy(&self, name: &str, from: &mut File, to: &mut File) -> io::Result<u64> {
        let total = from.metadata()?.len().max(1);
        let mut buffer = vec![0; 1 << 20];
        let (mut count, mut said, mut line) = (0, Instant::now(), ProgressLine::new());
        loop {
            let read = from.read(&mut buffer)?;
            if read == 0 {
                return Ok(count);
            }
            if self.leaving.load(Ordering::Relaxed) {
                return Err(io::Error::other("interrupted"));
            }
            to.write_all(&buffer[..read])?;
            count += read as u64;
            if said.elapsed() >= PAUSE {
                said = Instant::now();
                line.show(format_args!("Copying {}: {} %", escape(name), (count * 100 / total).min(100)));
            }
        }
    }
}
