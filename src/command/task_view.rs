//! Tasks as `status` and `tasks` show them.

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;

use crate::agent::status_file::State;
use crate::data_dir::DataDir;
use crate::server::FinalStatus;
use crate::task::{Phase, Record, Store, TaskFiles, Uploads, Workspace};
use crate::text::{escape, quote_foreign};

/// A task, as `--json` prints it (manual/operate.md, "Single tasks").
#[derive(Debug, Clone, Serialize)]
pub struct TaskView {
    /// Its name in the log, in files and containers.
    pub key: String,
    /// The Server's id: outside text.
    pub id: String,
    pub service_id: String,
    pub phase: Phase,
    /// The start of this phase; `None` in records of older versions.
    pub since: Option<Timestamp>,
    pub offered_at: Timestamp,
    pub outcome: Option<FinalStatus>,
    pub ended_at: Option<Timestamp>,
    pub exit_code: Option<i32>,
    pub error_message: Option<String>,
    /// The container's name, while there may be a container.
    pub container: Option<String>,
    /// The task's folder, until it is removed.
    pub workspace: Option<PathBuf>,
    pub files_sent: u64,
    pub files_left_out: u64,
    /// Why the running agent has deferred the task.
    pub held_up_by: Option<String>,
    /// Whether the running agent doesn't work on the task at this moment.
    pub waits: bool,
}

impl TaskView {
    pub fn new(data_dir: &DataDir, files: &TaskFiles, record: Record) -> Self {
        // The agent, which needs the file, logs an error where the file can't be read.
        let uploads = Uploads::read(files).unwrap_or_default();
        let workspace = Workspace::new(data_dir, files.key()).dir().to_owned();
        let has_container =
            record.phase >= Phase::Prepared && record.phase < Phase::Settled && !record.container_removed;
        let ending = record.ending;
        Self {
            key: files.key().to_string(),
            id: record.task.id,
            service_id: record.service_id,
            phase: record.phase,
            since: record.times.since.or(if record.phase == Phase::Settled { record.settled_at } else { None }),
            offered_at: record.offered.at,
            outcome: ending.as_ref().map(|ending| ending.status),
            ended_at: ending.as_ref().map(|ending| ending.at),
            exit_code: ending.as_ref().and_then(|ending| ending.exit_code),
            error_message: ending.and_then(|ending| ending.error_message),
            container: has_container.then(|| files.key().container_name()),
            workspace: workspace.exists().then_some(workspace),
            files_sent: uploads.files_sent(),
            files_left_out: uploads.left_out_count(),
            held_up_by: None,
            waits: false,
        }
    }

    /// The Server's id behind a name that differs from it, and nothing behind another.
    pub fn shown_id(&self) -> String {
        if self.key == self.id { String::new() } else { format!(" (id {})", escape(&quote_foreign(&self.id))) }
    }

    /// The line of the error message that says most: the agent's own words at its begin, or else the last line of what the
    /// container has printed.
    pub fn reason(&self) -> Option<&str> {
        self.error_message.as_deref().map(say_most)
    }

    /// Whether there is a result that wasn't delivered yet.
    pub fn is_undelivered(&self) -> bool {
        (Phase::Exited..Phase::Settled).contains(&self.phase)
    }

    /// What is happening with the task, in words.
    pub fn describe(&self, agent: AgentState) -> &'static str {
        match (self.phase, agent) {
            (Phase::Accepting, _) => "being accepted",
            (Phase::Accepted, AgentState::Running) if self.waits => "waiting to fetch its input",
            (Phase::Exited, AgentState::Running) if self.waits => "waiting to be sent",
            (Phase::Uploaded, AgentState::Running) if self.waits => "waiting to be reported",
            (Phase::Accepted, AgentState::Running) => "fetching its input",
            (Phase::Accepted, AgentState::NotRunning) => "not begun",
            (Phase::Prepared, AgentState::Running) => "running",
            (Phase::Prepared, AgentState::NotRunning) => "in its container",
            (Phase::Exited, AgentState::Running) => "sending its results",
            (Phase::Exited, AgentState::NotRunning) => "results not sent",
            (Phase::Uploaded, AgentState::Running) => "reporting its end",
            (Phase::Uploaded, AgentState::NotRunning) => "end not reported",
            (Phase::Settled, _) => self.outcome.unwrap_or(FinalStatus::Failed).as_str(),
        }
    }
}

/// How the agent's own words at the begin of an error message begin (task/outcome.rs).
const OWN_WORDS: [&str; 10] = [
    "timed out after",
    "stopped after",
    "stopped by the operator",
    "the Docker engine",
    "the machine went",
    "something other than",
    "out of memory:",
    "the disk was full",
    "killed, most likely",
    "the container",
];

/// The line of an error message that says most.
pub fn say_most(message: &str) -> &str {
    let first = message.lines().next().unwrap_or_default();
    if OWN_WORDS.iter().any(|begin| first.starts_with(begin)) {
        return first;
    }
    message.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().trim()
}

/// Whether an agent works on the tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentState {
    Running,
    NotRunning,
}

/// The tasks of a data_dir.
pub struct Tasks {
    /// The readable ones, in the order of their offers.
    pub all: Vec<TaskView>,
    /// Folders whose record can't be read, each with the error.
    pub damaged: Vec<(PathBuf, io::Error)>,
}

impl Tasks {
    /// Reads the records of the wanted phases. A data_dir that isn't there has none.
    pub fn load(data_dir: &DataDir, is_wanted: impl Fn(Phase) -> bool) -> io::Result<Self> {
        if !data_dir.tasks().exists() {
            return Ok(Self { all: Vec::new(), damaged: Vec::new() });
        }
        let view =
            |files: TaskFiles, record: Record| is_wanted(record.phase).then(|| TaskView::new(data_dir, &files, record));
        let loaded = Store::open(data_dir)?.load_all(view)?;
        let mut all = loaded.taken;
        all.sort_by(|one, other| (one.offered_at, &one.key).cmp(&(other.offered_at, &other.key)));
        Ok(Self { all, damaged: loaded.broken })
    }

    /// Adds what the running agent says of the tasks.
    pub fn add_state(&mut self, state: &State) {
        for task in &mut self.all {
            task.held_up_by = state.deferred.get(&task.key).cloned();
            task.waits = state.without_worker.contains(&task.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::say_most;

    #[test]
    fn the_reason_is_the_last_line_behind_no_words_of_the_agent() {
        let traceback = "Traceback (most recent call last):\n  File \"x.py\", line 1\nKeyError: temperature\n\n";
        assert_eq!(say_most(traceback), "KeyError: temperature");
        let stopped = "timed out after 3 minutes (`executor.timeout_minutes`)\nstep 7";
        assert_eq!(say_most(stopped), "timed out after 3 minutes (`executor.timeout_minutes`)");
        assert_eq!((say_most(""), say_most("no")), ("", "no"));
    }
}
