//! Discard requests: one marker file per task, read by the running agent.
//!
//! The file is named after the task's key and is in `{data_dir}/discard`. It stays there until the task is settled,
//! also over a restart of the agent. An empty file is kept ready, which needs no room on a full disk to become one.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::TaskKey;
use crate::data_dir::DataDir;
use crate::os::files::{create, if_exists, is_full, make_dirs, remove_if_exists};
use crate::os::platform;

/// The discard requests of a data_dir.
#[derive(Debug, Clone)]
pub struct DiscardRequests {
    dir: PathBuf,
    /// The file that is kept ready.
    ready: PathBuf,
}

impl DiscardRequests {
    pub fn new(data_dir: &DataDir) -> Self {
        Self { dir: data_dir.discard_requests(), ready: data_dir.ready_discard_request() }
    }

    /// Makes the file that is kept ready, unless it is there.
    pub fn prepare(&self) -> io::Result<()> {
        make_dirs(&self.dir)?;
        if self.ready.exists() { Ok(()) } else { create(&self.ready).map(drop) }
    }

    /// Adds a request, which is on the disk when this returns.
    pub fn add(&self, key: &TaskKey) -> io::Result<()> {
        make_dirs(&self.dir)?;
        match create(&self.file(key)) {
            Err(error) if is_full(&error) => fs::rename(&self.ready, self.file(key)).map_err(|_| error)?,
            created => drop(created?),
        }
        platform::sync_dir(&self.dir)
    }

    pub fn contains(&self, key: &TaskKey) -> bool {
        self.file(key).exists()
    }

    pub fn all(&self) -> io::Result<Vec<TaskKey>> {
        let Some(entries) = if_exists(fs::read_dir(&self.dir))? else { return Ok(Vec::new()) };
        let mut keys = Vec::new();
        for entry in entries {
            keys.extend(entry?.file_name().to_str().and_then(TaskKey::parse));
        }
        Ok(keys)
    }

    /// Removes a request. A missing one is no error.
    pub fn remove(&self, key: &TaskKey) -> io::Result<()> {
        if !self.ready.exists() && self.contains(key) {
            return fs::rename(self.file(key), &self.ready);
        }
        remove_if_exists(&self.file(key))
    }

    fn file(&self, key: &TaskKey) -> PathBuf {
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
        discards.prepare().unwrap();
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
