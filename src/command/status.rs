//! `status`: the configuration as it is understood, whether the agent runs, and what it is doing.

use std::fmt::{self, Write as _};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::backlog::Backlog;
use super::failure::{CommandResult, Failure};
use super::output::{eprint_line, print_output};
use super::task_view::{AgentState, TaskView, Tasks};
use crate::agent::status_file::{EngineState, LastError, ServerTrouble, State, StatusFile};
use crate::cli::StatusArgs;
use crate::config::Config;
use crate::data_dir::holder::{Holder, find_holder};
use crate::task::record::Phase;
use crate::text::escape;
use crate::units::{Local, Span};

/// What the exit status says where no agent runs.
const NOT_RUNNING: u8 = 3;

/// All that is shown, as `--json` prints it (manual/operate.md, "Status"). What isn't known is null.
#[derive(Serialize)]
struct Report<'c> {
    config_file: &'c Path,
    data_dir: &'c Path,
    server_url: &'c str,
    poll_interval_secs: u64,
    registered: bool,
    service_id: Option<&'c str>,
    agent_name: &'c str,
    image: &'c str,
    capacity: usize,
    timeout_minutes: u64,
    running: bool,
    pid: Option<u32>,
    started_at: Option<Timestamp>,
    config_changed: Option<bool>,
    slots_taken: usize,
    undelivered: usize,
    of_other_registrations: usize,
    server: &'static str,
    server_message: Option<String>,
    last_heartbeat_at: Option<Timestamp>,
    last_error: Option<LastError>,
    engine: EngineState,
    accepting: Option<bool>,
    not_accepting: Option<String>,
    tasks: Vec<TaskView>,
    damaged_records: Vec<PathBuf>,
    /// A command that has the data_dir for a while, for people.
    #[serde(skip)]
    other: Option<Holder>,
}

/// Prints the configuration's lines (README, "Check status"), and below them what the agent is doing.
pub fn status(file: &Path, args: &StatusArgs) -> CommandResult {
    let config = Config::load(file)?;
    let report = look(&config)?;
    if args.json {
        let text = serde_json::to_string_pretty(&report).map_err(|error| Failure::new(error.to_string()))?;
        print_output(text + "\n")?;
    } else {
        print_output(report.to_string())?;
    }
    for warning in &config.warnings {
        eprint_line(warning);
    }
    Ok(if report.running { ExitCode::SUCCESS } else { ExitCode::from(NOT_RUNNING) })
}

fn look(config: &Config) -> Result<Report<'_>, Failure> {
    let data_dir = &config.paths.data_dir;
    let unusable = |error: io::Error| Failure::new(format!("`{}` can't be used: {error}", data_dir.display()));
    let (agent, other) = match find_holder(data_dir).map_err(unusable)? {
        Some(holder) if holder.is_agent() => (Some(holder), None),
        other => (None, other),
    };
    let pid = agent.and_then(|agent| agent.pid);
    let mut tasks = Tasks::load(data_dir, |phase| phase < Phase::Settled).map_err(unusable)?;
    let service_id = config.agent.credentials.as_ref().map(|credentials| credentials.service_id.as_str());
    let left = Backlog::of_tasks(&tasks, service_id);
    // An earlier agent's words don't count for this one, but for when the Server heard of us last.
    let file = StatusFile::new(data_dir).load();
    let last_heartbeat_at = file.as_ref().and_then(|state| state.last_heartbeat_at);
    let last_error = file.as_ref().and_then(|state| state.last_error.clone());
    let state = file.filter(|state| pid == Some(state.pid));
    if let Some(state) = &state {
        tasks.add_reasons(state);
    }
    let (server, server_message) = server_words(state.as_ref());
    let not_accepting = state.as_ref().and_then(|state| state.not_accepting.clone());
    Ok(Report {
        config_file: &config.file,
        data_dir,
        server_url: &config.server.base_url,
        poll_interval_secs: config.server.poll_interval.as_secs(),
        registered: service_id.is_some(),
        service_id,
        agent_name: &config.agent.name,
        image: &config.executor.image,
        capacity: config.executor.capacity,
        timeout_minutes: config.executor.timeout_minutes,
        running: agent.is_some(),
        pid,
        started_at: state.as_ref().map(|state| state.started_at),
        config_changed: state.as_ref().and_then(|state| has_changed_since(&config.file, state.started_at)),
        slots_taken: left.unfinished(),
        undelivered: left.undelivered,
        of_other_registrations: left.foreign,
        server,
        server_message,
        last_heartbeat_at,
        last_error,
        engine: state.as_ref().map_or(EngineState::Unknown, |state| state.engine),
        accepting: state.as_ref().map(|_| not_accepting.is_none()),
        not_accepting,
        tasks: tasks.all,
        damaged_records: tasks.damaged.into_iter().map(|(dir, _)| dir).collect(),
        other,
    })
}

/// Whether the configuration file isn't the one any more that the agent has read, as far as can be told.
fn has_changed_since(file: &Path, started_at: Timestamp) -> Option<bool> {
    let changed = Timestamp::try_from(fs::metadata(file).ok()?.modified().ok()?).ok()?;
    Some(changed > started_at)
}

fn server_words(state: Option<&State>) -> (&'static str, Option<String>) {
    match state {
        None => ("unknown", None),
        Some(State { server_trouble: Some(ServerTrouble { unauthorized: true, message }), .. }) => {
            ("unauthorized", Some(message.clone()))
        }
        Some(State { server_trouble: Some(trouble), .. }) => ("trouble", Some(trouble.message.clone())),
        Some(State { server_tried: true, .. }) => ("reached", None),
        Some(_) => ("unknown", None),
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "OpenAaaS Agent Status")?;
        writeln!(f, "====================")?;
        writeln!(f, "Config file: {}", self.config_file.display())?;
        writeln!(f, "Data directory: {}", self.data_dir.display())?;
        writeln!(f, "Server URL: {}", self.server_url)?;
        writeln!(f, "Poll interval: {} seconds", self.poll_interval_secs)?;
        writeln!(f, "\nRegistration status: {}", if self.registered { "Registered" } else { "Not registered" })?;
        writeln!(f, "Service ID: {}", self.service_id.unwrap_or("-"))?;
        writeln!(f, "Agent name: {}", self.agent_name)?;
        writeln!(f, "\nExecutor configuration:")?;
        writeln!(f, "  Image: {}", self.image)?;
        writeln!(f, "  Capacity: {}", self.capacity)?;
        writeln!(f, "  Timeout: {} minutes\n", self.timeout_minutes)?;
        match (self.running, self.pid, self.started_at) {
            (false, _, _) => writeln!(f, "Running: no")?,
            (true, Some(pid), Some(since)) => writeln!(f, "Running: yes, pid {pid}, since {}", Local(since))?,
            (true, Some(pid), None) => writeln!(f, "Running: yes, pid {pid}")?,
            (true, None, _) => writeln!(f, "Running: yes")?,
        }
        if let Some(other) = self.other {
            writeln!(f, "Meanwhile: {other}")?;
        }
        if self.config_changed == Some(true) {
            writeln!(f, "Note: the configuration file has changed since the agent's start; a restart applies it")?;
        }
        self.fmt_agent(f)?;
        self.fmt_tasks(f)
    }
}

impl Report<'_> {
    /// What the running agent says of itself, and what is known of the last one.
    fn fmt_agent(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.running {
            match (&self.server_message, self.server) {
                (Some(message), word) => writeln!(f, "Server: {word}: {}", escape(message))?,
                (None, "reached") => writeln!(f, "Server: reached")?,
                (None, _) => writeln!(f, "Server: not reached yet")?,
            }
        }
        match self.last_heartbeat_at {
            Some(at) => writeln!(f, "Last heartbeat: {}", Local(at))?,
            None if self.running => writeln!(f, "Last heartbeat: none yet")?,
            None => {}
        }
        if let Some(error) = &self.last_error {
            writeln!(f, "Last error: {}: {}", Local(error.at), escape(&error.message))?;
        }
        if !self.running {
            return Ok(());
        }
        let engine = match self.engine {
            EngineState::Unknown => "not asked yet",
            EngineState::Ready => "answers",
            EngineState::Away => "doesn't answer",
        };
        writeln!(f, "Docker engine: {engine}")?;
        match (&self.not_accepting, self.accepting) {
            (Some(why), _) => writeln!(f, "Accepting tasks: no: {}", escape(why)),
            (None, Some(_)) => writeln!(f, "Accepting tasks: yes"),
            (None, None) => writeln!(f, "Accepting tasks: unknown"),
        }
    }

    fn fmt_tasks(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.running || !self.tasks.is_empty() {
            write!(f, "\nLoad: {} of {} slots, {} undelivered", self.slots_taken, self.capacity, self.undelivered)?;
            match self.of_other_registrations {
                0 => writeln!(f)?,
                count => writeln!(f, ", {count} of another registration (kept and not worked on)")?,
            }
        }
        let agent = if self.running { AgentState::Running } else { AgentState::Away };
        let now = Timestamp::now();
        for task in &self.tasks {
            writeln!(f, "  Task {}", task_line(task, agent, now))?;
        }
        for dir in &self.damaged_records {
            writeln!(f, "Damaged record: {}", escape(&dir.to_string_lossy()))?;
        }
        Ok(())
    }
}

/// One unsettled task.
fn task_line(task: &TaskView, agent: AgentState, now: Timestamp) -> String {
    let mut line = format!("{}: {}", escape(&task.id), task.describe(agent));
    // A clock that was set back makes no negative spans.
    if let Some(time) = task.since.and_then(|since| Duration::try_from(now.duration_since(since)).ok()) {
        line += &format!(" for {}", Span(time));
    }
    if let Some(container) = &task.container {
        line += &format!(", container {container}");
    }
    if let (true, Some(outcome)) = (task.is_undelivered(), task.outcome) {
        line += &format!(", {outcome}");
    }
    if let Some(why) = &task.held_up_by {
        let _ = write!(line, "; held up: {}", escape(why));
    }
    line
}
