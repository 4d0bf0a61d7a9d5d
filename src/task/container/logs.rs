//! What the container prints: the two logs that keep the beginning and the end of each stream.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::TaskContainer;
use crate::docker::LogRange;
use crate::os::process::{BoundedLog, LoggedChild};
use crate::task::{StepError, TaskHandle};

/// How much of each stream is kept: its first MiB and its last nine.
const HEAD: u64 = 1 << 20;
const TAIL: u64 = 9 << 20;
/// How much of a stream the engine keeps in any case, however short its lines are.
const ALWAYS_KEPT: u64 = 64 * 1024;
/// How long `docker logs` may take.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// A new log, for a container that starts.
pub fn create(path: PathBuf) -> BoundedLog {
    BoundedLog::create(path, HEAD, TAIL)
}

/// A log that the engine's copy of the output is written to, in place of what it repeats.
fn replay(path: PathBuf) -> BoundedLog {
    BoundedLog::replay(path, HEAD, TAIL)
}

/// Starts a client that follows a running container's output.
pub fn follow(container: &TaskContainer<'_>, task: &TaskHandle) -> Result<LoggedChild, StepError> {
    let [stdout, stderr] = [task.files.stdout(), task.files.stderr()].map(replay);
    LoggedChild::spawn(container.docker.logs_command(&container.name, LogRange::UntilExit), stdout, stderr)
        .map_err(StepError::because("the container can't be followed"))
}

/// Reads what an exited container printed, if no client was with it to its end.
///
/// What a client left in the logs may hold its own words (a pull's progress, a warning, "unexpected EOF"), which must
/// not pass for the container's. So where a client of this run `was_launched`, the engine's copy replaces the log,
/// unless the log is so long that the engine may not have kept all.
pub fn collect(container: &TaskContainer<'_>, task: &TaskHandle, was_launched: bool) {
    let log = |path: PathBuf| {
        let is_short = fs::metadata(&path).is_ok_and(|meta| meta.len() < ALWAYS_KEPT);
        if was_launched && is_short { create(path) } else { replay(path) }
    };
    let [stdout, stderr] = [task.files.stdout(), task.files.stderr()].map(log);
    let command = container.docker.logs_command(&container.name, LogRange::UntilNow);
    match LoggedChild::spawn(command, stdout, stderr).map(|reader| reader.finish(READ_TIMEOUT)) {
        Ok(Some(_)) => {}
        Ok(None) => {
            log::warn!(task:% = task.key(); "`docker logs` didn't end within 60 s; its output may be incomplete");
        }
        Err(error) => log::warn!(task:% = task.key(); "its output can't be fetched: {error}"),
    }
}
