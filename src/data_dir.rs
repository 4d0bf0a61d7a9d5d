//! The data_dir: every name in it, the lock that one agent holds, and the users that may read it.

pub mod instance;
pub mod permissions;

use std::ops::Deref;
use std::path::{Path, PathBuf};

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
        self.join("agent.lock")
    }

    /// The process id of the running agent.
    pub fn pid_file(&self) -> PathBuf {
        self.join("agent.pid")
    }

    /// The log of a detached agent.
    pub fn agent_log(&self) -> PathBuf {
        self.join("agent.log")
    }

    /// The random id by which the engine's containers name this data_dir.
    pub fn instance_id(&self) -> PathBuf {
        self.join("instance_id")
    }

    /// The request of `stop --drain`.
    pub fn drain_request(&self) -> PathBuf {
        self.join("drain")
    }

    /// The folder of the requests of `discard`.
    pub fn discard_requests(&self) -> PathBuf {
        self.join("discard")
    }

    /// The state of the running agent, for `status`.
    pub fn status_file(&self) -> PathBuf {
        self.join("status.json")
    }

    /// The numbers for Prometheus.
    pub fn metrics(&self) -> PathBuf {
        self.join("metrics.prom")
    }

    /// A file of the ledger: 0 is the one that is being written, and higher numbers are older.
    pub fn ledger(&self, number: u32) -> PathBuf {
        self.join(if number == 0 { "ledger.jsonl".to_owned() } else { format!("ledger.jsonl.{number}") })
    }

    /// The folder of records and logs, with one folder a task.
    pub fn tasks(&self) -> PathBuf {
        self.join("tasks")
    }

    /// The folder of workspaces, with one folder a task.
    pub fn workspaces(&self) -> PathBuf {
        self.join("workspaces")
    }

    /// The folder of trials (`try`).
    pub fn trials(&self) -> PathBuf {
        self.join("try")
    }
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
