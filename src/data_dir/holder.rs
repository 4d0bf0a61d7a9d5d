//! Which process holds the lock of a data_dir: the text in `agent.lock`.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::thread;
use std::time::Duration;

use crate::data_dir::DataDir;
use crate::os::files::{if_exists, open_existing, open_to_read};
use crate::os::platform::{self, FileLock};

/// How often a text that is being written is read again, and the pause before that.
const TRIES: u32 = 10;
/// How long the text is at least, in bytes.
const LENGTH: usize = 128;
pub(super) const PAUSE: Duration = Duration::from_millis(30);

/// What a process does with the data_dir whose lock it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The agent.
    Agent,
    /// `stop --abort`.
    Abort,
    /// `discard`.
    Discard,
    /// `unregister`.
    Unregister,
}

impl Role {
    const COMMANDS: [(Self, &'static str); 3] =
        [(Self::Abort, "stop --abort"), (Self::Discard, "discard"), (Self::Unregister, "unregister")];

    /// The word in `agent.lock`, behind the pid.
    fn as_str(self) -> &'static str {
        Self::COMMANDS.iter().find(|(role, _)| *role == self).map_or("run", |(_, word)| word)
    }

    fn from_word(word: &str) -> Self {
        Self::COMMANDS.iter().find(|(_, other)| *other == word).map_or(Self::Agent, |(role, _)| *role)
    }
}

/// The process that holds the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Its process id, if the text could be read.
    pub pid: Option<u32>,
    /// What it does.
    pub role: Role,
}

impl Holder {
    /// Whether it is the agent, and not a command that holds the lock for a short time.
    pub fn is_agent(self) -> bool {
        self.role == Role::Agent
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.role, self.pid) {
            (Role::Agent, Some(pid)) => write!(f, "an agent with pid {pid} is running on this data_dir already"),
            (Role::Agent, None) => write!(f, "an agent is running on this data_dir already"),
            (role, pid) => {
                write!(f, "`agent-core {}`", role.as_str())?;
                if let Some(pid) = pid {
                    write!(f, " (pid {pid})")?;
                }
                write!(f, " is at work on this data_dir")
            }
        }
    }
}

/// The process that holds the lock of a data_dir, if there is one.
pub fn find_holder(data_dir: &DataDir) -> io::Result<Option<Holder>> {
    let opened = match open_existing(&data_dir.lock()) {
        // A lock that is only looked at needs no right to write.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => open_to_read(&data_dir.lock()),
        opened => opened,
    };
    let Some(file) = if_exists(opened)? else { return Ok(None) };
    // A shared lock, so that two processes that check at the same time don't find each other.
    let mut held = match FileLock::try_shared(file)? {
        Ok(_free) => return Ok(None),
        Err(held) => held,
    };
    let holder = read_holder(&mut held);
    if holder.pid.is_some() {
        return Ok(Some(holder));
    }
    // A child that a killed agent was starting holds the lock until it executes its own program.
    Ok(FileLock::try_shared(held)?.err().map(|_| holder))
}

/// Writes the id and the role of this process, and its start time, since a later process may have the same id.
pub(super) fn write_holder(mut file: &File, role: Role) -> io::Result<()> {
    let pid = std::process::id();
    let started = platform::start_time(pid).unwrap_or_default();
    let mut text = format!("{pid} {started}\n{}\n", role.as_str()).into_bytes();
    // Over the earlier text, in one write and never shorter: on a full disk there is no new room for it.
    text.resize(text.len().max(LENGTH), b'\n');
    file.rewind()?;
    file.write_all(&text)
}

/// Reads the holder of the lock. A process takes the lock first and then writes, so the text may be that of an earlier
/// process: then it is read again, since `stop` must never signal a process that is no agent.
pub(super) fn read_holder(file: &mut File) -> Holder {
    for _ in 0..TRIES {
        if let Some(holder) = read_living_holder(file) {
            return holder;
        }
        thread::sleep(PAUSE);
    }
    Holder { pid: None, role: Role::Agent }
}

pub(super) fn read_living_holder(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(256).read_to_string(&mut text).ok()?;
    let mut lines = text.lines();
    let (pid, started) = lines.next()?.split_once(' ')?;
    // Without a line's end it is a partial write.
    let role = Role::from_word(lines.next().filter(|_| text.ends_with('\n'))?);
    let pid = pid.parse().ok()?;
    // A system may tell no start times.
    let is_same = platform::is_started_at(pid, started) || started.is_empty() && platform::start_time(pid).is_none();
    is_same.then_some(Holder { pid: Some(pid), role })
}
