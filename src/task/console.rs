//! What a container prints in a trial, on the terminal. While the container prints nothing, a line below
//! its output shows for how long it has been running.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use crate::os::terminal::{ProgressLine, Shown};
use crate::units::Span;

/// How long nothing must have been printed before the line is shown, and how often the line is renewed.
const SILENCE: Duration = Duration::from_secs(2);
const INTERVAL: Duration = Duration::from_secs(1);

/// The standard streams of a trial's container.
pub struct TrialConsole {
    shared: Arc<Mutex<Shared>>,
    shown: Shown,
}

struct Shared {
    started: Instant,
    printed: Instant,
    /// Whether the container's output ends with a whole line: a part of a line must not be cleared.
    at_line_start: bool,
    is_running: bool,
    line: ProgressLine,
}

impl TrialConsole {
    pub fn new(shown: Shown) -> Self {
        let now = Instant::now();
        let line = ProgressLine::new();
        let shared = Shared { started: now, printed: now, at_line_start: true, is_running: false, line };
        Self { shared: Arc::new(Mutex::new(shared)), shown }
    }

    /// Shows the line for a container that starts now, until the clock is dropped.
    pub fn show_clock(&self) -> io::Result<Clock> {
        let mut shared = lock(&self.shared);
        let now = Instant::now();
        (shared.started, shared.printed, shared.is_running) = (now, now, true);
        let is_seen = shared.line.is_terminal();
        drop(shared);
        let (end, ended) = bounded(0);
        let shared = Arc::clone(&self.shared);
        if is_seen {
            let renew = move || {
                while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                    lock(&shared).show();
                }
            };
            thread::Builder::new().name("trial-clock".to_owned()).spawn(renew)?;
        }
        Ok(Clock { shared: Arc::clone(&self.shared), _end: end })
    }

    /// Passes the container's standard output on to that of this process.
    pub fn tee_stdout(&self) -> Tee<impl Write + Send + use<>> {
        self.tee(self.shown.on(io::stdout()))
    }

    /// Passes the container's standard error on to that of this process.
    pub fn tee_stderr(&self) -> Tee<impl Write + Send + use<>> {
        self.tee(self.shown.on(io::stderr()))
    }

    fn tee<W: Write>(&self, stream: W) -> Tee<W> {
        Tee { shared: Arc::clone(&self.shared), stream }
    }
}

impl Shared {
    fn show(&mut self) {
        if self.is_running && self.at_line_start && self.printed.elapsed() >= SILENCE {
            self.line.show(format_args!("… running for {}", Span(self.started.elapsed())));
        }
    }
}

/// The line's time on the terminal.
pub struct Clock {
    shared: Arc<Mutex<Shared>>,
    _end: Sender<()>,
}

impl Drop for Clock {
    fn drop(&mut self) {
        let mut shared = lock(&self.shared);
        shared.line.clear();
        shared.is_running = false;
        // What this program prints next begins a line of its own.
        if !shared.at_line_start && shared.line.is_terminal() {
            // An error means that the terminal is closed.
            let _ = io::stderr().write_all(b"\n");
        }
    }
}

/// One of the container's streams.
pub struct Tee<W> {
    shared: Arc<Mutex<Shared>>,
    stream: W,
}

impl<W: Write> Write for Tee<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut shared = lock(&self.shared);
        shared.line.clear();
        shared.at_line_start = false;
        // The reader of this stream may be slow, and the other stream doesn't wait for it.
        drop(shared);
        let written = self.stream.write(bytes)?;
        // Standard output holds back a part of a line until it is flushed.
        self.stream.flush()?;
        let mut shared = lock(&self.shared);
        (shared.printed, shared.at_line_start) = (Instant::now(), bytes[..written].last() == Some(&b'\n'));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{Shown, TrialConsole, lock};
    use std::io::Write;

    #[test]
    fn the_console_knows_whether_a_line_is_unfinished() {
        let console = TrialConsole::new(Shown::Raw);
        let mut out = console.tee(Vec::new());
        assert!(lock(&console.shared).at_line_start);
        out.write_all(b"a question: ").unwrap();
        assert!(!lock(&console.shared).at_line_start);
        out.write_all(b"answered\n").unwrap();
        assert!(lock(&console.shared).at_line_start);
        assert_eq!(out.stream, b"a question: answered\n");
    }
}
