//! What has become of a task's results, read from its `uploads.jsonl`.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;

use super::{StepError, TaskFiles, UploadEvent};
use crate::server::protocol::LeftOut;

/// The content of `uploads.jsonl`.
#[derive(Default)]
pub struct Uploads {
    /// Ids of files that were on the Server before the first upload; `None` until the Server was asked.
    pub before: Option<HashSet<String>>,
    /// Names and ids of the files on the Server, in the order of their uploads.
    pub done: Vec<(String, String)>,
    pub done_bytes: u64,
    /// Files that aren't sent.
    pub left_out: Vec<LeftOut>,
    /// How many more files aren't sent.
    pub unnamed: u64,
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
}

impl Uploads {
    pub fn load(files: &TaskFiles) -> Result<Self, StepError> {
        files.load_uploads().map(Self::from_events).map_err(StepError::because("uploads.jsonl"))
    }

    pub fn from_events(events: Vec<UploadEvent>) -> Self {
        let mut uploads = Self::default();
        for event in events {
            uploads.apply(event);
        }
        uploads
    }

    /// The lines that note that every upload is in the ledger.
    pub fn logged_events(&self) -> Vec<UploadEvent> {
        self.unlogged.keys().map(|file| UploadEvent::Logged { file: file.clone() }).collect()
    }

    /// How many files aren't sent, with or without a name.
    pub fn left_out_count(&self) -> u64 {
        self.unnamed.saturating_add(self.left_out.len() as u64)
    }

    /// Adds a line.
    pub fn apply(&mut self, event: UploadEvent) {
        match event {
            UploadEvent::Before { ids } => self.before = Some(ids.into_iter().collect()),
            UploadEvent::Begin { file, size, at } => {
                *self.attempts.entry(file.clone()).or_default() += 1;
                self.unlogged.insert(file.clone(), at);
                self.in_doubt.insert(file, size);
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
                self.left_out.push(left);
            }
            UploadEvent::Unnamed { count } => self.unnamed = self.unnamed.max(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Uploads;
    use crate::server::protocol::LeftOut;
    use crate::task::record::UploadEvent;

    #[test]
    fn a_started_upload_is_in_doubt_until_its_end_is_recorded() {
        let begin = |file: &str| UploadEvent::Begin { file: file.to_owned(), size: 3, at: None };
        let uploads = Uploads::from_events(vec![
            UploadEvent::Before { ids: vec!["old".to_owned()] },
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
    fn sizes_and_counts_of_damaged_lines_do_not_overflow() {
        let done = || UploadEvent::Done { file: "a".to_owned(), size: u64::MAX, file_id: "1".to_owned() };
        let left_out = LeftOut { file: "b".to_owned(), reason: "refused".to_owned() };
        let unnamed = UploadEvent::Unnamed { count: u64::MAX };
        let uploads = Uploads::from_events(vec![done(), done(), UploadEvent::LeftOut(left_out), unnamed]);
        assert_eq!((uploads.done_bytes, uploads.left_out_count()), (u64::MAX, u64::MAX));
    }
}
