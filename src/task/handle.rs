//! A task in a worker: its record, its files, its workspace, and the commands that arrive for it.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvError, RecvTimeoutError, Sender, TryRecvError};

use super::error::StepError;
use super::{Job, WorkerCommand, WorkerEvent, WorkerMessage};
use crate::server::protocol::FinalStatus;
use crate::task::record::{Ending, Phase, Record, StopReason, TaskFiles, TaskKey};
use crate::task::workspace::Workspace;

/// Who requested a task.
pub enum Requester {
    /// The Server. The agent hears of each step over this channel.
    Server(Sender<WorkerMessage>),
    /// A person, with `try`.
    Person,
}

/// A task in a worker.
pub struct TaskHandle {
    pub files: TaskFiles,
    pub record: Record,
    pub workspace: Workspace,
    commands: Receiver<WorkerCommand>,
    requester: Requester,
}

impl TaskHandle {
    pub fn new(job: Job, workspace: Workspace, requester: Requester) -> Self {
        let Job { files, record, commands } = job;
        Self { files, record, workspace, commands, requester }
    }

    pub fn key(&self) -> &TaskKey {
        self.files.key()
    }

    /// Sends an event to the agent.
    pub fn send(&self, event: WorkerEvent) {
        if let Requester::Server(messages) = &self.requester {
            // An error means that the agent ends, and its records say the rest.
            let _ = messages.send(WorkerMessage { key: self.key().clone(), event });
        }
    }

    /// Writes the record. If the disk refuses, the worker returns the task, and the next try reads what is on the disk.
    pub fn save(&self) -> Result<(), StepError> {
        self.files.save(&self.record).map_err(|error| StepError::retry(format!("the record can't be written: {error}")))
    }

    /// Writes the record with its next phase.
    pub fn advance(&mut self, phase: Phase) -> Result<(), StepError> {
        let before = (self.record.phase, self.record.phase_since);
        self.record.set_phase(phase);
        if let Err(error) = self.save() {
            (self.record.phase, self.record.phase_since) = before;
            return Err(error);
        }
        log::debug!(task:% = self.key(); "{phase}");
        self.send(WorkerEvent::PhaseReached(phase));
        Ok(())
    }

    /// Writes the record with the task's ending.
    pub fn end(&mut self, ending: Ending) -> Result<(), StepError> {
        self.record.ending = Some(ending);
        self.record.client = None;
        self.advance(Phase::Exited)
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
            Ok(WorkerCommand::Cancel) => self.note_stop(StopReason::Cancel),
            Ok(WorkerCommand::Discard) => Err(StepError::Discarded),
            Ok(WorkerCommand::Shutdown) | Err(RecvError) => Err(StepError::Shutdown),
        }
    }

    /// Writes why the task is being stopped, before the stop itself. The first reason stands.
    pub fn note_stop(&mut self, reason: StopReason) -> Result<(), StepError> {
        if self.record.stop.is_some() {
            return Ok(());
        }
        match reason {
            StopReason::Cancel => {
                let by = if self.is_trial() { "interrupted" } else { "cancelled by the Server" };
                log::info!(task:% = self.key(); "{by}; stopping");
            }
            StopReason::Timeout { minutes } => log::info!(task:% = self.key(); "{minutes} minutes are over; stopping"),
            StopReason::Idle { minutes } => {
                log::info!(task:% = self.key(); "nothing was printed for {minutes} minutes; stopping");
            }
            StopReason::Operator => log::info!(task:% = self.key(); "stopped by the operator"),
        }
        self.record.stop = Some(reason);
        self.save()
    }

    /// Whether the Server has asked for the task's cancellation, so that its results aren't wanted.
    pub fn is_cancel_requested(&self) -> bool {
        self.record.stop == Some(StopReason::Cancel)
    }

    /// Whether the task's ending is a cancellation.
    pub fn is_cancelled(&self) -> bool {
        self.record.ending.as_ref().is_some_and(|ending| ending.status == FinalStatus::Cancelled)
    }

    fn is_trial(&self) -> bool {
        matches!(self.requester, Requester::Person)
    }
}
