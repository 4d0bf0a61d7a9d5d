//! `stop`: ends the agent that runs on a data_dir: at once, after all its work, or together with its containers.

mod abort;
mod drain;
mod in_child;

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use super::backlog::Backlog;
use super::failure::{CommandResult, Failure};
use super::find_agent::name_running_agent;
use super::output::print_line;
use super::wait::wait_for;
use crate::cli::StopArgs;
use crate::config::Config;
use crate::data_dir::holder::{Holder, find_holder};
use crate::data_dir::{DataDir, instance, permissions};
use crate::logging::{LogFile, LogFormat};
use crate::os::folder::Folder;
use crate::os::platform;
use crate::shell::agent_command;

/// How long the agent may take to end by itself (README, "Stop service").
const GRACE: Duration = Duration::from_secs(5);
/// How long the whole command may take, and `--abort`, which may wait for the engine and the Server. A drain has no limit.
const LIMIT: Duration = Duration::from_secs(25);
const ABORT_LIMIT: Duration = Duration::from_secs(180);

/// Stops the agent. It is no error if none runs.
pub fn stop(file: &Path, args: &StopArgs, log_format: LogFormat, log_file: &LogFile) -> CommandResult {
    match args {
        StopArgs { drain: false, abort: false, in_child: false } => in_child::run(file, log_format, &[], LIMIT),
        StopArgs { abort: true, in_child: false, .. } => in_child::run(file, log_format, &["--abort"], ABORT_LIMIT),
        _ => stop_here(file, args, log_file).map(|()| ExitCode::SUCCESS),
    }
}

fn stop_here(file: &Path, args: &StopArgs, log_file: &LogFile) -> Result<(), Failure> {
    let config = Config::load(file).map_err(|error| name_running_agent(file, error))?;
    let data_dir = &config.paths.data_dir;
    // The lock in another user's folder could name any process.
    let folder = permissions::find(data_dir)?;
    match find_holder(data_dir).map_err(Failure::unusable(data_dir))? {
        None => {
            if args.abort {
                config.check_data_dir_is_there()?;
            }
            print_line("The agent is not running.");
            let Some(folder) = folder else { return Ok(()) };
            remove_pid_file(&folder)?;
        }
        Some(holder) if !holder.is_agent() => print_line(format_args!("The agent is not running; {holder}.")),
        Some(Holder { pid: Some(pid), .. }) if args.drain => return drain::drain(&config, pid),
        Some(Holder { pid: Some(pid), .. }) => {
            print_line(format_args!("{} (pid {pid}).", end_process(data_dir, pid)?));
            folder.as_ref().map_or(Ok(()), remove_pid_file)?;
        }
        Some(Holder { pid: None, .. }) => {
            return Err(Failure::new("an agent is running, but its pid can't be read from agent.lock"));
        }
    }
    if args.abort {
        return abort::abort(&config, log_file);
    }
    print_backlog(&config, load_backlog(&config)?);
    Ok(())
}

fn remove_pid_file(folder: &Folder) -> Result<(), Failure> {
    instance::remove_stale_pid_file(folder).map_err(Failure::unusable(folder.path()))
}

/// Sends SIGTERM, and SIGKILL where the agent doesn't end in time. Returns which of them ended it.
fn end_process(data_dir: &DataDir, pid: u32) -> Result<&'static str, Failure> {
    if ends_after(platform::terminate, data_dir, pid)? {
        Ok("Stopped")
    } else if ends_after(platform::kill_process, data_dir, pid)? {
        Ok("Killed after 5 seconds")
    } else {
        Err(Failure::new(format!(
            "the agent (pid {pid}) doesn't end although it was killed: it waits for a disk that gives no answer, most likely \
             that of `{}`; its containers run on; repeat the command when the disk answers",
            data_dir.display()
        )))
    }
}

fn ends_after(signal: fn(u32) -> io::Result<()>, data_dir: &DataDir, pid: u32) -> Result<bool, Failure> {
    // The agent held the lock a moment ago, so the pid is still its own.
    signal(pid).map_err(Failure::context(format!("the agent (pid {pid}) can't be stopped")))?;
    let ended = wait_for(GRACE, || match AgentProcess::look(data_dir, pid) {
        // An unreadable lock counts as held until the deadline.
        Ok(AgentProcess::Running) | Err(_) => None,
        Ok(ended) => Some(ended),
    });
    match ended.unwrap_or(AgentProcess::Running) {
        AgentProcess::Running => Ok(false),
        AgentProcess::Ended => Ok(true),
        AgentProcess::Replaced(holder) => Err(Failure::new(format!(
            "the agent (pid {pid}) has ended, but {holder}; if cron or a service starts it again, remove it there first"
        ))),
    }
}

/// The state of an agent's process.
enum AgentProcess {
    Running,
    Ended,
    /// The agent has ended, and another process holds the data_dir.
    Replaced(Holder),
}

impl AgentProcess {
    fn look(data_dir: &DataDir, pid: u32) -> io::Result<Self> {
        Ok(match find_holder(data_dir)? {
            None => Self::Ended,
            Some(holder) if holder.pid.is_some_and(|other| other != pid) => Self::Replaced(holder),
            Some(_) => Self::Running,
        })
    }
}

fn load_backlog(config: &Config) -> Result<Backlog, Failure> {
    let data_dir = &config.paths.data_dir;
    let service_id = config.agent.credentials.as_ref().map(|credentials| credentials.service_id.as_str());
    Backlog::load(data_dir, service_id).map_err(Failure::unusable(data_dir))
}

/// Prints what is left while no agent runs.
fn print_backlog(config: &Config, backlog: Backlog) {
    let tasks = agent_command(&config.file, &["tasks"]);
    let foreign = format!("task(s) of another registration are kept and not worked on; `{tasks}` lists them.");
    let damaged = format!("record(s) can't be read; `{tasks}` names them.");
    let lines = [
        (backlog.in_containers, "task(s) stay in their containers; the next start continues them."),
        (backlog.waiting, "task(s) have not begun; the next start begins them."),
        (backlog.undelivered, "result(s) aren't delivered yet; the next start delivers them."),
        (backlog.foreign, &*foreign),
        (backlog.damaged, &*damaged),
    ];
    for (count, text) in lines.into_iter().filter(|(count, _)| *count > 0) {
        print_line(format_args!("{count} {text}"));
    }
}
