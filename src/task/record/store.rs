//! The records of a data_dir.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Record, TaskFiles, TaskKey};
use crate::data_dir::DataDir;
use crate::os::files::{ignore_missing, is_temporary, make_dirs};
use crate::os::platform;

const RECORD: &str = "record.json";
const FETCHED: &str = "fetched.json";

/// The records of a data_dir.
#[derive(Debug, Clone)]
pub struct Store {
    pub(super) root: PathBuf,
}

impl Store {
    /// Opens `{data_dir}/tasks`, or creates it.
    pub fn open(data_dir: &DataDir) -> io::Result<Self> {
        let root = data_dir.tasks();
        make_dirs(&root)?;
        Ok(Self { root })
    }

    /// The files of a task, whether or not they exist.
    pub fn task(&self, key: &TaskKey) -> TaskFiles {
        TaskFiles { dir: self.root.join(key.as_str()), key: key.clone() }
    }

    /// Creates the folder of a task, writes its first record and reserves the disk space that later ones may need.
    pub fn create(&self, key: &TaskKey, record: &Record) -> io::Result<TaskFiles> {
        let files = self.task(key);
        // A crash in the middle of a removal may have left parts of an earlier task of this name.
        self.remove(key)?;
        make_dirs(&files.dir)?;
        files.save_step(record)?;
        files.save_offer(&record.task)?;
        // This syncs the folder, for both.
        files.save_digest(&record.task)?;
        files.reserve().create()?;
        platform::sync_dir(&self.root)?;
        Ok(files)
    }

    /// Removes the folder of a task, also for the time after a power cut. A missing one is no error.
    pub fn remove(&self, key: &TaskKey) -> io::Result<()> {
        match fs::remove_dir_all(self.root.join(key.as_str())) {
            Ok(()) => platform::sync_dir(&self.root),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes what a crash has left: temporary files, and folders whose record was never written, since the task was
    /// not accepted yet. For the agent that holds the data_dir.
    pub fn remove_unwritten(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                continue;
            }
            let dir = entry.path();
            let has_record = remove_temporary(&dir).unwrap_or_else(|error| {
                log::warn!("what a crash has left in `{}` can't be removed: {error}", dir.display());
                dir.join(RECORD).exists()
            });
            if has_record {
                continue;
            }
            // A folder with any other file isn't removed.
            if let Err(error) = fs::remove_dir(&dir) {
                log::warn!("`{}` holds no record and can't be removed: {error}", dir.display());
            }
        }
        Ok(())
    }

    /// Reads one record after the other and returns what `take` keeps of them: there may be many settled tasks, with
    /// large offers.
    pub fn load_all<T>(&self, mut take: impl FnMut(TaskFiles, Record) -> Option<T>) -> io::Result<Loaded<T>> {
        let (mut taken, mut broken) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&self.root)? {
            let dir = entry?.path();
            let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Some(key) = TaskKey::parse(&name) else { continue };
            let files = TaskFiles { dir: dir.clone(), key };
            match files.load() {
                Ok(Some(record)) => taken.extend(take(files, record)),
                Ok(None) => {}
                Err(error) => broken.push((dir, error)),
            }
        }
        Ok(Loaded { taken, broken })
    }
}

/// Removes the temporary files that a crash has left in a task's folder. Returns whether the folder has a record. Reads
/// the folder once: there may be ten thousand at a start.
fn remove_temporary(dir: &Path) -> io::Result<bool> {
    let mut has_record = false;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        has_record |= name == RECORD;
        if [RECORD, FETCHED].iter().any(|of| is_temporary(&name, of)) {
            ignore_missing(fs::remove_file(entry.path()))?;
        }
    }
    Ok(has_record)
}

/// What [`Store::load_all`] found.
pub struct Loaded<T> {
    /// What `take` kept, in no order.
    pub taken: Vec<T>,
    /// Folders whose record can't be read, and why.
    pub broken: Vec<(PathBuf, io::Error)>,
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::{Phase, StopReason};
    use super::{Record, Store, TaskKey};
    use crate::data_dir::DataDir;
    use crate::server::protocol::Task;
    use std::collections::HashSet;
    use std::fs;

    pub fn task(id: &str) -> Task {
        Task { id: id.to_owned(), task_prompt: "p".to_owned(), ..Task::default() }
    }

    #[test]
    fn only_unfinished_records_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&DataDir::new(dir.path())).unwrap();
        let whole = Record::from_offer(task("whole"), "s", "http://h");
        store.create(&TaskKey::from_id("whole").unwrap(), &whole).unwrap();
        let temporary = "record.json.0123456789abcdef.tmp";
        for (key, file) in
            [("whole", temporary), ("half", temporary), ("half", "record.json.tmp"), ("other", "stdout.log")]
        {
            fs::create_dir_all(dir.path().join("tasks").join(key)).unwrap();
            fs::write(dir.path().join("tasks").join(key).join(file), "{").unwrap();
        }
        fs::create_dir(dir.path().join("tasks/empty")).unwrap();
        store.remove_unwritten().unwrap();
        let left = fs::read_dir(dir.path().join("tasks")).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(left.collect::<HashSet<_>>(), HashSet::from(["whole".into(), "other".into()]));
        assert!(!dir.path().join("tasks/whole").join(temporary).exists());
        assert_eq!(store.load_all(|_, record| Some(record)).unwrap().taken.len(), 1);
    }

    #[test]
    fn a_saved_record_is_loaded_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&DataDir::new(dir.path())).unwrap();
        let key = TaskKey::from_id("t/1").unwrap();
        let mut record = Record::from_offer(task("t/1"), "s", "http://x");
        let files = store.create(&key, &record).unwrap();
        record.phase = Phase::Prepared;
        record.stop = Some(StopReason::Timeout { minutes: 3 });
        files.save(&record).unwrap();
        let loaded = store.load_all(|_, record| Some(record)).unwrap();
        assert!(loaded.broken.is_empty());
        assert_eq!(format!("{:?}", loaded.taken[0]), format!("{record:?}"));
    }

    #[test]
    fn broken_records_are_reported_and_empty_folders_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&DataDir::new(dir.path())).unwrap();
        fs::create_dir(dir.path().join("tasks/empty")).unwrap();
        fs::create_dir(dir.path().join("tasks/broken")).unwrap();
        fs::write(dir.path().join("tasks/broken/record.json"), "{\"pha").unwrap();
        let loaded = store.load_all(|_, record| Some(record)).unwrap();
        assert!(loaded.taken.is_empty());
        assert_eq!((loaded.broken.len(), &loaded.broken[0].0), (1, &dir.path().join("tasks/broken")));
    }
}
