//! `stop`: ends the agent that runs on a data_dir.

use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use super::{Done, Failure};
use crate::config::Config;
use crate::instance;
use crate::platform;
use crate::record::{Phase, Store};

/// How long the agent may take to leave by itself (README, Stop Service).
const GRACE: Duration = Duration::from_secs(5);

/// Sends SIGTERM, and SIGKILL when the grace is over. Nothing to stop is no error.
pub fn stop(file: &Path) -> Done {
    let config = Config::load(file)?;
    let data_dir = &config.paths.data_dir;
    let unusable = |error: std::io::Error| Failure::new(format!("`{}` can't be used: {error}", data_dir.display()));
    let pid = match instance::running(data_dir).map_err(unusable)? {
        None => {
            instance::remove_stale_pid_file(data_dir).map_err(unusable)?;
            println!("The agent is not running.");
            return Ok(ExitCode::SUCCESS);
        }
        Some(Some(pid)) => pid,
        Some(None) => return Err(Failure::new("an agent is running, but its pid can't be read from agent.lock")),
    };
    let undone = |error: std::io::Error| Failure::new(format!("the agent (pid {pid}) can't be stopped: {error}"));
    platform::terminate(pid).map_err(undone)?;
    let how = if is_gone_within(data_dir, GRACE) {
        "Stopped"
    } else {
        platform::kill_process(pid).map_err(undone)?;
        if !is_gone_within(data_dir, GRACE) {
            return Err(Failure::new(format!("the agent (pid {pid}) doesn't end although it was killed")));
        }
        "Killed after 5 seconds"
    };
    instance::remove_stale_pid_file(data_dir).map_err(unusable)?;
    println!("{how} (pid {pid}).");
    let store = Store::open(data_dir).map_err(unusable)?;
    let phases = store.load_all(|_, task| Some(task.phase)).map_err(unusable)?.taken;
    let unfinished = phases.iter().filter(|phase| **phase < Phase::Exited).count();
    let undelivered = phases.iter().filter(|phase| (Phase::Exited..Phase::Settled).contains(phase)).count();
    if unfinished > 0 {
        println!("{unfinished} task(s) stay in their containers; the next start goes on with them.");
    }
    if undelivered > 0 {
        println!("{undelivered} result(s) wait for their delivery; the next start goes on with it.");
    }
    Ok(ExitCode::SUCCESS)
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
