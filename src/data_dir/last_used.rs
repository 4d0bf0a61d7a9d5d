//! The note of the data_dir that a registered agent has used, in a file beside its configuration.
//!
//! A disk that isn't mounted leaves an empty place behind. A data_dir that is made there has no record of what this agent
//! has accepted and not delivered, and is hidden when the disk comes back. So the note tells the first start, which makes the
//! data_dir, from a later one, which misses it. It counts on the machine and for the service that it names only: a
//! configuration that was copied, or registered for another service, makes a data_dir of its own.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::copies::machine;
use super::{DataDir, permissions};
use crate::os::files::{Durability, Replacement, remove_if_exists};
use crate::os::trust::{open_file, place_of_file};
use crate::shell::shell_line;

/// The first line, for people.
const HEADER: &str = "# agent-core keeps its tasks in this folder, and makes no new one while this file is here.";

/// More than a note can have, in bytes.
const LONGEST: u64 = 64 << 10;

/// The place of a data_dir in a configuration.
#[derive(Debug, Clone)]
pub struct LastUsed {
    note: PathBuf,
    service_id: String,
    data_dir: DataDir,
}

/// The data_dir of a registered agent isn't where it was.
#[derive(Debug, Error)]
pub struct Missing {
    data_dir: PathBuf,
    note: PathBuf,
    is_empty: bool,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.state(), self.remedy())
    }
}

impl Missing {
    /// What is wrong.
    pub fn state(&self) -> String {
        let state = if self.is_empty { "is empty" } else { "isn't there" };
        format!("the data_dir `{}`, which this agent has used, {state}", self.data_dir.display())
    }

    /// What the operator can do.
    pub fn remedy(&self) -> String {
        format!(
            "mount the disk that holds it; if it was moved, set `paths.data_dir` to its new place; to begin with an empty one, \
             without the tasks and results of the old one, run `{}`",
            shell_line(["rm", &self.note.to_string_lossy()])
        )
    }
}

impl LastUsed {
    /// The data_dir of a configuration file that is registered for this service.
    pub fn new(config_file: &Path, service_id: &str, data_dir: &DataDir) -> Self {
        Self { note: note_of(config_file), service_id: service_id.to_owned(), data_dir: data_dir.clone() }
    }

    /// Checks that the data_dir is where it was, or that this agent hasn't used it yet. What can't be looked at is for later
    /// steps to report.
    pub fn check(&self) -> Result<(), Missing> {
        if !self.is_noted() {
            return Ok(());
        }
        let is_empty = match permissions::find(&self.data_dir) {
            Ok(None) => false,
            Ok(Some(folder)) => match folder.dir().names() {
                Ok(names) if !names.iter().any(|name| DataDir::is_own_name(&name.to_string_lossy())) => true,
                _ => return Ok(()),
            },
            Err(_) => return Ok(()),
        };
        Err(Missing { data_dir: self.data_dir.to_path_buf(), note: self.note.clone(), is_empty })
    }

    /// Notes that this agent uses the data_dir. Where the configuration's folder can't be written, a start without the
    /// data_dir makes a new one.
    pub fn note(&self) {
        if self.is_noted() {
            return;
        }
        if let Err(error) = self.write() {
            log::info!(
                "`{}` can't be written, so a start while the data_dir's disk isn't mounted will not be noticed: {error}",
                self.note.display()
            );
        }
    }

    fn write(&self) -> io::Result<()> {
        let (place, _) = place_of_file(&self.note).map_err(io::Error::other)?;
        Replacement::write(&place, self.text().as_bytes(), Durability::PowerCut)?.commit()
    }

    /// Whether the note names this data_dir, for this service on this machine.
    fn is_noted(&self) -> bool {
        match self.read() {
            Ok(text) => text == self.text().into_bytes(),
            Err(error) => {
                log::warn!("`{}` can't be read, so that it doesn't count: {error}", self.note.display());
                false
            }
        }
    }

    /// The beginning of the note, if there is one that no other user can have made.
    fn read(&self) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        if let Some(file) = open_file(&self.note).map_err(io::Error::other)? {
            file.take(LONGEST).read_to_end(&mut text)?;
        }
        Ok(text)
    }

    fn text(&self) -> String {
        format!("{HEADER}\n{}\n{}\n{}\n", machine(), self.service_id, self.data_dir.display())
    }
}

/// Removes the note beside a configuration file that is made anew.
pub fn forget(config_file: &Path) -> io::Result<()> {
    remove_if_exists(&note_of(config_file))
}

fn note_of(config_file: &Path) -> PathBuf {
    let name = config_file.file_name().unwrap_or_default().to_string_lossy();
    config_file.with_file_name(format!(".{name}.data_dir"))
}

#[cfg(all(test, unix))]
mod tests {
    use super::{LastUsed, forget};
    use crate::data_dir::DataDir;
    use std::fs;

    #[test]
    fn a_data_dir_that_was_used_is_missed() {
        let dir = tempfile::tempdir().unwrap();
        let (file, data) = (dir.path().join("config.toml"), dir.path().join("data"));
        let of = |service: &str, data| LastUsed::new(&file, service, &DataDir::new(data));
        let used = of("svc-1", data.clone());
        used.check().unwrap();
        fs::create_dir_all(data.join("tasks")).unwrap();
        used.note();
        used.check().unwrap();
        fs::remove_dir(data.join("tasks")).unwrap();
        let why = used.check().unwrap_err().to_string();
        assert!(why.contains("is empty; mount the disk"), "{why}");
        fs::remove_dir(&data).unwrap();
        let why = used.check().unwrap_err().to_string();
        assert!(why.contains("isn't there; mount the disk") && why.contains("/.config.toml.data_dir`"), "{why}");
        // A deliberate move, another service, and a new configuration.
        of("svc-1", dir.path().join("other")).check().unwrap();
        of("svc-2", data.clone()).check().unwrap();
        forget(&file).unwrap();
        used.check().unwrap();
    }
}
