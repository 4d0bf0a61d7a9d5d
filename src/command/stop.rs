//! `stop`: ends the agent that runs on a data_dir, at once, after all its work, or together with its containers.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use super::run::serve;
use super::{Done, Failure};
use crate::cli::StopArgs;
use crate::config::Config;
use crate::docker::{Docker, DockerError};
use crate::instance::{self, Instance};
use crate::platform;
use crate::record::{Phase, Record, StopReason, Store, TaskFiles};
use crate::scheduler::Mode;
use crate::worker::CONTAINER_PREFIX;

/// How long the agent may take to leave by itself (README, Stop Service).
const GRACE: Duration = Duration::from_secs(5);
/// How long `--abort` tries to end containers and to tell the Server.
const ABORT: Duration = Duration::from_secs(60);

/// Stops the agent. Nothing to stop is no error.
pub fn stop(file: &Path, args: &StopArgs) -> Done {
    let config = Config::load(file)?;
    let data_dir = &config.paths.data_dir;
    let unusable = |error: io::Error| Failure::new(format!("`{}` can't be used: {error}", data_dir.display()));
    match instance::running(data_dir).map_err(unusable)? {
        None => {
            instance::remove_stale_pid_file(data_dir).map_err(unusable)?;
            println!("The agent is not running.");
            if !data_dir.exists() {
                return Ok(ExitCode::SUCCESS);
            }
        }
        Some(Some(pid)) if args.drain => return drain(data_dir, pid),
        Some(Some(pid)) => {
            println!("{} (pid {pid}).", end_process(data_dir, pid)?);
            instance::remove_stale_pid_file(data_dir).map_err(unusable)?;
        }
        Some(None) => return Err(Failure::new("an agent is running, but its pid can't be read from agent.lock")),
    }
    if args.abort {
        return abort(&config);
    }
    let left = Left::look(data_dir)?;
    if left.unfinished > 0 {
        println!("{} task(s) stay in their containers; the next start goes on with them.", left.unfinished);
    }
    if left.undelivered > 0 {
        println!("{} result(s) wait for their delivery; the next start goes on with it.", left.undelivered);
    }
    Ok(ExitCode::SUCCESS)
}

/// Sends SIGTERM, and SIGKILL when the grace is over. Returns which of them it was that helped.
fn end_process(data_dir: &Path, pid: u32) -> Result<&'static str, Failure> {
    let undone = |error: io::Error| Failure::new(format!("the agent (pid {pid}) can't be stopped: {error}"));
    platform::terminate(pid).map_err(undone)?;
    if is_gone_within(data_dir, GRACE) {
        return Ok("Stopped");
    }
    platform::kill_process(pid).map_err(undone)?;
    if is_gone_within(data_dir, GRACE) {
        return Ok("Killed after 5 seconds");
    }
    Err(Failure::new(format!("the agent (pid {pid}) doesn't end although it was killed")))
}

fn is_gone_within(data_dir: &Path, time: Duration) -> bool {
    let deadline = Instant::now() + time;
    loop {
        // An unreadable lock counts as held: the deadline decides then.
        if matches!(instance::running(data_dir), Ok(None)) {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// What an agent has on its hands.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Left {
    /// Tasks whose container hasn't ended.
    unfinished: usize,
    /// Results that the Server doesn't have.
    undelivered: usize,
}

impl Left {
    fn look(data_dir: &Path) -> Result<Self, Failure> {
        let phases = Store::open(data_dir).and_then(|store| store.load_all(|_, task| Some(task.phase)));
        let phases =
            phases.map_err(|error| Failure::new(format!("`{}` can't be used: {error}", data_dir.display())))?;
        let count = |is_meant: fn(&Phase) -> bool| phases.taken.iter().filter(|phase| is_meant(phase)).count();
        Ok(Self {
            unfinished: count(|phase| *phase < Phase::Exited),
            undelivered: count(|phase| (Phase::Exited..Phase::Settled).contains(phase)),
        })
    }

    fn is_nothing(self) -> bool {
        self.unfinished + self.undelivered == 0
    }
}

impl std::fmt::Display for Left {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} task(s) in progress, {} result(s) to deliver", self.unfinished, self.undelivered)
    }
}

/// Asks the agent to work off what it has, and waits until it has ended.
fn drain(data_dir: &Path, pid: u32) -> Done {
    instance::ask_for_drain(data_dir, pid)
        .map_err(|error| Failure::new(format!("the agent can't be asked, in `{}`: {error}", data_dir.display())))?;
    println!(
        "The agent (pid {pid}) accepts nothing new and ends when all is delivered. Ctrl+C ends this waiting only; \
         `stop` ends the agent at once."
    );
    let mut said = None;
    loop {
        let running = instance::running(data_dir)
            .map_err(|error| Failure::new(format!("`{}` can't be used: {error}", data_dir.display())))?;
        let left = Left::look(data_dir)?;
        match running {
            None if left.is_nothing() => {
                println!("Drained and stopped (pid {pid}).");
                return Ok(ExitCode::SUCCESS);
            }
            None => {
                let message = format!("the agent (pid {pid}) ended before all was delivered: {left}; start it again");
                return Err(Failure::new(message));
            }
            Some(Some(other)) if other != pid => {
                let message = format!(
                    "the agent (pid {pid}) has ended and another one (pid {other}) was started, perhaps by cron; \
                     ask that one with `stop --drain`"
                );
                return Err(Failure::new(message));
            }
            Some(_) => {}
        }
        if said != Some(left) {
            println!("{left}");
            said = Some(left);
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// Ends the containers of a data_dir on which no agent runs, and tells the Server for as long as `ABORT` lasts.
fn abort(config: &Config) -> Done {
    let data_dir = &config.paths.data_dir;
    let unusable = |error: io::Error| Failure::new(format!("`{}` can't be used: {error}", data_dir.display()));
    let instance = Instance::take(data_dir).map_err(|error| Failure::new(error.to_string()))?;
    let store = Store::open(data_dir).map_err(unusable)?;
    let unfinished = |files: TaskFiles, record: Record| (record.phase < Phase::Exited).then_some((files, record));
    let tasks = store.load_all(unfinished).map_err(unusable)?.taken;
    if tasks.is_empty() {
        println!("No task is left to stop.");
        return Ok(ExitCode::SUCCESS);
    }
    let count = tasks.len();
    let mut foreign = Vec::new();
    let ours = config.agent.credentials.as_ref().map(|credentials| credentials.service_id.as_str());
    for (files, mut record) in tasks {
        if ours != Some(&record.service_id) {
            foreign.push(files.key().clone());
        }
        // On the disk first: whatever happens now, the next start goes on with it.
        if record.stop.is_none() {
            record.stop = Some(StopReason::Operator);
            files
                .save(&record)
                .map_err(|error| Failure::new(format!("task {}: its record can't be written: {error}", files.key())))?;
        }
    }
    // The agent doesn't work on the tasks of another registration, but their containers may run.
    let docker = Docker::new(&config.executor.docker);
    for key in foreign {
        match docker.stop(&format!("{CONTAINER_PREFIX}{key}")) {
            // Refused: there is none.
            Ok(()) | Err(DockerError::Refused(_)) => {}
            Err(error) => eprintln!("task {key} of another registration: its container can't be stopped: {error}"),
        }
    }
    if let Some(credentials) = config.agent.credentials.clone() {
        serve(config, credentials, &instance, Mode::Drain(Some(Instant::now() + ABORT)))?;
    }
    drop(instance);
    let left = Left::look(data_dir)?;
    println!("{count} task(s) aborted.");
    if left.is_nothing() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::new(format!("not all could be ended and reported: {left}; the next start goes on with it")))
}
