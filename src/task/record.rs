//! The record of a task on disk: what was offered, how far it is, and how it ended.
//!
//! A record is replaced as a whole (temporary file, fsync, rename), so that whoever reads it after a crash meets the
//! state before or after a step and never a mixture. Whether a worker begins a task or goes on with one after a
//! restart, it reads the record and does what its phase says.

mod discards;
mod files;
mod key;
mod reserve;
mod store;

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::server::protocol::{FinalStatus, LeftOut, Task};

pub use discards::DiscardRequests;
pub use files::TaskFiles;
pub use key::TaskKey;
pub use store::{Loaded, Store};

/// How far a task is. Each phase names what has been done and is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The offer is written down, and `accept` may have been sent and may have taken effect.
    Accepting,
    /// The Server has given us the task.
    Accepted,
    /// The workspace is complete; the container may exist.
    Prepared,
    /// How the task ended is written down; the container isn't needed any more.
    Exited,
    /// Every result that can be delivered is on the Server.
    Uploaded,
    /// The Server knows the end.
    Settled,
}

impl Phase {
    /// The word in records, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepting => "accepting",
            Self::Accepted => "accepted",
            Self::Prepared => "prepared",
            Self::Exited => "exited",
            Self::Uploaded => "uploaded",
            Self::Settled => "settled",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a task is being stopped. Written down before the container is, so that a crash in between doesn't change
/// what the task's end is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StopReason {
    /// It ran longer than `executor.timeout_minutes`.
    Timeout {
        /// The limit at that time.
        minutes: u64,
    },
    /// It printed nothing for `executor.idle_timeout_minutes`.
    Idle {
        /// The limit at that time.
        minutes: u64,
    },
    /// The Server asked for it.
    Cancel,
    /// Somebody on this machine asked for it, with `stop --abort`.
    Operator,
}

/// A process that must be found again after a crash of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its id, which is its group's too.
    pub id: u32,
    /// When it started, in the system's words: tells it from a later process of the same id.
    pub started: Option<String>,
}

/// How a task ended, whether or not the Server knows it yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ending {
    /// What the Server is told.
    pub status: FinalStatus,
    /// The container's exit status, where there was one.
    pub exit_code: Option<i32>,
    /// Why it failed.
    pub error_message: Option<String>,
    /// Seconds between the container's start and its exit.
    pub duration_secs: f64,
    /// When it ended.
    pub at: Timestamp,
}

/// Everything about a task that must survive a crash.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The offer, whole.
    pub task: Task,
    /// The service for which the task was taken: after a re-registration its work is not sent to another.
    pub service_id: String,
    /// The Server from which it came.
    pub base_url: String,
    /// How far it is.
    pub phase: Phase,
    /// Since when.
    #[serde(default)]
    pub phase_since: Option<Timestamp>,
    /// When it was offered.
    pub offered_at: Timestamp,
    /// The client that may still be making or starting the container.
    #[serde(default)]
    pub client: Option<Process>,
    /// Whether a container that was made and never started is being removed, to be made again.
    #[serde(default)]
    pub replacing: bool,
    /// Why it is being stopped, if it is.
    #[serde(default)]
    pub stop: Option<StopReason>,
    /// How it ended, from [`Phase::Exited`] on.
    #[serde(default)]
    pub ending: Option<Ending>,
    /// Whether a report whose answer we never saw may have arrived.
    #[serde(default)]
    pub report_in_doubt: bool,
    /// Whether the ledger doesn't tell yet what became of a report.
    #[serde(default)]
    pub report_open: bool,
    /// Whether something is here that the task wrote for the Server and that the Server doesn't have: such a workspace
    /// isn't removed to make room.
    #[serde(default, rename = "kept_back")]
    pub has_undelivered: bool,
    /// That the operator has given its result up, and what came of telling the Server.
    #[serde(default)]
    pub discarded: Option<Discarded>,
    /// What only the engine could read of the results and was brought here, once that is done.
    #[serde(default)]
    pub fetched: Option<Vec<Fetched>>,
    /// Whether the container is known to be gone.
    #[serde(default)]
    pub container_removed: bool,
    /// When the Server knew, from [`Phase::Settled`] on.
    #[serde(default)]
    pub settled_at: Option<Timestamp>,
}

/// A result that the operator has given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discarded {
    /// Why the Server wasn't told, if it wasn't.
    #[serde(rename = "untold")]
    pub unreported: Option<String>,
}

/// A result that was fetched from the container, since our uid may not read it where it lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// The name on the Server.
    pub file: String,
    /// Its number, and its file name in [`TaskFiles::fetched_dir`].
    pub number: usize,
}

impl Record {
    /// A record of an offer that nobody has accepted yet.
    pub fn from_offer(task: Task, service_id: &str, base_url: &str) -> Self {
        Self {
            task,
            service_id: service_id.to_owned(),
            base_url: base_url.to_owned(),
            phase: Phase::Accepting,
            phase_since: Some(Timestamp::now()),
            offered_at: Timestamp::now(),
            client: None,
            replacing: false,
            stop: None,
            ending: None,
            report_in_doubt: false,
            report_open: false,
            has_undelivered: false,
            discarded: None,
            fetched: None,
            container_removed: false,
            settled_at: None,
        }
    }

    /// Notes how far it is now.
    pub fn set_phase(&mut self, phase: Phase) {
        if self.phase != phase {
            self.phase = phase;
            self.phase_since = Some(Timestamp::now());
        }
    }
}

/// A line of `uploads.jsonl`: what was sent, is being sent, or will not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum UploadEvent {
    /// The files that the Server had for this task before our first upload; none of them is ours.
    Before {
        /// Their ids.
        ids: Vec<String>,
    },
    /// An upload begins. Without a [`UploadEvent::Done`] after it, it may or may not have arrived; without anything
    /// after it, the ledger doesn't tell yet what became of it.
    Begin {
        /// The name on the Server.
        file: String,
        /// Bytes.
        size: u64,
        /// When.
        #[serde(default)]
        at: Option<Timestamp>,
    },
    /// The ledger tells of an attempt that may or may not have arrived.
    #[serde(rename = "told")]
    Reported {
        /// The name on the Server.
        file: String,
    },
    /// An attempt that didn't arrive although the Server could be reached.
    Failed {
        /// The name on the Server.
        file: String,
    },
    /// A file is on the Server.
    Done {
        /// The name on the Server.
        file: String,
        /// Bytes.
        size: u64,
        /// The Server's id of it.
        file_id: String,
    },
    /// A file stays here.
    LeftOut(LeftOut),
    /// So many more stay here and aren't named.
    Unnamed {
        /// How many.
        count: u64,
    },
}
