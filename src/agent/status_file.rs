//! The state of the running agent, for `status` and for the next start: `{data_dir}/status.json`.
//!
//! The file is replaced whenever something in it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::data_dir::{DataDir, STATUS_FILE};
use crate::os::files::{self, is_full};
use crate::os::folder::Folder;

/// The pause before a file that can't be read is read again.
const PAUSE: Duration = Duration::from_millis(30);

/// The contents of `status.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The agent's process id, by which `status` tells this state from that of an earlier agent.
    #[serde(default)]
    pub pid: u32,
    /// When this agent was started.
    pub started_at: Timestamp,
    /// Its version; empty in files of older ones.
    #[serde(default)]
    pub version: String,
    /// The program that it runs.
    #[serde(default)]
    pub program: Option<Program>,
    /// When the Server last acknowledged a heartbeat: after a long gap, over restarts too, it may have requeued this agent's
    /// tasks (PROTOCOL 3).
    pub last_heartbeat_at: Option<Timestamp>,
    /// Whether a heartbeat of this agent was answered, or failed.
    #[serde(default)]
    pub server_tried: bool,
    /// Why heartbeats fail, while they do.
    #[serde(default)]
    pub server_trouble: Option<ServerTrouble>,
    /// The last reason for which heartbeats failed, also when they succeed again.
    #[serde(default)]
    pub last_error: Option<LastError>,
    /// Whether the Docker engine answers.
    #[serde(default)]
    pub engine: EngineState,
    /// Why no new task is accepted, while none is, or none with input files.
    #[serde(default)]
    pub not_accepting: Option<String>,
    /// How many slots are taken, as the Server is told; see [`super::task_table::TaskTable::slots_taken`].
    #[serde(default)]
    pub slots_taken: Option<usize>,
    /// What came of the last request to read the configuration file again.
    #[serde(default)]
    pub last_reload: Option<Reload>,
    /// The deferred tasks by their keys, and why.
    #[serde(default)]
    #[serde(rename = "put_off")]
    pub deferred: BTreeMap<String, String>,
    /// The tasks that wait for a worker, by their keys.
    #[serde(default)]
    pub without_worker: BTreeSet<String>,
}

/// What came of a request to read the configuration file again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    /// The request's; empty where a signal asked for it.
    pub id: String,
    /// When the file was read.
    pub at: Timestamp,
    /// Why it can't be used, if it can't: then the earlier one counts.
    pub error: Option<String>,
    /// What has changed, for a person.
    pub lines: Vec<String>,
}

/// A program on the disk, as it was when the agent was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    pub path: PathBuf,
    pub modified: Timestamp,
}

impl Program {
    /// The program of this process; `None` where the system doesn't say.
    pub fn of_process() -> Option<Self> {
        let path = std::env::current_exe().ok()?;
        let modified = modified(&path)?;
        Some(Self { path, modified })
    }

    /// Whether there is another one at its place now.
    pub fn is_replaced(&self) -> bool {
        modified(&self.path).is_some_and(|modified| modified != self.modified)
    }
}

fn modified(path: &Path) -> Option<Timestamp> {
    Timestamp::try_from(fs::metadata(path).ok()?.modified().ok()?).ok()
}

/// Why heartbeats fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerTrouble {
    /// Whether a person has to register the agent again.
    pub unauthorized: bool,
    /// What went wrong, and what to do about it.
    pub message: String,
}

/// A failure that may be over.
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
    /// It hasn't been asked yet.
    #[default]
    Unknown,
    /// It does.
    Ready,
    /// It doesn't.
    Away,
}

impl State {
    /// What the last agent wrote, or `None` if that can't be read: no decision depends on it for correctness.
    pub fn load(data_dir: &DataDir) -> Option<Self> {
        let read = || serde_json::from_slice(&files::read(&data_dir.status_file()).ok()?).ok();
        // On a full disk the file is written in place, and may be read in the middle of that.
        read().or_else(|| {
            thread::sleep(PAUSE);
            read()
        })
    }

    /// Replaces the file in an agent's data_dir.
    pub fn save(&self, folder: &Folder) -> io::Result<()> {
        match folder.replace_text(STATUS_FILE, &serde_json::to_vec_pretty(self)?) {
            // What doesn't fit in the room that the file has is the longest part.
            Err(error) if is_full(&error) => {
                let shorter = Self { deferred: BTreeMap::new(), without_worker: BTreeSet::new(), ..self.clone() };
                folder.replace_text(STATUS_FILE, &serde_json::to_vec_pretty(&shorter)?)
            }
            saved => saved,
        }
    }
}
