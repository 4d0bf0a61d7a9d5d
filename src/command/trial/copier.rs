//! Copies files with a progress line on a terminal, and ends early after a signal.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::os::terminal::ProgressLine;
use crate::text::escape;

/// How often the line is renewed. A copy that takes less time has no line.
const INTERVAL: Duration = Duration::from_millis(500);

/// Copies a file to one that was just created, and returns its length. Once `interrupted` is set,
/// copying fails.
pub fn copy_with_progress(name: &str, mut from: File, mut to: File, interrupted: &AtomicBool) -> io::Result<u64> {
    let total = from.metadata()?.len().max(1);
    let mut buffer = vec![0; 1 << 20];
    let (mut count, mut shown_at, mut line) = (0, Instant::now(), ProgressLine::new());
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok(count);
        }
        if interrupted.load(Ordering::Relaxed) {
            return Err(io::Error::other("interrupted"));
        }
        to.write_all(&buffer[..read])?;
        count += read as u64;
        if shown_at.elapsed() >= INTERVAL {
            shown_at = Instant::now();
            line.show(format_args!("Copying {}: {} %", escape(name), (count * 100 / total).min(100)));
        }
    }
}
