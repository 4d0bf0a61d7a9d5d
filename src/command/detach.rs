//! `run-detached`: the agent in the background.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::run::LOG_NAME;
use super::{Done, Failure};
use crate::cli::LogFormat;
use crate::config::Config;
use crate::instance;
use crate::platform;
use crate::process::read_tail;
use crate::state::StateFile;
use crate::workspace::check_mounts;

/// How long the agent may take until it holds its lock.
const START: Duration = Duration::from_secs(15);
/// How long it may take from there until it knows whether the Server answers. One that accepts a connection and says
/// nothing takes longer; then the agent is up, and goes on waiting.
const FIRST_ANSWER: Duration = Duration::from_secs(20);

/// Starts `run` in the background and returns when it is up, or says why it isn't.
pub fn run_detached(file: &Path, log_format: LogFormat) -> Done {
    let config = Config::load(file)?;
    let data_dir = &config.paths.data_dir;
    let unusable = |error: io::Error| Failure::new(format!("`{}` can't be used: {error}", data_dir.display()));
    if let Some(pid) = instance::running(data_dir).map_err(unusable)? {
        let pid = pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
        println!("The agent is running already{pid}.");
        return Ok(ExitCode::SUCCESS);
    }
    if config.agent.credentials.is_none() {
        return Err(Failure::new(format!(
            "not registered; run `agent-core --config {} register --token rt_…` with a token from the Server",
            config.file.display()
        )));
    }
    check_mounts(&config).map_err(Failure::new)?;
    if !data_dir.exists() {
        fs::create_dir_all(data_dir).and_then(|()| platform::hide_dir(data_dir)).map_err(unusable)?;
    }
    let log_path = data_dir.join(LOG_NAME);
    let log = OpenOptions::new().create(true).append(true).open(&log_path).map_err(unusable)?;
    platform::hide_file(&log).map_err(unusable)?;
    let program = std::env::current_exe().map_err(|error| Failure::new(format!("can't find this program: {error}")))?;
    let mut args = vec![OsString::from("--config"), config.file.clone().into(), "run".into(), "--detached".into()];
    if log_format == LogFormat::Json {
        args.extend(["--log-format".into(), "json".into()]);
    }
    let mut child = platform::detached(&program, &args)
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(unusable)?)
        .stderr(log)
        .spawn()
        .map_err(|error| Failure::new(format!("the agent can't be started in the background: {error}")))?;
    let deadline = Instant::now() + START;
    loop {
        if let Ok(Some(Some(pid))) = instance::running(data_dir) {
            println!("The agent runs in the background (pid {pid}); its log is {}.", log_path.display());
            return report_first_answer(data_dir, pid, &log_path);
        }
        let ended = child.try_wait().is_ok_and(|status| status.is_some_and(|status| !status.success()));
        if ended || Instant::now() >= deadline {
            return Err(not_started(&log_path));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until the agent has tried its Server, and says what came of it. Trouble there doesn't end the agent: it goes on
/// trying.
fn report_first_answer(data_dir: &Path, pid: u32, log_path: &Path) -> Done {
    let deadline = Instant::now() + FIRST_ANSWER;
    loop {
        match StateFile::of(data_dir).load().filter(|state| state.pid == pid && state.server_tried) {
            Some(state) => {
                match state.server_trouble {
                    None => println!("The Server knows that it is there."),
                    Some(trouble) => eprintln!("The Server can't be used yet: {}; trying again.", trouble.message),
                }
                return Ok(ExitCode::SUCCESS);
            }
            None if !matches!(instance::running(data_dir), Ok(Some(running)) if running == Some(pid)) => {
                return Err(not_started(log_path));
            }
            None if Instant::now() >= deadline => {
                eprintln!("The Server hasn't answered yet; the agent goes on waiting for it.");
                return Ok(ExitCode::SUCCESS);
            }
            None => thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn not_started(log_path: &Path) -> Failure {
    let tail = match read_tail(log_path, 2000) {
        Ok(tail) => tail,
        Err(error) => format!("(it can't be read: {error})"),
    };
    Failure::new(format!("the agent didn't start; the end of {}:\n{tail}", log_path.display()))
}
