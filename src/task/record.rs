//! The record of a task on disk: its offer, its phase, and its ending.
//!
//! A record is replaced as a whole (temporary file, fsync, rename), so that after a crash it holds the state before or
//! after a step and never a mixture. A worker reads the record and does what its phase says, for a new task and after a
//! restart.

mod digest;
mod discards;
mod fetched;
mod files;
mod identity;
mod key;
mod known_ids;
mod offered;
mod packed;
mod phase;
mod phase_times;
mod report_state;
mod reserve;
mod start_state;
mod stop_reason;
mod store;
mod uploads_file;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::server::protocol::{FinalStatus, LeftOut, Task};
use crate::task::outputs::CopiedFile;

pub use discards::DiscardRequests;
pub use files::TaskFiles;
pub use identity::OfferDigest;
pub use key::TaskKey;
pub use known_ids::KnownIds;
pub use offered::Offered;
pub use packed::{Member, Packed};
pub use phase::Phase;
pub use phase_times::PhaseTimes;
pub use report_state::ReportState;
pub use start_state::StartState;
pub use stop_reason::StopReason;
pub use store::{Loaded, Store};

/// A process that must be found again after a crash of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its id, which is its group's too.
    pub id: u32,
    /// When it started, as the system writes it: a later process of the same id started at another time.
    pub started: Option<String>,
    /// When the agent that had started it ended, and left its container running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_at: Option<Timestamp>,
}

/// How a task ended. It stays the same until the Server knows it, unless the task is cancelled or discarded meanwhile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ending {
    pub status: FinalStatus,
    /// The container's exit status, if it ran to its end.
    pub exit_code: Option<i32>,
    pub error_message: Option<String>,
    /// Seconds between the container's start and its exit.
    pub duration_secs: f64,
    pub at: Timestamp,
}

/// Everything about a task that must survive a crash.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Record {
    /// The whole offer, until the workspace is complete; then its id, and `offer.json` has the rest.
    pub task: Task,
    /// The service that the task is of: after a new registration its result isn't sent to another service.
    pub service_id: String,
    /// The address of the Server that offered it.
    pub base_url: String,
    pub phase: Phase,
    #[serde(flatten)]
    pub times: PhaseTimes,
    #[serde(flatten)]
    pub offered: Offered,
    /// The docker client that may still be creating or starting the container.
    pub client: Option<Process>,
    #[serde(flatten)]
    pub start: StartState,
    pub stop: Option<StopReason>,
    /// Set from [`Phase::Exited`] on; before that only where the offer can't be done, with the reason.
    pub ending: Option<Ending>,
    #[serde(flatten)]
    pub report: ReportState,
    /// Whether the task wrote a result that the Server doesn't have: such a workspace isn't removed to make room.
    #[serde(default, rename = "kept_back")]
    pub has_undelivered: bool,
    pub discarded: Option<Discarded>,
    /// The copied results of an older version; [`TaskFiles::load_fetched`] has those of this one.
    pub fetched: Option<Vec<CopiedFile>>,
    /// Whether the engine is known to have the container no longer.
    #[serde(default)]
    pub container_removed: bool,
    /// Set from the first [`Phase::Settled`] on, also while the task is reported again.
    pub settled_at: Option<Timestamp>,
}

/// A result that isn't delivered: the operator has discarded it, or the task's id was another task's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Discarded {
    /// Why the Server didn't take the report, if it didn't.
    #[serde(rename = "untold")]
    pub unreported: Option<String>,
    /// Where the task stood, if it goes on when the Server gives the id back to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Before>,
}

/// Where a task stood when it was given up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Before {
    pub phase: Phase,
    pub ending: Option<Ending>,
}

impl Record {
    /// The record of an offer before it is accepted.
    pub fn from_offer(task: Task, service_id: &str, base_url: &str) -> Self {
        Self {
            task,
            service_id: service_id.to_owned(),
            base_url: base_url.to_owned(),
            times: PhaseTimes::of(Phase::Accepting),
            offered: Offered::now(),
            ..Self::default()
        }
    }

    /// The record of an offer that can't be done, for this reason: it is accepted all the same, and reported as failed.
    pub fn from_unusable(id: String, why: String, service_id: &str, base_url: &str) -> Self {
        let ending = Ending {
            status: FinalStatus::Failed,
            exit_code: None,
            error_message: Some(why),
            duration_secs: 0.0,
            at: Timestamp::now(),
        };
        let task = Task { id, ..Task::default() };
        Self { ending: Some(ending), ..Self::from_offer(task, service_id, base_url) }
    }

    /// Goes back to where the task stood when it was given up, and returns that phase, if it was given up since its id was
    /// another task's.
    pub fn take_back(&mut self) -> Option<Phase> {
        let before = self.discarded.as_mut()?.before.take()?;
        self.discarded = None;
        self.ending = before.ending;
        Some(before.phase)
    }

    /// Whether the task was given up before anything of it had run.
    pub fn was_never_begun(&self) -> bool {
        let before = self.discarded.as_ref().and_then(|discarded| discarded.before.as_ref());
        before.is_some_and(|before| before.phase < Phase::Prepared)
    }

    pub fn set_phase(&mut self, phase: Phase) {
        if self.phase != phase {
            self.phase = phase;
            self.times.begin(phase);
        }
        if phase >= Phase::Prepared {
            // `task.json` has the texts, or no container will. They may be megabytes, in memory and in each write of the
            // record.
            self.task = Task { id: std::mem::take(&mut self.task.id), ..Task::default() };
        }
    }
}

/// A line of `uploads.jsonl`: a file that was sent, is being sent, or isn't sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum UploadEvent {
    /// The ids of the files that the Server had for this task before the first upload.
    Before(KnownIds),
    /// An upload begins. Without a [`UploadEvent::Done`] after this line, the file may or may not have arrived; without
    /// any other line about the file after it, the ledger lacks this upload.
    Begin {
        /// The name on the Server.
        file: String,
        size: u64,
        at: Option<Timestamp>,
        /// The number of the attempt, where the lines of earlier ones were removed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        attempt: Option<u64>,
    },
    /// The ledger has an upload that may or may not have arrived.
    #[serde(rename = "told")]
    Logged { file: String },
    /// An upload didn't arrive although the Server could be reached.
    Failed { file: String },
    /// A file is on the Server, with this id.
    Done { file: String, size: u64, file_id: String },
    /// A file isn't sent.
    LeftOut(LeftOut),
    /// This many more files aren't sent.
    Unnamed { count: u64 },
    /// An archive is complete, and is going to be sent by its name.
    Packed(Packed),
}

#[cfg(test)]
mod tests {
    use super::{Record, ReportState};
    use crate::server::protocol::Task;
    use serde_json::{Value, json};

    /// A record of agent-core 0.1.0, in the middle of a report.
    fn old_record() -> Value {
        json!({
            "task": {"id": "t", "task_prompt": "do", "input_files": [{"id": "f", "filename": "a", "size_bytes": 3}]},
            "service_id": "svc", "base_url": "http://h", "phase": "uploaded",
            "phase_since": "2026-11-01T08:00:00Z", "offered_at": "2026-11-01T07:00:00Z",
            "client": {"id": 17, "started": "123"}, "replacing": true, "stop": {"timeout": {"minutes": 3}},
            "ending": {"status": "failed", "exit_code": 3, "error_message": "no", "duration_secs": 1.5,
                       "at": "2026-11-01T08:00:00Z"},
            "report_in_doubt": true, "report_open": true, "kept_back": true, "discarded": {"untold": "why"},
            "fetched": [{"file": "output/a", "number": 0}], "container_removed": true,
            "settled_at": "2026-11-01T09:00:00Z"
        })
    }

    #[test]
    fn a_record_of_an_older_version_is_read_and_written_unchanged() {
        let record: Record = serde_json::from_value(old_record()).unwrap();
        assert_eq!(record.report, ReportState::Sending);
        assert!(record.has_undelivered && record.discarded.as_ref().unwrap().unreported.is_some());
        assert_eq!(serde_json::to_value(&record).unwrap(), old_record());
    }

    #[test]
    fn the_flags_of_older_versions_are_the_state_of_the_report() {
        for (in_doubt, open, state) in [
            (false, false, ReportState::NotSent),
            (true, true, ReportState::Sending),
            (true, false, ReportState::MaybeArrived),
        ] {
            let mut old = old_record();
            (old["report_in_doubt"], old["report_open"]) = (json!(in_doubt), json!(open));
            let record: Record = serde_json::from_value(old.clone()).unwrap();
            assert_eq!(record.report, state);
            assert_eq!(serde_json::to_value(&record).unwrap(), old);
        }
        // The oldest records have neither flag.
        let mut oldest = serde_json::to_value(Record::from_offer(Task::default(), "s", "u")).unwrap();
        let fields = oldest.as_object_mut().unwrap();
        fields.retain(|name, _| ["task", "service_id", "base_url", "phase", "offered_at"].contains(&name.as_str()));
        assert_eq!(serde_json::from_value::<Record>(oldest).unwrap().report, ReportState::NotSent);
    }

    #[test]
    fn a_logged_report_may_have_arrived() {
        let mut report = ReportState::Sending;
        report.note_logged();
        assert_eq!(report, ReportState::MaybeArrived);
        report = ReportState::NotSent;
        report.note_logged();
        assert_eq!(report, ReportState::NotSent);
    }
}
