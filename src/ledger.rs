//! The ledger: the files and reports that this machine received and sent, in `{data_dir}/ledger.jsonl` (P3).
//!
//! Each event is one line of JSON, which is written whole and synced before the next step of the task. A step that
//! transfers bytes writes its line after the answer and before its own record, so that a crash in between results in the
//! same line twice and never in none. Lines are only added. A full file gets a number, `ledger.jsonl.1` being the
//! youngest, and the oldest file is removed in the end.
//!
//! Names and reasons come from outside. Their length is limited, or a hostile Server could push the past out of the
//! ledger with a few lines, and the api_key is removed from them.

mod line;
mod reader;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, PoisonError};

pub use line::{Direction, Entry, Line, Outcome, Peer, Report, Settled, TextSizes, Transfer};
pub use reader::Reader;

use crate::config::Secret;
use crate::data_dir::ledger_name;
use crate::metrics::Counters;
use crate::os::folder::Folder;

/// The size at which a file gets a number and a new one is begun.
const MAX_BYTES: u64 = 10 << 20;
/// How many numbered files are kept.
const MAX_NUMBERED: u32 = 20;

/// The ledger of a data_dir, for the process that holds its lock. Workers share it.
pub struct Ledger {
    folder: Folder,
    /// Removed from every line.
    api_key: Secret,
    counters: Arc<Counters>,
    max_bytes: u64,
    max_numbered: u32,
    /// Serialises writers; true after a failed rotation, so that the warning is logged once.
    rotation_failed: Mutex<bool>,
}

impl Ledger {
    /// The ledger in this data_dir, whether or not it exists.
    pub fn new(folder: &Folder, api_key: Secret, counters: Arc<Counters>) -> Self {
        Self {
            folder: folder.clone(),
            api_key,
            counters,
            max_bytes: MAX_BYTES,
            max_numbered: MAX_NUMBERED,
            rotation_failed: Mutex::new(false),
        }
    }

    /// Adds lines, all or none, and returns when they are on the disk.
    pub fn append(&self, lines: &[Line]) -> io::Result<()> {
        let mut text = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut text, &line.clone().sanitize(self.api_key.expose()))?;
            text.push(b'\n');
        }
        let mut rotation_failed = self.rotation_failed.lock().unwrap_or_else(PoisonError::into_inner);
        self.rotate_if_full(&mut rotation_failed);
        let mut file = self.folder.append(&ledger_name(0))?;
        let before = file.metadata()?.len();
        if before > 0 && !ends_a_line(&mut file)? {
            // A crash has cut the last line. It stays, and the new line begins behind it.
            text.insert(0, b'\n');
        }
        let written = file.write_all(&text).and_then(|()| file.sync_data());
        if written.is_err() {
            // If this fails too, the next call ends the partial line.
            if let Err(error) = file.set_len(before) {
                log::debug!("a part of a line stays in the ledger: {error}");
            }
        } else {
            lines.iter().for_each(|line| self.count(&line.entry));
            if before == 0 {
                self.folder.sync()?;
            }
        }
        written
    }

    /// Counts the bytes of files and reports that have arrived, here or on the Server.
    fn count(&self, entry: &Entry) {
        match entry {
            Entry::File(Transfer { outcome: Outcome::Received, bytes: Some(bytes), .. }) => {
                self.counters.count_received(*bytes);
            }
            Entry::File(Transfer { outcome: Outcome::Sent, bytes: Some(bytes), .. })
            | Entry::Report(Report { outcome: Outcome::Sent, bytes, .. }) => self.counters.count_sent(*bytes),
            _ => {}
        }
    }

    /// Numbers a full file. If that fails, lines are still added to it: it may be too large, but not incomplete.
    fn rotate_if_full(&self, has_failed: &mut bool) {
        match self.rotate() {
            Ok(()) => *has_failed = false,
            Err(error) if !*has_failed => {
                *has_failed = true;
                log::warn!(
                    "`{}` is full and can't be renamed: {error}",
                    self.folder.path().join(ledger_name(0)).display()
                );
            }
            Err(_) => {}
        }
    }

    fn rotate(&self) -> io::Result<()> {
        if self.folder.length(&ledger_name(0))?.is_none_or(|length| length < self.max_bytes) {
            return Ok(());
        }
        // A crash between two renames leaves a number free, which is used first.
        let mut free = None;
        for number in 1..=self.max_numbered {
            if self.folder.length(&ledger_name(number))?.is_none() {
                free = Some(number);
                break;
            }
        }
        for number in (0..free.unwrap_or(self.max_numbered)).rev() {
            self.folder.rename(&ledger_name(number), &ledger_name(number + 1))?;
        }
        if free.is_none() {
            log::warn!(
                "the oldest of {} full files of the ledger was removed; copy them in time to keep more",
                self.max_numbered
            );
        }
        self.folder.sync()
    }
}

fn ends_a_line(file: &mut File) -> io::Result<bool> {
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
