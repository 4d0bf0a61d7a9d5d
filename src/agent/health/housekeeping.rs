//! Disk space: workspaces and records of settled tasks are removed after `paths.retention_hours`, and earlier when the disk
//! is nearly full.
//!
//! A workspace with a file that the Server refused or never got is kept for the whole time, unless nothing else makes
//! room. A container may leave files that belong to root or to another user; where the agent may not remove them, a
//! container of the executor image does.
//!
//! A container may also leave millions of files, so the removal has a thread of its own, and nothing waits long for it.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use crate::os::files::is_full;
use crate::os::platform;
use crate::os::timeout::SingleFlight;
use crate::task::{Context, Phase, ProbeFolder, Record, Remover, Store, TaskFiles, Workspace, log_removed};
use crate::units::Bytes;

/// How often a workspace is tried again that couldn't be removed.
const STUCK_PAUSE: Duration = Duration::from_secs(3600);

pub struct Housekeeping {
    janitor: Arc<Janitor>,
    flight: SingleFlight<()>,
}

/// What the thread of the removal has.
struct Janitor {
    context: Arc<Context>,
    store: Store,
    /// Workspaces that couldn't be removed, and when they are tried again. Each is logged once.
    stuck: Mutex<HashMap<PathBuf, Instant>>,
}

/// What may be removed to make room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Removable {
    /// What was delivered. More isn't removed for the size that a Server announces.
    Delivered,
    /// In the end also what the Server never got.
    All,
}

/// What a removal has come to.
enum Removal {
    /// There is no folder any more.
    Done,
    /// It failed again, as it had before.
    Stuck,
    /// It failed for the first time, for this reason.
    Failed(String),
}

/// A settled task whose files may be deleted.
struct Settled {
    files: TaskFiles,
    at: Timestamp,
    /// Whether the workspace has a file that the Server doesn't have.
    has_undelivered: bool,
}

impl Housekeeping {
    pub fn new(context: &Arc<Context>, store: Store) -> Self {
        let janitor = Janitor { context: Arc::clone(context), store, stuck: Mutex::default() };
        Self { janitor: Arc::new(janitor), flight: SingleFlight::default() }
    }

    /// Removes workspaces that were set aside, folders that killed processes have left, and workspaces and records that were settled longer ago than
    /// `paths.retention_hours`. Returns before the end of a removal that takes long.
    pub fn remove_expired(&mut self) {
        let janitor = Arc::clone(&self.janitor);
        // Later ones are removed by a later call.
        let _ = self.flight.run(move |_| janitor.remove_expired());
    }

    /// Makes sure that the data_dir's disk has `paths.min_free_disk_mb` left, if need be by removing what settled tasks
    /// have left.
    ///
    /// # Errors
    /// The disk has less space left, or its space is unknown.
    pub fn make_room(&mut self) -> Result<(), String> {
        let paths = self.janitor.context.config().paths.clone();
        let (wanted, data_dir) = (paths.min_free_disk_mb, &paths.data_dir);
        let write_error = platform::write_error(data_dir);
        // It may have rights of its own, or be another disk.
        let workspaces = data_dir.workspaces();
        if let Some(error) = platform::write_error(&workspaces).filter(|_| write_error.is_none()) {
            return Err(describe(&workspaces, &error));
        }
        let is_usable = match &write_error {
            Some(error) if !is_full(error) => false,
            // No room is to be kept, so nothing goes that the Server lacks.
            Some(_) if wanted == 0 => self.free_up(0, Removable::Delivered)?,
            _ => wanted == 0 || self.free_up(paths.keep_free(), Removable::All)?,
        };
        if is_usable {
            return Ok(());
        }
        // Without the number of the moment: a message that stays the same is logged once.
        Err(match write_error {
            Some(error) if !is_full(&error) || wanted == 0 => describe(data_dir, &error),
            _ if platform::is_short_of_files(data_dir).unwrap_or(false) => {
                format!("the disk of `{0}` can have few more files (`df -i {0}`)", data_dir.display())
            }
            _ => {
                let data_dir = data_dir.display();
                format!("the disk of `{data_dir}` has less than {wanted} MiB left (`paths.min_free_disk_mb`)")
            }
        })
    }

    /// Removes what was delivered until the disk has so many free bytes, for an offered task.
    ///
    /// # Errors
    /// The disk's space can't be read.
    pub fn make_room_for_task(&mut self, wanted: u64) -> Result<(), String> {
        self.free_up(wanted, Removable::Delivered).map(drop)
    }

    /// Removes what settled tasks have left until the disk has so many free bytes, and room for more files. Returns
    /// whether it has them: where a removal takes long, a later call knows more.
    fn free_up(&mut self, wanted: u64, removable: Removable) -> Result<bool, String> {
        if self.janitor.has_free(wanted)? {
            return Ok(true);
        }
        let janitor = Arc::clone(&self.janitor);
        let _ = self.flight.run(move |_| janitor.free_up(wanted, removable));
        self.janitor.has_free(wanted)
    }
}

/// Why nothing can be written in a data_dir, if nothing can.
pub fn unwritable(data_dir: &Path) -> Option<String> {
    platform::write_error(data_dir).map(|error| describe(data_dir, &error))
}

fn describe(data_dir: &Path, error: &io::Error) -> String {
    format!("nothing can be written in `{}`: {error}", data_dir.display())
}

impl Janitor {
    fn has_free(&self, wanted: u64) -> Result<bool, String> {
        let data_dir = &self.context.config().paths.data_dir;
        platform::free_disk(data_dir)
            .and_then(|bytes| Ok(bytes >= wanted && !platform::is_short_of_files(data_dir)?))
            // A quota may be used up on a disk with room.
            .map(|has_room| has_room && platform::write_error(data_dir).is_none_or(|error| !is_full(&error)))
            .map_err(|error| format!("can't read the free space of `{}`: {error}", data_dir.display()))
    }

    fn remove_expired(&self) {
        self.remove_set_aside();
        self.remove_old_probes();
        let Some(hours) = self.context.config().paths.retention_hours else { return };
        let now = Timestamp::now();
        let limit = SignedDuration::from_hours(i64::try_from(hours).unwrap_or(i64::MAX / 3600));
        for task in self.settled(|at| now.duration_since(at) >= limit) {
            self.remove_task(&task, hours);
        }
    }

    /// Removes the workspace and the record of a task that was settled so many hours ago.
    fn remove_task(&self, task: &Settled, hours: u64) {
        if !self.is_unchanged(task) || !self.remove_workspace(&task.files) {
            return;
        }
        if task.has_undelivered {
            self.log_removed(&task.files, &format!("removed {hours} hours after the task's end"));
        }
        // Its last state isn't in its record yet, or that was changed while the workspace was being removed.
        if task.files.has_waiting() || !self.is_unchanged(task) {
            return;
        }
        match self.store.remove(task.files.key()) {
            Ok(()) if task.has_undelivered => {
                log::warn!(task:% = task.files.key(); "removed after {hours} h, with files that the Server never got");
            }
            Ok(()) => log::info!(task:% = task.files.key(); "removed, {hours} h after its delivery"),
            Err(error) => log::warn!(task:% = task.files.key(); "its record can't be removed: {error}"),
        }
    }

    /// Whether a task is still settled as it was when it was listed. The removal of those before it may have taken long,
    /// and the Server may have offered it again meanwhile.
    fn is_unchanged(&self, task: &Settled) -> bool {
        match task.files.load() {
            Ok(record) => record.is_some_and(|record| {
                record.phase == Phase::Settled
                    && record.settled_at == Some(task.at)
                    && record.has_undelivered == task.has_undelivered
            }),
            Err(error) => {
                log::warn!(task:% = task.files.key(); "its files stay, since its record can't be read: {error}");
                false
            }
        }
    }

    /// Removes what was set aside; then the oldest first: delivered workspaces; then what the records have that is large;
    /// and then workspaces with files that the Server doesn't have.
    fn free_up(&self, wanted: u64, removable: Removable) {
        let is_enough = || self.has_free(wanted).unwrap_or(true);
        self.remove_set_aside();
        if is_enough() {
            return;
        }
        let (mut kept, delivered): (Vec<Settled>, Vec<Settled>) =
            self.settled(|_| true).into_iter().partition(|task| task.has_undelivered);
        if removable == Removable::Delivered {
            kept.clear();
        }
        for task in &delivered {
            if self.clear(task) {
                log::warn!(task:% = task.files.key(); "its delivered workspace was removed, to make room on the disk");
                if is_enough() {
                    return;
                }
            }
        }
        for task in delivered.iter().chain(&kept) {
            match if self.is_unchanged(task) { task.files.shrink() } else { Ok(0) } {
                Ok(0) => {}
                Ok(bytes) => {
                    let size = Bytes(bytes);
                    log::warn!(task:% = task.files.key(); "{size} of its offer and output were removed, to make room on the disk");
                    if is_enough() {
                        return;
                    }
                }
                Err(error) => log::warn!(task:% = task.files.key(); "its output can't be cut: {error}"),
            }
        }
        for task in &kept {
            if self.clear(task) {
                log::error!(
                    task:% = task.files.key();
                    "its workspace was removed with files that the Server never got: nothing else would make room on the disk"
                );
                self.log_removed(&task.files, "removed to make room on the disk");
                if is_enough() {
                    return;
                }
            }
        }
    }

    fn log_removed(&self, files: &TaskFiles, reason: &str) {
        if let Err(error) = log_removed(&self.context.ledger, files, reason) {
            log::warn!(task:% = files.key(); "the ledger lacks that its files were removed: {error}");
        }
    }

    /// Removes the workspace of a task that is still settled. Returns whether it was there and was removed.
    fn clear(&self, task: &Settled) -> bool {
        let has_workspace = self.workspace(&task.files).dir().exists();
        has_workspace && self.is_unchanged(task) && self.remove_workspace(&task.files)
    }

    fn workspace(&self, files: &TaskFiles) -> Workspace {
        Workspace::new(&self.context.config().paths.data_dir, files.key())
    }

    /// Returns whether the workspace was removed, or wasn't there.
    fn remove_workspace(&self, files: &TaskFiles) -> bool {
        match self.remove(self.workspace(files).dir()) {
            Removal::Done => return true,
            Removal::Stuck => {}
            Removal::Failed(why) => log::error!(task:% = files.key(); "its workspace can't be removed: {why}"),
        }
        false
    }

    /// Removes the workspaces that tasks of the same names have had to leave.
    fn remove_set_aside(&self) {
        let dirs = match Workspace::all_set_aside(&self.context.config().paths.data_dir) {
            Ok(dirs) => dirs,
            Err(error) => return log::warn!("the workspaces can't be listed: {error}"),
        };
        for dir in dirs {
            if let Removal::Failed(why) = self.remove(&dir) {
                log::error!("`{}`, the workspace of an earlier task, can't be removed: {why}", dir.display());
            }
        }
    }

    /// Removes the folders that a killed agent or `check` has made to look at what containers see.
    fn remove_old_probes(&self) {
        for dir in ProbeFolder::all_old(&self.context.config().paths.data_dir) {
            if let Removal::Failed(why) = self.remove(&dir) {
                log::error!("`{}`, which a killed process has left, can't be removed: {why}", dir.display());
            }
        }
    }

    fn remove(&self, dir: &Path) -> Removal {
        let stuck = || self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        let tried_again = stuck().get(dir).copied();
        // A removal that failed would fail soon after in most cases, and take long.
        if tried_again.is_some_and(|at| Instant::now() < at) {
            return if platform::remove_tree(dir).is_ok() { Removal::Done } else { Removal::Stuck };
        }
        let (config, Context { docker, instance_id, .. }) = (self.context.config(), &*self.context);
        let remover = Remover { docker, executor: &config.executor, owner: Some(instance_id) };
        let Err(why) = remover.remove(dir) else {
            stuck().remove(dir);
            return Removal::Done;
        };
        let was_stuck = stuck().insert(dir.to_owned(), Instant::now() + STUCK_PAUSE).is_some();
        if was_stuck { Removal::Stuck } else { Removal::Failed(why) }
    }

    /// Every settled task whose delivery was at a matching time, the earliest first.
    fn settled(&self, matches: impl Fn(Timestamp) -> bool) -> Vec<Settled> {
        let if_settled = |files: TaskFiles, record: Record| match (record.phase, record.settled_at) {
            (Phase::Settled, Some(at)) if matches(at) => {
                Some(Settled { files, at, has_undelivered: record.has_undelivered })
            }
            _ => None,
        };
        let mut settled = match self.store.load_all(if_settled) {
            Ok(loaded) => loaded.taken,
            Err(error) => {
                log::warn!("the records can't be read: {error}");
                return Vec::new();
            }
        };
        settled.sort_by_key(|task| task.at);
        settled
    }
}

#[cfg(test)]
mod tests;
