//! The report of `status` as lines for people.

use std::fmt::{self, Write as _};
use std::time::Duration;

use jiff::Timestamp;

use super::Report;
use crate::agent::status_file::EngineState;
use crate::command::task_view::{AgentState, TaskView};
use crate::text::escape;
use crate::units::{Local, Span};

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
        if let Some(version) = &self.version {
            writeln!(f, "Version: {}", escape(version))?;
        }
        if let Some(time) = self.uptime() {
            writeln!(f, "Uptime: {}", Span(time))?;
        }
        if let Some(pause) = &self.paused {
            writeln!(f, "Paused: {}", escape(pause.to_string().trim_start_matches("paused").trim_start()))?;
        }
        if let Some(other) = self.other {
            writeln!(f, "Meanwhile: {other}")?;
        }
        if self.program_replaced == Some(true) {
            writeln!(
                f,
                "Note: the program on the disk was replaced since the agent's start; a restart runs the new one"
            )?;
        }
        if self.config_changed == Some(true) {
            writeln!(
                f,
                "Note: the configuration file has changed since the agent has read it; `agent-core reload` applies it"
            )?;
        }
        self.fmt_agent(f)?;
        self.fmt_tasks(f)
    }
}

impl Report<'_> {
    /// For how long the agent has been running. A clock that was set back makes no negative span.
    pub(super) fn uptime(&self) -> Option<Duration> {
        let started_at = self.started_at.filter(|_| self.running)?;
        Duration::try_from(Timestamp::now().duration_since(started_at)).ok()
    }

    /// The state that the running agent has published, and the last heartbeat and error also where none runs.
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
        let agent = if self.running { AgentState::Running } else { AgentState::NotRunning };
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

fn task_line(task: &TaskView, agent: AgentState, now: Timestamp) -> String {
    let mut line = format!("{}{}: {}", task.key, task.shown_id(), task.describe(agent));
    // A clock that was set back makes no negative span.
    if let Some(time) = task.since.and_then(|since| Duration::try_from(now.duration_since(since)).ok()) {
        line += &format!(" for {}", Span(time));
    }
    if let Some(container) = &task.container {
        line += &format!(", container {container}");
    }
    if let (true, Some(outcome)) = (task.is_undelivered(), task.outcome) {
        line += &format!(", {}", outcome.as_str());
    }
    if let Some(why) = &task.held_up_by {
        let _ = write!(line, "; held up: {}", escape(why));
    }
    line
}
