//! A log file of bounded size that keeps the beginning and the end of what is written to it.
//!
//! The beginning goes to the file itself. All further output goes to two segments that are reused in turn, each half as
//! long as the end that is kept. [`BoundedLog::finish`] joins the parts, with a note between them of how much was cut.
//! Nothing is held in memory, and no error reaches the writer: on a full disk the bytes are counted and dropped, since
//! the pipe must be read on.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::replay::{Compared, GAP, Replay};
use crate::os::files::{append, create, if_exists, ignore_missing, remove_if_exists};

pub use super::replay::Otherwise;

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
    /// Whether the output repeats an earlier log, as far as it does; see [`BoundedLog::replay`].
    replay: Option<Replay>,
    /// Also gets the output, as it arrives.
    echo: Option<Box<dyn Write + Send>>,
}

impl BoundedLog {
    /// A new log at `path` in place of an earlier one. Keeps the first `head` bytes, and of the last `tail` bytes at least
    /// half.
    pub fn create(path: PathBuf, head: u64, tail: u64) -> Self {
        let mut log = Self::unopened(path, head, tail);
        log.truncate();
        log
    }

    /// A log for output that the engine has kept and an earlier agent may have written here in part. What is in the log
    /// stays, and what the output has beyond it is added. The engine may not have kept the beginning of the output; then
    /// `otherwise` says what becomes of it.
    pub fn replay(path: PathBuf, head: u64, tail: u64, otherwise: Otherwise) -> Self {
        let mut log = Self::unopened(path, head, tail);
        let replay = log.take_over().and_then(|()| {
            let [last, before_last] = log.segment_paths();
            // A writer that was killed has not left the number of bytes that it had cut.
            let is_cut = log.cut > 0 || before_last.exists();
            Replay::new([log.path.clone(), before_last, last], is_cut, otherwise)
        });
        log.replay = log.keep(replay);
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
        match self.replay.as_mut().map(|replay| replay.compare(bytes)) {
            None => self.put(bytes),
            Some(Compared::Repeated) => {}
            Some(Compared::NewFrom(at)) => {
                self.replay = None;
                self.put(&bytes[at..]);
            }
            Some(Compared::Other(repeated)) => {
                self.replay = None;
                self.put(GAP);
                self.put(&repeated);
                self.put(bytes);
            }
        }
    }

    /// Joins the parts into the one file.
    pub fn finish(mut self) {
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
            replay: None,
            echo: None,
        }
    }

    fn truncate(&mut self) {
        let opened = create(&self.path);
        self.head = self.keep(opened);
        self.remove_segments();
    }

    /// Goes on with what an earlier writer has left: a log whose parts are joined or not, or half of it.
    fn take_over(&mut self) -> io::Result<()> {
        let [last, _] = self.segment_paths();
        let (mut file, most) = (append(&self.path)?, self.head_room);
        let length = file.metadata()?.len();
        self.head_room = most.saturating_sub(length);
        if let Some(segment) = if_exists(fs::metadata(&last))? {
            self.head_room = 0;
            self.segment_len = segment.len();
            self.segment = Some(append(&last)?);
        } else if length > most {
            let mut joined = File::open(&self.path)?;
            joined.seek(SeekFrom::Start(most))?;
            let mut buffer = vec![0; 64 * 1024];
            loop {
                match joined.read(&mut buffer)? {
                    0 => break,
                    count => self.put(&buffer[..count]),
                }
            }
        }
        if length > most {
            file.set_len(most)?;
        }
        file.seek(SeekFrom::End(0))?;
        self.head = Some(file);
        Ok(())
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
            // An empty file has nothing to lose.
            if head.metadata()?.len() > 0 {
                head.sync_all()?;
            }
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
    use super::{BoundedLog, Otherwise, read_tail};
    use std::fs;
    use std::path::Path;

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

    /// What the log has after replays of these outputs.
    fn replayed(dir: &Path, (head, tail): (u64, u64), otherwise: Otherwise, outputs: &[&[&str]]) -> String {
        let path = dir.join("stdout.log");
        for chunks in outputs {
            let mut log = BoundedLog::replay(path.clone(), head, tail, otherwise);
            chunks.iter().for_each(|chunk| log.write(chunk.as_bytes()));
            log.finish();
        }
        assert_eq!(fs::read_dir(dir).unwrap().count(), 1, "only the log itself is left");
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_replay_adds_what_the_log_lacks() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("stdout.log"), "line 1\nli").unwrap();
        for otherwise in [Otherwise::Append, Otherwise::Drop] {
            let text = replayed(dir.path(), (100, 100), otherwise, &[&["line ", "1\nline 2\n"]]);
            assert_eq!(text, "line 1\nline 2\n");
        }
        let shorter = replayed(dir.path(), (100, 100), Otherwise::Append, &[&["line 1\n"], &[]]);
        assert_eq!(shorter, "line 1\nline 2\n", "nothing is replaced by less");
    }

    #[test]
    fn a_replay_without_the_beginning_follows_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stdout.log");
        fs::write(&path, "line 1\nline 2\n").unwrap();
        fs::write(path.with_extension("tail"), "old tail").unwrap();
        let text = replayed(dir.path(), (7, 1000), Otherwise::Append, &[&["line 8\nline 9\n"]]);
        assert!(text.starts_with("line 1\nold tail\n[…") && text.ends_with("]\nline 8\nline 9\n"), "{text}");
        let same = replayed(dir.path(), (7, 1000), Otherwise::Drop, &[&["something else\n"]]);
        assert_eq!(same, text);
    }

    #[test]
    fn a_replay_goes_on_with_the_previous_replay() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("stdout.log"), "docker: a warning\nline 1\n").unwrap();
        let outputs: &[&[&str]] = &[&["line 1\nline 2\n"], &["line 1\nline 2\nline 3\n"]];
        for (head, tail) in [(1000, 1000), (10, 1000)] {
            let text = replayed(dir.path(), (head, tail), Otherwise::Append, outputs);
            assert!(text.starts_with("docker: a warning\nline 1\n\n[…"), "{text}");
            assert!(text.ends_with("…]\nline 1\nline 2\nline 3\n"), "{text}");
            assert_eq!(text.matches("line 2").count(), 1, "{text}");
        }
    }

    #[test]
    fn a_replay_that_only_begins_like_the_log_replaces_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let same = "x".repeat(200_000);
        let log = format!("{same}SOMETHING{same}");
        fs::write(dir.path().join("stdout.log"), &log).unwrap();
        let kept = "x".repeat(400_000);
        let text =
            replayed(dir.path(), (1 << 20, 9 << 20), Otherwise::Append, &[&[&kept[..150_000], &kept[150_000..]]]);
        assert!(text.starts_with(&log) && text.len() > log.len() + 200_000, "{} bytes", text.len());
    }

    #[test]
    fn replays_of_long_logs_stay_within_the_limits() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..5 {
            let output = number.to_string().repeat(5000);
            let text = replayed(dir.path(), (100, 1000), Otherwise::Append, &[&[&output]]);
            assert!(text.starts_with(&"0".repeat(100)) && text.ends_with(&output[..500]), "{text}");
            assert!(text.len() < 100 + 1000 + 300, "{}", text.len());
        }
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
