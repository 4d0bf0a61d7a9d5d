//! Work on a thread beside a task's worker, so that a command doesn't have to wait for its end.
//!
//! A thread that waits for a disk that hangs can't be ended. The worker leaves it behind then, and the task's slot is free;
//! there is one such thread a task at most.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded, never, select};

use super::{Pause, StepError, TaskHandle};

/// Why [`TaskHandle::run_beside`] calls its `watch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    Command,
    Interval,
}

/// Whether the work goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    GoesOn,
    /// It was told to end, and does so in a moment if nothing hangs.
    IsToEnd,
}

/// How long work that was told to end is waited for: until the log says so, and until the worker leaves it behind.
#[derive(Debug, Clone, Copy)]
struct Limits {
    said_after: Duration,
    left_after: Duration,
}

const LIMITS: Limits = Limits { said_after: Duration::from_secs(10), left_after: Duration::from_secs(30) };
/// The pauses between two looks at work that was left behind, and before the end of a cancelled task, which needs none.
const LEFT_PAUSE: Duration = Duration::from_secs(30);
const CANCELLED_PAUSE: Duration = Duration::from_secs(1);

/// The tasks that have work beside their worker, or left behind by it: the path of the fetched results of each.
static AT_WORK: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn at_work() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    AT_WORK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says that a task has work, until it is dropped.
struct Claim(PathBuf);

impl Claim {
    /// `None` if the task has some already.
    fn new(path: &Path) -> Option<Self> {
        at_work().insert(path.to_owned()).then(|| Self(path.to_owned()))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        at_work().remove(&self.0);
    }
}

/// Work that was told to end.
struct Told {
    since: Instant,
    /// The command that ends the step.
    command: Option<StepError>,
    is_said: bool,
}

impl TaskHandle {
    /// Runs `work` on a thread of its own, and returns its result, unless a command ends the step. `watch` is called after
    /// each command and after each interval, until it says that it has told the work to end.
    ///
    /// # Errors
    /// [`StepError::WithoutSlot`] if the work doesn't end although it was told to.
    pub fn run_beside<T: Send + 'static>(
        &mut self,
        (name, interval): (&str, Duration),
        work: impl FnOnce() -> T + Send + 'static,
        watch: impl FnMut(&Self, Wake) -> Work,
    ) -> Result<T, StepError> {
        self.run_within(LIMITS, (name, interval), work, watch)
    }

    fn run_within<T: Send + 'static>(
        &mut self,
        limits: Limits,
        (name, interval): (&str, Duration),
        work: impl FnOnce() -> T + Send + 'static,
        mut watch: impl FnMut(&Self, Wake) -> Work,
    ) -> Result<T, StepError> {
        let result = self.start_beside(name, work)?;
        let (mut commands, mut told) = (self.commands(), None::<Told>);
        loop {
            let mut is_to_end = false;
            let next = told.as_ref().map_or(interval, |_| interval.min(limits.said_after));
            select! {
                recv(result) -> result => {
                    let result = result.map_err(StepError::because(format!("a {name} broke off")));
                    return told.and_then(|told| told.command).map_or(result, Err);
                }
                recv(commands) -> command => {
                    let handled = self.handle(command);
                    is_to_end = watch(self, Wake::Command) == Work::IsToEnd || handled.is_err();
                    if let Err(command) = handled {
                        told.get_or_insert_with(Told::now).command = Some(command);
                        commands = never();
                    }
                }
                default(next) => if told.is_none() { is_to_end = watch(self, Wake::Interval) == Work::IsToEnd },
            }
            if is_to_end {
                told.get_or_insert_with(Told::now);
            }
            if let Some(told) = &mut told {
                self.wait_for_end(name, limits, told)?;
            }
        }
    }

    /// Starts the work, unless a disk still holds an earlier one.
    fn start_beside<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Receiver<T>, StepError> {
        let Some(claim) = Claim::new(&self.files.fetched_dir()) else { return Err(self.leave(name)) };
        let (sender, result) = bounded(1);
        let run = move || {
            let done = work();
            drop(claim);
            // A send error means that the receiver has given up; ignore it.
            drop(sender.send(done));
        };
        let started = thread::Builder::new().name(name.to_owned()).spawn(run);
        started.map(|_| result).map_err(StepError::because(format!("no thread for a {name}")))
    }

    /// Fails when the work has had its time to end.
    fn wait_for_end(&self, name: &str, limits: Limits, told: &mut Told) -> Result<(), StepError> {
        let waited = told.since.elapsed();
        if waited >= limits.left_after {
            return Err(told.command.take().unwrap_or_else(|| self.leave(name)));
        }
        if waited >= limits.said_after && !told.is_said {
            told.is_said = true;
            log::warn!(task:% = self.key(); "its {name} doesn't end although it was told to; a disk may hang");
        }
        Ok(())
    }

    fn leave(&self, name: &str) -> StepError {
        let pause = if self.is_cancel_requested() { CANCELLED_PAUSE } else { LEFT_PAUSE };
        let why = format!("its {name} doesn't end although it was told to: a disk gives no answer");
        StepError::WithoutSlot { why, pause: Pause::Due(pause) }
    }
}

impl Told {
    fn now() -> Self {
        Self { since: Instant::now(), command: None, is_said: false }
    }
}

#[cfg(test)]
mod tests {
    use super::{Limits, Wake, Work};
    use crate::data_dir::DataDir;
    use crate::server::protocol::Task;
    use crate::task::{Job, Record, StepError, Store, TaskHandle, TaskKey, WorkerCommand, Workspace};
    use crossbeam_channel::{Sender, bounded, unbounded};
    use std::sync::Arc;
    use std::time::{Duration, Instant};
    use tempfile::TempDir;

    const INTERVAL: Duration = Duration::from_millis(20);
    const LIMITS: Limits = Limits { said_after: Duration::from_millis(50), left_after: Duration::from_millis(150) };

    fn task() -> (TempDir, TaskHandle, Sender<WorkerCommand>) {
        let dir = tempfile::tempdir().unwrap();
        let (data_dir, key) = (DataDir::new(dir.path()), TaskKey::from_id("t").unwrap());
        let record = Record::from_offer(Task { id: "t".to_owned(), ..Task::default() }, "s", "u");
        let files = Store::open(&data_dir).unwrap().create(&key, &record).unwrap();
        let (sender, commands) = unbounded();
        let job = Job { files, record, commands, is_worker_wanted: Arc::default() };
        (dir, TaskHandle::new(job, Workspace::new(&data_dir, &key), None), sender)
    }

    /// What comes of work that ends only when the returned sender is dropped, after this command.
    fn hang(task: &mut TaskHandle, is_slow: bool) -> (Result<(), StepError>, Sender<()>) {
        let (disk, answer) = bounded::<()>(0);
        let work = move || {
            let _ = answer.recv();
        };
        let watch = |_: &TaskHandle, wake| if is_slow || wake == Wake::Command { Work::IsToEnd } else { Work::GoesOn };
        (task.run_within(LIMITS, ("transfer", INTERVAL), work, watch), disk)
    }

    #[test]
    fn work_that_a_disk_holds_is_left_behind_without_a_slot() {
        for is_cancelled in [false, true] {
            let (_dir, mut task, commander) = task();
            if is_cancelled {
                commander.send(WorkerCommand::Cancel).unwrap();
            }
            let (left, disk) = hang(&mut task, !is_cancelled);
            assert!(matches!(left, Err(StepError::WithoutSlot { .. })), "{left:?}");
            assert_eq!(task.is_cancel_requested(), is_cancelled, "the command is heard");
            // No second thread waits for the same disk.
            let again = task.run_beside(("transfer", INTERVAL), || (), |_, _| Work::GoesOn);
            assert!(matches!(again, Err(StepError::WithoutSlot { .. })), "{again:?}");
            drop(disk);
            let began = Instant::now();
            while task.run_beside(("transfer", INTERVAL), || (), |_, _| Work::GoesOn).is_err() {
                assert!(began.elapsed() < Duration::from_secs(20), "it goes on when the disk answers");
                std::thread::sleep(INTERVAL);
            }
        }
    }

    #[test]
    fn a_command_that_ends_the_step_is_not_held_up_by_a_disk() {
        for (command, is_it) in [
            (WorkerCommand::Discard, (|error| matches!(error, StepError::Discarded)) as fn(StepError) -> bool),
            (WorkerCommand::Shutdown, |error| matches!(error, StepError::Shutdown)),
        ] {
            let (_dir, mut task, commander) = task();
            commander.send(command).unwrap();
            let (ended, _disk) = hang(&mut task, false);
            assert!(ended.is_err_and(is_it), "{command:?}");
        }
    }

    #[test]
    fn work_that_ends_gives_its_result_also_after_a_cancellation() {
        let (_dir, mut task, commander) = task();
        commander.send(WorkerCommand::Cancel).unwrap();
        let (told, is_told) = bounded(1);
        let work = move || is_told.recv().map(|()| 7);
        let watch = |_: &TaskHandle, _| {
            let _ = told.try_send(());
            Work::IsToEnd
        };
        assert_eq!(task.run_beside(("transfer", INTERVAL), work, watch).unwrap(), Ok(7));
        assert!(task.is_cancel_requested());
    }
}
