//! `run-detached`: the agent in the background.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::failure::{CommandResult, Failure};
use super::output::{eprint_line, print_line};
use super::registration::not_registered;
use crate::agent::status_file::{EngineState, State, StatusFile};
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::data_dir::holder::{Holder, find_holder};
use crate::data_dir::instance;
use crate::data_dir::permissions;
use crate::logging::LogFormat;
use crate::os::platform;
use crate::text::escape;

/// How long the agent may take until it holds its lock: a mount that gives no answer is given up after ten seconds.
const START: Duration = Duration::from_secs(20);
/// How long it may take from there until it knows whether the Server answers. One that accepts a connection and says
/// nothing takes longer; then the agent is up, and goes on waiting.
const FIRST_ANSWER: Duration = Duration::from_secs(20);
/// How long a command may have the data_dir before that is said.
const OTHERS: Duration = Duration::from_secs(5);
/// How long the agent may take to find out whether the engine answers.
const FIRST_LOOK: Duration = Duration::from_secs(12);
/// How often it is looked how far the agent is.
const LOOK: Duration = Duration::from_millis(50);
/// How much of the log is shown where the agent doesn't start.
const SHOWN: u64 = 4000;

/// Starts `run` in the background and returns when it is up, or says why it isn't.
pub fn run_detached(file: &Path, log_format: LogFormat) -> CommandResult {
    let config = Config::load(file)?;
    let data_dir = &config.paths.data_dir;
    let unusable = |error: io::Error| Failure::new(format!("`{}` can't be used: {error}", data_dir.display()));
    if let Some(holder) = wait_for_others(data_dir).map_err(unusable)? {
        if !holder.is_agent() {
            return Err(Failure::new(format!("{holder}; start the agent when that has ended")));
        }
        let pid = holder.pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
        let draining = if holder.pid.is_some_and(|pid| instance::is_drain_requested(data_dir, pid)) {
            " and ends when all that is here is delivered (`stop --drain`); start it again then"
        } else {
            ""
        };
        print_line(format_args!("The agent is running already{pid}{draining}."));
        return Ok(ExitCode::SUCCESS);
    }
    // What else may be wrong, `run` says; this alone needs no log.
    if config.agent.credentials.is_none() {
        return Err(not_registered(&config));
    }
    if data_dir.exists() {
        permissions::check_folder(data_dir).and_then(|()| permissions::check_owner(data_dir)).map_err(Failure::new)?;
    } else {
        fs::create_dir_all(data_dir).and_then(|()| platform::make_private_dir(data_dir)).map_err(unusable)?;
    }
    let (mut child, log) = start(&config, log_format)?;
    let deadline = Instant::now() + START;
    loop {
        let agent = find_holder(data_dir).ok().flatten().filter(|holder| holder.is_agent());
        if let Some(pid) = agent.and_then(|agent| agent.pid) {
            return report_first_answer(data_dir, pid, &log);
        }
        let ended = child.try_wait().is_ok_and(|status| status.is_some_and(|status| !status.success()));
        if ended || Instant::now() >= deadline {
            return Err(log.not_started(if ended { "didn't start" } else { "isn't up after 20 s" }));
        }
        thread::sleep(LOOK);
    }
}
/// Whoever has the data_dir: a command that has it for a moment is waited for.
fn wait_for_others(data_dir: &DataDir) -> io::Result<Option<Holder>> {
    let deadline = Instant::now() + OTHERS;
    loop {
        let holder = find_holder(data_dir)?;
        if holder.is_none_or(Holder::is_agent) || Instant::now() >= deadline {
            return Ok(holder);
        }
        thread::sleep(LOOK);
    }
}

/// The log as this start finds it.
struct Log {
    path: PathBuf,
    /// How long it was.
    before: u64,
    /// When that was.
    since: Timestamp,
}

fn start(config: &Config, log_format: LogFormat) -> Result<(Child, Log), Failure> {
    let path = config.paths.data_dir.agent_log();
    let opened = OpenOptions::new().create(true).append(true).open(&path).and_then(|file| {
        platform::make_private(&file)?;
        Ok((file.try_clone()?, file.metadata()?.len(), file))
    });
    let (stdout, before, stderr) =
        opened.map_err(|error| Failure::new(format!("`{}` can't be written: {error}", path.display())))?;
    let program = std::env::current_exe().map_err(|error| Failure::new(format!("can't find this program: {error}")))?;
    let mut args = vec![OsString::from("--config"), config.file.clone().into(), "run".into(), "--detached".into()];
    if log_format == LogFormat::Json {
        args.extend(["--log-format".into(), "json".into()]);
    }
    let since = Timestamp::now();
    let mut command = platform::detached(&program, &args);
    let child = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn().map_err(|error| {
        let starter = command.get_program().to_string_lossy().into_owned();
        Failure::new(format!("the agent can't be started in the background: `{starter}`: {error}"))
    })?;
    Ok((child, Log { path, before, since }))
}

/// Waits until the agent has tried its Server, and says what came of it. Trouble there doesn't end the agent: it goes on
/// trying.
fn report_first_answer(data_dir: &DataDir, pid: u32, log: &Log) -> CommandResult {
    let deadline = Instant::now() + FIRST_ANSWER;
    let is_up =
        || print_line(format_args!("The agent runs in the background (pid {pid}); its log is {}.", log.path.display()));
    // The pid alone may be an earlier agent's, whose words lie there still.
    let has_tried = |state: &State| state.pid == pid && state.started_at >= log.since && state.server_tried;
    loop {
        match StatusFile::new(data_dir).load().filter(has_tried) {
            Some(state) => {
                is_up();
                match state.server_trouble {
                    None => print_line("The Server knows that it is there."),
                    Some(trouble) => {
                        let why = escape(&trouble.message);
                        eprint_line(format_args!("The Server can't be used yet: {why}; trying again."));
                    }
                }
                report_machine(data_dir, pid);
                return Ok(ExitCode::SUCCESS);
            }
            None if !matches!(find_holder(data_dir), Ok(Some(holder)) if holder.pid == Some(pid)) => {
                return Err(log.not_started("didn't start"));
            }
            None if Instant::now() >= deadline => {
                is_up();
                eprint_line("The Server hasn't answered yet; the agent goes on waiting for it.");
                return Ok(ExitCode::SUCCESS);
            }
            None => thread::sleep(LOOK),
        }
    }
}

/// Says why no task is accepted, once the agent has looked at engine, mounts and disk. That doesn't end it, either.
fn report_machine(data_dir: &DataDir, pid: u32) {
    let deadline = Instant::now() + FIRST_LOOK;
    while Instant::now() < deadline {
        let Some(state) = StatusFile::new(data_dir).load().filter(|state| state.pid == pid) else { return };
        if state.engine != EngineState::Unknown {
            if let Some(why) = state.not_accepting.filter(|_| state.server_trouble.is_none()) {
                eprint_line(format_args!("No task is accepted yet: {}.", escape(&why)));
            }
            return;
        }
        thread::sleep(LOOK);
    }
    eprint_line("The Docker engine hasn't answered yet; no task is accepted until it does.");
}

impl Log {
    /// What this start has logged, where there is no agent.
    fn not_started(&self, how: &str) -> Failure {
        let tail = self.tail().unwrap_or_else(|error| format!("(it can't be read: {error})"));
        Failure::new(format!("the agent {how}; the end of {}:\n{tail}", self.path.display()))
    }

    /// Whole lines of it.
    fn tail(&self) -> io::Result<String> {
        let mut file = File::open(&self.path)?;
        let length = file.metadata()?.len();
        // It may have been rotated meanwhile.
        let begin = if length < self.before { 0 } else { self.before };
        let cut = length.saturating_sub(SHOWN) > begin;
        file.seek(SeekFrom::Start(begin.max(length.saturating_sub(SHOWN))))?;
        let mut text = Vec::new();
        file.take(SHOWN).read_to_end(&mut text)?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let whole = if cut { text.split_once('\n').map_or("", |(_, rest)| rest) } else { &text };
        Ok(whole.trim_end().to_owned())
    }
}
