//! What is told of tasks to people and machines: the lines of `status` and `tasks`, and what is left to be done.

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;

use crate::agent::status_file::State;
use crate::data_dir::DataDir;
use crate::server::protocol::FinalStatus;
use crate::task::record::{Phase, Record, Store, TaskFiles, TaskKey, UploadEvent};
use crate::task::workspace::Workspace;

/// A task, as `--json` prints it (manual/operate.md, "Single tasks").
#[derive(Debug, Clone, Serialize)]
pub struct TaskView {
    /// The Server's id.
    pub id: String,
    /// The service that it was taken for.
    pub service_id: String,
    /// How far it is: `accepting`, `accepted`, `prepared`, `exited`, `uploaded` or `settled`.
    pub phase: String,
    /// Since when it has been that far; `None` in records of older versions.
    pub since: Option<Timestamp>,
    /// When the Server offered it.
    pub offered_at: Timestamp,
    /// How it ended, once it has: `completed`, `failed` or `cancelled`.
    pub outcome: Option<&'static str>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The container's exit status.
    pub exit_code: Option<i32>,
    /// Why it failed.
    pub error_message: Option<String>,
    /// Its container, while there may be one.
    pub container: Option<String>,
    /// Where its files are, while they are there.
    pub workspace: Option<PathBuf>,
    /// How many files have been sent.
    pub files_sent: u64,
    /// How many stay here.
    pub files_left_out: u64,
    /// Why it doesn't get on, as far as the running agent has said.
    pub held_up_by: Option<String>,
    /// The phase, to compare.
    #[serde(skip)]
    pub order: Phase,
}

impl TaskView {
    fn new(data_dir: &DataDir, files: &TaskFiles, record: Record) -> Self {
        let (mut files_sent, mut files_left_out) = (0, 0);
        // What can't be read is said by the agent that needs it.
        for event in files.read_uploads().unwrap_or_default() {
            match event {
                UploadEvent::Done { .. } => files_sent += 1,
                UploadEvent::LeftOut(_) => files_left_out += 1,
                UploadEvent::Unnamed { count } => files_left_out += count,
                _ => {}
            }
        }
        let workspace = Workspace::new(data_dir, files.key()).dir().to_owned();
        let has_container =
            record.phase >= Phase::Prepared && record.phase < Phase::Settled && !record.container_removed;
        let ending = record.ending;
        Self {
            id: record.task.id,
            service_id: record.service_id,
            phase: record.phase.to_string(),
            since: record.phase_since.or(if record.phase == Phase::Settled { record.settled_at } else { None }),
            offered_at: record.offered_at,
            outcome: ending.as_ref().map(|ending| ending.status.as_str()),
            ended_at: ending.as_ref().map(|ending| ending.at),
            exit_code: ending.as_ref().and_then(|ending| ending.exit_code),
            error_message: ending.and_then(|ending| ending.error_message),
            container: has_container.then(|| files.key().container_name()),
            workspace: workspace.exists().then_some(workspace),
            files_sent,
            files_left_out,
            held_up_by: None,
            order: record.phase,
        }
    }

    /// Whether there is a result that the Server doesn't have.
    pub fn is_undelivered(&self) -> bool {
        (Phase::Exited..Phase::Settled).contains(&self.order)
    }

    /// How far it is, in words.
    pub fn describe(&self, agent: AgentState) -> &'static str {
        match (self.order, agent) {
            (Phase::Accepting, _) => "being accepted",
            (Phase::Accepted, AgentState::Running) => "fetching its input",
            (Phase::Accepted, AgentState::Away) => "not begun",
            (Phase::Prepared, AgentState::Running) => "running",
            (Phase::Prepared, AgentState::Away) => "in its container",
            (Phase::Exited, AgentState::Running) => "sending its results",
            (Phase::Exited, AgentState::Away) => "results not sent",
            (Phase::Uploaded, AgentState::Running) => "reporting its end",
            (Phase::Uploaded, AgentState::Away) => "end not reported",
            (Phase::Settled, _) => self.outcome.unwrap_or(FinalStatus::Failed.as_str()),
        }
    }
}

/// Whether somebody works on the tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentState {
    /// An agent does.
    Running,
    /// Nobody, until the next start.
    Away,
}

/// All tasks of a data_dir in the order of their offers, and the folders of records that can't be read.
pub struct Tasks {
    /// Those that can be read.
    pub all: Vec<TaskView>,
    /// Folders whose record can't be read, and why.
    pub damaged: Vec<(PathBuf, io::Error)>,
}

impl Tasks {
    /// Reads the records of these phases; a data_dir that isn't there has none.
    pub fn load(data_dir: &DataDir, is_wanted: impl Fn(Phase) -> bool) -> io::Result<Self> {
        if !data_dir.tasks().exists() {
            return Ok(Self { all: Vec::new(), damaged: Vec::new() });
        }
        let view =
            |files: TaskFiles, record: Record| is_wanted(record.phase).then(|| TaskView::new(data_dir, &files, record));
        let loaded = Store::open(data_dir)?.load_all(view)?;
        let mut all = loaded.taken;
        all.sort_by(|one, other| (one.offered_at, &one.id).cmp(&(other.offered_at, &other.id)));
        Ok(Self { all, damaged: loaded.broken })
    }

    /// Adds what the running agent says of them.
    pub fn add_reasons(&mut self, state: &State) {
        for task in &mut self.all {
            let key = TaskKey::from_id(&task.id);
            task.held_up_by = key.and_then(|key| state.deferred.get(key.as_str()).cloned());
        }
    }
}
