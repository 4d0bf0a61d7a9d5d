//! `status`: the configuration as the agent reads it, whether an agent runs, and what it is doing.

mod summary;
mod text;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::backlog::Backlog;
use super::failure::{CommandResult, Failure};
use super::find_agent::name_running_agent;
use super::output::{OutputFormat, eprint_line, print_output, to_pretty_json};
use super::task_view::{TaskView, Tasks};
use crate::agent::health::housekeeping;
use crate::agent::status_file::{EngineState, LastError, Program, ServerTrouble, State};
use crate::config::{Config, ConfigError};
use crate::data_dir::DataDir;
use crate::data_dir::holder::{Holder, find_holder};
use crate::data_dir::pause::Pause;
use crate::data_dir::permissions;
use crate::os::timeout::with_timeout;
use crate::task::record::Phase;
use crate::units::Span;

/// After so long without a heartbeat, the Server takes a service for offline (PROTOCOL 3).
const OFFLINE_AFTER: Duration = Duration::from_secs(60);
/// The exit status where no agent runs.
const NOT_RUNNING: u8 = 3;

/// The report, as `--json` prints it (manual/operate.md, "Status"). Unknown values are null.
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
    version: Option<String>,
    program_replaced: Option<bool>,
    config_changed: Option<bool>,
    paused: Option<Pause>,
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
    /// A command that holds the data_dir for a while; for people only.
    #[serde(skip)]
    other: Option<Holder>,
}

/// Prints the configuration's lines (README, "Check status"), and below them what the agent is doing. On a terminal, what
/// matters most stands above all that.
pub fn status(file: &Path, format: OutputFormat) -> CommandResult {
    let (config, mistakes) = Config::load_to_look(file).map_err(|error| name_running_agent(file, error))?;
    let report = Report::load(&config)?;
    print_output(match format {
        OutputFormat::Text => summary::for_terminal(&report, &config).unwrap_or_default() + &report.to_string(),
        OutputFormat::Json => to_pretty_json(&report)? + "\n",
    })?;
    if let Err(missing) = config.check_data_dir_is_there() {
        eprint_line(missing);
    }
    for warning in &config.warnings {
        eprint_line(warning);
    }
    if !mistakes.is_empty() {
        return Err(name_running_agent(file, ConfigError::Wrong(mistakes)));
    }
    Ok(if report.running { ExitCode::SUCCESS } else { ExitCode::from(NOT_RUNNING) })
}

impl<'c> Report<'c> {
    fn load(config: &'c Config) -> Result<Self, Failure> {
        let data_dir = &config.paths.data_dir;
        permissions::find(data_dir)?;
        let (agent, other) = match find_holder(data_dir).map_err(Failure::unusable(data_dir))? {
            Some(holder) if holder.is_agent() => (Some(holder), None),
            other => (None, other),
        };
        let mut tasks = Tasks::load(data_dir, |phase| phase < Phase::Settled).map_err(Failure::unusable(data_dir))?;
        let service_id = config.agent.credentials.as_ref().map(|credentials| credentials.service_id.as_str());
        let backlog = Backlog::from_tasks(&tasks, service_id);
        let last = State::load(data_dir);
        // Of an earlier agent's state, only the last heartbeat and the last error count.
        let state = last.as_ref().filter(|state| agent.and_then(|agent| agent.pid) == Some(state.pid));
        if let Some(state) = state {
            tasks.add_state(state);
        }
        let started_at = state.map(|state| state.started_at);
        let trouble = state.and_then(|state| state.server_trouble.as_ref());
        let silence = state.and_then(|state| silence(state, Timestamp::now()));
        let not_accepting = state.and_then(|state| state.not_accepting.clone().or_else(|| find_unwritable(data_dir)));
        Ok(Self {
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
            pid: agent.and_then(|agent| agent.pid),
            started_at,
            version: state.map(|state| state.version.clone()).filter(|version| !version.is_empty()),
            program_replaced: state.and_then(|state| state.program.as_ref()).map(Program::is_replaced),
            config_changed: state.and_then(|state| has_changed_since(&config.file, read_at(state))),
            paused: Pause::load(data_dir, Timestamp::now()),
            slots_taken: state.and_then(|state| state.slots_taken).unwrap_or_else(|| backlog.unfinished()),
            undelivered: backlog.undelivered,
            of_other_registrations: backlog.foreign,
            server: match (trouble, state) {
                (Some(ServerTrouble { unauthorized: true, .. }), _) => "unauthorized",
                (Some(_), _) => "trouble",
                (None, _) if silence.is_some() => "trouble",
                (None, Some(State { server_tried: true, .. })) => "reached",
                (None, _) => "unknown",
            },
            server_message: trouble.map(|trouble| trouble.message.clone()).or(silence),
            last_heartbeat_at: last.as_ref().and_then(|state| state.last_heartbeat_at),
            last_error: last.as_ref().and_then(|state| state.last_error.clone()),
            engine: state.map_or(EngineState::Unknown, |state| state.engine),
            accepting: state.map(|_| not_accepting.is_none()),
            not_accepting,
            tasks: tasks.all,
            damaged_records: tasks.damaged.into_iter().map(|(dir, _)| dir).collect(),
            other,
        })
    }
}

/// What to say where the Server hasn't acknowledged a heartbeat of a running agent for so long that it takes the service
/// for offline (PROTOCOL 3), also where the agent hasn't noticed.
fn silence(state: &State, now: Timestamp) -> Option<String> {
    let since = state.last_heartbeat_at.filter(|_| state.server_tried)?;
    let time = Duration::try_from(now.duration_since(since)).ok().filter(|time| *time >= OFFLINE_AFTER)?;
    Some(format!("no heartbeat was acknowledged for {}", Span(time)))
}

/// Why nothing can be written in the data_dir: then the agent can't write down that it accepts nothing, either.
fn find_unwritable(data_dir: &DataDir) -> Option<String> {
    let data_dir = data_dir.clone();
    with_timeout(move || housekeeping::unwritable(&data_dir)).flatten()
}

/// When the agent has read its configuration.
fn read_at(state: &State) -> Timestamp {
    let reload = state.last_reload.as_ref().filter(|reload| reload.error.is_none());
    reload.map_or(state.started_at, |reload| reload.at)
}

/// Whether the configuration file is newer than the one that the agent has read; `None` where its time can't be read.
fn has_changed_since(file: &Path, started_at: Timestamp) -> Option<bool> {
    let changed = Timestamp::try_from(fs::metadata(file).ok()?.modified().ok()?).ok()?;
    Some(changed > started_at)
}
