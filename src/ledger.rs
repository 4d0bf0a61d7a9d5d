//! The ledger: what came to this machine and what left it, in `{data_dir}/ledger.jsonl` (P3).
//!
//! One line of JSON an event, written whole and on the disk before anything is done that rests on it. A step that
//! moves bytes writes its line after the answer and before its own record, so that a crash in between gives at worst
//! the same line twice and never none. Lines are only added. What is full is numbered, `ledger.jsonl.1` being the
//! youngest, and in the end the oldest file goes.
//!
//! Names and reasons come from outside: each has a greatest length, or a hostile Server could push the past out of the
//! ledger with a few lines, and the api_key is taken out where an answer repeats it.

mod line;
mod reader;

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, PoisonError};

pub use line::{Direction, Entry, Line, Outcome, Peer, Report, Settled, Transfer, Words};
pub use reader::Reader;

use crate::config::Secret;
use crate::data_dir::DataDir;
use crate::metrics::Counters;
use crate::os::platform;

/// A file of this size is full.
const FULL: u64 = 10 << 20;
/// So many full files are kept.
const KEPT: u32 = 20;

/// The ledger of a data_dir, for the agent that holds it. Workers share it.
pub struct Ledger {
    data_dir: DataDir,
    /// Never written.
    api_key: Secret,
    counters: Arc<Counters>,
    full: u64,
    kept: u32,
    /// Held by whoever writes: whether the last full file could not be numbered, which is said once.
    stuck: Mutex<bool>,
}

impl Ledger {
    /// The ledger in this folder, whether or not it exists.
    pub fn new(data_dir: &DataDir, api_key: Secret, counters: Arc<Counters>) -> Self {
        Self { data_dir: data_dir.clone(), api_key, counters, full: FULL, kept: KEPT, stuck: Mutex::new(false) }
    }

    /// Adds lines, all or none, and returns when they are on the disk.
    pub fn append(&self, lines: &[Line]) -> io::Result<()> {
        let mut text = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut text, &line.clone().tidy(self.api_key.expose()))?;
            text.push(b'\n');
        }
        let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        self.make_way(&mut stuck);
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(self.data_dir.ledger(0))?;
        platform::make_private(&file)?;
        let before = file.metadata()?.len();
        if before > 0 && !ends_a_line(&mut file)? {
            // A crash has cut the last line. What is there stays, and ours must not be glued to it.
            text.insert(0, b'\n');
        }
        let written = file.write_all(&text).and_then(|()| file.sync_data());
        if written.is_err() {
            // Where this fails too, the next line is still told from a part of ours.
            if let Err(error) = file.set_len(before) {
                log::debug!("a part of a line stays in the ledger: {error}");
            }
        } else {
            lines.iter().for_each(|line| self.count(&line.entry));
            if before == 0 {
                platform::sync_dir(&self.data_dir)?;
            }
        }
        written
    }

    /// Counts the bytes of what has arrived, here or on the Server.
    fn count(&self, entry: &Entry) {
        match entry {
            Entry::File(Transfer { outcome: Outcome::Received, bytes, .. }) => {
                self.counters.count_received(bytes.unwrap_or_default());
            }
            Entry::File(Transfer { outcome: Outcome::Sent, bytes, .. }) => {
                self.counters.count_sent(bytes.unwrap_or_default());
            }
            Entry::Report(Report { outcome: Outcome::Sent, bytes, .. }) => self.counters.count_sent(*bytes),
            Entry::File(_) | Entry::Report(_) | Entry::Task(_) => {}
        }
    }

    /// Numbers a full file. Where that fails, lines are added to it all the same: it may be too large, but must not be
    /// incomplete.
    fn make_way(&self, stuck: &mut bool) {
        match self.rotate() {
            Ok(()) => *stuck = false,
            Err(error) if !*stuck => {
                *stuck = true;
                log::warn!("`{}` is full and can't be renamed: {error}", self.data_dir.ledger(0).display());
            }
            Err(_) => {}
        }
    }

    fn rotate(&self) -> io::Result<()> {
        match fs::metadata(self.data_dir.ledger(0)) {
            Ok(metadata) if metadata.len() >= self.full => {}
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
        // A crash in the middle of this leaves a number free, which is taken first.
        let mut free = None;
        for number in 1..=self.kept {
            if !self.data_dir.ledger(number).try_exists()? {
                free = Some(number);
                break;
            }
        }
        for number in (0..free.unwrap_or(self.kept)).rev() {
            fs::rename(self.data_dir.ledger(number), self.data_dir.ledger(number + 1))?;
        }
        if free.is_none() {
            log::warn!(
                "the oldest of {} full files of the ledger was removed; copy them in time to keep more",
                self.kept
            );
        }
        platform::sync_dir(&self.data_dir)
    }
}

fn ends_a_line(file: &mut File) -> io::Result<bool> {
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use super::{Direction, Entry, Ledger, Line, Outcome, Peer, Reader, Transfer};
    use crate::config::Secret;
    use crate::data_dir::DataDir;
    use std::fs;
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    const PEER: Peer<'static> = Peer { server: "http://h", service_id: "s" };

    fn line(file: &str) -> Line {
        Line::now("t", PEER, Entry::File(Transfer::new(Direction::Out, Outcome::Sent, file)))
    }

    /// A ledger whose files are full after two of these lines.
    fn small(dir: &Path, kept: u32) -> Ledger {
        let two = 2 * serde_json::to_string(&line("00")).unwrap().len() as u64;
        Ledger { full: two, kept, ..Ledger::new(&DataDir::new(dir), Secret::new(""), Arc::default()) }
    }

    /// The names in all files, the oldest first, and how many lines can't be read.
    fn read(mut reader: Reader) -> (Vec<String>, u64) {
        let mut names = Vec::new();
        while let Some((text, line)) = reader.next_line().unwrap() {
            assert_eq!(serde_json::from_str::<Line>(text).unwrap(), line);
            let Entry::File(transfer) = line.entry else { panic!("{line:?}") };
            names.extend(transfer.file);
        }
        (names, reader.damaged())
    }

    fn read_all(dir: &Path) -> (Vec<String>, u64) {
        read(Reader::open(&DataDir::new(dir)).unwrap().unwrap())
    }

    fn names(numbers: std::ops::Range<u32>) -> Vec<String> {
        numbers.map(|number| format!("{number:02}")).collect()
    }

    #[test]
    fn lines_are_appended_to_a_private_file() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Reader::open(&DataDir::new(dir.path())).unwrap().is_none());
        let ledger = Ledger::new(&DataDir::new(dir.path()), Secret::new(""), Arc::default());
        ledger.append(&[line("a"), line("b")]).unwrap();
        ledger.append(&[line("c")]).unwrap();
        assert_eq!(read_all(dir.path()), (["a", "b", "c"].map(str::to_owned).to_vec(), 0));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(DataDir::new(dir.path()).ledger(0)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn a_truncated_line_stays_and_the_next_one_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(&DataDir::new(dir.path()), Secret::new(""), Arc::default());
        ledger.append(&[line("a")]).unwrap();
        let path = DataDir::new(dir.path()).ledger(0);
        let cut = fs::read_to_string(&path).unwrap() + "{\"time\":\"2026-";
        fs::write(&path, &cut).unwrap();
        assert_eq!(read_all(dir.path()), (vec!["a".to_owned()], 1));
        ledger.append(&[line("b")]).unwrap();
        assert_eq!(read_all(dir.path()), (vec!["a".to_owned(), "b".to_owned()], 1));
        assert!(fs::read_to_string(&path).unwrap().starts_with(&cut), "nothing is removed");
    }

    #[test]
    fn invalid_lines_are_skipped_with_bounded_memory() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(&DataDir::new(dir.path()), Secret::new(""), Arc::default());
        let garbage = [vec![b'x'; 3 << 20], b"\n\n\xff\xfe\n{}\n[1]\n".to_vec()].concat();
        fs::write(DataDir::new(dir.path()).ledger(0), garbage).unwrap();
        ledger.append(&[line("a")]).unwrap();
        let mut reader = Reader::open(&DataDir::new(dir.path())).unwrap().unwrap();
        assert!(reader.next_line().unwrap().is_some() && reader.next_line().unwrap().is_none());
        assert_eq!(reader.damaged(), 4);
        assert!(reader.buffer_size() <= 2 << 20, "{}", reader.buffer_size());
    }

    #[test]
    fn full_files_are_numbered_and_the_oldest_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = small(dir.path(), 3);
        for name in names(0..8) {
            ledger.append(&[line(&name)]).unwrap();
        }
        assert_eq!(read_all(dir.path()), (names(0..8), 0));
        assert!(DataDir::new(dir.path()).ledger(3).exists() && !DataDir::new(dir.path()).ledger(4).exists());
        ledger.append(&[line("08")]).unwrap();
        assert_eq!(read_all(dir.path()), (names(2..9), 0));
        assert!(!DataDir::new(dir.path()).ledger(4).exists());
    }

    #[test]
    fn a_crash_between_two_renames_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = small(dir.path(), 3);
        for name in names(0..6) {
            ledger.append(&[line(&name)]).unwrap();
        }
        // The older of two full files has moved, the younger not yet.
        fs::rename(DataDir::new(dir.path()).ledger(2), DataDir::new(dir.path()).ledger(3)).unwrap();
        assert_eq!(read_all(dir.path()), (names(0..6), 0));
        ledger.append(&[line("06")]).unwrap();
        assert_eq!(read_all(dir.path()), (names(0..7), 0));
        assert!((0..=3).all(|number| DataDir::new(dir.path()).ledger(number).exists()), "the free number is taken");
    }

    #[test]
    fn a_full_file_that_can_not_be_renamed_keeps_growing() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = small(dir.path(), 1);
        fs::create_dir_all(DataDir::new(dir.path()).ledger(1).join("x")).unwrap();
        for name in names(0..4) {
            ledger.append(&[line(&name)]).unwrap();
        }
        fs::remove_dir_all(DataDir::new(dir.path()).ledger(1)).unwrap();
        assert_eq!(read_all(dir.path()), (names(0..4), 0));
        ledger.append(&[line("04")]).unwrap();
        assert_eq!(read_all(dir.path()), (names(0..5), 0));
        assert!(DataDir::new(dir.path()).ledger(1).exists());
    }

    #[test]
    fn reading_during_renames_misses_and_repeats_no_line() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = small(dir.path(), 20);
        ledger.append(&[line("00")]).unwrap();
        let (written, done) = (AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                for name in names(1..40) {
                    ledger.append(&[line(&name)]).unwrap();
                }
                done.store(true, Ordering::SeqCst);
            });
            while !done.load(Ordering::SeqCst) {
                let (seen, damaged) = read_all(dir.path());
                // The last line may be half there while it is written.
                assert!(damaged <= 1);
                assert_eq!(seen, names(0..u32::try_from(seen.len()).unwrap()));
                written.store(true, Ordering::SeqCst);
            }
        });
        assert!(written.load(Ordering::SeqCst));
        assert_eq!(read_all(dir.path()), (names(0..40), 0));
    }

    #[test]
    fn concurrent_writers_lose_no_line() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = small(dir.path(), 20);
        thread::scope(|scope| {
            for start in [0, 10, 20, 30] {
                let ledger = &ledger;
                scope.spawn(move || {
                    names(start..start + 10).iter().for_each(|name| ledger.append(&[line(name)]).unwrap())
                });
            }
        });
        let (mut seen, damaged) = read_all(dir.path());
        seen.sort();
        assert_eq!((seen, damaged), (names(0..40), 0));
    }

    #[test]
    fn the_api_key_is_never_written() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(&DataDir::new(dir.path()), Secret::new("ak_0123456789"), Arc::default());
        ledger.append(&[line("a-ak_0123456789-b")]).unwrap();
        assert_eq!(read_all(dir.path()), (vec!["a-[api_key]-b".to_owned()], 0));
    }
}
