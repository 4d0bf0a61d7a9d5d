//! A log file of bounded size that keeps the beginning and the end of what is written to it.
//!
//! The beginning goes to the file itself. All further output goes to two segments that are reused in turn, each half as
//! long as the end that is kept. [`BoundedLog::finish`] joins the parts, with a note between them of how much was cut.
//! Nothing is held in memory, and no error reaches the writer: on a full disk the bytes are counted and dropped, since
//! the pipe must be read on.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::os::files::{append, create, if_exists, ignore_missing, remove_if_exists};

/// A log that is being written.
pub struct BoundedLog {
    path: PathBuf,
    head: Option<File>,
    head_room: u64,
    segment: Option<File>,
    segment_len: u64,
    segment_cap: u64,
    /// Bytes in segments that were reused.
    cut: u64,
    /// Bytes that could not be written.
    dropped: u64,
    first_error: Option<io::Error>,
    /// The beginning of an earlier log that the output may repeat; see [`BoundedLog::replay`].
    earlier: Option<Vec<u8>>,
    /// Output that is not yet compared with the earlier log.
    pending: Vec<u8>,
    /// Also gets the output, as it arrives.
    echo: Option<Box<dyn Write + Send>>,
}

/// Stands between the beginning of the earlier log and the output that the engine has kept.
const GAP: &[u8] = "\n[… the agent was not running: some output may be missing or repeated below …]\n".as_bytes();
/// How many bytes decide whether a replay starts where the earlier log did.
const COMPARED: usize = 4096;

impl BoundedLog {
    /// A new log at `path` in place of an earlier one. Keeps the first `head` bytes, and of the last `tail` bytes at least
    /// half.
    pub fn create(path: PathBuf, head: u64, tail: u64) -> Self {
        let mut log = Self::unopened(path, head, tail);
        log.truncate();
        log
    }

    /// A log for output that the engine has kept and an earlier agent may have written here in part. If the engine has
    /// kept the beginning, its output replaces the log; if not, the beginning of the log stays and the rest is replaced.
    pub fn replay(path: PathBuf, head: u64, tail: u64) -> Self {
        let mut log = Self::unopened(path, head, tail);
        let mut earlier = Vec::new();
        if let Ok(file) = File::open(&log.path) {
            // An unreadable earlier log counts as none.
            if file.take(COMPARED as u64).read_to_end(&mut earlier).is_err() {
                earlier.clear();
            }
        }
        if earlier.is_empty() {
            log.truncate();
        } else {
            log.earlier = Some(earlier);
        }
        log
    }

    /// Also writes further output there as it arrives, until that fails.
    pub fn echo_to(&mut self, echo: impl Write + Send + 'static) {
        self.echo = Some(Box::new(echo));
    }

    /// Adds some output. Waits for the disk and the echo only.
    pub fn write(&mut self, bytes: &[u8]) {
        if let Some(echo) = &mut self.echo {
            if echo.write_all(bytes).and_then(|()| echo.flush()).is_err() {
                self.echo = None;
            }
        }
        if let Some(earlier) = &self.earlier {
            self.pending.extend_from_slice(bytes);
            if self.pending.len() >= earlier.len() {
                self.settle_replay();
            }
            return;
        }
        self.put(bytes);
    }

    /// Joins the parts into the one file.
    pub fn finish(mut self) {
        if self.earlier.is_some() {
            self.settle_replay();
        }
        if let Err(error) = self.join() {
            // Segments that can't be joined are removed, since the disk may be full.
            for part in self.segment_paths() {
                self.dropped += fs::metadata(part).map_or(0, |meta| meta.len());
            }
            self.first_error.get_or_insert(error);
        }
        self.remove_segments();
        if let Some(error) = &self.first_error {
            log::warn!("{}: {} bytes of output were not kept: {error}", self.path.display(), self.dropped);
        }
    }

    fn unopened(path: PathBuf, head: u64, tail: u64) -> Self {
        Self {
            path,
            head: None,
            head_room: head,
            segment: None,
            segment_len: 0,
            segment_cap: (tail / 2).max(1),
            cut: 0,
            dropped: 0,
            first_error: None,
            earlier: None,
            pending: Vec::new(),
            echo: None,
        }
    }

    fn truncate(&mut self) {
        let opened = create(&self.path);
        self.head = self.keep(opened);
        self.remove_segments();
    }

    /// Decides what a replay replaces, when enough of it has arrived, or all.
    fn settle_replay(&mut self) {
        let Some(earlier) = self.earlier.take() else { return };
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            // The engine has kept nothing, so the log stays as it is. Segments of an earlier writer are joined to it.
            self.head_room = 0;
            let reopened = append(&self.path);
            self.head = self.keep(reopened);
            return;
        }
        if pending.starts_with(&earlier) {
            self.truncate();
        } else {
            // The output between the two beginnings is unknown, so no more may go to the head.
            self.remove_segments();
            let kept = self.own_beginning();
            let reopened = append(&self.path).and_then(|file| {
                file.set_len(kept)?;
                Ok(file)
            });
            self.head = self.keep(reopened);
            self.head_room = 0;
            self.append_head(GAP);
        }
        self.put(&pending);
    }

    /// The length of the beginning that stays before a replay. It ends where an earlier replay began, or each replay
    /// would add the output once more.
    fn own_beginning(&self) -> u64 {
        let mut beginning = Vec::new();
        let read = File::open(&self.path).and_then(|file| file.take(self.head_room).read_to_end(&mut beginning));
        if read.is_err() {
            return 0;
        }
        let replayed = beginning.windows(GAP.len()).position(|part| part == GAP);
        replayed.unwrap_or(beginning.len()) as u64
    }

    fn put(&mut self, bytes: &[u8]) {
        let for_head = usize::try_from(self.head_room).unwrap_or(usize::MAX).min(bytes.len());
        let (first, mut rest) = bytes.split_at(for_head);
        if !first.is_empty() {
            self.head_room -= first.len() as u64;
            self.append_head(first);
        }
        while !rest.is_empty() {
            if self.segment.is_none() || self.segment_len == self.segment_cap {
                self.next_segment();
            }
            let room = usize::try_from(self.segment_cap - self.segment_len).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.segment_len += now.len() as u64;
            let written = self.segment.as_mut().map(|file| file.write_all(now));
            self.note(written, now.len());
            rest = later;
        }
    }

    fn append_head(&mut self, bytes: &[u8]) {
        let written = self.head.as_mut().map(|file| file.write_all(bytes));
        self.note(written, bytes.len());
    }

    /// Begins a new segment in place of the one before the last.
    fn next_segment(&mut self) {
        let [last, before_last] = self.segment_paths();
        self.segment = None;
        if last.exists() {
            self.cut += fs::metadata(&before_last).map_or(0, |meta| meta.len());
            let moved = fs::rename(&last, &before_last);
            self.keep(moved);
        }
        let opened = create(&last);
        self.segment = self.keep(opened);
        self.segment_len = 0;
    }

    fn join(&mut self) -> io::Result<()> {
        self.segment = None;
        let [last, before_last] = self.segment_paths();
        if let Some(head) = self.head.as_mut() {
            if self.cut > 0 {
                let cut = self.cut;
                writeln!(head, "\n[… {cut} bytes of output cut here …]")?;
            }
            for part in [&before_last, &last] {
                ignore_missing(File::open(part).and_then(|mut part| io::copy(&mut part, head).map(drop)))?;
            }
            head.sync_all()?;
        }
        Ok(())
    }

    fn remove_segments(&mut self) {
        for part in self.segment_paths() {
            let removed = remove_if_exists(&part);
            self.keep(removed);
        }
    }

    /// The last one and the one before it.
    fn segment_paths(&self) -> [PathBuf; 2] {
        [self.path.with_extension("tail"), self.path.with_extension("tail.1")]
    }

    fn note(&mut self, written: Option<io::Result<()>>, count: usize) {
        if written.and_then(|written| self.keep(written)).is_none() {
            self.dropped += count as u64;
        }
    }

    fn keep<T>(&mut self, result: io::Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.first_error.get_or_insert(error);
                None
            }
        }
    }
}

/// The last `limit` bytes of a finished log as text, without a character that the cut divides. Bytes that are no UTF-8
/// are replaced. A missing log is empty.
pub fn read_tail(path: &Path, limit: u64) -> io::Result<String> {
    let Some(mut file) = if_exists(File::open(path))? else { return Ok(String::new()) };
    let from = file.metadata()?.len().saturating_sub(limit);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    // A UTF-8 character has at most three bytes after its first.
    let whole = if from == 0 { 0 } else { bytes.iter().take(3).take_while(|byte| **byte & 0xC0 == 0x80).count() };
    Ok(String::from_utf8_lossy(&bytes[whole..]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::{BoundedLog, read_tail};
    use std::fs;

    fn written(chunks: &[&str], head: u64, tail: u64) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stdout.log");
        let mut log = BoundedLog::create(path.clone(), head, tail);
        for chunk in chunks {
            log.write(chunk.as_bytes());
        }
        log.finish();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "only the log itself is left");
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn output_within_the_limits_is_kept_whole() {
        assert_eq!(written(&["ab", "cd", "", "ef"], 4, 4), "abcdef");
        assert_eq!(written(&[], 4, 4), "");
        assert_eq!(written(&["abcd"], 4, 4), "abcd");
        assert_eq!(written(&["abcdefgh"], 4, 4), "abcdefgh");
    }

    #[test]
    fn long_output_keeps_both_ends_and_marks_the_cut() {
        let text = written(&["0123456789abcdefghijkl"], 4, 8);
        assert_eq!(text, "0123\n[… 12 bytes of output cut here …]\nghijkl");
    }

    #[test]
    fn a_replay_from_the_beginning_replaces_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stdout.log");
        fs::write(&path, "line 1\nli").unwrap();
        let mut log = BoundedLog::replay(path.clone(), 100, 100);
        log.write(b"line ");
        log.write(b"1\nline 2\n");
        log.finish();
        assert_eq!(fs::read_to_string(path).unwrap(), "line 1\nline 2\n");
    }

    #[test]
    fn a_replay_without_the_beginning_keeps_the_logs_head() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stdout.log");
        fs::write(&path, "line 1\nline 2\n").unwrap();
        fs::write(path.with_extension("tail"), "old tail").unwrap();
        let mut log = BoundedLog::replay(path.clone(), 7, 100);
        log.write(b"line 8\nline 9\n");
        log.finish();
        let text = fs::read_to_string(path).unwrap();
        assert!(text.starts_with("line 1\n\n[…") && text.ends_with("]\nline 8\nline 9\n"), "{text}");
    }

    #[test]
    fn a_replay_replaces_the_previous_replay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stderr.log");
        fs::write(&path, "docker: a warning\nline 1\n").unwrap();
        for lines in ["line 1\nline 2\n", "line 1\nline 2\nline 3\n"] {
            let mut log = BoundedLog::replay(path.clone(), 1000, 1000);
            log.write(lines.as_bytes());
            log.finish();
        }
        let text = fs::read_to_string(path).unwrap();
        assert!(text.starts_with("docker: a warning\nline 1\n\n[…"), "{text}");
        assert!(text.ends_with("…]\nline 1\nline 2\nline 3\n"), "{text}");
        assert_eq!(text.matches("line 2").count(), 1, "{text}");
    }

    #[test]
    fn an_empty_replay_leaves_the_log_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stdout.log");
        fs::write(&path, "line 1\n").unwrap();
        BoundedLog::replay(path.clone(), 100, 100).finish();
        assert_eq!(fs::read_to_string(path).unwrap(), "line 1\n");
    }

    #[test]
    fn the_tail_begins_with_a_whole_character() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, "aé€b").unwrap();
        let tails: Vec<String> = (1..=7).map(|limit| read_tail(&path, limit).unwrap()).collect();
        assert_eq!(tails, ["b", "b", "b", "€b", "€b", "é€b", "aé€b"]);
        assert_eq!(read_tail(&dir.path().join("none"), 9).unwrap(), "");
    }
}
