//! `status`: the configuration as it is understood, whether the agent runs, and what it is doing.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::{Done, Failure};
use crate::cli::StatusArgs;
use crate::config::Config;
use crate::instance;
use crate::logging::escape;
use crate::record::Phase;
use crate::state::{EngineState, LastError, ServerTrouble, State, StateFile};
use crate::tasks::{TaskView, Tasks};
use crate::units::Span;

/// What the exit status says where no agent runs.
const NOT_RUNNING: u8 = 3;

/// All that is shown, as `--json` prints it (README, "Check status"). What isn't known is null.
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
    slots_taken: usize,
    undelivered: usize,
    server: &'static str,
    server_message: Option<String>,
    last_heartbeat_at: Option<Timestamp>,
    last_error: Option<LastError>,
    engine: EngineState,
    accepting: Option<bool>,
    not_accepting: Option<String>,
    tasks: Vec<TaskView>,
    damaged_records: Vec<PathBuf>,
}

/// Prints the lines of README's "Check status", and below them what the agent is doing.
pub fn status(file: &Path, args: &StatusArgs) -> Done {
    let config = Config::load(file)?;
    let report = look(&config)?;
    if args.json {
        let text = serde_json::to_string_pretty(&report).map_err(|error| Failure::new(error.to_string()))?;
        println!("{text}");
    } else {
        show(&report);
    }
    for warning in &config.warnings {
        eprintln!("{warning}");
    }
    Ok(if report.running { ExitCode::SUCCESS } else { ExitCode::from(NOT_RUNNING) })
}

fn look(config: &Config) -> Result<Report<'_>, Failure> {
    let data_dir = &config.paths.data_dir;
    let unusable = |error: std::io::Error| Failure::new(format!("`{}` can't be used: {error}", data_dir.display()));
    let running = instance::running(data_dir).map_err(unusable)?;
    let tasks = Tasks::load(data_dir, |phase| phase < Phase::Settled).map_err(unusable)?;
    let pid = running.flatten();
    // An earlier agent's words don't count for this one, but for when the Server heard of us last.
    let file = StateFile::of(data_dir).load();
    let last_heartbeat_at = file.as_ref().and_then(|state| state.last_heartbeat_at);
    let last_error = file.as_ref().and_then(|state| state.last_error.clone());
    let state = file.filter(|state| pid == Some(state.pid));
    let (server, server_message) = server_words(state.as_ref());
    let not_accepting = state.as_ref().and_then(|state| state.not_accepting.clone());
    let credentials = config.agent.credentials.as_ref();
    Ok(Report {
        config_file: &config.file,
        data_dir,
        server_url: &config.server.base_url,
        poll_interval_secs: config.server.poll_interval.as_secs(),
        registered: credentials.is_some(),
        service_id: credentials.map(|credentials| credentials.service_id.as_str()),
        agent_name: &config.agent.name,
        image: &config.executor.image,
        capacity: config.executor.capacity,
        timeout_minutes: config.executor.timeout_minutes,
        running: running.is_some(),
        pid,
        started_at: state.as_ref().map(|state| state.started_at),
        slots_taken: tasks.all.iter().filter(|task| task.order < Phase::Exited).count(),
        undelivered: tasks.all.iter().filter(|task| task.is_undelivered()).count(),
        server,
        server_message,
        last_heartbeat_at,
        last_error,
        engine: state.as_ref().map_or(EngineState::Unknown, |state| state.engine),
        accepting: state.as_ref().map(|_| not_accepting.is_none()),
        not_accepting,
        tasks: tasks.all,
        damaged_records: tasks.damaged.into_iter().map(|(dir, _)| dir).collect(),
    })
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

fn show(report: &Report<'_>) {
    println!("OpenAaaS Agent Status");
    println!("====================");
    println!("Config file: {}", report.config_file.display());
    println!("Data directory: {}", report.data_dir.display());
    println!("Server URL: {}", report.server_url);
    println!("Poll interval: {} seconds", report.poll_interval_secs);
    println!("Registration status: {}", if report.registered { "Registered" } else { "Not registered" });
    println!("Service ID: {}", report.service_id.unwrap_or("-"));
    println!("Agent name: {}", report.agent_name);
    println!("Executor configuration:");
    println!("Image: {}", report.image);
    println!("Capacity: {}", report.capacity);
    println!("Timeout: {} minutes", report.timeout_minutes);
    match (report.running, report.pid, report.started_at) {
        (false, _, _) => println!("Running: no"),
        (true, Some(pid), Some(since)) => println!("Running: yes, pid {pid}, since {since:.0}"),
        (true, Some(pid), None) => println!("Running: yes, pid {pid}"),
        (true, None, _) => println!("Running: yes"),
    }
    if report.running {
        show_agent(report);
    }
    if !report.tasks.is_empty() {
        println!("Load: {} of {} slots, {} undelivered", report.slots_taken, report.capacity, report.undelivered);
    }
    let now = Timestamp::now();
    for task in &report.tasks {
        println!("Task {}", task_line(task, now));
    }
    for dir in &report.damaged_records {
        println!("Damaged record: {}", escape(&dir.to_string_lossy()));
    }
}

/// What the running agent says of itself.
fn show_agent(report: &Report<'_>) {
    match (&report.server_message, report.server) {
        (Some(message), word) => println!("Server: {word}: {}", escape(message)),
        (None, "reached") => println!("Server: reached"),
        (None, _) => println!("Server: not reached yet"),
    }
    match report.last_heartbeat_at {
        Some(at) => println!("Last heartbeat: {at:.0}"),
        None => println!("Last heartbeat: none yet"),
    }
    if let Some(error) = &report.last_error {
        println!("Last error: {:.0}: {}", error.at, escape(&error.message));
    }
    println!(
        "Docker engine: {}",
        match report.engine {
            EngineState::Unknown => "not asked yet",
            EngineState::Ready => "answers",
            EngineState::Away => "doesn't answer",
        }
    );
    match (&report.not_accepting, report.accepting) {
        (Some(why), _) => println!("Accepting tasks: no: {}", escape(why)),
        (None, Some(_)) => println!("Accepting tasks: yes"),
        (None, None) => println!("Accepting tasks: unknown"),
    }
}

/// One unsettled task.
fn task_line(task: &TaskView, now: Timestamp) -> String {
    let mut line = format!("{}: {}", escape(&task.id), task.in_words());
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
    line
}
