//! `run-detached`: the agent in the background.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use jiff::Timestamp;

use super::failure::Failure;
use super::output::{eprint_line, print_line};
use super::registration::not_registered;
use super::wait::wait_for;
use crate::agent::status_file::{EngineState, State};
use crate::config::Config;
use crate::data_dir::holder::{Holder, find_holder};
use crate::data_dir::{AGENT_LOG, DataDir, instance, permissions};
use crate::logging::LogFormat;
use crate::os::files::open_to_read;
use crate::os::folder::Folder;
use crate::os::platform;
use crate::os::trust::check_program;
use crate::text::escape;

/// How long the agent may take to get its lock: the check of a mount without an answer alone takes ten seconds.
const START: Duration = Duration::from_secs(20);
/// How long to wait for the Server's first answer. A Server that accepts a connection and never answers takes longer;
/// the agent is up all the same.
const FIRST_ANSWER: Duration = Duration::from_secs(20);
/// How long to wait for a command that holds the data_dir.
const OTHERS: Duration = Duration::from_secs(5);
/// How long to wait for the agent's first check of the engine, mounts and disk.
const FIRST_CHECK: Duration = Duration::from_secs(12);
/// How many bytes of the log are shown if the agent doesn't start.
const SHOWN: u64 = 4000;

/// Starts `run` in the background. Returns when the agent is up, or fails with the end of its log.
pub fn run_detached(file: &Path, log_format: LogFormat) -> Result<(), Failure> {
    let config = Config::load(file)?;
    let data_dir = &config.paths.data_dir;
    // The lock in another user's folder could name any process.
    permissions::find(data_dir)?;
    // A command holds the data_dir for a moment only.
    let holder = wait_for(OTHERS, || match find_holder(data_dir) {
        Ok(Some(holder)) if !holder.is_agent() => None,
        found => Some(found),
    });
    if let Some(holder) = holder.unwrap_or_else(|| find_holder(data_dir)).map_err(Failure::unusable(data_dir))? {
        return report_holder(data_dir, holder);
    }
    // `run` reports everything else that may be wrong. This needs no log.
    if config.agent.credentials.is_none() {
        return Err(not_registered(&config));
    }
    config.check_data_dir_is_there()?;
    let folder = permissions::prepare(data_dir)?;
    let (mut child, log) = start(&config, &folder, log_format)?;
    let started = wait_for(START, || {
        let agent = find_holder(data_dir).ok().flatten().filter(|holder| holder.is_agent());
        let mut has_failed = || child.try_wait().is_ok_and(|status| status.is_some_and(|status| !status.success()));
        agent.and_then(|agent| agent.pid).map(Ok).or_else(|| has_failed().then_some(Err("didn't start")))
    });
    let pid = started.unwrap_or(Err("isn't up after 20 s")).map_err(|how| log.not_started(how))?;
    report_first_answer(data_dir, pid, &log)
}

fn report_holder(data_dir: &DataDir, holder: Holder) -> Result<(), Failure> {
    if !holder.is_agent() {
        return Err(Failure::new(format!("{holder}; start the agent when that command has ended")));
    }
    // Cron sends each line as a mail, and there is nothing to do about this one.
    if !io::stdout().is_terminal() {
        return Ok(());
    }
    let pid = holder.pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
    let draining = if holder.pid.is_some_and(|pid| instance::is_drain_requested(data_dir, pid).unwrap_or(false)) {
        " and ends when everything is delivered (`stop --drain`); start it again then"
    } else {
        ""
    };
    print_line(format_args!("The agent is running already{pid}{draining}."));
    Ok(())
}

/// The log as it was before this start.
struct Log {
    path: PathBuf,
    length: u64,
    time: Timestamp,
}

fn start(config: &Config, folder: &Folder, log_format: LogFormat) -> Result<(Child, Log), Failure> {
    let path = config.paths.data_dir.agent_log();
    let opened = folder.append(AGENT_LOG).and_then(|file| Ok((file.try_clone()?, file.metadata()?.len(), file)));
    let (stdout, length, stderr) = opened.map_err(Failure::with_path(&path, "can't be written"))?;
    let program = std::env::current_exe().map_err(Failure::context("can't find this program"))?;
    let check = |program: &OsStr| {
        let unsafe_program = format!("`{}` isn't safe from other users", program.to_string_lossy());
        check_program(program).map_err(Failure::context(unsafe_program))
    };
    check(program.as_os_str())?;
    let launcher = check(OsStr::new(platform::LAUNCHER))?
        .ok_or_else(|| Failure::new(format!("there is no `{}` in the PATH", platform::LAUNCHER)))?;
    let mut args = vec![OsString::from("--config"), config.file.clone().into(), "run".into(), "--detached".into()];
    if log_format == LogFormat::Json {
        args.extend(["--log-format".into(), "json".into()]);
    }
    let time = Timestamp::now();
    let mut command = platform::detached(&launcher, &program, &args);
    let child = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn().map_err(|error| {
        let program = command.get_program().to_string_lossy();
        Failure::new(format!("the agent can't be started in the background: `{program}`: {error}"))
    })?;
    Ok((child, Log { path, length, time }))
}

/// Waits for the Server's first answer and reports it. The agent retries after any answer.
fn report_first_answer(data_dir: &DataDir, pid: u32, log: &Log) -> Result<(), Failure> {
    // The file may be an earlier agent's that had the same pid.
    let has_tried = |state: &State| state.pid == pid && state.started_at >= log.time && state.server_tried;
    let answered = wait_for(FIRST_ANSWER, || match State::load(data_dir).filter(has_tried) {
        None if !matches!(find_holder(data_dir), Ok(Some(holder)) if holder.pid == Some(pid)) => {
            Some(Err("didn't start"))
        }
        state => state.map(Ok),
    });
    let answered = answered.transpose().map_err(|how| log.not_started(how))?;
    print_line(format_args!("The agent runs in the background (pid {pid}); its log is {}.", log.path.display()));
    let Some(state) = answered else {
        eprint_line("The Server hasn't answered yet; the agent keeps waiting for its answer.");
        return Ok(());
    };
    match state.server_trouble.map(|trouble| escape(&trouble.message)) {
        None => print_line("The Server accepted the agent's heartbeat."),
        Some(why) => eprint_line(format_args!("The Server can't be used yet: {why}; the agent retries.")),
    }
    report_host(data_dir, pid);
    Ok(())
}

/// Waits for the agent's first check of the engine, mounts and disk, and reports why no task is accepted.
fn report_host(data_dir: &DataDir, pid: u32) {
    let checked = wait_for(FIRST_CHECK, || match State::load(data_dir).filter(|state| state.pid == pid) {
        Some(State { engine: EngineState::Unknown, .. }) => None,
        state => Some(state),
    });
    match checked {
        Some(Some(State { not_accepting: Some(why), server_trouble: None, .. })) => {
            eprint_line(format_args!("No task is accepted yet: {}.", escape(&why)));
        }
        Some(_) => {}
        None => eprint_line("The Docker engine hasn't answered yet; no task is accepted until it does."),
    }
}

impl Log {
    /// The failure of a start, with the lines that it has logged.
    fn not_started(&self, how: &str) -> Failure {
        let tail = self.tail().unwrap_or_else(|error| format!("(the log can't be read: {error})"));
        Failure::new(format!("the agent {how}; the end of {}:\n{tail}", self.path.display()))
    }

    /// Whole lines that were logged since the start.
    fn tail(&self) -> io::Result<String> {
        let mut file = open_to_read(&self.path)?;
        let length = file.metadata()?.len();
        // A shorter log was rotated meanwhile.
        let begin = if length < self.length { 0 } else { self.length };
        let cut = length.saturating_sub(SHOWN) > begin;
        file.seek(SeekFrom::Start(begin.max(length.saturating_sub(SHOWN))))?;
        let mut text = Vec::new();
        file.take(SHOWN).read_to_end(&mut text)?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let whole = if cut { text.split_once('\n').map_or("", |(_, rest)| rest) } else { &text };
        Ok(whole.trim_end().to_owned())
    }
}
