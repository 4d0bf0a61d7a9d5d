//! A pseudo-terminal, with the side of the person at it.

use super::docker::wait_until;
use super::secs;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{Winsize, openpty};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// The person's side of a terminal.
pub struct Terminal {
    keyboard: File,
    screen: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Terminal {
    /// Opens a terminal. The second value is the program's side.
    pub fn open() -> (Self, File) {
        Self::open_of_size(None)
    }

    /// The same with so many columns.
    pub fn open_with_width(columns: u16) -> (Self, File) {
        Self::open_of_size(Some(Winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }))
    }

    fn open_of_size(size: Option<Winsize>) -> (Self, File) {
        let ends = openpty(size.as_ref(), None).expect("open a pseudo-terminal");
        for end in [ends.master.as_fd(), ends.slave.as_fd()] {
            // Programs that other tests start at this moment must not inherit it.
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("set a flag of the terminal");
        }
        let keyboard = File::from(ends.master);
        let screen = Arc::<Mutex<Vec<u8>>>::default();
        let (mut from, onto) = (keyboard.try_clone().expect("share the terminal"), Arc::clone(&screen));
        let reader = thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Reading fails when the last program has closed its side.
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                onto.lock().expect("no thread panics with this lock").extend_from_slice(&buffer[..count]);
            }
        });
        (Self { keyboard, screen, reader }, File::from(ends.slave))
    }

    /// The text shown so far, with the typed text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().expect("no thread panics with this lock")).into_owned()
    }

    /// The whole text, after the last program has closed the terminal.
    pub fn whole_text(&self) -> String {
        wait_until("everybody to leave the terminal", secs(20), || self.reader.is_finished());
        self.text()
    }

    /// Waits until the shown text ends with this question, and answers it.
    pub fn answer(&mut self, question: &str, typed: &str) {
        let what = format!("the question {question:?}");
        wait_until(&what, secs(20), || self.text().ends_with(question));
        self.keyboard.write_all(typed.as_bytes()).expect("type");
    }
}
