//! Files that the agent itself adds to a task's results, for clients that read nothing but files: why the task failed, what
//! stayed here, and what was printed by a task that left no file (`outputs.notes`).
//!
//! A note is written once, beside the record, before it is sent for the first time; after a restart the same bytes are sent
//! under the same name, so that [`super::upload`] finds out whether they have arrived. It takes no name that the task has
//! used, and counts into the limits of `outputs.*` like every file.

mod text;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::complete_request::OUTPUT_TAIL;
use super::outcome::tail;
use super::outputs::sending::{ANSWER, Rank};
use super::outputs::{OutputFile, Skipped};
use super::{Ending, TaskFiles, TaskHandle};
use crate::config::{OutputsConfig, PathKind};
use crate::os::files::{Durability, Replacement, if_exists, make_dirs};
use crate::server::{FinalStatus, LeftOut};
pub use text::Stayed;

/// How many names are tried for a note.
const NAMES: u32 = 100;

/// What a note says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Failure,
    NotDelivered,
    Printed,
}

/// The notes about one task.
pub struct Notes<'n> {
    files: TaskFiles,
    ending: Ending,
    limits: &'n OutputsConfig,
    left: Left,
}

/// What a task left, as far as it decides on notes.
#[derive(Debug, Default, Clone)]
pub struct Left {
    /// How many files are to be sent, and how many bytes they have.
    pub count: usize,
    pub bytes: u64,
    /// Whether there is a file that people look for.
    pub has_visible: bool,
    /// Those of the task's names that a note could have.
    pub names: HashSet<String>,
}

impl Left {
    /// What is to be sent, and what isn't.
    pub fn new(files: &[OutputFile], skipped: &Skipped) -> Self {
        let mut left = Self {
            count: files.len(),
            bytes: files.iter().map(|file| file.size).fold(0, u64::saturating_add),
            has_visible: files.iter().any(|file| Rank::of(&file.name) != Rank::Hidden),
            names: HashSet::new(),
        };
        let skipped = skipped.undelivered.iter().chain(&skipped.non_results);
        left.add_names(files.iter().map(|file| &file.name).chain(skipped.map(|left| &left.file)));
        left
    }

    fn add_names<'f>(&mut self, names: impl Iterator<Item = &'f String>) {
        let is_one = |name: &&String| *name == ANSWER || (name.ends_with(".md") && !name.contains('/'));
        self.names.extend(names.filter(is_one).cloned());
    }
}

impl<'n> Notes<'n> {
    /// For a task with an ending. `left_out` is what hasn't been sent so far.
    pub fn new(task: &TaskHandle, limits: &'n OutputsConfig, left: &Left, left_out: &[LeftOut]) -> Option<Self> {
        // An id that has no room in a name may have none in the address of a call either.
        if task.key().is_digest() {
            return None;
        }
        let mut left = left.clone();
        left.add_names(left_out.iter().map(|left| &left.file));
        Some(Self { files: task.files.clone(), ending: task.record.ending.clone()?, limits, left })
    }

    /// Why the task failed, if it did.
    pub fn failure(&self, stayed: Stayed<'_>) -> Option<OutputFile> {
        if self.ending.status != FinalStatus::Failed {
            return None;
        }
        let end = |log: &Path| tail(&self.files, log, text::SHOWN_OUTPUT);
        self.note(Kind::Failure, || {
            text::failure(&self.ending, stayed, &end(&self.files.stdout()), &end(&self.files.stderr()))
        })
    }

    /// What a completed task left and its submitter doesn't get, also where a full disk has cut it.
    pub fn not_delivered(&self, stayed: Stayed<'_>) -> Option<OutputFile> {
        let flaw = self.ending.error_message.as_deref();
        if self.ending.status != FinalStatus::Completed || (stayed.is_empty() && flaw.is_none()) {
            return None;
        }
        self.note(Kind::NotDelivered, || text::not_delivered(stayed, flaw))
    }

    /// What a completed task printed that left no file.
    pub fn printed(&self) -> Option<OutputFile> {
        if !self.has_only_printed() {
            return None;
        }
        let log = self.files.stdout();
        let printed = tail(&self.files, &log, OUTPUT_TAIL);
        let is_cut = fs::metadata(&log).is_ok_and(|log| log.len() > OUTPUT_TAIL);
        let note = || text::printed(&printed, is_cut);
        if printed.trim().is_empty() { None } else { self.note(Kind::Printed, note) }
    }

    fn has_only_printed(&self) -> bool {
        self.ending.status == FinalStatus::Completed && !self.left.has_visible && !self.left.names.contains(ANSWER)
    }

    /// The note of this kind, which is written if it isn't there yet. Without room on this disk there is none: the report must
    /// not wait for it.
    fn note(&self, kind: Kind, content: impl FnOnce() -> String) -> Option<OutputFile> {
        if !self.limits.notes {
            return None;
        }
        let dir = self.files.notes_dir();
        let note = find(kind, &dir).map_or_else(|| self.write(kind, &dir, &content()), |name| Ok(Some(name)));
        let opened =
            note.and_then(|name| name.map(|name| OutputFile::copied(&dir, local(&name).as_ref(), &name)).transpose());
        opened.unwrap_or_else(|error| {
            log::warn!(task:% = self.files.key(); "a note for its submitter can't be written: {error}");
            None
        })
    }

    /// Writes a note under a name that the task hasn't used, and returns the name. Returns `None` if there is no such name or
    /// the limits have no room.
    fn write(&self, kind: Kind, dir: &Path, content: &str) -> io::Result<Option<String>> {
        let Some(name) = names(kind).find(|name| !self.left.names.contains(name)) else { return Ok(None) };
        if !self.has_room(kind, &name, content.len() as u64) {
            log::debug!(task:% = self.files.key(); "the limits of `outputs` leave no room for `{name}`");
            return Ok(None);
        }
        make_dirs(dir)?;
        Replacement::write(&dir.join(local(&name)), content.as_bytes(), Durability::PowerCut)?.commit()?;
        Ok(Some(name))
    }

    fn has_room(&self, kind: Kind, name: &str, bytes: u64) -> bool {
        let limits = self.limits;
        // The answer comes before a note about what is missing.
        let before = self.left.count + usize::from(kind == Kind::NotDelivered && self.has_only_printed());
        let total = self.left.bytes.saturating_add(bytes);
        !is_excluded(limits, name) && before < limits.max_files && bytes <= limits.max_file && total <= limits.max_total
    }
}

/// Whether the note about a task's failure, or about what stays here, would be sent beside results of so many bytes if it had
/// a place among `outputs.max_files`.
pub fn is_sendable(limits: &OutputsConfig, is_failed: bool, bytes: u64) -> bool {
    let kind = if is_failed { Kind::Failure } else { Kind::NotDelivered };
    let is_wanted = limits.notes && names(kind).next().is_some_and(|name| !is_excluded(limits, &name));
    is_wanted && bytes.saturating_add(text::LONGEST) <= limits.max_total
}

fn is_excluded(limits: &OutputsConfig, name: &str) -> bool {
    let (exclude, name) = (&limits.exclude, Path::new(name));
    exclude.holds_above(name) || exclude.pattern_for(name, PathKind::File).is_some()
}

/// The names that a note may have, the best first.
fn names(kind: Kind) -> impl Iterator<Item = String> {
    let (first, others) = match kind {
        Kind::Failure => ("failure.md", "failure"),
        Kind::NotDelivered => ("not-delivered.md", "not-delivered"),
        // Under another name no client shows it.
        Kind::Printed => (ANSWER, ""),
    };
    let others = (2..=NAMES).filter(move |_| !others.is_empty()).map(move |number| format!("{others}-{number}.md"));
    std::iter::once(first.to_owned()).chain(others)
}

/// The name of a note that was written before.
fn find(kind: Kind, dir: &Path) -> Option<String> {
    names(kind).find(|name| if_exists(fs::symlink_metadata(dir.join(local(name)))).is_ok_and(|found| found.is_some()))
}

/// The file beside the record that has the note of this name.
fn local(name: &str) -> PathBuf {
    PathBuf::from(name.rsplit('/').next().unwrap_or(name))
}

#[cfg(test)]
mod tests;
