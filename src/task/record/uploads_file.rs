//! `uploads.jsonl`: what was sent, is being sent, or isn't sent, line by line.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;

use super::reserve::Waiting;
use super::{TaskFiles, UploadEvent};
use crate::os::files::{Durability, Replacement, append, if_exists, is_full, open_existing, open_to_read};

/// The longest line that is written, in bytes: the ids that a Server had before are a quarter of it.
const WRITTEN_LINE_MAX: usize = 1 << 20;
/// The longest line that is read: those of older versions have all the ids of a list, which has at most 8 MiB.
const LINE_MAX: u64 = 16 << 20;

impl TaskFiles {
    /// Appends lines to `uploads.jsonl` and returns when they are on the disk. Where that is full, they wait in the reserve.
    /// An event that couldn't be read again isn't written, nor are those beside it.
    pub fn append_uploads(&self, events: &[UploadEvent]) -> io::Result<()> {
        let mut lines = Vec::new();
        for event in events {
            let before = lines.len();
            serde_json::to_writer(&mut lines, event)?;
            lines.push(b'\n');
            if lines.len() - before > WRITTEN_LINE_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "an event is longer than a line may be"));
            }
        }
        match self.put_back().and_then(|()| self.append_lines(&lines, u64::MAX)) {
            Err(error) if is_full(&error) => {
                let waiting = self.reserve().load()?.uploads;
                let length = || if_exists(fs::metadata(self.uploads())).map(|found| found.map_or(0, |file| file.len()));
                let whole = waiting.map_or_else(length, |(whole, _)| Ok(whole))?;
                self.keep(Waiting { record: None, uploads: Some((whole, lines)) }, error)
            }
            appended => appended,
        }
    }

    /// Appends lines behind the first `whole` bytes of `uploads.jsonl`.
    pub(super) fn append_lines(&self, lines: &[u8], whole: u64) -> io::Result<()> {
        let mut file = append(&self.uploads())?;
        let whole = whole.min(file.metadata()?.len());
        file.set_len(whole)?;
        let written = file.write_all(lines).and_then(|()| file.sync_data());
        if written.is_err() {
            // The next line must not be appended to a part of this one.
            file.set_len(whole)?;
        }
        written
    }

    /// Passes the lines of `uploads.jsonl` on, one by one. A last line that a crash cut off counts as not written, and is
    /// removed. For the agent that holds the data_dir.
    pub fn load_uploads(&self, each: &mut dyn FnMut(UploadEvent)) -> io::Result<()> {
        if let Some(whole) = self.parse_uploads(each)? {
            // The next line would be appended to it.
            open_existing(&self.uploads())?.set_len(whole)?;
        }
        Ok(())
    }

    /// The same without a change to the file, for other processes: a part of a line is just being written.
    pub fn read_uploads(&self, each: &mut dyn FnMut(UploadEvent)) -> io::Result<()> {
        self.parse_uploads(each).map(drop)
    }

    /// Replaces `uploads.jsonl` in one step: by those of its lines that `keeps` is true of, and by `added` after them.
    pub fn rewrite_uploads(&self, keeps: impl Fn(&UploadEvent) -> bool, added: &[UploadEvent]) -> io::Result<()> {
        self.put_back()?;
        let path = self.uploads();
        let new = Replacement::write_by(&path, Durability::PowerCut, |file| {
            let mut written = Ok(());
            let mut write = |event: &UploadEvent| {
                if written.is_ok() {
                    written =
                        serde_json::to_writer(&mut *file, event).map_err(Into::into).and_then(|()| writeln!(file));
                }
            };
            self.parse_uploads(&mut |event| {
                if keeps(&event) {
                    write(&event);
                }
            })?;
            added.iter().for_each(write);
            written
        });
        new?.commit()
    }

    fn uploads(&self) -> PathBuf {
        self.dir.join("uploads.jsonl")
    }

    /// Passes the whole lines on, and those that wait in the reserve. Returns the length of those in the file if a part of a
    /// line follows them.
    fn parse_uploads(&self, each: &mut dyn FnMut(UploadEvent)) -> io::Result<Option<u64>> {
        let (whole, waiting) = self.reserve().load()?.uploads.unwrap_or((u64::MAX, Vec::new()));
        let cut = match if_exists(open_to_read(&self.uploads()))? {
            Some(file) => parse_lines(BufReader::new(file.take(whole)), each)?,
            None => None,
        };
        parse_lines(waiting.as_slice(), each)?;
        Ok(cut)
    }
}

/// Passes the whole lines on. Returns their length if a part of a line follows them.
fn parse_lines(mut reader: impl BufRead, each: &mut dyn FnMut(UploadEvent)) -> io::Result<Option<u64>> {
    let (mut line, mut whole) = (Vec::new(), 0);
    while reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut line)? > 0 {
        if line.last() != Some(&b'\n') {
            if line.len() as u64 == LINE_MAX {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "it has a line that is longer than the agent's",
                ));
            }
            return Ok(Some(whole));
        }
        whole += line.len() as u64;
        each(serde_json::from_slice(&line)?);
        line.clear();
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::{UploadEvent, WRITTEN_LINE_MAX, Waiting};
    use crate::data_dir::DataDir;
    use crate::os::digest::fnv;
    use crate::task::record::store::tests::task;
    use crate::task::record::{Phase, Record, Store, TaskFiles, TaskKey};
    use std::{fs, io};

    fn loaded(files: &TaskFiles) -> Vec<UploadEvent> {
        let mut events = Vec::new();
        files.load_uploads(&mut |event| events.push(event)).unwrap();
        events
    }

    #[test]
    fn a_line_truncated_by_a_crash_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&DataDir::new(dir.path())).unwrap();
        let files = store.create(&TaskKey::from_id("t").unwrap(), &Record::from_offer(task("t"), "s", "u")).unwrap();
        let begin = UploadEvent::Begin { file: "a".to_owned(), size: 1, at: None, attempt: None };
        files.append_uploads(std::slice::from_ref(&begin)).unwrap();
        let path = dir.path().join("tasks/t/uploads.jsonl");
        let cut = fs::read_to_string(&path).unwrap() + "{\"event\":\"do";
        fs::write(&path, &cut).unwrap();
        let mut read = Vec::new();
        files.read_uploads(&mut |event| read.push(event)).unwrap();
        assert_eq!(read, std::slice::from_ref(&begin));
        assert_eq!(fs::read_to_string(&path).unwrap(), cut, "a reader doesn't cut into the writer's line");
        assert_eq!(loaded(&files), std::slice::from_ref(&begin));
        files.append_uploads(std::slice::from_ref(&begin)).unwrap();
        assert_eq!(loaded(&files), [begin.clone(), begin]);
    }

    #[test]
    fn what_waits_in_the_reserve_is_read_and_put_in_its_place_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&DataDir::new(dir.path())).unwrap();
        let mut record = Record::from_offer(task("t"), "s", "u");
        let files = store.create(&TaskKey::from_id("t").unwrap(), &record).unwrap();
        let begin = |file: &str| UploadEvent::Begin { file: file.to_owned(), size: 1, at: None, attempt: None };
        files.append_uploads(&[begin("a")]).unwrap();
        let uploads = dir.path().join("tasks/t/uploads.jsonl");
        let whole = fs::read_to_string(&uploads).unwrap();
        let lines = serde_json::to_string(&begin("b")).unwrap() + "\n";
        record.phase = Phase::Exited;
        let text = || serde_json::to_vec(&record).unwrap();
        let replaced = fnv(fs::read(files.record()).unwrap());
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let wait = || Waiting {
            record: Some((replaced, text())),
            uploads: Some((whole.len() as u64, lines.clone().into_bytes())),
        };
        files.keep(wait(), full()).unwrap();
        assert_eq!(files.load().unwrap().unwrap().phase, Phase::Exited);
        assert_eq!(loaded(&files), [begin("a"), begin("b")]);
        // A crash in the middle leaves a part of the lines in both places.
        fs::write(&uploads, whole.clone() + &lines[..7]).unwrap();
        assert_eq!(loaded(&files), [begin("a"), begin("b")]);
        files.append_uploads(&[begin("c")]).unwrap();
        assert!(files.reserve().load().unwrap().is_empty());
        assert_eq!(loaded(&files), [begin("a"), begin("b"), begin("c")]);
        assert_eq!(files.load().unwrap().unwrap().phase, Phase::Exited);
        // What waits is about an earlier record.
        files.keep(Waiting { record: Some((replaced, b"{}".to_vec())), uploads: None }, full()).unwrap();
        assert_eq!(files.load().unwrap().unwrap().phase, Phase::Exited);
    }

    #[test]
    fn an_event_that_could_not_be_read_again_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&DataDir::new(dir.path())).unwrap();
        let files = store.create(&TaskKey::from_id("t").unwrap(), &Record::from_offer(task("t"), "s", "u")).unwrap();
        let begin = |length: usize| UploadEvent::Failed { file: "a".repeat(length) };
        let mut written = Vec::new();
        for length in [WRITTEN_LINE_MAX - 40, WRITTEN_LINE_MAX, 2 * WRITTEN_LINE_MAX, 3] {
            if files.append_uploads(&[begin(length)]).is_ok() {
                written.push(begin(length));
            }
        }
        assert!(written.len() == 2 && loaded(&files) == written);
        // The ids of a long list, as an older version has written them: 16,000 of 66 characters.
        let ids: Vec<String> = (0..16_000).map(|number| format!("{number:066}")).collect();
        let line = format!("{}\n", serde_json::json!({"event": "before", "ids": ids}));
        assert!(line.len() > WRITTEN_LINE_MAX);
        fs::write(dir.path().join("tasks/t/uploads.jsonl"), line).unwrap();
        assert_eq!(loaded(&files).len(), 1);
    }

    #[test]
    fn upload_lines_of_older_versions_are_read() {
        let old = [
            (
                r#"{"event":"begin","file":"a","size":1}"#,
                UploadEvent::Begin { file: "a".to_owned(), size: 1, at: None, attempt: None },
            ),
            (r#"{"event":"told","file":"a"}"#, UploadEvent::Logged { file: "a".to_owned() }),
            (r#"{"event":"unnamed","count":3}"#, UploadEvent::Unnamed { count: 3 }),
        ];
        for (line, event) in old {
            assert_eq!(serde_json::from_str::<UploadEvent>(line).unwrap(), event);
        }
    }
}
