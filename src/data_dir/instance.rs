//! One agent on one data_dir: the lock that says so, and the names under which others find the running one.
//!
//! The lock on `agent.lock` is the truth: the system lets it go however the process ends. The pidfile beside it is for
//! people and for `stop`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::data_dir::DataDir;
use crate::data_dir::permissions;
use crate::os::files::{Durability, remove_if_exists, replace};
use crate::os::platform::{self, FileLock};
use crate::os::random::random_id;

/// The data_dir is ours for as long as this lives.
pub struct Instance {
    _lock: FileLock,
    watch: LockWatch,
    pid_file: PathBuf,
    drain_file: PathBuf,
    id: String,
}

/// What somebody does with a data_dir that is theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It is the agent.
    Agent,
    /// `stop --abort` ends what the agent has left.
    Abort,
    /// `discard` gives a result up.
    Discard,
}

impl Role {
    const COMMANDS: [(Self, &'static str); 2] = [(Self::Abort, "stop --abort"), (Self::Discard, "discard")];

    /// As it stands in `agent.lock`, behind the pid.
    fn word(self) -> &'static str {
        Self::COMMANDS.iter().find(|(role, _)| *role == self).map_or("run", |(_, word)| word)
    }

    fn of_word(word: &str) -> Self {
        Self::COMMANDS.iter().find(|(_, other)| *other == word).map_or(Self::Agent, |(role, _)| *role)
    }
}

/// Whose a data_dir is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Its process id, as far as it could be read.
    pub pid: Option<u32>,
    /// What it does.
    pub role: Role,
}

impl Holder {
    /// Whether it is the agent, and not a command that has its place for a while.
    pub fn is_agent(self) -> bool {
        self.role == Role::Agent
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.role, self.pid) {
            (Role::Agent, Some(pid)) => write!(f, "an agent with pid {pid} is running on this data_dir already"),
            (Role::Agent, None) => write!(f, "an agent is running on this data_dir already"),
            (role, pid) => {
                write!(f, "`agent-core {}`", role.word())?;
                if let Some(pid) = pid {
                    write!(f, " (pid {pid})")?;
                }
                write!(f, " is at work on this data_dir")
            }
        }
    }
}

/// Tells whether `agent.lock` is still the file that was locked: where somebody has removed it, the next agent locks
/// another one.
#[derive(Debug, Clone)]
pub struct LockWatch {
    path: PathBuf,
    identity: (u64, u64),
}

impl LockWatch {
    /// Whether the lock keeps nobody away any more.
    pub fn is_lost(&self) -> bool {
        match File::open(&self.path).and_then(|file| platform::identity(&file)) {
            Ok(identity) => identity != self.identity,
            // Where the disk gives no answer, nobody else can start either.
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }
}

/// Why the data_dir isn't ours.
#[derive(Debug)]
pub enum InstanceError {
    /// Somebody else has it.
    Held(Holder),
    /// Other users can get at the folder, or it is another user's, and we may not change that; what to do.
    Open(String),
    /// The folder or its files can't be used.
    Io(PathBuf, io::Error),
}

impl std::fmt::Display for InstanceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Held(holder) => holder.fmt(f),
            Self::Open(why) => f.write_str(why),
            Self::Io(path, error) => write!(f, "`{}` can't be used: {error}", path.display()),
        }
    }
}

impl std::error::Error for InstanceError {}

impl Instance {
    /// Makes the data_dir if need be, private to its owner, and takes its lock.
    pub fn take(data_dir: &DataDir, role: Role) -> Result<Self, InstanceError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| InstanceError::Io(path, error)
        };
        if data_dir.exists() {
            permissions::check_folder(data_dir).map_err(InstanceError::Open)?;
            permissions::close(data_dir, "the data_dir").map_err(InstanceError::Open)?;
            permissions::check_owner(data_dir).map_err(InstanceError::Open)?;
        } else {
            fs::create_dir_all(data_dir).map_err(at(data_dir))?;
            platform::make_private_dir(data_dir).map_err(at(data_dir))?;
        }
        let lock_path = data_dir.lock();
        let (lock, watch) = lock_soon(&lock_path)
            .map_err(at(&lock_path))?
            .map_err(|mut held| InstanceError::Held(read_holder(&mut held)))?;
        let pid_file = data_dir.pid_file();
        // What an earlier agent was asked for; it names that one's pid, which ours may be again.
        remove_if_exists(&data_dir.drain_request()).map_err(at(&data_dir.drain_request()))?;
        let noted =
            write_holder(lock.file(), role).and_then(|()| fs::write(&pid_file, format!("{}\n", std::process::id())));
        if let Err(error) = noted {
            // On a full disk there may be results to deliver all the same.
            log::warn!("the pid can't be written down, so `stop` and `status` may not find this agent: {error}");
        }
        let id = instance_id(&data_dir.instance_id()).map_err(at(data_dir))?;
        Ok(Self { _lock: lock, watch, pid_file, drain_file: data_dir.drain_request(), id })
    }

    /// What tells whether the lock still counts.
    pub fn watch(&self) -> &LockWatch {
        &self.watch
    }

    /// A random name of this data_dir that stays the same: containers carry it, so that agents on one engine leave
    /// each other's alone.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // Then they are another agent's.
        if self.watch.is_lost() {
            return;
        }
        // A pidfile that stays behind is only a stale note: the lock is the truth.
        let _ = fs::remove_file(&self.pid_file);
        // So is this one: the next agent removes it.
        let _ = fs::remove_file(&self.drain_file);
    }
}

/// Whoever has a data_dir, if anybody does.
pub fn holder(data_dir: &DataDir) -> io::Result<Option<Holder>> {
    let file = match OpenOptions::new().read(true).write(true).open(data_dir.lock()) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // Shared, so that two who look at the same moment don't take each other for the agent.
    let mut held = match FileLock::try_shared(file)? {
        Ok(_free) => return Ok(None),
        Err(held) => held,
    };
    let holder = read_holder(&mut held);
    if holder.pid.is_some() {
        return Ok(Some(holder));
    }
    // A child that a killed agent was just starting holds the lock until it has become another program.
    Ok(FileLock::try_shared(held)?.err().map(|_| holder))
}

/// Asks the agent with this pid to accept nothing new and to end when all that is here is delivered. A later one is not
/// meant.
pub fn ask_for_drain(data_dir: &DataDir, pid: u32) -> Result<(), InstanceError> {
    permissions::check_owner(data_dir).map_err(InstanceError::Open)?;
    let path = data_dir.drain_request();
    let asked = replace(&path, format!("{pid}\n").as_bytes(), Durability::Crash);
    asked.map_err(|error| InstanceError::Io(path, error))
}

/// Whether the agent with this pid was asked to.
pub fn is_asked_to_drain(data_dir: &DataDir, pid: u32) -> bool {
    // What isn't there or can't be read asks for nothing.
    fs::read_to_string(data_dir.drain_request()).is_ok_and(|text| text.trim().parse() == Ok(pid))
}

/// Removes the pidfile of an agent that can't do it itself any more. To be called when no agent runs.
pub fn remove_stale_pid_file(data_dir: &DataDir) -> io::Result<()> {
    remove_if_exists(&data_dir.pid_file())
}

/// Locks the file, or returns the one that somebody else holds. `status` holds the lock for a moment when it looks
/// whether anybody else does; that is waited out.
fn lock_soon(path: &Path) -> io::Result<Result<(FileLock, LockWatch), File>> {
    let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let mut file = open()?;
    for _ in 0..10 {
        match FileLock::try_new(file)? {
            Ok(lock) => {
                let watch = LockWatch { path: path.to_owned(), identity: platform::identity(lock.file())? };
                if !watch.is_lost() {
                    return Ok(Ok((lock, watch)));
                }
                // It was removed between the opening and the locking.
                file = open()?;
                continue;
            }
            Err(held) => file = held,
        }
        thread::sleep(Duration::from_millis(30));
    }
    Ok(Err(file))
}

/// Writes our process id, when we started, since another process may have the same id one day, and what we do.
fn write_holder(mut file: &File, role: Role) -> io::Result<()> {
    let pid = std::process::id();
    let started = platform::start_time(pid).unwrap_or_default();
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "{pid} {started}\n{}\n", role.word())
}

/// Who holds the lock. The text may be a dead agent's, since the holder takes the lock first and writes then; that is
/// waited for, and `stop` must never be given the id of a process that is no agent.
fn read_holder(file: &mut File) -> Holder {
    for _ in 0..10 {
        if let Some(holder) = read_living_holder(file) {
            return holder;
        }
        thread::sleep(Duration::from_millis(30));
    }
    Holder { pid: None, role: Role::Agent }
}

fn read_living_holder(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(256).read_to_string(&mut text).ok()?;
    let mut lines = text.lines();
    let (pid, started) = lines.next()?.split_once(' ')?;
    // Half of what is just being written.
    let role = Role::of_word(lines.next().filter(|_| text.ends_with('\n'))?);
    let pid = pid.parse().ok()?;
    (platform::start_time(pid).unwrap_or_default() == started).then_some(Holder { pid: Some(pid), role })
}

/// The name of a data_dir on the engine, if an agent has ever run on it.
pub fn id_of(data_dir: &DataDir) -> Option<String> {
    let text = fs::read_to_string(data_dir.instance_id()).ok()?;
    is_instance_id(text.trim()).then(|| text.trim().to_owned())
}

fn instance_id(path: &Path) -> io::Result<String> {
    match fs::read_to_string(path) {
        Ok(text) if is_instance_id(text.trim()) => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let id = random_id();
    replace(path, format!("{id}\n").as_bytes(), Durability::PowerCut)?;
    Ok(id)
}

fn is_instance_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::{Holder, Instance, InstanceError, Role, holder};
    use crate::data_dir::DataDir;
    use crate::os::platform::FileLock;
    use std::fs::File;

    #[test]
    fn a_second_agent_gets_the_first_ones_pid_and_the_id_stays() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = DataDir::new(dir.path().join("data"));
        assert!(holder(&data_dir).unwrap().is_none());
        let first = Instance::take(&data_dir, Role::Agent).unwrap();
        let id = first.id().to_owned();
        let me = Holder { pid: Some(std::process::id()), role: Role::Agent };
        let second = Instance::take(&data_dir, Role::Agent);
        assert!(matches!(second, Err(InstanceError::Held(holder)) if holder == me));
        assert_eq!(holder(&data_dir).unwrap(), Some(me));
        drop(first);
        assert!(holder(&data_dir).unwrap().is_none());
        assert!(!data_dir.pid_file().exists());
        assert_eq!(Instance::take(&data_dir, Role::Agent).unwrap().id(), id);
    }

    #[test]
    fn an_abort_that_holds_the_data_dir_is_not_an_agent() {
        let dir = tempfile::tempdir().unwrap();
        let _abort = Instance::take(&DataDir::new(dir.path()), Role::Abort).unwrap();
        let there = holder(&DataDir::new(dir.path())).unwrap().unwrap();
        assert!(!there.is_agent());
        let said = format!("`agent-core stop --abort` (pid {}) is at work on this data_dir", std::process::id());
        assert_eq!(there.to_string(), said);
    }

    #[test]
    fn a_lock_is_lost_when_its_file_was_removed() {
        let dir = tempfile::tempdir().unwrap();
        let first = Instance::take(&DataDir::new(dir.path()), Role::Agent).unwrap();
        assert!(!first.watch().is_lost());
        std::fs::remove_file(dir.path().join("agent.lock")).unwrap();
        assert!(first.watch().is_lost());
        let second = Instance::take(&DataDir::new(dir.path()), Role::Agent).unwrap();
        drop(first);
        assert!(dir.path().join("agent.pid").exists(), "it is the second one's");
        assert!(!second.watch().is_lost());
    }

    #[test]
    fn a_shared_lock_is_not_reported_as_an_agent() {
        let dir = tempfile::tempdir().unwrap();
        drop(Instance::take(&DataDir::new(dir.path()), Role::Agent).unwrap());
        let open = || File::options().read(true).write(true).open(dir.path().join("agent.lock")).unwrap();
        let _looking = FileLock::try_shared(open()).unwrap().unwrap();
        assert_eq!(holder(&DataDir::new(dir.path())).unwrap(), None);
        assert!(FileLock::try_new(open()).unwrap().is_err());
    }
}
