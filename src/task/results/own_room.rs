//! Room on a full disk for results that have to be copied: files of the same task that are too large to be delivered.
//!
//! They stay on this machine in most cases. But where the task has filled the disk with them, its results could never be
//! copied, and in the end all of its workspace would be removed to make room.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use crate::config::OutputsConfig;
use crate::os::platform::{self, Dir};
use crate::task::TaskHandle;
use crate::task::outcome::FULL;
use crate::task::outputs::{Skipped, shown_name};
use crate::units::Bytes;

/// How long other room is waited for first: what settled tasks have left is removed within ten seconds or so.
const PATIENCE: Duration = Duration::from_secs(20);
/// The folders of the workspace in which files are looked for. Their names can't be replaced by a link on the way to a file.
const FOLDERS: [&str; 2] = ["", "output"];
const REASON: &str = "it is larger than `outputs.max_file_mb`, and is removed since it fills this machine's disk";

/// Files that are removed, by their places in the workspace.
pub struct TooLarge {
    files: Vec<PathBuf>,
    freed: u64,
}

/// The task's files that are too large to be delivered, if the disk is full and hasn't become less so since its end.
pub fn too_large(task: &TaskHandle, limits: &OutputsConfig) -> TooLarge {
    let mut found = TooLarge { files: Vec::new(), freed: 0 };
    let workspace = task.workspace.dir();
    if !has_ended_before(task, PATIENCE) || platform::free_disk(workspace).is_ok_and(|free| free >= FULL) {
        return found;
    }
    for folder in FOLDERS {
        let Ok(entries) = fs::read_dir(workspace.join(folder)) else { continue };
        for name in entries.flatten().map(|entry| entry.file_name()) {
            let place = Path::new(folder).join(name);
            let Ok(file) = fs::symlink_metadata(workspace.join(&place)) else { continue };
            if file.is_file() && file.len() > limits.max_file {
                found.freed = found.freed.saturating_add(platform::allocated(&file));
                found.files.push(place);
            }
        }
    }
    found
}

/// Whether the task's container has ended so long ago.
pub fn has_ended_before(task: &TaskHandle, time: Duration) -> bool {
    let ended = task.record.ending.as_ref().map(|ending| Timestamp::now().duration_since(ending.at));
    ended.and_then(|ended| Duration::try_from(ended).ok()).is_some_and(|ended| ended >= time)
}

impl TooLarge {
    /// What the Server doesn't get. It has to be written down before the files are removed.
    pub fn skipped(&self) -> Skipped {
        let mut skipped = Skipped::default();
        self.files.iter().for_each(|place| skipped.skip_deliverable(shown_name(place), REASON));
        skipped
    }

    pub fn remove(self, task: &TaskHandle) {
        if self.files.is_empty() {
            return;
        }
        let (count, freed) = (self.files.len(), Bytes(self.freed));
        log::error!(
            task:% = task.key();
            "{count} file(s) of {freed} that are too large to be delivered are removed: they fill the disk, and its results \
             could not be copied"
        );
        for place in self.files {
            let removed = Dir::WORKING.make_folder(task.workspace.dir()).and_then(|workspace| {
                let (folder, name) = (place.parent().filter(|folder| *folder != Path::new("")), place.file_name());
                let name = Path::new(name.unwrap_or_default());
                match folder {
                    None => workspace.remove_file(name),
                    Some(folder) => workspace.make_folder(folder)?.remove_file(name),
                }
            });
            if let Err(error) = removed {
                log::warn!(task:% = task.key(); "`{}` can't be removed: {error}", shown_name(&place));
            }
        }
    }
}
