//! What the container prints: the two logs that keep the beginning and the end of each stream.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::TaskContainer;
use super::engine_copy::{self, ClientWords};
use crate::docker::LogRange;
use crate::os::files::{self, Durability, Replacement, if_exists, remove_if_exists};
use crate::os::process::{BoundedLog, LoggedChild, Otherwise, is_crash};
use crate::task::{StepError, TaskHandle};

/// How much of each stream is kept: its first MiB and its last nine.
const HEAD: u64 = 1 << 20;
const TAIL: u64 = 9 << 20;
/// How much of a stream the engine keeps in any case, however short its lines are.
const ALWAYS_KEPT: u64 = 64 * 1024;
/// How much of the engine's copy is compared with a log, at most.
const COMPARED: u64 = 1 << 20;
/// Why an exited container is looked at again.
const UNREAD: &str = "the container's output can't be fetched";
/// The shortest and the longest pause after a `docker logs` that broke off.
const READ_PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(60)];
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
pub fn follow(container: &TaskContainer<'_>, task: &TaskHandle, id: &str) -> Result<LoggedChild, StepError> {
    let [stdout, stderr] = [task.files.stdout(), task.files.stderr()].map(|path| replay(path, Otherwise::Append));
    LoggedChild::spawn(container.docker.logs_command(id, LogRange::UntilExit, None), stdout, stderr)
        .map_err(StepError::because("the container can't be followed"))
}

/// Reads what the logs of an exited container may lack. Nothing that they have is replaced by less.
///
/// What a client left in the logs may hold its own words (a pull's progress, a warning, "unexpected EOF"), which must
/// not pass for the container's. So where a client of this run `was_launched`, the logs are compared with the engine's copy,
/// unless they are so long that the engine may not have kept all: it keeps the two streams in one file.
///
/// # Errors
/// This machine can't start a client now.
pub fn collect(
    container: &TaskContainer<'_>,
    task: &mut TaskHandle,
    was_launched: bool,
    lacking: Lacking,
) -> Result<(), StepError> {
    let paths = [task.files.stdout(), task.files.stderr()];
    let length: u64 = paths.iter().map(|path| fs::metadata(path).map_or(0, |meta| meta.len())).sum();
    if was_launched && length < ALWAYS_KEPT && combine(container, task, lacking)? {
        return Ok(());
    }
    let otherwise = match lacking {
        Lacking::Nothing => return Ok(()),
        Lacking::LastLines => Otherwise::Drop,
        Lacking::Unknown => Otherwise::Append,
    };
    read(container, task, || paths.clone().map(|path| replay(path, otherwise))).map(drop)
}

/// Combines each log with the engine's copy. Returns whether that was possible for both of them.
fn combine(container: &TaskContainer<'_>, task: &mut TaskHandle, lacking: Lacking) -> Result<bool, StepError> {
    let behind = if lacking == Lacking::Nothing { ClientWords::Before } else { ClientWords::BeforeAndBehind };
    let logs = [(task.files.stdout(), ClientWords::Nowhere), (task.files.stderr(), behind)];
    let copies = logs.each_ref().map(|(log, _)| log.with_extension("copy"));
    let is_read = read(container, task, || copies.clone().map(create))?;
    let combined = logs.iter().zip(&copies).map(|((log, words), copy)| combine_one(log, copy, *words));
    let combined: Vec<io::Result<bool>> = combined.collect();
    for copy in &copies {
        if let Err(error) = remove_if_exists(copy) {
            log::warn!(task:% = task.key(); "`{}` can't be removed: {error}", copy.display());
        }
    }
    let is_combined = combined.into_iter().map(|one| {
        one.unwrap_or_else(|error| {
            log::warn!(task:% = task.key(); "its output can't be compared with the engine's copy: {error}");
            false
        })
    });
    // All are asked.
    Ok(is_combined.fold(is_read, |all, one| all && one))
}

/// Combines a log with the engine's copy of it. Returns whether that was possible.
fn combine_one(log: &Path, copy: &Path, words: ClientWords) -> io::Result<bool> {
    // On a full disk the log may lack far more than the rest of the agent should hold in memory.
    if if_exists(fs::metadata(copy))?.is_some_and(|copy| copy.len() > COMPARED) {
        return Ok(false);
    }
    let text = |path: &Path| if_exists(files::read(path)).map(Option::unwrap_or_default);
    let (before, copy) = (text(log)?, text(copy)?);
    let combined = engine_copy::combine(&before, &copy, words);
    if let Some(combined) = combined.as_ref().filter(|combined| **combined != before) {
        Replacement::write(log, combined, Durability::Crash)?.commit()?;
    }
    Ok(combined.is_some())
}

/// Reads the engine's copy of the output. Returns whether it could be read to its end.
fn read(
    container: &TaskContainer<'_>,
    task: &mut TaskHandle,
    into: impl Fn() -> [BoundedLog; 2],
) -> Result<bool, StepError> {
    let began = Instant::now();
    loop {
        let [stdout, stderr] = into();
        let command = container.docker.logs_command(&container.name, LogRange::UntilNow, None);
        let reader = LoggedChild::spawn(command, stdout, stderr).map_err(StepError::because(UNREAD))?;
        match reader.finish(READ_TIMEOUT) {
            // As it does on a machine without memory or processes.
            Some(status) if is_crash(status.code()) && began.elapsed() < container.limits.unread => {
                log::debug!(task:% = task.key(); "{UNREAD}: `docker logs` broke off; trying again");
                let [shortest, longest] = READ_PAUSES;
                task.wait((began.elapsed() / 2).clamp(shortest, longest))?;
            }
            Some(status) if is_crash(status.code()) => {
                log::warn!(task:% = task.key(); "`docker logs` breaks off again and again; its output may be incomplete");
                return Ok(false);
            }
            Some(status) => return Ok(status.success()),
            None => {
                log::warn!(task:% = task.key(); "`docker logs` didn't end within 60 s; its output may be incomplete");
                return Ok(false);
            }
        }
    }
}
