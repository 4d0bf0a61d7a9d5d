//! What the container prints: the two logs that keep the beginning and the end of each stream.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::TaskContainer;
use crate::docker::LogRange;
use crate::os::process::{BoundedLog, LoggedChild, Otherwise};
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

/// A log to which is added what the engine's copy of the output has beyond it.
fn replay(path: PathBuf, otherwise: Otherwise) -> BoundedLog {
    BoundedLog::replay(path, HEAD, TAIL, otherwise)
}

/// What the logs may lack of what a container has printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Lacking {
    /// Anything.
    #[default]
    Unknown,
    /// The last lines: `docker logs --follow` may end before it has printed them.
    LastLines,
    /// Nothing: a client was with the container from its start to its end. But the client may have added its own words.
    Nothing,
}

/// Starts a client that follows a running container's output.
pub fn follow(container: &TaskContainer<'_>, task: &TaskHandle) -> Result<LoggedChild, StepError> {
    let [stdout, stderr] = [task.files.stdout(), task.files.stderr()].map(|path| replay(path, Otherwise::Append));
    LoggedChild::spawn(container.docker.logs_command(&container.name, LogRange::UntilExit), stdout, stderr)
        .map_err(StepError::because("the container can't be followed"))
}

/// Reads what the logs of an exited container may lack. Nothing that they have is replaced by less.
///
/// What a client left in the logs may hold its own words (a pull's progress, a warning, "unexpected EOF"), which must
/// not pass for the container's. So where a client of this run `was_launched`, the engine's copy replaces the logs,
/// unless they are so long that the engine may not have kept all: it keeps the two streams in one file.
pub fn collect(container: &TaskContainer<'_>, task: &TaskHandle, was_launched: bool, lacking: Lacking) {
    let paths = [task.files.stdout(), task.files.stderr()];
    let length: u64 = paths.iter().map(|path| fs::metadata(path).map_or(0, |meta| meta.len())).sum();
    let is_replaced = was_launched && length < ALWAYS_KEPT;
    let otherwise = match lacking {
        Lacking::Nothing if !is_replaced => return,
        Lacking::LastLines => Otherwise::Drop,
        Lacking::Nothing | Lacking::Unknown => Otherwise::Append,
    };
    let [stdout, stderr] = paths.map(|path| if is_replaced { create(path) } else { replay(path, otherwise) });
    let command = container.docker.logs_command(&container.name, LogRange::UntilNow);
    match LoggedChild::spawn(command, stdout, stderr).map(|reader| reader.finish(READ_TIMEOUT)) {
        Ok(Some(_)) => {}
        Ok(None) => {
            log::warn!(task:% = task.key(); "`docker logs` didn't end within 60 s; its output may be incomplete");
        }
        Err(error) => log::warn!(task:% = task.key(); "its output can't be fetched: {error}"),
    }
}
