//! `stop`: ends the agent that runs on a data_dir, at once, after all its work, or together with its containers.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use super::backlog::Backlog;
use super::failure::{CommandResult, Failure};
use super::output::{eprint_line, print_line};
use crate::agent::{Mode, serve};
use crate::cli::StopArgs;
use crate::config::{Config, ConfigError};
use crate::data_dir::DataDir;
use crate::data_dir::holder::{Holder, Role, find_holder};
use crate::data_dir::instance::{self, Instance};
use crate::docker::{Docker, DockerError};
use crate::logging::Reminder;
use crate::os::platform;
use crate::task::record::{Phase, Record, StopReason, Store, TaskFiles, TaskKey};

/// How long the agent may take to leave by itself (README, "Stop service").
const GRACE: Duration = Duration::from_secs(5);
/// How long `--abort` tries to end containers and to tell the Server.
const ABORT: Duration = Duration::from_secs(60);
/// How often it is looked whether the agent is there, and what it has left: that means to read every record.
const LOOK: Duration = Duration::from_millis(200);
const LOOK_AT_RECORDS: Duration = Duration::from_secs(2);

/// Stops the agent. Nothing to stop is no error.
pub fn stop(file: &Path, args: &StopArgs) -> CommandResult {
    let config = Config::load(file).map_err(|error| name_agent(file, error))?;
    let data_dir = &config.paths.data_dir;
    match find_holder(data_dir).map_err(|error| unusable(data_dir, &error))? {
        None => {
            remove_pid_file(data_dir)?;
            print_line("The agent is not running.");
            if !data_dir.exists() {
                return Ok(ExitCode::SUCCESS);
            }
        }
        Some(holder) if !holder.is_agent() => print_line(format_args!("The agent is not running; {holder}.")),
        Some(Holder { pid: Some(pid), .. }) if args.drain => return drain(&config, pid),
        Some(Holder { pid: Some(pid), .. }) => {
            print_line(format_args!("{} (pid {pid}).", end_process(data_dir, pid)?));
            remove_pid_file(data_dir)?;
        }
        Some(Holder { pid: None, .. }) => {
            return Err(Failure::new("an agent is running, but its pid can't be read from agent.lock"));
        }
    }
    if args.abort {
        return abort(&config);
    }
    tell(look(&config)?);
    Ok(ExitCode::SUCCESS)
}

/// Why there is no configuration, and which agent runs all the same, as far as the file tells where.
fn name_agent(file: &Path, error: ConfigError) -> Failure {
    let holder = Config::data_dir_of(file).and_then(|data_dir| find_holder(&data_dir).ok().flatten());
    match holder.filter(|holder| holder.is_agent()).and_then(|holder| holder.pid) {
        Some(pid) => Failure::usage(format!(
            "{error}\nThe agent (pid {pid}) is running all the same; correct the file, or end it with `kill {pid}`."
        )),
        None => error.into(),
    }
}

fn unusable(data_dir: &DataDir, error: &io::Error) -> Failure {
    Failure::new(format!("`{}` can't be used: {error}", data_dir.display()))
}

fn remove_pid_file(data_dir: &DataDir) -> Result<(), Failure> {
    instance::remove_stale_pid_file(data_dir).map_err(|error| unusable(data_dir, &error))
}

/// What became of an agent that was asked to end.
enum Gone {
    /// It is still there.
    No,
    /// It has ended.
    Yes,
    /// It has ended, and somebody else has its place.
    Replaced(Holder),
}

const STOPPED: &str = "Stopped";
const KILLED: &str = "Killed after 5 seconds";

/// Sends SIGTERM, and SIGKILL when the grace is over. Returns which of them it was that helped.
fn end_process(data_dir: &DataDir, pid: u32) -> Result<&'static str, Failure> {
    let undone = |error: io::Error| Failure::new(format!("the agent (pid {pid}) can't be stopped: {error}"));
    for words in [STOPPED, KILLED] {
        // A moment ago the lock was still its own, so that the pid is.
        let sent = if words == STOPPED { platform::terminate(pid) } else { platform::kill_process(pid) };
        sent.map_err(undone)?;
        match wait_gone(data_dir, pid, GRACE) {
            Gone::No => {}
            Gone::Yes => return Ok(words),
            Gone::Replaced(holder) => {
                return Err(Failure::new(format!(
                    "the agent (pid {pid}) has ended, but {holder}, perhaps started by cron: take it out there first"
                )));
            }
        }
    }
    Err(Failure::new(format!("the agent (pid {pid}) doesn't end although it was killed")))
}

fn wait_gone(data_dir: &DataDir, pid: u32, time: Duration) -> Gone {
    let deadline = Instant::now() + time;
    loop {
        match find_holder(data_dir) {
            Ok(None) => return Gone::Yes,
            Ok(Some(holder)) if holder.pid.is_some_and(|other| other != pid) => return Gone::Replaced(holder),
            // An unreadable lock counts as held: the deadline decides then.
            _ => {}
        }
        if Instant::now() >= deadline {
            return Gone::No;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn look(config: &Config) -> Result<Backlog, Failure> {
    let data_dir = &config.paths.data_dir;
    let service_id = config.agent.credentials.as_ref().map(|credentials| credentials.service_id.as_str());
    Backlog::load(data_dir, service_id).map_err(|error| unusable(data_dir, &error))
}

/// Says what stays when no agent runs.
fn tell(left: Backlog) {
    let lines = [
        (left.in_containers, "task(s) stay in their containers; the next start goes on with them."),
        (left.waiting, "task(s) have not begun; the next start begins them."),
        (left.undelivered, "result(s) wait for their delivery; the next start goes on with it."),
        (left.foreign, "task(s) of another registration are kept and not worked on; `agent-core tasks` shows them."),
        (left.damaged, "record(s) can't be read; `agent-core tasks` names them."),
    ];
    for (count, words) in lines.into_iter().filter(|(count, _)| *count > 0) {
        print_line(format_args!("{count} {words}"));
    }
}

/// What is still to be done, in a line.
struct ToDo(Backlog);

impl fmt::Display for ToDo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} task(s) in progress, {} result(s) to deliver", self.0.unfinished(), self.0.undelivered)
    }
}

/// Asks the agent to work off what it has, and waits until it has ended.
fn drain(config: &Config, pid: u32) -> CommandResult {
    let data_dir = &config.paths.data_dir;
    instance::request_drain(data_dir, pid)
        .map_err(|error| Failure::new(format!("the agent can't be asked to drain: {error}")))?;
    print_line(format_args!(
        "The agent (pid {pid}) accepts nothing new and ends when all is delivered. Ctrl+C ends this waiting only; \
         `stop` ends the agent at once."
    ));
    let (mut said, mut reminder, mut look_due) = (None, Reminder::begin(), Instant::now());
    loop {
        match find_holder(data_dir).map_err(|error| unusable(data_dir, &error))? {
            None => {
                let left = look(config)?;
                if left.is_done() {
                    print_line(format_args!("Drained and stopped (pid {pid})."));
                    tell(left);
                    return Ok(ExitCode::SUCCESS);
                }
                let left = ToDo(left);
                let message = format!("the agent (pid {pid}) ended before all was delivered: {left}; start it again");
                return Err(Failure::new(message));
            }
            Some(holder) if holder.pid.is_some_and(|other| other != pid) => {
                let message = format!(
                    "the agent (pid {pid}) has ended, but {holder}, perhaps started by cron; ask that one with \
                     `stop --drain`"
                );
                return Err(Failure::new(message));
            }
            Some(_) => {}
        }
        if Instant::now() >= look_due {
            look_due = Instant::now() + LOOK_AT_RECORDS;
            let left = look(config)?;
            let so_far = reminder.due();
            if said != Some(left) || so_far.is_some() {
                print_line(format_args!("{}{}", ToDo(left), so_far.unwrap_or_default()));
                said = Some(left);
            }
        }
        thread::sleep(LOOK);
    }
}

/// Ends the containers of a data_dir on which no agent runs, and tells the Server for as long as `ABORT` lasts.
fn abort(config: &Config) -> CommandResult {
    let deadline = Instant::now() + ABORT;
    let data_dir = &config.paths.data_dir;
    let instance = Instance::acquire(data_dir, Role::Abort).map_err(|error| Failure::new(error.to_string()))?;
    let store = Store::open(data_dir).map_err(|error| unusable(data_dir, &error))?;
    let unfinished = |files: TaskFiles, record: Record| (record.phase < Phase::Exited).then_some((files, record));
    let tasks = store.load_all(unfinished).map_err(|error| unusable(data_dir, &error))?.taken;
    if tasks.is_empty() {
        print_line("No task is left to stop.");
        tell(look(config)?);
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
        if Instant::now() >= deadline {
            eprint_line(format_args!("task {key} of another registration: no time was left to stop its container"));
        } else if let Err(error) = stop_container(&docker, &key, instance.id()) {
            eprint_line(format_args!("task {key} of another registration: its container can't be stopped: {error}"));
        }
    }
    if let Some(credentials) = config.agent.credentials.clone() {
        serve(config.clone(), credentials, &instance, Mode::Drain(Some(deadline)))?;
    }
    drop(instance);
    let left = look(config)?;
    print_line(format_args!("{count} task(s) aborted."));
    if left.is_done() {
        tell(left);
        return Ok(ExitCode::SUCCESS);
    }
    let left = ToDo(left);
    Err(Failure::new(format!("not all could be ended and reported: {left}; the next start goes on with it")))
}

/// Stops a task's container, if it is this instance's.
fn stop_container(docker: &Docker, key: &TaskKey, instance_id: &str) -> Result<(), DockerError> {
    let container = docker.inspect(&key.container_name())?;
    match container.filter(|container| container.instance.as_deref() == Some(instance_id)) {
        // Refused: it has ended.
        Some(container) => match docker.stop(&container.id) {
            Err(DockerError::Refused(_)) | Ok(()) => Ok(()),
            failed => failed,
        },
        None => Ok(()),
    }
}
