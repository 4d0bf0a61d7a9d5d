//! Where a person who tries a task out sees what its container prints, with a line below it that shows how long it has
//! been running: there only while the container prints nothing, and on a terminal.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use crate::units::Span;

/// Back to the front of the line, and away with what stands there (ECMA-48: CR, EL).
pub const CLEAR_LINE: &str = "\r\u{1b}[K";
/// How long nothing must have been printed, and how often the line is written anew.
const SILENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_secs(1);

/// See the module. When it goes, the line is gone, too.
pub struct Screen {
    shared: Arc<Mutex<Shared>>,
    _end: Sender<()>,
}

struct Shared {
    began: Instant,
    printed: Instant,
    /// Whether what the container printed last has ended its line: otherwise that line isn't ours to clear.
    at_front: bool,
    is_shown: bool,
    is_over: bool,
}

impl Screen {
    /// A screen for a container that begins now.
    pub fn begin() -> io::Result<Self> {
        let now = Instant::now();
        let shared = Shared { began: now, printed: now, at_front: true, is_shown: false, is_over: false };
        let shared = Arc::new(Mutex::new(shared));
        let (end, ended) = bounded(0);
        if io::stderr().is_terminal() {
            let shared = Arc::clone(&shared);
            let show = move || {
                while ended.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                    lock(&shared).show();
                }
            };
            thread::Builder::new().name("trial-progress".to_owned()).spawn(show)?;
        }
        Ok(Self { shared, _end: end })
    }

    /// What comes from the container on one of its streams goes through here to one of ours.
    pub fn through<W: Write>(&self, stream: W) -> Through<W> {
        Through { shared: Arc::clone(&self.shared), stream }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut shared = lock(&self.shared);
        shared.clear();
        shared.is_over = true;
        // What follows is ours, and has a line of its own.
        if !shared.at_front && io::stderr().is_terminal() {
            to_terminal("\n");
        }
    }
}

impl Shared {
    fn show(&mut self) {
        if self.at_front && !self.is_over && self.printed.elapsed() >= SILENCE {
            self.is_shown = true;
            // Back at the front, so that a line of the log that comes now is written over it.
            to_terminal(&format!("{CLEAR_LINE}… running for {}\r", Span(self.began.elapsed())));
        }
    }

    fn begin_to_print(&mut self) {
        self.clear();
        self.at_front = false;
    }

    fn has_printed(&mut self, bytes: &[u8]) {
        (self.printed, self.at_front) = (Instant::now(), bytes.last() == Some(&b'\n'));
    }

    fn clear(&mut self) {
        if self.is_shown {
            self.is_shown = false;
            to_terminal(CLEAR_LINE);
        }
    }
}

/// One of the container's streams.
pub struct Through<W> {
    shared: Arc<Mutex<Shared>>,
    stream: W,
}

impl<W: Write> Write for Through<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.shared).begin_to_print();
        // Whoever reads this may be slow, and nobody else has to wait for that.
        let written = self.stream.write(bytes)?;
        // Standard output holds back half a line until it is flushed.
        self.stream.flush()?;
        lock(&self.shared).has_printed(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What nobody sees any more doesn't matter.
fn to_terminal(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::{Screen, lock};
    use std::io::Write;

    #[test]
    fn the_screen_knows_whether_a_line_is_unfinished() {
        let screen = Screen::begin().unwrap();
        let mut out = screen.through(Vec::new());
        assert!(lock(&screen.shared).at_front);
        out.write_all(b"a question: ").unwrap();
        assert!(!lock(&screen.shared).at_front);
        out.write_all(b"answered\n").unwrap();
        assert!(lock(&screen.shared).at_front);
        assert_eq!(out.stream, b"a question: answered\n");
    }
}
