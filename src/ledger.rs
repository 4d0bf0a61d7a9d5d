//! The ledger: the files and reports that this machine received and sent, in `{data_dir}/ledger.jsonl` (P3).
//!
//! Each event is one line of JSON, which is written whole and synced before the next step of the task. A step that
//! transfers bytes writes its line after the answer and before its own record, so that a crash in between results in the
//! same line twice and never in none. Lines are only added. A full file gets a number, `ledger.jsonl.1` being the
//! youngest, and the oldest file is removed in the end.
//!
//! Names and reasons come from outside. Their length is limited, or a hostile Server could push the past out of the
//! ledger with a few lines, and the api_key is removed from them.
//!
//! Where the disk is full, lines wait in a file whose room nothing can take, and are added when there is room again. A crash
//! while they are added results in the same lines twice.

mod line;
mod name_share;
mod reader;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

pub use line::{Direction, Entry, Line, Outcome, Peer, Report, Settled, TextSizes, Transfer};
pub use reader::Reader;

use crate::config::Secret;
use crate::data_dir::{LEDGER_RESERVE, ledger_name};
use crate::metrics::Counters;
use crate::os::files::is_full;
use crate::os::folder::Folder;
use crate::os::reserve::Reserve;
use name_share::NameShare;

/// The size at which a file gets a number and a new one is begun.
const MAX_BYTES: u64 = 10 << 20;
/// The size of the reserve for a full disk: half of it takes about two thousand lines.
const RESERVE_BYTES: usize = 2 << 20;
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
    /// Serialises writers.
    writing: Mutex<Writing>,
}

#[derive(Debug, Default)]
struct Writing {
    /// Whether the last rotation failed, so that the warning is logged once.
    rotation_failed: bool,
    names: NameShare,
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
            writing: Mutex::default(),
        }
    }

    /// Makes the reserve for a full disk, unless it is there.
    pub fn make_reserve(&self) {
        let made = self.folder.length(LEDGER_RESERVE).and_then(|length| match length {
            Some(length) if length >= RESERVE_BYTES as u64 => Ok(()),
            // One that a crash has left incomplete holds nothing.
            _ => self.folder.remove(LEDGER_RESERVE).and_then(|()| {
                Reserve::fill(&mut self.folder.open_or_create(LEDGER_RESERVE)?, RESERVE_BYTES)
                    .or_else(|error| self.folder.remove(LEDGER_RESERVE).and(Err(error)))
            }),
        });
        if let Err(error) = made {
            let path = self.folder.path().join(LEDGER_RESERVE);
            log::warn!("`{}`, the room of the ledger on a full disk, can't be made: {error}", path.display());
        }
    }

    /// Adds lines that have waited for room on the disk.
    pub fn put_back(&self) {
        let _one_writer = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.append_waiting() {
            log::debug!("lines of the ledger wait for room on the disk: {error}");
        }
    }

    /// Adds the lines of one task, all or none, and returns when they are on the disk. Files that stay here are counted
    /// instead of named where such names have filled their share of the ledger.
    pub fn append(&self, lines: &[Line]) -> io::Result<()> {
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = Vec::new();
        let (mut unnamed, now) = (None, Instant::now());
        for line in lines {
            let bytes = self.encode(line)?;
            if writing.names.take(line, bytes.len(), now) {
                text.extend(bytes);
            } else {
                unnamed.get_or_insert((line, 0)).1 += 1;
            }
        }
        if let Some((line, count)) = unnamed {
            text.extend(self.encode(&Line { entry: Entry::File(Transfer::unnamed(count)), ..line.clone() })?);
        }
        self.rotate_if_full(&mut writing.rotation_failed);
        match self.append_waiting().and_then(|()| self.append_text(&text)) {
            Err(error) if is_full(&error) => self.keep(&text, error)?,
            appended => appended?,
        }
        lines.iter().for_each(|line| self.count(&line.entry));
        Ok(())
    }

    fn encode(&self, line: &Line) -> io::Result<Vec<u8>> {
        let mut text = serde_json::to_vec(&line.clone().sanitize(self.api_key.expose()))?;
        text.push(b'\n');
        Ok(text)
    }

    fn append_text(&self, text: &[u8]) -> io::Result<()> {
        let mut file = self.folder.append(&ledger_name(0))?;
        let before = file.metadata()?.len();
        // A crash may have cut the last line. It stays, and the new line begins behind it.
        let gap: &[u8] = if before > 0 && !ends_a_line(&mut file)? { b"\n" } else { b"" };
        let written = file.write_all(&[gap, text].concat()).and_then(|()| file.sync_data());
        if written.is_err() {
            // If this fails too, the next call ends the partial line.
            if let Err(error) = file.set_len(before) {
                log::debug!("a part of a line stays in the ledger: {error}");
            }
        } else if before == 0 {
            self.folder.sync()?;
        }
        written
    }

    /// Adds the lines that wait in the reserve.
    fn append_waiting(&self) -> io::Result<()> {
        let Some(reserve) = self.reserve()? else { return Ok(()) };
        let waiting = reserve.entries()?.concat();
        if waiting.is_empty() {
            return Ok(());
        }
        self.append_text(&waiting)?;
        reserve.clear()?;
        log::info!("the disk has room again; the lines of the ledger that waited for it are added");
        Ok(())
    }

    /// Writes lines in the reserve, since the ledger has no room on the disk.
    fn keep(&self, text: &[u8], full: io::Error) -> io::Result<()> {
        let Some(reserve) = self.reserve()? else { return Err(full) };
        if reserve.entries()?.is_empty() {
            log::warn!("the disk is full; lines of the ledger wait in `{LEDGER_RESERVE}` until it has room");
        }
        reserve.push(text).map_err(|error| if is_full(&error) { full } else { error })
    }

    fn reserve(&self) -> io::Result<Option<Reserve>> {
        self.folder.open_existing(LEDGER_RESERVE)?.map(Reserve::open).transpose()
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
