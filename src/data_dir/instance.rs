//! One agent on one data_dir: the lock of the running agent, and the files by which commands find it.
//!
//! The lock on `agent.lock` decides: the system releases it when the process ends in any way. The pidfile is for people
//! and scripts.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::thread;

use thiserror::Error;

use super::copies::{self, Copied};
use super::holder::{Holder, PAUSE, Role, read_holder, write_holder};
use super::permissions::{self, Refusal};
use crate::data_dir::{
    DRAIN_READY, DRAIN_REQUEST, DataDir, INSTANCE_ID, LOCK, METRICS, PAUSE as PAUSE_FILE, PID_FILE, RELOAD_REQUEST,
    STATUS_FILE,
};
use crate::os::files::{Durability, if_exists, ignore_missing, is_full, is_temporary, read_text};
use crate::os::folder::Folder;
use crate::os::platform::{self, FileLock};
use crate::os::random::random_id;

/// How often a lock is tried that another command may hold for a moment.
const TRIES: u32 = 10;

/// The lock of a data_dir, until it is dropped.
pub struct Instance {
    _lock: FileLock,
    folder: Folder,
    watch: LockWatch,
    id: String,
    left_by: Option<u32>,
}

/// Tells whether `agent.lock` is still the file that was locked, in the folder to which the data_dir's path leads. After
/// its removal the next agent locks a new one.
#[derive(Debug, Clone)]
pub struct LockWatch {
    folder: Folder,
    identity: (u64, u64),
}

impl LockWatch {
    /// Whether the lock file, or the folder it is in, was removed or replaced.
    pub fn is_lost(&self) -> bool {
        match self.folder.dir().identity_of(Path::new(LOCK)) {
            Ok(identity) => identity != self.identity || self.folder.is_replaced(),
            // On a disk that can't be read no other agent can start.
            Err(error) => error.kind() == ErrorKind::NotFound,
        }
    }
}

/// Why the lock of a data_dir can't be taken.
#[derive(Debug, Error)]
pub enum InstanceError {
    #[error("{0}")]
    Held(Holder),
    /// Other users have rights on the folder, or own it; the text says what to do.
    #[error(transparent)]
    Permissions(#[from] Refusal),
    #[error("`{}` can't be used: {}", .0.display(), .1)]
    Io(PathBuf, io::Error),
    /// Another folder has the same id.
    #[error(transparent)]
    Copied(#[from] Copied),
}

impl Instance {
    /// Creates the data_dir if it doesn't exist, private to its owner, and takes its lock.
    pub fn acquire(data_dir: &DataDir, role: Role) -> Result<Self, InstanceError> {
        let folder = permissions::prepare(data_dir)?;
        let at = |name: &str| {
            let path = data_dir.join(name);
            move |error| InstanceError::Io(path, error)
        };
        let (lock, watch) =
            lock(&folder).map_err(at(LOCK))?.map_err(|mut held| InstanceError::Held(read_holder(&mut held)))?;
        // A request to an earlier agent names that one's pid, which this process may have again.
        remove_drain_request(&folder).map_err(at(DRAIN_REQUEST))?;
        folder.remove(RELOAD_REQUEST).map_err(at(RELOAD_REQUEST))?;
        // A process that ends as it should removes the file.
        let left_by = folder.read(PID_FILE).ok().flatten();
        let left_by = left_by.and_then(|text| text.trim().parse().ok());
        let pid = format!("{}\n", std::process::id());
        // On a full disk there may be results to deliver, so none of this is a reason to end.
        if let Err(error) = write_holder(lock.file(), role) {
            log::warn!("the pid can't be written, so `stop` and `status` may not find this agent: {error}");
        }
        let others = [PID_FILE, DRAIN_READY].map(|name| folder.replace_text(name, pid.as_bytes()));
        if let Err(error) = others.into_iter().collect::<io::Result<()>>().and_then(|()| remove_temporary(&folder)) {
            log::warn!("`{PID_FILE}` and `{DRAIN_READY}` can't be written: {error}");
        }
        let id = read_or_make_id(&folder).map_err(at(INSTANCE_ID))?;
        copies::check(&folder, &id)?;
        Ok(Self { _lock: lock, folder, watch, id, left_by })
    }

    /// The process that held the data_dir before and has ended without a word: it was killed, or went down with the
    /// machine.
    pub fn left_by(&self) -> Option<u32> {
        self.left_by
    }

    /// The data_dir, held open.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// A check whether the lock is still valid.
    pub fn watch(&self) -> &LockWatch {
        &self.watch
    }

    /// The random and lasting id of this data_dir. Containers carry it as a label, so that agents on one engine don't
    /// touch each other's containers.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // With a lost lock the files are another agent's.
        if self.watch.is_lost() {
            return;
        }
        // Files that stay do no harm: the lock decides, and the next agent replaces or removes them.
        let _ = self.folder.remove(PID_FILE);
        let _ = remove_drain_request(&self.folder);
    }
}

/// Asks the agent with this pid, and no later one, to accept nothing new and to end when all results are delivered.
pub fn request_drain(data_dir: &DataDir, pid: u32) -> Result<(), InstanceError> {
    let folder = permissions::prepare(data_dir)?;
    let written = match folder.replace(DRAIN_REQUEST, format!("{pid}\n").as_bytes(), Durability::Crash) {
        // The agent has written the same pid there.
        Err(error) if is_full(&error) => folder.rename(DRAIN_READY, DRAIN_REQUEST).map_err(|_| error),
        written => written,
    };
    written.map_err(|error| InstanceError::Io(data_dir.drain_request(), error))
}

/// The file becomes the one that is kept ready: on a full disk no other could be made.
fn remove_drain_request(folder: &Folder) -> io::Result<()> {
    ignore_missing(folder.rename(DRAIN_REQUEST, DRAIN_READY))
}

/// Takes the request to drain back. Returns whether there was one.
pub fn cancel_drain(data_dir: &DataDir, folder: &Folder) -> Result<bool, InstanceError> {
    let was_requested = data_dir.drain_request().exists();
    remove_drain_request(folder).map_err(|error| InstanceError::Io(data_dir.drain_request(), error))?;
    Ok(was_requested)
}

/// A request to read the configuration file again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReloadRequest {
    /// By this the answer in `status.json` is known.
    pub id: String,
    /// How much is logged from then on; empty where that stays as it is.
    pub log_level: String,
}

impl ReloadRequest {
    /// Asks the agent with this pid, and no later one.
    pub fn send(&self, data_dir: &DataDir, pid: u32) -> Result<(), InstanceError> {
        let folder = permissions::prepare(data_dir)?;
        let text = format!("{pid}\n{}\n{}\n", self.id, self.log_level);
        let written = folder.replace(RELOAD_REQUEST, text.as_bytes(), Durability::Crash);
        written.map_err(|error| InstanceError::Io(data_dir.reload_request(), error))
    }

    /// The request to the agent with this pid. An unreadable file is none.
    pub fn load(data_dir: &DataDir, pid: u32) -> Option<Self> {
        let text = read_text(&data_dir.reload_request()).ok()?;
        let mut lines = text.lines().map(str::to_owned);
        let is_ours = lines.next()?.parse() == Ok(pid);
        let request = Self { id: lines.next()?, log_level: lines.next()? };
        is_ours.then_some(request)
    }
}

/// Whether the agent with this pid has a request to drain.
///
/// # Errors
/// The file can't be read: it may be one.
pub fn is_drain_requested(data_dir: &DataDir, pid: u32) -> io::Result<bool> {
    let Some(text) = if_exists(read_text(&data_dir.drain_request()))? else { return Ok(false) };
    let asked: u32 = text.trim().parse().map_err(io::Error::other)?;
    Ok(asked == pid)
}

/// Removes the pidfile of an agent that was killed. To be called when no agent runs.
pub fn remove_stale_pid_file(folder: &Folder) -> io::Result<()> {
    folder.remove(PID_FILE)
}

/// Removes the temporary files that a crash has left.
fn remove_temporary(folder: &Folder) -> io::Result<()> {
    const REPLACED: [&str; 8] =
        [PID_FILE, INSTANCE_ID, DRAIN_REQUEST, DRAIN_READY, STATUS_FILE, METRICS, PAUSE_FILE, RELOAD_REQUEST];
    for name in folder.dir().names()? {
        if REPLACED.iter().any(|of| is_temporary(&name.to_string_lossy(), of)) {
            folder.remove(name)?;
        }
    }
    Ok(())
}

/// Locks the file, or returns it while another process holds the lock. `status` holds a shared lock for a moment to see
/// whether there is an agent, so the lock is tried for a short time.
fn lock(folder: &Folder) -> io::Result<Result<(FileLock, LockWatch), File>> {
    let open = || folder.open_or_create(LOCK);
    let mut file = open()?;
    for _ in 0..TRIES {
        match FileLock::try_new(file)? {
            Ok(lock) => {
                let watch = LockWatch { folder: folder.clone(), identity: platform::identity(lock.file())? };
                if !watch.is_lost() {
                    return Ok(Ok((lock, watch)));
                }
                // The file was removed between the opening and the locking.
                file = open()?;
                continue;
            }
            Err(held) => file = held,
        }
        thread::sleep(PAUSE);
    }
    Ok(Err(file))
}

/// The id of a data_dir, if an agent has ever run on it.
pub fn read_id(data_dir: &DataDir) -> io::Result<Option<String>> {
    let text = if_exists(read_text(&data_dir.instance_id()))?;
    Ok(text.map(|text| text.trim().to_owned()).filter(|id| is_id(id)))
}

fn read_or_make_id(folder: &Folder) -> io::Result<String> {
    if let Some(id) = folder.read(INSTANCE_ID)?.map(|text| text.trim().to_owned()).filter(|id| is_id(id)) {
        return Ok(id);
    }
    let id = random_id();
    folder.replace(INSTANCE_ID, format!("{id}\n").as_bytes(), Durability::PowerCut)?;
    Ok(id)
}

fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::{Instance, InstanceError, is_drain_requested};
    use crate::data_dir::DataDir;
    use crate::data_dir::holder::{Holder, Role, find_holder};
    use crate::os::platform::FileLock;
    use std::fs::File;

    #[test]
    fn a_second_agent_gets_the_first_ones_pid_and_the_id_stays() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = DataDir::new(dir.path().join("data"));
        assert!(find_holder(&data_dir).unwrap().is_none());
        let first = Instance::acquire(&data_dir, Role::Agent).unwrap();
        let id = first.id().to_owned();
        let me = Holder { pid: Some(std::process::id()), role: Role::Agent };
        let second = Instance::acquire(&data_dir, Role::Agent);
        assert!(matches!(second, Err(InstanceError::Held(holder)) if holder == me));
        assert_eq!(find_holder(&data_dir).unwrap(), Some(me));
        drop(first);
        assert!(find_holder(&data_dir).unwrap().is_none());
        assert!(!data_dir.join("agent.pid").exists());
        assert_eq!(Instance::acquire(&data_dir, Role::Agent).unwrap().id(), id);
    }

    #[test]
    fn a_process_that_was_killed_is_named_to_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = DataDir::new(dir.path());
        drop(Instance::acquire(&data_dir, Role::Agent).unwrap());
        assert_eq!(Instance::acquire(&data_dir, Role::Agent).unwrap().left_by(), None);
        std::fs::write(data_dir.join(crate::data_dir::PID_FILE), "4321\n").unwrap();
        assert_eq!(Instance::acquire(&data_dir, Role::Agent).unwrap().left_by(), Some(4321));
    }

    #[test]
    fn an_abort_that_holds_the_data_dir_is_not_an_agent() {
        let dir = tempfile::tempdir().unwrap();
        let _abort = Instance::acquire(&DataDir::new(dir.path()), Role::Abort).unwrap();
        let there = find_holder(&DataDir::new(dir.path())).unwrap().unwrap();
        assert!(!there.is_agent());
        let said = format!("`agent-core stop --abort` (pid {}) is at work on this data_dir", std::process::id());
        assert_eq!(there.to_string(), said);
    }

    #[test]
    fn a_lock_is_lost_when_its_file_was_removed() {
        let dir = tempfile::tempdir().unwrap();
        let first = Instance::acquire(&DataDir::new(dir.path()), Role::Agent).unwrap();
        assert!(!first.watch().is_lost());
        std::fs::remove_file(dir.path().join("agent.lock")).unwrap();
        assert!(first.watch().is_lost());
        let second = Instance::acquire(&DataDir::new(dir.path()), Role::Agent).unwrap();
        drop(first);
        assert!(dir.path().join("agent.pid").exists(), "it is the second one's");
        assert!(!second.watch().is_lost());
    }

    #[test]
    fn a_drain_request_that_can_not_be_read_may_be_one() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = DataDir::new(dir.path());
        let is_requested = || is_drain_requested(&data_dir, 7);
        assert!(!is_requested().unwrap());
        std::fs::write(data_dir.drain_request(), "7\n").unwrap();
        assert!(is_requested().unwrap());
        std::fs::write(data_dir.drain_request(), "8\n").unwrap();
        assert!(!is_requested().unwrap(), "it is another process's");
        std::fs::write(data_dir.drain_request(), "").unwrap();
        assert!(is_requested().is_err());
        std::fs::remove_file(data_dir.drain_request()).unwrap();
        std::fs::create_dir(data_dir.drain_request()).unwrap();
        assert!(is_requested().is_err());
    }

    #[test]
    fn a_shared_lock_is_not_reported_as_an_agent() {
        let dir = tempfile::tempdir().unwrap();
        drop(Instance::acquire(&DataDir::new(dir.path()), Role::Agent).unwrap());
        let open = || File::options().read(true).write(true).open(dir.path().join("agent.lock")).unwrap();
        let _looking = FileLock::try_shared(open()).unwrap().unwrap();
        assert_eq!(find_holder(&DataDir::new(dir.path())).unwrap(), None);
        assert!(FileLock::try_new(open()).unwrap().is_err());
    }
}
