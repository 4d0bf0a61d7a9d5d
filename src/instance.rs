//! One agent on one data_dir: the lock that says so, and the names under which others find the running one.
//!
//! The lock on `agent.lock` is the truth: the system lets it go however the process ends. The pidfile beside it is for
//! people and for `stop`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::platform::{self, FileLock};
use crate::retry::random_u64;
use crate::rights;

/// The data_dir is ours for as long as this lives.
pub struct Instance {
    _lock: FileLock,
    pid_file: PathBuf,
    drain_file: PathBuf,
    id: String,
}

/// Why the data_dir isn't ours.
#[derive(Debug)]
pub enum InstanceError {
    /// Another agent runs on it; its process id, where it has written that.
    Running(Option<u32>),
    /// Other users can get at the folder, and we may not change that; what to do.
    Open(String),
    /// The folder or its files can't be used.
    Io(PathBuf, io::Error),
}

impl std::fmt::Display for InstanceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Running(Some(pid)) => write!(f, "an agent with pid {pid} is running on this data_dir already"),
            Self::Running(None) => write!(f, "an agent is running on this data_dir already"),
            Self::Open(why) => f.write_str(why),
            Self::Io(path, error) => write!(f, "`{}` can't be used: {error}", path.display()),
        }
    }
}

impl std::error::Error for InstanceError {}

impl Instance {
    /// Makes the data_dir if need be, private to its owner, and takes its lock.
    pub fn take(data_dir: &Path) -> Result<Self, InstanceError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| InstanceError::Io(path, error)
        };
        if data_dir.exists() {
            rights::close(data_dir, "the data_dir").map_err(InstanceError::Open)?;
        } else {
            fs::create_dir_all(data_dir).map_err(at(data_dir))?;
            platform::hide_dir(data_dir).map_err(at(data_dir))?;
        }
        let lock_path = data_dir.join("agent.lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(at(&lock_path))?;
        let lock =
            lock_soon(file).map_err(at(&lock_path))?.map_err(|mut held| InstanceError::Running(read_pid(&mut held)))?;
        let pid_file = data_dir.join("agent.pid");
        match fs::remove_file(drain_file(data_dir)) {
            // What an earlier agent was asked for; it names that one's pid, which ours may be again.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&drain_file(data_dir))(error)),
            _ => {}
        }
        let noted = write_pid(lock.file()).and_then(|()| fs::write(&pid_file, format!("{}\n", std::process::id())));
        if let Err(error) = noted {
            // On a full disk there may be results to deliver all the same.
            log::warn!("the pid can't be written down, so `stop` and `status` may not find this agent: {error}");
        }
        let id = instance_id(&data_dir.join("instance_id")).map_err(at(data_dir))?;
        Ok(Self { _lock: lock, pid_file, drain_file: drain_file(data_dir), id })
    }

    /// A random name of this data_dir that stays the same: containers carry it, so that agents on one engine leave
    /// each other's alone.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // A pidfile that stays behind is only a stale note: the lock is the truth.
        let _ = fs::remove_file(&self.pid_file);
        // So is this one: the next agent removes it.
        let _ = fs::remove_file(&self.drain_file);
    }
}

/// The agent that runs on a data_dir, if one does: its process id, as far as it could be read.
pub fn running(data_dir: &Path) -> io::Result<Option<Option<u32>>> {
    let file = match OpenOptions::new().read(true).write(true).open(data_dir.join("agent.lock")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // Shared, so that two who look at the same moment don't take each other for the agent.
    let mut held = match FileLock::try_shared(file)? {
        Ok(_free) => return Ok(None),
        Err(held) => held,
    };
    let pid = read_pid(&mut held);
    if pid.is_some() {
        return Ok(Some(pid));
    }
    // A child that a killed agent was just starting holds the lock until it has become another program.
    Ok(FileLock::try_shared(held)?.err().map(|_| None))
}

/// Asks the agent with this pid to accept nothing new and to end when all that is here is delivered. A later one is not
/// meant.
pub fn ask_for_drain(data_dir: &Path, pid: u32) -> io::Result<()> {
    let path = drain_file(data_dir);
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, format!("{pid}\n"))?;
    fs::rename(&temporary, &path)
}

/// Whether this process was asked to.
pub fn is_drain_wanted(data_dir: &Path) -> bool {
    // What isn't there or can't be read asks for nothing.
    fs::read_to_string(drain_file(data_dir)).is_ok_and(|text| text.trim().parse() == Ok(std::process::id()))
}

fn drain_file(data_dir: &Path) -> PathBuf {
    data_dir.join("drain")
}

/// Removes the pidfile of an agent that can't do it itself any more. To be called when no agent runs.
pub fn remove_stale_pid_file(data_dir: &Path) -> io::Result<()> {
    match fs::remove_file(data_dir.join("agent.pid")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// `status` holds the lock for a moment when it looks whether anybody else does; that is waited out.
fn lock_soon(mut file: File) -> io::Result<Result<FileLock, File>> {
    for _ in 0..10 {
        match FileLock::try_new(file)? {
            Ok(lock) => return Ok(Ok(lock)),
            Err(held) => file = held,
        }
        thread::sleep(Duration::from_millis(30));
    }
    Ok(Err(file))
}

/// Writes our process id, and when we started: another process may have the same id one day.
fn write_pid(mut file: &File) -> io::Result<()> {
    let pid = std::process::id();
    let started = platform::start_time(pid).unwrap_or_default();
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{pid} {started}")
}

/// Who holds the lock. The text may be a dead agent's, since the holder takes the lock first and writes then; that is
/// waited for, and `stop` must never be given the id of a process that is no agent.
fn read_pid(file: &mut File) -> Option<u32> {
    for _ in 0..10 {
        let pid = read_living_pid(file);
        if pid.is_some() {
            return pid;
        }
        thread::sleep(Duration::from_millis(30));
    }
    None
}

fn read_living_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(256).read_to_string(&mut text).ok()?;
    let (pid, started) = text.trim_end_matches('\n').split_once(' ')?;
    let pid = pid.parse().ok()?;
    (platform::start_time(pid).unwrap_or_default() == started).then_some(pid)
}

/// The name of a data_dir on the engine, if an agent has ever run on it.
pub fn id_of(data_dir: &Path) -> Option<String> {
    let text = fs::read_to_string(data_dir.join("instance_id")).ok()?;
    is_instance_id(text.trim()).then(|| text.trim().to_owned())
}

fn instance_id(path: &Path) -> io::Result<String> {
    match fs::read_to_string(path) {
        Ok(text) if is_instance_id(text.trim()) => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let id = format!("{:016x}{:016x}", random_u64(), random_u64());
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    writeln!(file, "{id}")?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    Ok(id)
}

fn is_instance_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::{Instance, InstanceError, running};
    use crate::platform::FileLock;
    use std::fs::File;

    #[test]
    fn a_second_agent_is_told_the_first_ones_pid_and_the_id_stays() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("data");
        assert!(running(&data_dir).unwrap().is_none());
        let first = Instance::take(&data_dir).unwrap();
        let id = first.id().to_owned();
        let me = Some(std::process::id());
        assert!(matches!(Instance::take(&data_dir), Err(InstanceError::Running(pid)) if pid == me));
        assert_eq!(running(&data_dir).unwrap(), Some(me));
        drop(first);
        assert!(running(&data_dir).unwrap().is_none());
        assert!(!data_dir.join("agent.pid").exists());
        assert_eq!(Instance::take(&data_dir).unwrap().id(), id);
    }

    #[test]
    fn those_who_look_are_no_agents() {
        let dir = tempfile::tempdir().unwrap();
        drop(Instance::take(dir.path()).unwrap());
        let open = || File::options().read(true).write(true).open(dir.path().join("agent.lock")).unwrap();
        let _looking = FileLock::try_shared(open()).unwrap().unwrap();
        assert_eq!(running(dir.path()).unwrap(), None);
        assert!(FileLock::try_new(open()).unwrap().is_err());
    }
}
