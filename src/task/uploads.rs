//! What has become of a task's results, read from its `uploads.jsonl`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;

use jiff::Timestamp;

use super::record::{Member, Packed};
use super::{KnownIds, StepError, TaskFiles, TaskHandle, UploadEvent};
use crate::server::protocol::{FinalStatus, LeftOut};

/// How many uploads that were begun again may have lines before those that say nothing any more are removed: a Server
/// that never takes a file mustn't fill the disk with lines about it.
const REPEATS_MAX: u32 = 32;

/// The content of `uploads.jsonl`.
#[derive(Default)]
pub struct Uploads {
    /// The files that were on the Server before the first upload; `None` until the Server was asked.
    pub before: Option<KnownIds>,
    /// Names and ids of the files on the Server, in the order of their uploads.
    pub done: Vec<(String, String)>,
    pub done_bytes: u64,
    /// Files that aren't sent.
    pub left_out: Vec<LeftOut>,
    /// How many more files aren't sent.
    pub unnamed: u64,
    /// The archives that were written.
    pub packed: Vec<Packed>,
    /// The names of those that the Server hasn't taken. Nothing of the task is missing there for that.
    pub refused_archives: Vec<String>,
    /// Names of files that are on the Server or aren't sent.
    pub decided: HashSet<String>,
    /// Names and sizes of files whose upload may or may not have arrived.
    pub in_doubt: HashMap<String, u64>,
    /// How many uploads of a name have begun.
    pub attempts: HashMap<String, u64>,
    /// Names whose last upload isn't in the ledger yet, and when that upload began.
    pub unlogged: BTreeMap<String, Option<Timestamp>>,
    /// How many uploads of a name have failed while the Server could be reached.
    pub failures: HashMap<String, u32>,
    /// How many lines are about an upload that was begun again.
    repeats: u32,
}

impl Uploads {
    /// For the agent that holds the data_dir.
    pub fn load(files: &TaskFiles) -> io::Result<Self> {
        let mut uploads = Self::default();
        files.load_uploads(&mut |event| uploads.apply(event))?;
        if uploads.repeats >= REPEATS_MAX {
            // On a full disk the lines stay, until a later step removes them.
            if let Err(error) = uploads.compact(files) {
                log::debug!(task:% = files.key(); "uploads.jsonl can't be made shorter: {error}");
            }
        }
        Ok(uploads)
    }

    /// The same for a worker. A cancelled task ends without what can't be read: its results aren't wanted, and no other task
    /// is offered before it is reported (PROTOCOL 2).
    pub fn open(task: &mut TaskHandle) -> Result<Self, StepError> {
        task.check_commands()?;
        let error = match Self::load(&task.files) {
            Err(error) if task.is_cancelled() || task.is_cancel_requested() => error,
            loaded => return loaded.map_err(StepError::because("uploads.jsonl")),
        };
        log::warn!(task:% = task.key(); "cancelled, without what its uploads.jsonl says: it can't be read: {error}");
        if let Some(ending) = task.record.ending.as_mut() {
            (ending.status, ending.error_message) = (FinalStatus::Cancelled, None);
        }
        Ok(Self::default())
    }

    /// The same without a change to the file, for other processes.
    pub fn read(files: &TaskFiles) -> io::Result<Self> {
        let mut uploads = Self::default();
        files.read_uploads(&mut |event| uploads.apply(event))?;
        Ok(uploads)
    }

    /// Removes the lines about attempts, and writes what they say together, for each file that isn't decided.
    fn compact(&mut self, files: &TaskFiles) -> io::Result<()> {
        let is_kept = |event: &UploadEvent| {
            !matches!(event, UploadEvent::Begin { .. } | UploadEvent::Logged { .. } | UploadEvent::Failed { .. })
        };
        let mut events = Vec::new();
        for (file, size) in &self.in_doubt {
            let failed = UploadEvent::Failed { file: file.clone() };
            let failures = self.failures.get(file).copied().unwrap_or_default();
            events.extend((0..failures).map(|_| failed.clone()));
            let (attempt, unlogged) = (self.attempts.get(file).copied(), self.unlogged.get(file));
            let at = unlogged.copied().flatten();
            events.push(UploadEvent::Begin { file: file.clone(), size: *size, at, attempt });
            if unlogged.is_none() {
                events.push(UploadEvent::Logged { file: file.clone() });
            }
        }
        files.rewrite_uploads(is_kept, &events)?;
        self.repeats = 0;
        Ok(())
    }

    /// The lines that note that every upload is in the ledger.
    pub fn logged_events(&self) -> Vec<UploadEvent> {
        self.unlogged.keys().map(|file| UploadEvent::Logged { file: file.clone() }).collect()
    }

    /// How many files aren't sent, with or without a name.
    pub fn left_out_count(&self) -> u64 {
        self.unnamed.saturating_add(self.left_out.len() as u64)
    }

    /// The results in archives that the Server has.
    pub fn archived(&self) -> impl Iterator<Item = &Member> {
        let sent = |packed: &&Packed| self.done.iter().any(|(name, _)| *name == packed.archive);
        self.packed.iter().filter(sent).flat_map(|packed| &packed.members)
    }

    /// The names of the files on the Server, and then of those that are only in an archive there.
    pub fn names_sent(&self) -> Vec<String> {
        let alone: HashSet<&String> = self.done.iter().map(|(name, _)| name).collect();
        let archived = self.archived().map(|member| &member.file).filter(|name| !alone.contains(name));
        self.done.iter().map(|(name, _)| name).chain(archived).cloned().collect()
    }

    /// How many files the Server has, by themselves or in an archive.
    pub fn files_sent(&self) -> u64 {
        let is_archive = |name: &&String| self.packed.iter().any(|packed| packed.archive == **name);
        self.names_sent().iter().filter(|name| !is_archive(name)).count() as u64
    }

    /// Adds a line.
    pub fn apply(&mut self, event: UploadEvent) {
        match event {
            UploadEvent::Before(known) => self.before = Some(known),
            UploadEvent::Begin { file, size, at, attempt } => {
                let attempts = self.attempts.entry(file.clone()).or_default();
                *attempts = attempt.unwrap_or(attempts.saturating_add(1));
                self.unlogged.insert(file.clone(), at);
                if self.in_doubt.insert(file, size).is_some() {
                    self.repeats = self.repeats.saturating_add(1);
                }
            }
            UploadEvent::Logged { file } => {
                self.unlogged.remove(&file);
            }
            UploadEvent::Failed { file } => {
                self.unlogged.remove(&file);
                *self.failures.entry(file).or_default() += 1;
            }
            UploadEvent::Done { file, file_id, size } => {
                self.done_bytes = self.done_bytes.saturating_add(size);
                self.unlogged.remove(&file);
                self.in_doubt.remove(&file);
                self.decided.insert(file.clone());
                self.done.push((file, file_id));
            }
            UploadEvent::LeftOut(left) => {
                self.unlogged.remove(&left.file);
                self.in_doubt.remove(&left.file);
                self.decided.insert(left.file.clone());
                if self.packed.iter().any(|packed| packed.archive == left.file) {
                    self.refused_archives.push(left.file);
                } else {
                    self.left_out.push(left);
                }
            }
            UploadEvent::Packed(packed) => self.packed.push(packed),
            UploadEvent::Unnamed { count } => self.unnamed = self.unnamed.max(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{KnownIds, REPEATS_MAX, Uploads};
    use crate::data_dir::DataDir;
    use crate::server::protocol::{LeftOut, Task};
    use crate::task::record::{Member, Packed, Record, Store, TaskKey, UploadEvent};
    use std::fs;

    fn before(id: &str) -> UploadEvent {
        let mut known = KnownIds::default();
        known.insert(id);
        UploadEvent::Before(known)
    }

    fn applied(events: Vec<UploadEvent>) -> Uploads {
        let mut uploads = Uploads::default();
        events.into_iter().for_each(|event| uploads.apply(event));
        uploads
    }

    #[test]
    fn a_started_upload_is_in_doubt_until_its_end_is_recorded() {
        let begin = |file: &str| UploadEvent::Begin { file: file.to_owned(), size: 3, at: None, attempt: None };
        let uploads = applied(vec![
            before("old"),
            begin("a"),
            UploadEvent::Done { file: "a".to_owned(), size: 3, file_id: "1".to_owned() },
            begin("b"),
            begin("c"),
            UploadEvent::LeftOut(LeftOut { file: "c".to_owned(), reason: "refused".to_owned() }),
        ]);
        assert_eq!(uploads.in_doubt.keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!(uploads.done, [("a".to_owned(), "1".to_owned())]);
        assert!(uploads.decided.contains("c") && !uploads.decided.contains("b"));
    }

    #[test]
    fn what_is_in_an_archive_is_sent_when_that_is() {
        let member = |file: &str| Member { file: file.to_owned(), size: 3 };
        let packed = |archive: &str, files: &[&str]| {
            let members = files.iter().map(|file| member(file)).collect();
            UploadEvent::Packed(Packed { archive: archive.to_owned(), size: 300, members })
        };
        let done = |file: &str| UploadEvent::Done { file: file.to_owned(), size: 3, file_id: file.to_owned() };
        let mut uploads = applied(vec![packed("one.zip", &["a", "b"]), packed("two.zip", &["c"]), done("x")]);
        assert_eq!((uploads.files_sent(), uploads.archived().count()), (1, 0));
        uploads.apply(done("one.zip"));
        // The answer is sent beside the archive, too.
        uploads.apply(done("a"));
        let refused = LeftOut { file: "two.zip".to_owned(), reason: "refused".to_owned() };
        uploads.apply(UploadEvent::LeftOut(refused));
        assert_eq!(uploads.names_sent(), ["x", "one.zip", "a", "b"]);
        assert_eq!((uploads.files_sent(), uploads.left_out_count()), (3, 0));
        assert_eq!(uploads.refused_archives, ["two.zip"]);
    }

    #[test]
    fn sizes_and_counts_of_damaged_lines_do_not_overflow() {
        let done = || UploadEvent::Done { file: "a".to_owned(), size: u64::MAX, file_id: "1".to_owned() };
        let left_out = LeftOut { file: "b".to_owned(), reason: "refused".to_owned() };
        let unnamed = UploadEvent::Unnamed { count: u64::MAX };
        let uploads = applied(vec![done(), done(), UploadEvent::LeftOut(left_out), unnamed]);
        assert_eq!((uploads.done_bytes, uploads.left_out_count()), (u64::MAX, u64::MAX));
    }

    #[test]
    fn lines_about_attempts_without_end_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&DataDir::new(dir.path())).unwrap();
        let task = Task { id: "t".to_owned(), ..Task::default() };
        let files = store.create(&TaskKey::from_id("t").unwrap(), &Record::from_offer(task, "s", "u")).unwrap();
        let begin = |file: &str| UploadEvent::Begin { file: file.to_owned(), size: 3, at: None, attempt: None };
        let (file, reason) = ("kept".to_owned(), "refused".to_owned());
        let start = [
            before("old"),
            begin("sent"),
            UploadEvent::Done { file: "sent".to_owned(), size: 5, file_id: "1".to_owned() },
            UploadEvent::LeftOut(LeftOut { file, reason }),
            begin("again"),
            UploadEvent::Failed { file: "again".to_owned() },
            begin("other"),
        ];
        files.append_uploads(&start).unwrap();
        let mut longest = 0;
        for number in 2..2000 {
            files.append_uploads(&[begin("again"), UploadEvent::Logged { file: "again".to_owned() }]).unwrap();
            longest = fs::metadata(dir.path().join("tasks/t/uploads.jsonl")).unwrap().len().max(longest);
            let uploads = Uploads::load(&files).unwrap();
            assert!(uploads.repeats < REPEATS_MAX);
            assert_eq!((uploads.attempts["again"], uploads.failures["again"]), (number, 1));
            assert!(uploads.in_doubt.contains_key("again") && uploads.in_doubt.contains_key("other"));
            assert_eq!(uploads.unlogged.keys().collect::<Vec<_>>(), ["other"]);
        }
        assert!(longest < 8 * 1024, "{longest} bytes");
        let uploads = Uploads::read(&files).unwrap();
        assert_eq!((uploads.done.len(), uploads.done_bytes, uploads.left_out.len()), (1, 5, 1));
        assert!(uploads.before.unwrap().may_have("old"));
    }
}
