//! Where a trial has its workspace and record: a folder of its own in the data_dir, which nobody takes for a task's.
//!
//! It goes with the trial. What a killed one has left behind, container and folder, the next one removes: whoever holds
//! the lock in a folder is still at work there.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::data_dir::DataDir;
use crate::data_dir::permissions;
use crate::docker::Docker;
use crate::os::platform::{self, FileLock};
use crate::os::random::random_u64;
use crate::task::workspace::remove_tree;

/// What the names of trials' containers begin with: no agent takes such a name for its own.
const CONTAINER_PREFIX: &str = "open-aaas-try-";
/// The file whose lock is held for as long as a trial lives.
const LOCK: &str = "lock";
/// The file that keeps a folder from being removed.
const KEPT: &str = "kept";

/// See the module.
pub struct Folder {
    dir: PathBuf,
    name: String,
    lock: Option<FileLock>,
    image: String,
    made_data_dir: bool,
}

impl Folder {
    /// Makes a folder; the data_dir too if need be, private to its owner as the agent does it.
    pub fn make(config: &Config) -> io::Result<Self> {
        let data_dir = &config.paths.data_dir;
        let made_data_dir = !data_dir.exists();
        if made_data_dir {
            fs::create_dir_all(data_dir)?;
            platform::make_private_dir(data_dir)?;
        } else {
            permissions::check_owner(data_dir).map_err(io::Error::other)?;
        }
        let all = all_trials(data_dir);
        let name = format!("{:012x}", random_u64() >> 16);
        let dir = all.join(&name);
        // Another trial may remove the empty folder around it at this moment.
        fs::create_dir_all(&dir).or_else(|_| fs::create_dir_all(&dir))?;
        // Whatever the data_dir's own rights are: the workspace in here is open to every user.
        platform::make_private_dir(&all)?;
        platform::make_private_dir(&dir)?;
        // It gets its name when it is held, or a sweep of another trial might be faster.
        let unnamed = dir.join("lock.new");
        let lock = FileLock::try_new(File::create(&unnamed)?)?;
        let lock = Some(lock.map_err(|_| io::Error::other("somebody else holds a lock that was just made"))?);
        fs::rename(&unnamed, dir.join(LOCK))?;
        Ok(Self { dir, name, lock, image: config.executor.image.clone(), made_data_dir })
    }

    /// Where it lies.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its name, unique in this data_dir.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of the trial's container.
    pub fn container(&self) -> String {
        container(&self.name)
    }

    /// Leaves the folder where it is.
    pub fn keep(self) -> io::Result<()> {
        File::create(self.dir.join(KEPT)).map(drop)
    }

    /// Removes it with all that is in it, and the container if it is still there. What was made around it goes, too,
    /// unless others use it: it might belong to another user than the agent's.
    pub fn remove(mut self, docker: &Docker) {
        self.lock = None;
        remove(docker, &self.image, &self.dir, &self.name);
        let around = self.dir.ancestors().skip(1).take(if self.made_data_dir { 2 } else { 1 });
        for dir in around {
            // Where anything is in it, it stays.
            let _ = fs::remove_dir(dir);
        }
    }
}

/// Removes what killed trials have left in this data_dir.
pub fn sweep(config: &Config, docker: &Docker) {
    let Ok(entries) = fs::read_dir(all_trials(&config.paths.data_dir)) else { return };
    for dir in entries.flatten().map(|entry| entry.path()) {
        let Some(name) = dir.file_name().and_then(|name| name.to_str()) else { continue };
        // Without a lock file it is just being made; with the mark somebody wants to have it.
        let Ok(lock) = File::options().write(true).open(dir.join(LOCK)) else { continue };
        if dir.join(KEPT).exists() || !matches!(FileLock::try_new(lock), Ok(Ok(_))) {
            continue;
        }
        log::info!("removing what a trial has left behind that was killed: `{}`", dir.display());
        remove(docker, &config.executor.image, &dir, name);
    }
}

fn all_trials(data_dir: &DataDir) -> PathBuf {
    data_dir.trials()
}

fn container(name: &str) -> String {
    format!("{CONTAINER_PREFIX}{name}")
}

/// The container goes first: while it runs, it may write into the folder. Where it can't be removed, the folder stays
/// for the next sweep.
fn remove(docker: &Docker, image: &str, dir: &Path, name: &str) {
    let container = container(name);
    if let Err(error) = docker.remove_forced(&container) {
        log::error!("the container `{container}` can't be removed, and `{}` stays: {error}", dir.display());
        return;
    }
    if let Err(why) = remove_tree(docker, image, dir) {
        log::error!("`{}` can't be removed: {why}", dir.display());
    }
}
