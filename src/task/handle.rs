//! A task in a worker: its record, its files, its workspace, and the commands that arrive for it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvError, RecvTimeoutError, Sender, TryRecvError};

use super::{
    Job, Phase, Record, StepError, StopReason, TaskFiles, TaskKey, WorkerCommand, WorkerEvent, WorkerMessage, Workspace,
};
use crate::server::protocol::FinalStatus;
use crate::units::Minutes;

/// Why a step is tried again whose result is known.
const UNWRITTEN: &str = "the record can't be written";

/// Whether a container had volumes, such as those that its image declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Volumes {
    None,
    Some,
    /// The container wasn't looked at. Shortly before its start, its image was found to hide nothing of a workspace.
    Unseen,
}

/// A container that has exited.
#[derive(Debug)]
pub struct ExitedContainer {
    pub id: String,
    pub volumes: Volumes,
    /// Whether its removal was asked for.
    pub is_removal_asked: bool,
}

/// A task in a worker.
pub struct TaskHandle {
    pub files: TaskFiles,
    pub record: Record,
    pub workspace: Workspace,
    /// Its container, if this worker has seen its end.
    pub exited: Option<ExitedContainer>,
    commands: Receiver<WorkerCommand>,
    is_worker_wanted: Arc<AtomicBool>,
    /// The channel to the agent; a trial has none.
    messages: Option<Sender<WorkerMessage>>,
}

impl TaskHandle {
    pub fn new(job: Job, workspace: Workspace, messages: Option<Sender<WorkerMessage>>) -> Self {
        let Job { files, record, commands, is_worker_wanted } = job;
        Self { files, record, workspace, exited: None, commands, is_worker_wanted, messages }
    }

    pub fn key(&self) -> &TaskKey {
        self.files.key()
    }

    /// Whether another task waits for this worker.
    pub fn is_worker_wanted(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_worker_wanted)
    }

    /// Sends an event to the agent.
    pub fn send(&self, event: WorkerEvent) {
        if let Some(messages) = &self.messages {
            // An error means that the agent ends, and its records say the rest.
            let _ = messages.send(WorkerMessage { key: self.key().clone(), event });
        }
    }

    /// Writes the record. If the disk refuses, the worker returns the task, and the next try reads what is on the disk.
    pub fn save(&self) -> Result<(), StepError> {
        self.files.save(&self.record).map_err(StepError::because(UNWRITTEN))
    }

    /// Writes the record with its next phase.
    pub fn advance(&mut self, phase: Phase) -> Result<(), StepError> {
        let before = (self.record.phase, self.record.times.clone());
        self.record.set_phase(phase);
        // Each upload has a durable line of its own, and the report is sent after another save.
        let saved =
            if phase == Phase::Uploaded { self.files.save_step(&self.record) } else { self.files.save(&self.record) };
        if let Err(error) = saved.map_err(StepError::because(UNWRITTEN)) {
            (self.record.phase, self.record.times) = before;
            return Err(error);
        }
        log::debug!(task:% = self.key(); "{phase}");
        self.send(WorkerEvent::PhaseReached(phase));
        Ok(())
    }

    /// Handles the commands that have arrived.
    pub fn check_commands(&mut self) -> Result<(), StepError> {
        loop {
            match self.commands.try_recv() {
                Ok(command) => self.handle(Ok(command))?,
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => return Err(StepError::Shutdown),
            }
        }
    }

    /// Waits for `time`, or until a command arrives and is handled.
    pub fn wait(&mut self, time: Duration) -> Result<(), StepError> {
        match self.commands.recv_deadline(Instant::now() + time) {
            Ok(command) => self.handle(Ok(command)),
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => Err(StepError::Shutdown),
        }
    }

    /// The channel of commands, for a `select!` that passes what it receives to [`TaskHandle::handle`].
    pub fn commands(&self) -> Receiver<WorkerCommand> {
        self.commands.clone()
    }

    pub fn handle(&mut self, received: Result<WorkerCommand, RecvError>) -> Result<(), StepError> {
        match received {
            Ok(WorkerCommand::Cancel) => {
                self.note_stop(StopReason::Cancel);
                Ok(())
            }
            Ok(WorkerCommand::Discard) => Err(StepError::Discarded),
            Ok(WorkerCommand::Shutdown) | Err(RecvError) => Err(StepError::Shutdown),
        }
    }

    /// Notes why the task is being stopped, and writes it before the stop itself. The first reason stands, but for a
    /// cancellation: that one says that the results aren't wanted.
    ///
    /// Where it can't be written, the task is stopped all the same: a container that fills the disk must not keep itself
    /// from being stopped. After a crash the Server asks again, and a limit of time is over again; an operator's stop is
    /// repeated by the operator.
    pub fn note_stop(&mut self, reason: StopReason) {
        if self.is_cancel_requested() || (self.record.stop.is_some() && reason != StopReason::Cancel) {
            return;
        }
        match reason {
            StopReason::Cancel => {
                let by = if self.messages.is_some() { "cancelled by the Server" } else { "interrupted" };
                log::info!(task:% = self.key(); "{by}; stopping");
            }
            StopReason::Timeout { minutes } => {
                log::info!(task:% = self.key(); "its time of {} is over; stopping", Minutes(minutes));
            }
            StopReason::Idle { minutes } => {
                log::info!(task:% = self.key(); "nothing was printed for {}; stopping", Minutes(minutes));
            }
            StopReason::Operator => log::info!(task:% = self.key(); "stopped by the operator"),
        }
        self.record.stop = Some(reason);
        self.save_later();
    }

    /// Writes the record, or leaves that to the next time: for what stays true without it.
    pub fn save_later(&self) {
        if let Err(error) = self.files.save(&self.record) {
            log::warn!(task:% = self.key(); "the record can't be written: {error}; going on without it");
        }
    }

    /// Whether the Server has asked for the task's cancellation, so that its results aren't wanted.
    pub fn is_cancel_requested(&self) -> bool {
        self.record.stop == Some(StopReason::Cancel)
    }

    /// Whether the task's ending is a cancellation.
    pub fn is_cancelled(&self) -> bool {
        self.record.ending.as_ref().is_some_and(|ending| ending.status == FinalStatus::Cancelled)
    }
}

#[cfg(test)]
mod tests {
    use super::{Job, Phase, Record, StopReason, TaskHandle, TaskKey, WorkerCommand, Workspace};
    use crate::data_dir::DataDir;
    use crate::server::protocol::Task;
    use crate::task::Store;
    use crossbeam_channel::unbounded;
    use std::sync::Arc;

    #[test]
    fn a_task_that_is_being_stopped_is_cancelled_all_the_same() {
        let timeout = StopReason::Timeout { minutes: 1 };
        for (phase, first) in [
            (Phase::Prepared, timeout),
            (Phase::Prepared, StopReason::Operator),
            (Phase::Exited, timeout),
            (Phase::Exited, StopReason::Operator),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let (data_dir, key) = (DataDir::new(dir.path()), TaskKey::from_id("t").unwrap());
            let mut record = Record::from_offer(Task { id: "t".to_owned(), ..Task::default() }, "s", "u");
            record.set_phase(phase);
            record.stop = Some(first);
            let files = Store::open(&data_dir).unwrap().create(&key, &record).unwrap();
            let (sender, commands) = unbounded();
            let job = Job { files, record, commands, is_worker_wanted: Arc::default() };
            let mut task = TaskHandle::new(job, Workspace::new(&data_dir, &key), None);
            sender.send(WorkerCommand::Cancel).unwrap();
            task.check_commands().unwrap();
            assert!(task.is_cancel_requested());
            assert_eq!(task.files.load().unwrap().unwrap().stop, Some(StopReason::Cancel));
            task.note_stop(first);
            assert!(task.is_cancel_requested(), "a later reason doesn't replace it");
        }
    }
}
