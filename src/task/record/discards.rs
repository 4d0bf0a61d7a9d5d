//! Results that the operator gives up while an agent has them: a note for each, which the agent obeys.
//!
//! A note is a file of the task's key in `{data_dir}/discard`. It stays until the task is settled, so that a restart in
//! between doesn't forget it; whoever settles the task takes it away.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use super::TaskKey;
use crate::data_dir::DataDir;
use crate::os::files::remove_if_exists;
use crate::os::platform;

/// See the module.
#[derive(Debug, Clone)]
pub struct DiscardRequests {
    dir: PathBuf,
}

impl DiscardRequests {
    /// The notes of a data_dir, whether or not there are any.
    pub fn new(data_dir: &DataDir) -> Self {
        Self { dir: data_dir.discard_requests() }
    }

    /// Leaves a note, which is on the disk when this returns.
    pub fn add(&self, key: &TaskKey) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        File::create(self.note(key))?;
        platform::sync_dir(&self.dir)
    }

    /// Whether there is a note for this task.
    pub fn contains(&self, key: &TaskKey) -> bool {
        self.note(key).exists()
    }

    /// Every task for which there is a note.
    pub fn all(&self) -> io::Result<Vec<TaskKey>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut keys = Vec::new();
        for entry in entries {
            keys.extend(entry?.file_name().to_str().and_then(TaskKey::parse));
        }
        Ok(keys)
    }

    /// Takes the note away, if there is one.
    pub fn remove(&self, key: &TaskKey) -> io::Result<()> {
        remove_if_exists(&self.note(key))
    }

    fn note(&self, key: &TaskKey) -> PathBuf {
        self.dir.join(key.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::DiscardRequests;
    use crate::data_dir::DataDir;
    use crate::task::record::TaskKey;

    #[test]
    fn a_discard_request_stays_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let discards = DiscardRequests::new(&DataDir::new(dir.path()));
        let (one, other) = (TaskKey::from_id("t/1").unwrap(), TaskKey::from_id("t2").unwrap());
        assert!(discards.all().unwrap().is_empty());
        discards.remove(&one).unwrap();
        discards.add(&one).unwrap();
        discards.add(&one).unwrap();
        assert!(DiscardRequests::new(&DataDir::new(dir.path())).contains(&one) && !discards.contains(&other));
        assert_eq!(discards.all().unwrap(), std::slice::from_ref(&one));
        discards.remove(&one).unwrap();
        assert!(!discards.contains(&one) && discards.all().unwrap().is_empty());
    }
}
