//! What of a task's files waits for room on a full disk, and the reserve in which it is until then.
//!
//! A container may fill the disk: a container of root also the part that the system keeps back from the agent's user, so
//! that the agent could write nothing, however much it gives back. Then the record of the container's end would not fit,
//! nothing would be delivered, and what isn't delivered isn't removed, so there would never be room again. So each
//! unsettled task has a file whose room nothing can take, and what its record and its `uploads.jsonl` lack is written over
//! it in place.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use super::UploadEvent;
use crate::os::files::{create, if_exists, is_full, open_existing, open_to_read, remove_if_exists};
use crate::os::reserve::Reserve;

/// Its size in bytes. Half of it takes the lines of `uploads.jsonl` about a thousand files, and the record.
const SIZE: usize = 1 << 20;
/// What the entries begin with.
const RECORD: &[u8] = b"record";
const UPLOADS: &[u8] = b"uploads";

/// The reserve of one task.
pub struct TaskReserve {
    path: PathBuf,
}

/// What waits for room on the disk.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// The record, and the digest of the file that it replaces: any other file is newer.
    pub record: Option<(u64, Vec<u8>)>,
    /// Lines of `uploads.jsonl`, and the length of the file before them. What the file has beyond it, a crash has left of
    /// these lines.
    pub uploads: Option<(u64, Vec<u8>)>,
}

impl TaskReserve {
    /// The reserve of the task whose record is in this folder, whether or not it exists.
    pub fn new(dir: &Path) -> Self {
        Self { path: dir.join("reserve") }
    }

    pub fn create(&self) -> io::Result<()> {
        Reserve::fill(&mut create(&self.path)?, SIZE)
    }

    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    pub fn remove(&self) -> io::Result<()> {
        remove_if_exists(&self.path)
    }

    /// What waits. For all processes: without a change to the file.
    pub fn load(&self) -> io::Result<Waiting> {
        let Some(file) = if_exists(open_to_read(&self.path))? else { return Ok(Waiting::default()) };
        Ok(Waiting::from_entries(Reserve::open(file)?.entries()?))
    }

    /// Writes this in the reserve. Returns whether there was none before.
    ///
    /// # Errors
    /// There is no reserve, or it is too small: then the error is `full`, that of the file that could not be written.
    pub fn keep(&self, added: Waiting, full: io::Error) -> io::Result<bool> {
        let Some(file) = if_exists(open_existing(&self.path))? else { return Err(full) };
        let reserve = Reserve::open(file)?;
        let mut waiting = Waiting::from_entries(reserve.entries()?);
        let is_first = waiting.is_empty();
        let pushed = added.entries().iter().try_for_each(|entry| reserve.push(entry));
        let kept = match pushed {
            Err(error) if is_full(&error) => {
                waiting.add(added);
                waiting.shorten();
                reserve.replace(&waiting.entries())
            }
            pushed => pushed,
        };
        match kept {
            Err(error) if is_full(&error) => Err(full),
            kept => kept.map(|()| is_first),
        }
    }

    /// Nothing waits any more.
    pub fn clear(&self) -> io::Result<()> {
        Reserve::open(open_existing(&self.path)?)?.clear()
    }
}

impl Waiting {
    pub fn is_empty(&self) -> bool {
        self.record.is_none() && self.uploads.is_none()
    }

    fn from_entries(entries: Vec<Vec<u8>>) -> Self {
        let mut waiting = Self::default();
        for entry in entries {
            let mut parts = entry.splitn(3, |byte| *byte == b' ');
            let (Some(kind), Some(base), Some(content)) = (parts.next(), parts.next(), parts.next()) else { continue };
            let base = std::str::from_utf8(base).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
            let content = base.map(|base| (base, content.to_vec()));
            match kind {
                RECORD => waiting.add(Self { record: content, uploads: None }),
                UPLOADS => waiting.add(Self { record: None, uploads: content }),
                _ => {}
            }
        }
        waiting
    }

    fn entries(&self) -> Vec<Vec<u8>> {
        let entry = |kind: &[u8], (base, content): &(u64, Vec<u8>)| {
            [kind, format!(" {base:016x} ").as_bytes(), content.as_slice()].concat()
        };
        let record = self.record.as_ref().map(|record| entry(RECORD, record));
        record.into_iter().chain(self.uploads.as_ref().map(|uploads| entry(UPLOADS, uploads))).collect()
    }

    fn add(&mut self, other: Self) {
        self.record = other.record.or(self.record.take());
        match (&mut self.uploads, other.uploads) {
            (Some((_, lines)), Some((_, more))) => lines.extend(more),
            (uploads @ None, more) => *uploads = more,
            (Some(_), None) => {}
        }
    }

    /// Removes lines about files that later lines decide about.
    fn shorten(&mut self) {
        let Some((_, lines)) = &mut self.uploads else { return };
        let parsed: Vec<(&[u8], Option<UploadEvent>)> = lines
            .split_inclusive(|byte| *byte == b'\n')
            .map(|line| (line, serde_json::from_slice(line).ok()))
            .collect();
        let decided = parsed.iter().filter_map(|(_, event)| match event {
            Some(UploadEvent::Done { file, .. }) => Some(file.clone()),
            Some(UploadEvent::LeftOut(left)) => Some(left.file.clone()),
            _ => None,
        });
        let decided: HashSet<String> = decided.collect();
        let is_over = |event: &Option<UploadEvent>| match event {
            Some(UploadEvent::Begin { file, .. } | UploadEvent::Logged { file } | UploadEvent::Failed { file }) => {
                decided.contains(file)
            }
            _ => false,
        };
        *lines = parsed.iter().filter(|(_, event)| !is_over(event)).flat_map(|(line, _)| line.to_vec()).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::{SIZE, TaskReserve, UploadEvent, Waiting};
    use std::io::{Error, ErrorKind};

    fn full() -> Error {
        Error::from(ErrorKind::StorageFull)
    }

    fn record(text: &str) -> Waiting {
        Waiting { record: Some((7, text.as_bytes().to_vec())), uploads: None }
    }

    fn uploads(events: &[UploadEvent]) -> Waiting {
        let lines = events.iter().map(|event| serde_json::to_string(event).unwrap() + "\n");
        Waiting { record: None, uploads: Some((3, lines.collect::<String>().into_bytes())) }
    }

    fn begin(file: String) -> UploadEvent {
        UploadEvent::Begin { file, size: 1, at: None, attempt: None }
    }

    fn done(file: String) -> UploadEvent {
        UploadEvent::Done { file_id: file.clone(), file, size: 1 }
    }

    #[test]
    fn the_last_record_and_all_lines_wait() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = TaskReserve::new(dir.path());
        assert_eq!(reserve.keep(record("{}"), full()).unwrap_err().kind(), ErrorKind::StorageFull);
        reserve.create().unwrap();
        assert!(reserve.load().unwrap().is_empty());
        assert!(reserve.keep(record("{\"a\": 1}"), full()).unwrap());
        assert!(!reserve.keep(uploads(&[begin("x y".to_owned())]), full()).unwrap());
        reserve.keep(record("{\"a\": 2}"), full()).unwrap();
        reserve.keep(uploads(&[done("x y".to_owned())]), full()).unwrap();
        let both = uploads(&[begin("x y".to_owned()), done("x y".to_owned())]).uploads;
        assert_eq!(reserve.load().unwrap(), Waiting { uploads: both, ..record("{\"a\": 2}") });
        reserve.clear().unwrap();
        assert!(reserve.load().unwrap().is_empty());
    }

    #[test]
    fn a_reserve_takes_records_without_end_and_a_thousand_files() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = TaskReserve::new(dir.path());
        reserve.create().unwrap();
        for number in 0..1000 {
            let file = format!("output/of-usual-length/result-{number}.csv");
            reserve.keep(uploads(&[begin(file.clone())]), full()).unwrap();
            reserve
                .keep(record(&format!("{{\"number\": {number}, \"more\": \"{}\"}}", "x".repeat(2000))), full())
                .unwrap();
            reserve.keep(uploads(&[done(file)]), full()).unwrap();
        }
        let waiting = reserve.load().unwrap();
        assert!(waiting.record.unwrap().1.starts_with(b"{\"number\": 999"));
        let lines = String::from_utf8(waiting.uploads.unwrap().1).unwrap();
        assert_eq!(lines.lines().filter(|line| line.contains("\"done\"")).count(), 1000);
        assert_eq!(dir.path().join("reserve").metadata().unwrap().len(), SIZE as u64);
    }
}
