//! What the running agent leaves for others to read, and for its own next start: `{data_dir}/status.json`.
//!
//! It is replaced whenever something in it changes. `status` shows it while the agent runs.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::data_dir::DataDir;
use crate::os::files::{Durability, replace};

/// The contents of `status.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The agent's process id: tells its words from those of an earlier one.
    #[serde(default)]
    pub pid: u32,
    /// When this agent was started.
    pub started_at: Timestamp,
    /// When the Server last acknowledged a heartbeat: after a long gap it may have given our tasks to others
    /// (PROTOCOL 3), over restarts too.
    pub last_heartbeat_at: Option<Timestamp>,
    /// Whether this agent has had a heartbeat's answer, or knows that there is none.
    #[serde(default)]
    pub server_tried: bool,
    /// What is wrong between the Server and us, while something is.
    #[serde(default)]
    pub server_trouble: Option<ServerTrouble>,
    /// What was wrong last between the Server and this agent, also when it isn't any more.
    #[serde(default)]
    pub last_error: Option<LastError>,
    /// Whether the Docker engine answers.
    #[serde(default)]
    pub engine: EngineState,
    /// Why no new task is accepted, while none is.
    #[serde(default)]
    pub not_accepting: Option<String>,
    /// By their keys, the tasks that were put off, and why.
    #[serde(default)]
    #[serde(rename = "put_off")]
    pub deferred: BTreeMap<String, String>,
}

/// Why the Server doesn't take our heartbeats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerTrouble {
    /// Whether a person has to register the agent again: nothing else helps.
    pub unauthorized: bool,
    /// What went wrong, and what to do about it.
    pub message: String,
}

/// A trouble that may be over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    /// When it began.
    pub at: Timestamp,
    /// What went wrong.
    pub message: String,
}

/// Whether the Docker engine answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineState {
    /// Nobody has asked yet.
    #[default]
    Unknown,
    /// It does.
    Ready,
    /// It doesn't.
    Away,
}

/// The file.
#[derive(Debug, Clone)]
pub struct StatusFile {
    path: PathBuf,
}

impl StatusFile {
    /// The file of a data_dir.
    pub fn new(data_dir: &DataDir) -> Self {
        Self { path: data_dir.status_file() }
    }

    /// What the last agent wrote, or `None` if that can't be read: it is information, nothing depends on it for
    /// correctness.
    pub fn load(&self) -> Option<State> {
        serde_json::from_slice(&fs::read(&self.path).ok()?).ok()
    }

    /// Replaces the file.
    pub fn save(&self, state: &State) -> io::Result<()> {
        replace(&self.path, &serde_json::to_vec_pretty(state)?, Durability::Crash)
    }
}
