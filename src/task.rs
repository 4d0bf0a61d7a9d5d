//! One task, from `accepted` to `settled`.
//!
//! A worker reads the phase in the task's record, does that phase's step, writes the record and goes on. A new task and
//! a task of an earlier run of the agent go the same way. [`runner`] is the story; each step has a file of its own, and
//! its types say what it may use:
//!
//! | step | file | Server | Docker |
//! |---|---|---|---|
//! | `accepted` to `prepared`: input files and `task.json` | [`prepare`] | yes | no |
//! | `prepared` to `exited`: the container | [`container`], [`outcome`] | no | yes |
//! | `exited` to `uploaded`: find the results | [`results`] | no | yes |
//! | … and send them, with [`notes`] and in [`archive`]s | [`deliver`], [`upload`] | yes | no |
//! | `uploaded` to `settled`: the report | [`report`] | yes | no |
//!
//! [`trial`] takes the same steps without a Server.

mod archive;
mod beside;
mod complete_request;
mod console;
mod container;
mod deliver;
mod discard;
mod error;
mod file_name;
mod handle;
mod ledger_entries;
pub mod mounts;
mod notes;
mod outcome;
pub mod outputs;
mod prepare;
mod probe_folder;
#[cfg(test)]
mod properties;
pub mod record;
mod removal;
mod report;
mod results;
mod runner;
pub mod selinux;
mod start_probe;
pub mod starts;
mod task_client;
mod task_ledger;
mod trial;
mod upload;
mod uploads;
pub mod volumes;
pub mod workspace;

pub use console::TrialConsole;
pub use container::{Ends, Limits, Removals, TaskContainer, view_name, viewed};
pub use discard::{OTHER_REGISTRATION, discard, log_abandoned};
pub use error::Pause;
pub use ledger_entries::{failed_report, report_entry};
pub use probe_folder::ProbeFolder;
pub use record::{
    DiscardRequests, Ending, KnownIds, Phase, Process, Record, ReportState, StopReason, Store, TaskFiles, TaskKey,
    UploadEvent,
};
pub use removal::{Remover, log_removed};
pub use start_probe::{StartProbe, StartProblem, Started};
pub use starts::Starts;
pub use trial::{Trial, try_out};
pub use uploads::Uploads;
pub use workspace::{Workspace, input_names};

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use crossbeam_channel::{Receiver, Sender};

use crate::config::{Config, SharedConfig};
use crate::docker::Docker;
use crate::ledger::Ledger;
use crate::metrics::Counters;
use crate::os::folder::Folder;
use crate::server::Client;
use error::StepError;
use handle::TaskHandle;
use runner::TaskRunner;
use task_client::TaskClient;

/// What the workers of an agent share.
pub struct Context {
    /// See [`Context::config`].
    pub shared_config: SharedConfig,
    pub client: Client,
    pub docker: Docker,
    pub ledger: Ledger,
    /// The data_dir, held open.
    pub folder: Folder,
    /// The label that marks this data_dir's containers on the engine.
    pub instance_id: String,
    pub messages: Sender<WorkerMessage>,
    pub counters: Arc<Counters>,
    /// Whether containers can be started at present.
    pub starts: Starts,
    /// The ends of its containers.
    pub ends: Ends,
    /// The containers that are being removed.
    pub removals: Removals,
}

impl Context {
    /// The configuration that counts now: it may be another one at the next call.
    pub fn config(&self) -> Arc<Config> {
        self.shared_config.get()
    }
}

/// A task for a worker.
pub struct Job {
    pub files: TaskFiles,
    pub record: Record,
    pub commands: Receiver<WorkerCommand>,
    /// Whether another task waits for the worker that has this one.
    pub is_worker_wanted: Arc<AtomicBool>,
}

/// What the agent asks of the worker that has a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerCommand {
    /// The Server asks for the task's cancellation.
    Cancel,
    /// The operator discards the result.
    Discard,
    /// The agent ends: return, and leave a running container running.
    Shutdown,
}

/// What a worker reports to the agent.
#[derive(Debug)]
pub struct WorkerMessage {
    pub key: TaskKey,
    pub event: WorkerEvent,
}

/// What happened to a task.
#[derive(Debug)]
pub enum WorkerEvent {
    /// The record has this phase now, and the worker goes on.
    PhaseReached(Phase),
    /// The container couldn't be started, for this reason.
    StartFailed(String),
    /// The workspace's files can't be written now, for this reason.
    WriteFailed(String),
    /// A program has run in the container, so that containers can be started here. It may still run.
    ProgramRan,
    /// The container ended at once with this status, and printed nothing: perhaps no program can run here.
    SilentEnd(i32),
    /// The Server had requeued the task, and perhaps other tasks of this agent too.
    Requeued,
    /// The worker has returned the task.
    Finished(TaskResult),
}

/// Why a worker returned a task. The task's phase is in its record.
#[derive(Debug)]
pub enum TaskResult {
    /// The Server knows the task's end.
    Settled,
    /// The next step isn't possible now and has to be tried again later.
    Deferred {
        phase: Phase,
        /// The reason, for the log.
        why: String,
        pause: Pause,
        /// Whether the task needs no slot meanwhile, although its container hasn't run.
        frees_slot: bool,
        /// Why the task is being stopped, which its record may lack.
        stop: Option<StopReason>,
    },
    /// Its results have to be fetched, by a worker that may do so.
    NeedsFetch,
    /// The rest of its results is to be sent after others have had their turn.
    TurnOver,
    /// The next step needs the Server, which doesn't acknowledge this agent's heartbeats.
    ServerAway(Phase),
    /// The agent ends.
    Interrupted,
}

/// What a worker may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Everything but to fetch results, or to look for them for long, which may take ten minutes and needs no slot.
    Tasks,
    /// The same, and deliveries that were interrupted take turns.
    Deliveries,
    /// Everything, and deliveries take turns.
    Fetches,
}

impl Duty {
    /// Whether the worker may fetch results, and look for them for long.
    pub fn may_fetch(self) -> bool {
        self == Self::Fetches
    }

    /// Whether the worker passes a long delivery on when other tasks wait for it.
    pub fn takes_turns(self) -> bool {
        self != Self::Tasks
    }
}

/// Starts a worker: a thread that takes jobs until the channel is closed.
pub fn spawn(name: &str, context: &Arc<Context>, jobs: &Receiver<Job>, duty: Duty) -> io::Result<()> {
    let (context, jobs) = (Arc::clone(context), jobs.clone());
    thread::Builder::new().name(name.to_owned()).spawn(move || work(&context, jobs, duty)).map(drop)
}

fn work(context: &Context, jobs: Receiver<Job>, duty: Duty) {
    for job in &jobs {
        let key = job.files.key().clone();
        let result = TaskRunner::new(context, &context.config(), job, duty).run();
        // An error means that the agent ends, and its records say the rest.
        let _ = context.messages.send(WorkerMessage { key, event: WorkerEvent::Finished(result) });
    }
}
