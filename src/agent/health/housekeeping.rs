//! Disk space: workspaces and records of settled tasks are removed after `paths.retention_hours`, and delivered workspaces
//! earlier when the disk is nearly full.
//!
//! A workspace with a file that the Server refused or never got is kept for the whole time. A container may leave files
//! that belong to root or to another user; where the agent may not remove them, a container of the executor image does.

use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};

use crate::config::Config;
use crate::docker::Docker;
use crate::os::platform;
use crate::task::{Phase, Record, Store, TaskFiles, Workspace, remove_tree};

#[derive(Default)]
pub struct Housekeeping {
    /// Workspaces that can't be removed; each is logged once.
    stuck: HashSet<String>,
}

/// A settled task whose files may be deleted.
struct Settled {
    files: TaskFiles,
    at: Timestamp,
    /// Whether the workspace has a file that the Server doesn't have.
    has_undelivered: bool,
}

impl Housekeeping {
    /// Removes workspaces and records that were settled longer ago than `paths.retention_hours`.
    pub fn remove_expired(&mut self, config: &Config, docker: &Docker, store: &Store) {
        let Some(hours) = config.paths.retention_hours else { return };
        let now = Timestamp::now();
        let limit = SignedDuration::from_hours(i64::try_from(hours).unwrap_or(i64::MAX / 3600));
        for task in settled(store, |at| now.duration_since(at) >= limit) {
            if !self.remove_workspace(config, docker, &task.files) {
                continue;
            }
            match store.remove(task.files.key()) {
                Ok(()) if task.has_undelivered => {
                    log::warn!(task:% = task.files.key(); "removed after {hours} h, with files that the Server never got");
                }
                Ok(()) => log::info!(task:% = task.files.key(); "removed, {hours} h after its delivery"),
                Err(error) => log::warn!(task:% = task.files.key(); "its record can't be removed: {error}"),
            }
        }
    }

    /// Makes sure that the data_dir's disk has `paths.min_free_disk_mb` left, if need be by removing workspaces of
    /// settled tasks, the oldest first.
    ///
    /// # Errors
    /// The disk has less space left, or its space is unknown.
    pub fn make_room(&mut self, config: &Config, docker: &Docker, store: &Store) -> Result<(), String> {
        let wanted = config.paths.min_free_disk_mb;
        if wanted == 0 || self.free_up(config, docker, store, config.paths.keep_free())? {
            return Ok(());
        }
        // Without the number of the moment: a message that stays the same is logged once.
        let data_dir = config.paths.data_dir.display();
        Err(format!("the disk of `{data_dir}` has less than {wanted} MiB left (`paths.min_free_disk_mb`)"))
    }

    /// Removes workspaces of settled tasks, the oldest first, until the disk has so many free bytes. Returns whether it
    /// has them.
    ///
    /// # Errors
    /// The disk's space can't be read.
    pub fn free_up(&mut self, config: &Config, docker: &Docker, store: &Store, wanted: u64) -> Result<bool, String> {
        let data_dir = &config.paths.data_dir;
        let is_enough = || {
            platform::free_disk(data_dir)
                .map(|bytes| bytes >= wanted)
                .map_err(|error| format!("can't read the free space of `{}`: {error}", data_dir.display()))
        };
        if is_enough()? {
            return Ok(true);
        }
        for task in settled(store, |_| true) {
            let workspace = Workspace::new(data_dir, task.files.key());
            if task.has_undelivered || !workspace.dir().exists() || !self.remove_workspace(config, docker, &task.files)
            {
                continue;
            }
            log::warn!(task:% = task.files.key(); "its delivered workspace was removed, to make room on the disk");
            if is_enough()? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns whether the workspace was removed, or wasn't there.
    fn remove_workspace(&mut self, config: &Config, docker: &Docker, files: &TaskFiles) -> bool {
        let workspace = Workspace::new(&config.paths.data_dir, files.key());
        // A removal that failed once would fail each time, and take long.
        if self.stuck.contains(files.key().as_str()) {
            return workspace.remove().is_ok();
        }
        let Err(why) = remove_tree(docker, &config.executor.image, workspace.dir()) else { return true };
        self.stuck.insert(files.key().to_string());
        log::error!(task:% = files.key(); "its workspace can't be removed: {why}");
        false
    }
}

/// Every settled task whose delivery was at a matching time, the earliest first.
fn settled(store: &Store, matches: impl Fn(Timestamp) -> bool) -> Vec<Settled> {
    let if_settled = |files: TaskFiles, record: Record| match (record.phase, record.settled_at) {
        (Phase::Settled, Some(at)) if matches(at) => {
            Some(Settled { files, at, has_undelivered: record.has_undelivered })
        }
        _ => None,
    };
    let mut settled = match store.load_all(if_settled) {
        Ok(loaded) => loaded.taken,
        Err(error) => {
            log::warn!("the records can't be read: {error}");
            return Vec::new();
        }
    };
    settled.sort_by_key(|task| task.at);
    settled
}

#[cfg(test)]
mod tests {
    use super::Housekeeping;
    use crate::config::Config;
    use crate::data_dir::DataDir;
    use crate::docker::Docker;
    use crate::server::protocol::Task;
    use crate::task::record::{Phase, Record, Store, TaskKey};
    use jiff::{SignedDuration, Timestamp};
    use std::fs;
    use std::path::Path;

    fn config(dir: &Path, paths: &str) -> Config {
        let text = format!("[server]\nbase_url='http://h'\n[paths]\n{paths}\n");
        Config::parse(&dir.join("config.toml"), &text).unwrap()
    }

    fn task(dir: &Path, id: &str, phase: Phase, hours_ago: i64) {
        let store = Store::open(&DataDir::new(dir.join("data"))).unwrap();
        let task = Task { id: id.to_owned(), ..Task::default() };
        let mut record = Record::from_offer(task, "s", "http://h");
        record.phase = phase;
        record.settled_at = (phase == Phase::Settled).then(|| Timestamp::now() - SignedDuration::from_hours(hours_ago));
        store.create(&TaskKey::from_id(id).unwrap(), &record).unwrap();
        fs::create_dir_all(dir.join("data/workspaces").join(id).join("output")).unwrap();
    }

    fn left(dir: &Path, what: &str) -> Vec<String> {
        let entries = fs::read_dir(dir.join("data").join(what)).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn only_tasks_past_the_retention_time_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        task(dir.path(), "old", Phase::Settled, 200);
        task(dir.path(), "new", Phase::Settled, 100);
        task(dir.path(), "undelivered", Phase::Exited, 0);
        let store = Store::open(&DataDir::new(dir.path().join("data"))).unwrap();
        let docker = Docker::new("/nonexistent/docker").unwrap();
        Housekeeping::default().remove_expired(&config(dir.path(), "retention_hours = 0"), &docker, &store);
        assert_eq!(left(dir.path(), "tasks"), ["new", "old", "undelivered"]);
        Housekeeping::default().remove_expired(&config(dir.path(), ""), &docker, &store);
        assert_eq!(left(dir.path(), "tasks"), ["new", "undelivered"]);
        assert_eq!(left(dir.path(), "workspaces"), ["new", "undelivered"]);
    }

    #[test]
    fn a_full_disk_removes_delivered_workspaces_but_no_records() {
        let dir = tempfile::tempdir().unwrap();
        task(dir.path(), "delivered", Phase::Settled, 1);
        task(dir.path(), "undelivered", Phase::Uploaded, 0);
        let store = Store::open(&DataDir::new(dir.path().join("data"))).unwrap();
        let docker = Docker::new("/nonexistent/docker").unwrap();
        let greedy = config(dir.path(), "min_free_disk_mb = 1000000000");
        let wrong = Housekeeping::default().make_room(&greedy, &docker, &store).unwrap_err();
        assert!(wrong.contains("min_free_disk_mb"), "{wrong}");
        assert_eq!(left(dir.path(), "workspaces"), ["undelivered"]);
        assert_eq!(left(dir.path(), "tasks"), ["delivered", "undelivered"]);
        let modest = config(dir.path(), "min_free_disk_mb = 0");
        assert_eq!(Housekeeping::default().make_room(&modest, &docker, &store), Ok(()));
    }
}
