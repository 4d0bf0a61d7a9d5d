//! The results that were copied from a container, and their list.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::TaskFiles;
use crate::os::files::{self, Durability, Replacement, if_exists, ignore_missing, remove_if_exists};
use crate::task::outputs::Fetched;

impl TaskFiles {
    /// The folder of the results that were copied from the container, each under its number.
    pub fn fetched_dir(&self) -> PathBuf {
        self.dir.join("fetched")
    }

    /// Removes the copies. Their list is the first, since it says that they are complete.
    pub fn remove_fetched(&self) -> io::Result<()> {
        remove_if_exists(&self.fetched_list())?;
        ignore_missing(fs::remove_dir_all(self.fetched_dir()))
    }

    /// Writes down which results were copied, and what wasn't and why, in one step: no crash can forget the one without
    /// the other.
    pub fn save_fetched(&self, fetched: &Fetched) -> io::Result<()> {
        let write = |file: &mut io::BufWriter<&fs::File>| Ok(serde_json::to_writer(file, fetched)?);
        Replacement::write_by(&self.fetched_list(), Durability::PowerCut, write)?.commit()
    }

    /// What [`Self::save_fetched`] has written; `None` if the copies aren't complete.
    pub fn load_fetched(&self) -> io::Result<Option<Fetched>> {
        let Some(text) = if_exists(files::read(&self.fetched_list()))? else { return Ok(None) };
        Ok(Some(serde_json::from_slice(&text)?))
    }

    fn fetched_list(&self) -> PathBuf {
        self.dir.join("fetched.json")
    }
}
