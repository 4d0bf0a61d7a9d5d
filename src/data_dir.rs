//! The data_dir: every name in it, the lock that one agent holds, and the rights of users on it.

mod copies;
pub mod holder;
pub mod instance;
pub mod last_used;
pub mod pause;
pub mod permissions;
mod prepared;

use std::fmt::Display;
use std::ops::Deref;
use std::path::{Path, PathBuf};

/// The lock that the running agent holds.
pub const LOCK: &str = "agent.lock";
/// The process id of the running agent.
pub const PID_FILE: &str = "agent.pid";
/// The log of a detached agent.
pub const AGENT_LOG: &str = "agent.log";
/// The random id by which the engine's containers name this data_dir.
pub const INSTANCE_ID: &str = "instance_id";
/// The request of `stop --drain`.
pub const DRAIN_REQUEST: &str = "drain";
/// What becomes [`DRAIN_REQUEST`] where the disk is full: the running agent has written its pid to it.
pub const DRAIN_READY: &str = "drain.ready";
/// Why and until when no new task is accepted; see [`pause`].
pub const PAUSE: &str = "paused";
/// The request of `reload`.
pub const RELOAD_REQUEST: &str = "reload";
const DISCARD_REQUESTS: &str = "discard";
const DISCARD_READY: &str = "discard.ready";
/// The state of the running agent, for `status`.
pub const STATUS_FILE: &str = "status.json";
/// The numbers for Prometheus.
pub const METRICS: &str = "metrics.prom";
const LEDGER: &str = "ledger.jsonl";
/// The lines of the ledger that wait for room on a full disk.
pub const LEDGER_RESERVE: &str = "ledger.jsonl.reserve";
const TASKS: &str = "tasks";
const WORKSPACES: &str = "workspaces";
const TRIALS: &str = "try";
const PROBE: &str = ".check-";
/// The beginnings of all names in a data_dir: numbers and `.tmp` may follow.
const NAMES: [&str; 15] = [
    LOCK,
    PID_FILE,
    AGENT_LOG,
    INSTANCE_ID,
    DRAIN_REQUEST,
    PAUSE,
    RELOAD_REQUEST,
    DISCARD_REQUESTS,
    STATUS_FILE,
    METRICS,
    LEDGER,
    TASKS,
    WORKSPACES,
    TRIALS,
    PROBE,
];

/// The folder of one agent (`paths.data_dir`), with a method for each path in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir(PathBuf);

impl DataDir {
    /// A data_dir at this path, whether or not it exists.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The lock that the running agent holds.
    pub fn lock(&self) -> PathBuf {
        self.join(LOCK)
    }

    /// The log of a detached agent.
    pub fn agent_log(&self) -> PathBuf {
        self.join(AGENT_LOG)
    }

    /// The random id by which the engine's containers name this data_dir.
    pub fn instance_id(&self) -> PathBuf {
        self.join(INSTANCE_ID)
    }

    /// The request of `stop --drain`.
    pub fn drain_request(&self) -> PathBuf {
        self.join(DRAIN_REQUEST)
    }

    /// Why and until when no new task is accepted.
    pub fn pause(&self) -> PathBuf {
        self.join(PAUSE)
    }

    /// The request of `reload`.
    pub fn reload_request(&self) -> PathBuf {
        self.join(RELOAD_REQUEST)
    }

    /// The folder of the requests of `discard`.
    pub fn discard_requests(&self) -> PathBuf {
        self.join(DISCARD_REQUESTS)
    }

    /// What becomes a request of `discard` where the disk is full.
    pub fn ready_discard_request(&self) -> PathBuf {
        self.join(DISCARD_READY)
    }

    /// The state of the running agent, for `status`.
    pub fn status_file(&self) -> PathBuf {
        self.join(STATUS_FILE)
    }

    /// A file of the ledger: 0 is the one that is being written, and higher numbers are older.
    pub fn ledger(&self, number: u32) -> PathBuf {
        self.join(ledger_name(number))
    }

    /// The lines of the ledger that wait for room on a full disk.
    pub fn ledger_reserve(&self) -> PathBuf {
        self.join(LEDGER_RESERVE)
    }

    /// The folder of records and logs, with one folder a task.
    pub fn tasks(&self) -> PathBuf {
        self.join(TASKS)
    }

    /// The folder of workspaces, with one folder a task.
    pub fn workspaces(&self) -> PathBuf {
        self.join(WORKSPACES)
    }

    /// The folder of trials (`try`).
    pub fn trials(&self) -> PathBuf {
        self.join(TRIALS)
    }

    /// The name of a file or folder that `check` makes and removes.
    pub fn probe_name(suffix: impl Display) -> String {
        format!("{PROBE}{suffix}")
    }

    /// Whether `check` made a file or folder of this name.
    pub fn is_probe_name(name: &str) -> bool {
        name.starts_with(PROBE)
    }

    /// Whether the name is one of those in a data_dir.
    fn is_own_name(name: &str) -> bool {
        NAMES.iter().any(|own| name.starts_with(own))
    }
}

/// The name of a file of the ledger.
pub fn ledger_name(number: u32) -> String {
    if number == 0 { LEDGER.to_owned() } else { format!("{LEDGER}.{number}") }
}

impl Deref for DataDir {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl AsRef<Path> for DataDir {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

#[cfg(test)]
mod properties;
