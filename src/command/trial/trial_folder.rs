//! The folder of a trial below the data_dir, with its workspace and record. No agent takes it for a task's.
//!
//! The folder is removed at the end of the trial. The next trial removes what a killed one has left, container and
//! folder: a running trial holds the lock in its folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::command::failure::Failure;
use crate::command::output::eprint_line;
use crate::config::{Config, ExecutorConfig};
use crate::data_dir::permissions;
use crate::docker::Docker;
use crate::os::files::{create, create_new, make_dirs, open_existing};
use crate::os::platform::FileLock;
use crate::os::random::random_u64;
use crate::task::{Remover, view_name};

/// What the names of trials' containers begin with. No agent takes such a name for a task's.
const CONTAINER_PREFIX: &str = "open-aaas-try-";
/// The file that a running trial has locked.
const LOCK: &str = "lock";
/// The file that marks a folder that must not be removed.
const KEPT: &str = "kept";

pub struct TrialFolder {
    pub dir: PathBuf,
    /// The folder's name, unique in this data_dir.
    pub name: String,
    lock: Option<FileLock>,
    executor: ExecutorConfig,
    made_data_dir: bool,
}

impl TrialFolder {
    /// Creates a folder, and the data_dir where it is missing, private to its owner as the agent's.
    pub fn create(config: &Config) -> Result<Self, Failure> {
        let data_dir = &config.paths.data_dir;
        let made_data_dir = !data_dir.exists();
        permissions::prepare(data_dir)?;
        Self::create_in(config, made_data_dir).map_err(Failure::unusable(data_dir))
    }

    fn create_in(config: &Config, made_data_dir: bool) -> io::Result<Self> {
        let name = format!("{:012x}", random_u64() >> 16);
        let dir = config.paths.data_dir.trials().join(&name);
        // Another trial may remove the empty parent at this moment.
        make_dirs(&dir).or_else(|_| make_dirs(&dir))?;
        // The lock file is renamed once it is locked, so that another trial can't lock it first and remove the folder.
        let unnamed = dir.join("lock.new");
        let lock = FileLock::try_new(create_new(&unnamed)?)?;
        let lock = Some(lock.map_err(|_| io::Error::other("another process holds a lock that was just created"))?);
        fs::rename(&unnamed, dir.join(LOCK))?;
        Ok(Self { dir, name, lock, executor: config.executor.clone(), made_data_dir })
    }

    pub fn container_name(&self) -> String {
        container_name(&self.name)
    }

    /// Marks the folder, so that no later trial removes it. Its container is removed.
    pub fn keep(self, docker: &Docker) -> Result<(), Failure> {
        let container = self.container_name();
        if let Err(error) = docker.remove_forced(&container) {
            log::warn!("the container `{container}` can't be removed: {error}");
        }
        eprint_line(format_args!("Kept: {}", self.dir.display()));
        create(&self.dir.join(KEPT)).map(drop).map_err(Failure::with_path(&self.dir, "can't be marked as kept"))
    }

    /// Removes the folder, and the container if it is still there. Parents that were created for the folder are removed,
    /// too: they might belong to another user than the agent's.
    pub fn remove(mut self, docker: &Docker) {
        self.lock = None;
        remove(docker, &self.executor, &self.dir, &self.name);
        let parents = self.dir.ancestors().skip(1).take(if self.made_data_dir { 2 } else { 1 });
        for dir in parents {
            // A folder that isn't empty stays.
            let _ = fs::remove_dir(dir);
        }
    }
}

/// Removes what killed trials have left in this data_dir.
pub fn remove_abandoned(config: &Config, docker: &Docker) {
    let Ok(entries) = fs::read_dir(config.paths.data_dir.trials()) else { return };
    for dir in entries.flatten().map(|entry| entry.path()) {
        let Some(name) = dir.file_name().and_then(|name| name.to_str()) else { continue };
        // A folder without a lock file is just being created.
        let Ok(lock) = open_existing(&dir.join(LOCK)) else { continue };
        if dir.join(KEPT).exists() || !matches!(FileLock::try_new(lock), Ok(Ok(_))) {
            continue;
        }
        log::info!("removing what a killed trial has left: `{}`", dir.display());
        remove(docker, &config.executor, &dir, name);
    }
}

fn container_name(name: &str) -> String {
    format!("{CONTAINER_PREFIX}{name}")
}

/// Removes the container first, since it may write into the folder while it runs. If the container can't be removed, the
/// folder stays for the next trial.
fn remove(docker: &Docker, executor: &ExecutorConfig, dir: &Path, name: &str) {
    let container = container_name(name);
    for container in [view_name(&container), container] {
        if let Err(error) = docker.remove_forced(&container) {
            log::error!("the container `{container}` can't be removed, and `{}` stays: {error}", dir.display());
            return;
        }
    }
    if let Err(why) = (Remover { docker, executor, owner: None }).remove(dir) {
        log::error!("`{}` can't be removed: {why}", dir.display());
    }
}
