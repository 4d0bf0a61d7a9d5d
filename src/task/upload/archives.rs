//! Which results are in archives, and what has become of those.

use std::collections::HashSet;
use std::fs;

use super::{StepError, Upload};
use crate::ledger::{Direction, Entry, Outcome, Transfer};
use crate::os::files::ignore_missing;
use crate::os::platform::is_shortage;
use crate::server::LeftOut;
use crate::task::outputs::OutputFile;
use crate::task::record::{Member, Packed};
use crate::task::{TaskHandle, UploadEvent, archive};

/// Why an archive isn't sent that was written before the configuration was changed.
const OUTDATED: &str = "it holds files that stay here now";

impl Upload<'_> {
    /// How many bytes of the disk are left to others.
    pub fn keep_free(&self) -> u64 {
        self.client.keep_free / 2
    }

    /// Whether the Server has taken all archives so far.
    pub fn takes_archives(&self) -> bool {
        self.uploads.refused_archives.is_empty()
    }

    /// The archives of which it isn't known yet whether the Server takes them.
    pub fn open_archives(&self) -> Vec<Packed> {
        let is_open = |packed: &&Packed| !self.uploads.decided.contains(&packed.archive);
        self.uploads.packed.iter().filter(is_open).cloned().collect()
    }

    /// Whether a file may be put into an archive: it isn't there, or may be there, in another way.
    pub fn is_free(&self, file: &OutputFile) -> bool {
        !self.uploads.decided.contains(&file.name) && !self.uploads.in_doubt.contains_key(&file.name)
    }

    /// Whether the task, or an archive, has this name.
    pub fn is_name_used(&self, name: &str) -> bool {
        self.uploads.decided.contains(name) || self.uploads.packed.iter().any(|packed| packed.archive == name)
    }

    /// The names of results in archives that the Server has.
    pub fn archived(&self) -> HashSet<String> {
        self.uploads.archived().map(|member| member.file.clone()).collect()
    }

    /// Writes down what is in an archive. To be called before it is sent.
    pub fn note_packed(&mut self, packed: Packed) -> Result<(), StepError> {
        let entry = |member: &Member| {
            Entry::File(Transfer {
                bytes: Some(member.size),
                archive: Some(packed.archive.clone()),
                ..Transfer::new(Direction::Out, Outcome::Packed, &member.file)
            })
        };
        self.append_to_ledger(packed.members.iter().map(entry).collect())?;
        self.note(UploadEvent::Packed(packed))
    }

    /// Removes what a crash has left of archives that were being written. To be called when none is open.
    pub fn clear_archives(&self) {
        let dir = self.task.files.archives_dir();
        if let Err(error) = ignore_missing(fs::remove_dir_all(&dir)) {
            log::debug!(task:% = self.task.key(); "`{}` can't be emptied: {error}", dir.display());
        }
    }

    /// Leaves out the open archives for which `is_outdated` says so, and removes them: what is in them and may be sent is sent
    /// file by file. One that may be on the Server is looked for there first.
    pub fn give_up_archives(&mut self, is_outdated: impl Fn(&Packed) -> bool) -> Result<(), StepError> {
        for packed in self.open_archives().iter().filter(|packed| is_outdated(packed)) {
            if self.is_cancelled() {
                break;
            }
            let arrived = match self.uploads.in_doubt.get(&packed.archive).copied() {
                Some(size) => self.has_arrived(&packed.archive, size)?,
                None => Some(false),
            };
            if self.is_cancelled() {
                break;
            }
            if arrived != Some(true) {
                self.skip(vec![LeftOut { file: packed.archive.clone(), reason: OUTDATED.to_owned() }])?;
            }
            remove(self.task, &packed.archive);
        }
        Ok(())
    }

    /// Sends an archive, and removes it from this machine when the Server has it, or doesn't take it.
    pub fn send_archive(&mut self, packed: &Packed) -> Result<(), StepError> {
        match archive::open(&self.task.files, packed) {
            Ok(file) => self.send_note(&file)?,
            Err(error) if is_shortage(&error) => {
                return Err(StepError::because(format!("`{}` can't be read now", packed.archive))(error));
            }
            Err(_) if self.is_cancelled() => {}
            Err(error) => {
                self.skip(vec![LeftOut { file: packed.archive.clone(), reason: format!("can't be read: {error}") }])?;
            }
        }
        if self.uploads.decided.contains(&packed.archive) {
            remove(self.task, &packed.archive);
        }
        if self.uploads.refused_archives.contains(&packed.archive) {
            log::info!(task:% = self.task.key(); "what is in `{}` is sent file by file", packed.archive);
        }
        Ok(())
    }
}

/// Removes an archive that isn't needed any more. What can't be removed is so when the task is settled.
fn remove(task: &TaskHandle, name: &str) {
    if let Err(error) = ignore_missing(fs::remove_file(task.files.archives_dir().join(name))) {
        log::debug!(task:% = task.key(); "`{name}` can't be removed: {error}");
    }
}
