//! Whether an offer is of a task that is here, or of another one to which the Server has given the same id: after a
//! reset of its database, or after a new registration.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::digest::Digest;
use super::{Store, TaskFiles, TaskKey};
use crate::os::files::{self, Durability, Replacement, create, if_exists, remove_if_exists};
use crate::os::platform;
use crate::server::protocol::Task;

/// A digest of what makes an offer this task's.
///
/// Two tasks have the same one by chance less often than a disk lies. To make two on purpose is possible, and gains
/// nothing: the maker has to know the first task's texts, and the Server has to give the same id to both.
///
/// The texts, the session, and the ids, names and sizes of the input files count. The Server keeps them when it requeues
/// a task (PROTOCOL 3); the order of the files, their types, and all other fields may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OfferDigest(u128);

impl OfferDigest {
    pub fn of(task: &Task) -> Self {
        let mut digest = Digest::new();
        digest.add(&task.task_prompt);
        digest.add(task.output_prompt.as_deref().unwrap_or_default());
        digest.add(task.session_id.as_deref().unwrap_or_default());
        let mut inputs: Vec<_> =
            task.input_files.iter().map(|file| (&file.id, &file.filename, file.size_bytes)).collect();
        inputs.sort_unstable();
        for (id, name, size) in inputs {
            digest.add(id);
            digest.add(name);
            digest.add_bytes(&size.to_le_bytes());
        }
        Self(digest.finish())
    }

    /// Whether it is of more than an id, which tells nothing of the offer.
    fn is_known(&self) -> bool {
        *self != Self::of(&Task::default())
    }
}

impl TaskFiles {
    /// Writes which offer this task is.
    pub(super) fn save_digest(&self, task: &Task) -> io::Result<()> {
        let text = format!("{:032x}\n", OfferDigest::of(task).0);
        Replacement::write(&self.digest(), text.as_bytes(), Durability::PowerCut)?.commit()
    }

    /// Which offer this task is; `None` if nothing is left of its offer: for a task of an older version, and for an offer
    /// that can't be done, of which only the id was kept.
    pub fn offer_digest(&self) -> io::Result<Option<OfferDigest>> {
        if let Some(text) = if_exists(files::read(&self.digest()))? {
            let text = String::from_utf8_lossy(&text);
            let digest = u128::from_str_radix(text.trim_end(), 16).map_err(io::Error::other)?;
            return Ok(Some(OfferDigest(digest)).filter(OfferDigest::is_known));
        }
        let offer = match self.load_offer()? {
            Some(offer) => Some(offer),
            None => self.load()?.map(|record| record.task),
        };
        Ok(offer.map(|task| OfferDigest::of(&task)).filter(OfferDigest::is_known))
    }

    /// Notes that the Server has given this task's id to another one, so that nothing more of this task is sent.
    pub fn mark_superseded(&self) -> io::Result<()> {
        create(&self.superseded())?.sync_all()?;
        platform::sync_dir(&self.dir)
    }

    pub fn is_superseded(&self) -> bool {
        self.superseded().exists()
    }

    /// The Server has given the id back to this task. It may have files of the other one.
    pub fn unmark_superseded(&self) -> io::Result<()> {
        if self.is_superseded() {
            self.mark_requeued()?;
        }
        remove_if_exists(&self.superseded())
    }

    /// Notes that the Server had given this task up and has given it to this agent again: another agent may have worked on
    /// it meanwhile, and sent files.
    pub fn mark_requeued(&self) -> io::Result<()> {
        create(&self.requeued())?.sync_all()?;
        platform::sync_dir(&self.dir)
    }

    pub fn is_requeued(&self) -> bool {
        self.requeued().exists()
    }

    fn requeued(&self) -> PathBuf {
        self.dir.join("requeued")
    }

    fn digest(&self) -> PathBuf {
        self.dir.join("offer.digest")
    }

    fn superseded(&self) -> PathBuf {
        self.dir.join("superseded")
    }
}

impl Store {
    /// Every task here with this id of the Server's, in the order of their numbers.
    pub fn keys_of(&self, id: &str) -> io::Result<Vec<TaskKey>> {
        let mut keys = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let name = entry?.file_name();
            keys.extend(name.to_str().and_then(TaskKey::parse).filter(|key| key.is_of(id)));
        }
        keys.sort_by_key(TaskKey::number);
        Ok(keys)
    }

    /// The keys of all tasks that have a folder here.
    pub fn keys(&self) -> io::Result<Vec<TaskKey>> {
        let mut keys = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            keys.extend(entry?.file_name().to_str().and_then(TaskKey::parse));
        }
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::OfferDigest;
    use crate::data_dir::DataDir;
    use crate::server::protocol::{InputFile, Task};
    use crate::task::record::{Phase, Record, Store, TaskKey};
    use std::fs;

    fn file(id: &str, name: &str, size_bytes: u64) -> InputFile {
        InputFile { id: id.to_owned(), filename: name.to_owned(), mime_type: None, size_bytes }
    }

    fn task() -> Task {
        Task {
            id: "t".to_owned(),
            task_prompt: "count".to_owned(),
            output_prompt: None,
            session_id: Some("s".to_owned()),
            input_files: vec![file("1", "a.csv", 3), file("2", "b.csv", 4)],
        }
    }

    /// What a record has of a task whose workspace is complete.
    fn bare(id: &str) -> Task {
        Task { id: id.to_owned(), ..Task::default() }
    }

    #[test]
    fn a_requeued_offer_has_the_same_digest_and_another_task_has_not() {
        let digest = OfferDigest::of(&task());
        let mut same = task();
        same.input_files.reverse();
        same.input_files[0].mime_type = Some("text/csv".to_owned());
        same.output_prompt = Some(String::new());
        assert_eq!(OfferDigest::of(&same), digest);
        let others: [fn(&mut Task); 8] = [
            |task| task.task_prompt.push('s'),
            |task| task.output_prompt = Some("short".to_owned()),
            |task| task.session_id = None,
            |task| (task.task_prompt, task.output_prompt) = ("coun".to_owned(), Some("t".to_owned())),
            |task| task.input_files[0].id.push('0'),
            |task| task.input_files[0].filename.push('v'),
            |task| task.input_files[0].size_bytes = 4,
            |task| drop(task.input_files.pop()),
        ];
        for change in others {
            let mut other = task();
            change(&mut other);
            assert_ne!(OfferDigest::of(&other), digest, "{other:?}");
        }
    }

    #[test]
    fn the_digest_of_an_older_versions_task_is_made_of_its_offer() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&DataDir::new(dir.path())).unwrap();
        let mut record = Record::from_offer(task(), "s", "u");
        let files = store.create(&TaskKey::from_id("t").unwrap(), &record).unwrap();
        let digest = Some(OfferDigest::of(&task()));
        assert_eq!(files.offer_digest().unwrap(), digest);
        let in_dir = |name: &str| dir.path().join("tasks/t").join(name);
        fs::remove_file(in_dir("offer.digest")).unwrap();
        assert_eq!(files.offer_digest().unwrap(), digest);
        fs::remove_file(in_dir("offer.json")).unwrap();
        assert_eq!(files.offer_digest().unwrap(), digest);
        record.set_phase(Phase::Prepared);
        assert_eq!(record.task, bare("t"));
        files.save(&record).unwrap();
        assert_eq!(files.offer_digest().unwrap(), None);
    }

    #[test]
    fn tasks_with_one_id_have_names_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&DataDir::new(dir.path())).unwrap();
        for id in ["t", "a b", "__r2-t"] {
            let first = TaskKey::from_id(id).unwrap();
            let keys = [first.clone(), first.with_number(2), first.with_number(10)];
            for key in &keys {
                let record = Record::from_offer(bare(id), "s", "u");
                assert!(store.create(key, &record).unwrap().load().unwrap().is_some());
                assert_eq!(TaskKey::parse(key.as_str()).as_ref(), Some(key));
            }
            assert_eq!(store.keys_of(id).unwrap(), keys);
        }
    }
}
