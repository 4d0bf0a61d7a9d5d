//! One task from acceptance to the end that the Server knows.
//!
//! A worker reads the record's phase, does what that phase asks for, writes the record and goes on. Beginning a task
//! and going on with one after a crash are the same code. The story stands in [`TaskRunner::go`]; each step has a file.

mod console;
mod copy_unreadable;
mod discard;
mod execute;
mod launch;
mod ledger_entries;
pub mod mounts;
mod outcome;
pub mod outputs;
mod prepare;
pub mod record;
mod report;
mod transfer;
mod trial;
mod upload;
mod uploads;
mod watch;
pub mod workspace;

pub use console::CLEAR_LINE;
pub use discard::discard;
pub use ledger_entries::log_abandoned;
pub use report::{failed_report, report_entry};
pub use trial::{Trial, try_out};

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};

use crate::config::Config;
use crate::docker::{Container, Docker};
use crate::ledger::Ledger;
use crate::logging::Reminder;
use crate::metrics::Counters;
use crate::server::budget::Purpose;
use crate::server::{Client, ClientError};
use crate::task::record::{Phase, Record, StopReason, TaskFiles, TaskKey};
use crate::task::workspace::Workspace;
use crate::units::Span;

/// A wait for the request budget that is worth a line in the log.
const LONG_WAIT: Duration = Duration::from_secs(10);

/// For whom a task is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunMode {
    /// For the Server, which gets the results.
    Server,
    /// For a person who tries it out: the container has this name and no label, what it prints is shown as it comes, and
    /// nothing is sent.
    Trial {
        /// The container's name.
        container: String,
    },
}

/// What every worker needs; made once and shared.
pub struct Context {
    /// The configuration.
    pub config: Arc<Config>,
    /// The Server.
    pub client: Client,
    /// The engine.
    pub docker: Docker,
    /// Where it is written what comes to this machine and what leaves it.
    pub ledger: Ledger,
    /// The name of this data_dir on the engine.
    pub instance_id: String,
    /// Where workers say how far they are.
    pub messages: Sender<WorkerMessage>,
    /// For whom tasks are done.
    pub mode: RunMode,
    /// What the threads count for `metrics.prom`.
    pub counters: Arc<Counters>,
}

impl Context {
    /// The agent that our containers name as their owner, if they do.
    fn owner(&self) -> Option<&str> {
        match self.mode {
            RunMode::Server => Some(&self.instance_id),
            RunMode::Trial { .. } => None,
        }
    }
}

/// A task handed to a worker.
pub struct Job {
    /// Where its record lies.
    pub files: TaskFiles,
    /// Its record.
    pub record: Record,
    /// What it is told meanwhile.
    pub commands: Receiver<WorkerCommand>,
}

/// What the scheduler tells a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerCommand {
    /// The submitter doesn't want the task any more.
    Cancel,
    /// The operator gives the result up.
    Discard,
    /// The agent is about to leave: stop where you are, and leave a running container running.
    Shutdown,
}

/// What a worker tells the scheduler.
#[derive(Debug)]
pub struct WorkerMessage {
    /// The task.
    pub key: TaskKey,
    /// What happened to it.
    pub event: WorkerEvent,
}

/// What happened to a task.
#[derive(Debug)]
pub enum WorkerEvent {
    /// It has come to this phase and goes on.
    PhaseReached(Phase),
    /// Something about this machine, not about the task, kept its container from starting.
    StartFailed,
    /// Its container ran to an end, so that containers can be started here.
    ContainerExited,
    /// The Server had given it up for lost, and perhaps others of ours too.
    Requeued,
    /// The worker has put it down.
    Finished(TaskResult),
}

/// Why a worker has put a task down. Its record says how far it is.
#[derive(Debug)]
pub enum TaskResult {
    /// The Server knows its end.
    Settled,
    /// It can't go on now and is to be taken up again.
    Deferred {
        /// How far it is.
        phase: Phase,
        /// Why, for the log.
        why: String,
        /// How long the Server wants us to wait.
        retry_after: Option<Duration>,
    },
    /// The agent is about to leave.
    Interrupted,
}

/// Starts a worker: a thread that takes jobs until there are no more to come.
pub fn spawn(name: &str, context: &Arc<Context>, jobs: &Receiver<Job>) -> io::Result<()> {
    let (context, jobs) = (Arc::clone(context), jobs.clone());
    thread::Builder::new().name(name.to_owned()).spawn(move || work(&context, &jobs)).map(drop)
}

fn work(context: &Arc<Context>, jobs: &Receiver<Job>) {
    for job in jobs {
        let key = job.files.key().clone();
        let how = TaskRunner::new(context, job).go();
        // Nobody listens any more when the agent is leaving.
        let _ = context.messages.send(WorkerMessage { key, event: WorkerEvent::Finished(how) });
        // What the allocator keeps ready for a thread grows with all that the thread has ever done, and goes with the
        // thread. So the next job is another one's; where there can't be another, it is this one's.
        let this = thread::current();
        match spawn(this.name().unwrap_or("worker"), context, jobs) {
            Ok(()) => return,
            Err(error) => log::debug!("{} goes on itself: {error}", this.name().unwrap_or("worker")),
        }
    }
}

/// Why a step didn't come to its end.
enum StepError {
    Shutdown,
    /// The result is to be given up, whatever is being done with it.
    Discarded,
    Retry {
        why: String,
        retry_after: Option<Duration>,
    },
}

impl StepError {
    fn retry(why: impl Into<String>) -> Self {
        Self::Retry { why: why.into(), retry_after: None }
    }
}

impl From<ClientError> for StepError {
    fn from(error: ClientError) -> Self {
        Self::Retry { retry_after: error.retry_after(), why: error.to_string() }
    }
}

/// A task in the hands of a worker.
struct TaskRunner<'s> {
    context: &'s Context,
    files: TaskFiles,
    workspace: Workspace,
    record: Record,
    commands: Receiver<WorkerCommand>,
    /// What files are fetched and sent with; it may be aborted.
    transfers: Client,
}

impl<'s> TaskRunner<'s> {
    fn new(context: &'s Context, job: Job) -> Self {
        let Job { files, record, commands } = job;
        let workspace = Workspace::new(&context.config.paths.data_dir, files.key());
        let transfers = context.client.with_own_connections();
        Self { context, files, workspace, record, commands, transfers }
    }

    fn go(mut self) -> TaskResult {
        loop {
            let step = match self.record.phase {
                // Only the scheduler accepts; a record in this phase is not handed to a worker.
                Phase::Accepting => Err(StepError::retry("the task isn't accepted yet")),
                Phase::Accepted => self.prepare(),
                Phase::Prepared => self.execute(),
                Phase::Exited | Phase::Uploaded if self.is_given_up() => self.give_up(),
                Phase::Exited => self.upload(),
                Phase::Uploaded => self.complete(),
                Phase::Settled => return TaskResult::Settled,
            };
            match step {
                // The next round sees the note.
                Ok(()) | Err(StepError::Discarded) => {}
                Err(StepError::Shutdown) => return TaskResult::Interrupted,
                Err(StepError::Retry { why, retry_after }) => {
                    return TaskResult::Deferred { phase: self.record.phase, why, retry_after };
                }
            }
        }
    }

    /// Writes the record with its next phase.
    fn advance(&mut self, phase: Phase) -> Result<(), StepError> {
        let before = (self.record.phase, self.record.phase_since);
        self.record.set_phase(phase);
        if let Err(halt) = self.save() {
            (self.record.phase, self.record.phase_since) = before;
            return Err(halt);
        }
        log::debug!(task:% = self.key(); "{phase}");
        self.tell(WorkerEvent::PhaseReached(phase));
        Ok(())
    }

    /// Writes the record. When the disk doesn't take it, the task is put down and taken up again from what is there.
    fn save(&self) -> Result<(), StepError> {
        self.files.save(&self.record).map_err(|error| StepError::retry(format!("the record can't be written: {error}")))
    }

    fn key(&self) -> &TaskKey {
        self.files.key()
    }

    fn container_name(&self) -> String {
        match &self.context.mode {
            RunMode::Server => self.key().container_name(),
            RunMode::Trial { container } => container.clone(),
        }
    }

    /// Whether a container of our name was made by us.
    fn is_ours(&self, container: &Container) -> bool {
        container.instance.as_deref() == self.context.owner()
    }

    fn tell(&self, event: WorkerEvent) {
        // Nobody listens any more when the agent is leaving.
        let _ = self.context.messages.send(WorkerMessage { key: self.key().clone(), event });
    }

    /// Takes in what was ordered meanwhile.
    fn check_commands(&mut self) -> Result<(), StepError> {
        loop {
            match self.commands.try_recv() {
                Ok(order) => self.obey(order)?,
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => return Err(StepError::Shutdown),
            }
        }
    }

    /// Waits, but for an order only until it comes.
    fn pause(&mut self, time: Duration) -> Result<(), StepError> {
        match self.commands.recv_deadline(Instant::now() + time) {
            Ok(order) => self.obey(order),
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => Err(StepError::Shutdown),
        }
    }

    /// Waits until the request budget has room for a file's call, or until nobody wants the file any more.
    fn wait_for_room(&mut self) -> Result<(), StepError> {
        self.wait_for_room_for(Purpose::Delivery)
    }

    /// Waits until the request budget has room for a call about the task's end. A cancellation doesn't end this wait:
    /// it is what has to be reported.
    fn wait_for_room_to_report(&mut self) -> Result<(), StepError> {
        self.wait_for_room_for(Purpose::Report)
    }

    fn wait_for_room_for(&mut self, purpose: Purpose) -> Result<(), StepError> {
        let mut reminder = Reminder::begin();
        while let Err(time) = self.context.client.try_acquire(purpose) {
            if purpose == Purpose::Delivery && self.is_unwanted() {
                return Ok(());
            }
            if let Some(so_far) = reminder.due() {
                let is_long = time >= LONG_WAIT || !so_far.is_empty();
                let level = if is_long { log::Level::Info } else { log::Level::Debug };
                let time = Span(time);
                log::log!(level, task:% = self.key(); "waiting {time} for room (`server.max_requests_per_minute`){so_far}");
            }
            self.pause(time)?;
        }
        Ok(())
    }

    fn obey(&mut self, order: WorkerCommand) -> Result<(), StepError> {
        match order {
            WorkerCommand::Shutdown => Err(StepError::Shutdown),
            WorkerCommand::Discard => Err(StepError::Discarded),
            WorkerCommand::Cancel => self.note_stop(StopReason::Cancel),
        }
    }

    /// Writes down why the task is being stopped, before anything is done about it. The first reason stands.
    fn note_stop(&mut self, reason: StopReason) -> Result<(), StepError> {
        if self.record.stop.is_some() {
            return Ok(());
        }
        match reason {
            StopReason::Cancel => {
                let by = if self.context.mode == RunMode::Server { "cancelled by the Server" } else { "interrupted" };
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
}
