//! How far the delivery of a task is, as its `uploads.jsonl` says.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;

use crate::server::protocol::LeftOut;
use crate::task::record::UploadEvent;

/// What `uploads.jsonl` says.
#[derive(Default)]
pub(super) struct Uploads {
    /// The files that were on the Server before our first upload, once that was asked.
    pub(super) before: Option<HashSet<String>>,
    /// Name and id of what has arrived, in order.
    pub(super) done: Vec<(String, String)>,
    /// How many bytes those files have.
    pub(super) done_bytes: u64,
    /// What stays here, by name.
    pub(super) left_out: Vec<LeftOut>,
    /// How many more were left out.
    pub(super) unnamed: u64,
    /// Names whose fate is known.
    pub(super) decided: HashSet<String>,
    /// Names and sizes of attempts whose end isn't known.
    pub(super) in_doubt: HashMap<String, u64>,
    /// How often each name was tried to be sent.
    pub(super) attempts: HashMap<String, u64>,
    /// Names whose last attempt the ledger doesn't tell of yet, and when that began.
    pub(super) untold: BTreeMap<String, Option<Timestamp>>,
    /// How often each name failed while the Server could be reached.
    pub(super) failures: HashMap<String, u32>,
}

impl Uploads {
    /// Puts the lines together.
    pub(super) fn from_events(events: Vec<UploadEvent>) -> Self {
        let mut uploads = Self::default();
        for event in events {
            uploads.note(event);
        }
        uploads
    }

    /// Takes in one more line.
    pub(super) fn note(&mut self, event: UploadEvent) {
        match event {
            UploadEvent::Before { ids } => self.before = Some(ids.into_iter().collect()),
            UploadEvent::Begin { file, size, at } => {
                *self.attempts.entry(file.clone()).or_default() += 1;
                self.untold.insert(file.clone(), at);
                self.in_doubt.insert(file, size);
            }
            UploadEvent::Reported { file } => {
                self.untold.remove(&file);
            }
            UploadEvent::Failed { file } => {
                self.untold.remove(&file);
                *self.failures.entry(file).or_default() += 1;
            }
            UploadEvent::Done { file, file_id, size } => {
                self.done_bytes += size;
                self.untold.remove(&file);
                self.in_doubt.remove(&file);
                self.decided.insert(file.clone());
                self.done.push((file, file_id));
            }
            UploadEvent::LeftOut(left) => {
                self.untold.remove(&left.file);
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
}
