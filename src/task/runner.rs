//! The story of one task of the Server.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::deliver::{deliver, give_up_outdated};
use super::report::Report;
use super::upload::Upload;
use super::{
    Context, DiscardRequests, Duty, Job, Limits, Pause, Phase, StepError, TaskClient, TaskContainer, TaskHandle,
    TaskResult, Workspace, discard, outcome, prepare, results,
};

use crate::config::Config;

/// How long a worker sends the results of one task while others wait for it.
const TURN: Duration = Duration::from_secs(20);

/// A worker with one task.
pub struct TaskRunner<'c> {
    context: &'c Context,
    /// The configuration at the time when the worker took the task.
    config: &'c Config,
    task: TaskHandle,
    duty: Duty,
}

impl<'c> TaskRunner<'c> {
    pub fn new(context: &'c Context, config: &'c Config, job: Job, duty: Duty) -> Self {
        let workspace = Workspace::new(&config.paths.data_dir, job.files.key());
        let task = TaskHandle::new(job, workspace, Some(context.messages.clone()));
        Self { context, config, task, duty }
    }

    /// Brings the task as far as it gets.
    pub fn run(mut self) -> TaskResult {
        loop {
            let step = match self.task.record.phase {
                // The agent hands a task to a worker only after it was accepted.
                Phase::Accepting => Err(StepError::retry("the task isn't accepted yet")),
                Phase::Accepted | Phase::Exited | Phase::Uploaded if self.task.files.is_superseded() => {
                    self.keep_here()
                }
                Phase::Accepted => prepare::prepare(Some(self.client()), &mut self.task),
                Phase::Prepared => self.run_container(),
                Phase::Exited | Phase::Uploaded if self.is_discarded() => self.discard(),
                Phase::Exited => self.upload(),
                Phase::Uploaded => self.report(),
                Phase::Settled => return TaskResult::Settled,
            };
            match step {
                // After a command to discard the result, the next round finds the request.
                Ok(()) | Err(StepError::Discarded) => {}
                Err(StepError::Shutdown) => return TaskResult::Interrupted,
                Err(StepError::NeedsFetch) => return TaskResult::NeedsFetch,
                Err(StepError::TurnOver) => return TaskResult::TurnOver,
                Err(StepError::ServerAway) => return TaskResult::ServerAway(self.task.record.phase),
                Err(StepError::Retry { why, pause }) => return self.deferred(why, pause, false),
                Err(StepError::WithoutSlot { why, pause }) => return self.deferred(why, pause, true),
            }
        }
    }

    fn deferred(&self, why: String, pause: Pause, frees_slot: bool) -> TaskResult {
        let (phase, stop) = (self.task.record.phase, self.task.record.stop);
        TaskResult::Deferred { phase, why, pause, frees_slot, stop }
    }

    fn run_container(&mut self) -> Result<(), StepError> {
        let outcome = self.container().run(&mut self.task)?;
        outcome::record(&mut self.task, outcome, self.config.executor.memory_limit.as_deref())
    }

    /// Fails where the next calls are known to be in vain: nothing is looked at for them.
    fn check_server(&self) -> Result<(), StepError> {
        if self.context.client.is_answering() { Ok(()) } else { Err(StepError::ServerAway) }
    }

    fn report(&mut self) -> Result<(), StepError> {
        self.container().remove_soon(&mut self.task)?;
        self.check_server()?;
        Report::open(self.client(), &mut self.task)?.send()
    }

    fn upload(&mut self) -> Result<(), StepError> {
        let (container, began, is_wanted) = (self.container(), Instant::now(), self.task.is_worker_wanted());
        container.remove_soon(&mut self.task)?;
        self.check_server()?;
        let mut upload = Upload::open(self.client(), &mut self.task)?;
        let mut results = results::collect_with_room(&container, &mut upload, self.duty)?;
        give_up_outdated(&mut upload, &results)?;
        upload.note_skipped(std::mem::take(&mut results.skipped))?;
        // The next turn begins with another look.
        let turn_ends = Instant::now() + TURN.max(began.elapsed());
        let is_turn_over =
            || self.duty.takes_turns() && is_wanted.load(Ordering::Relaxed) && Instant::now() >= turn_ends;
        deliver(upload, &results, &self.config.outputs, is_turn_over)
    }

    fn discard(&mut self) -> Result<(), StepError> {
        self.container().remove(&mut self.task)?;
        let (client, requests) = (self.client(), self.discard_requests());
        discard::settle(&client, &mut self.task, &requests)
    }

    /// Settles a task without a call to the Server, which has given its id to another task.
    fn keep_here(&mut self) -> Result<(), StepError> {
        if self.task.record.phase >= Phase::Exited {
            self.container().remove(&mut self.task)?;
        }
        let requests = self.discard_requests();
        // What this worker has tried since the id was another task's says nothing of that task.
        self.context.client.patience().forget(&self.task.record.task.id);
        discard::settle_superseded(&self.context.ledger, &mut self.task, &requests)
    }

    fn is_discarded(&self) -> bool {
        self.discard_requests().contains(self.task.key())
    }

    fn discard_requests(&self) -> DiscardRequests {
        DiscardRequests::new(&self.config.paths.data_dir)
    }

    fn client(&self) -> TaskClient<'c> {
        TaskClient::new(&self.context.client, &self.context.ledger, self.config.paths.keep_free())
    }

    fn container(&self) -> TaskContainer<'c> {
        TaskContainer {
            config: self.config,
            docker: &self.context.docker,
            name: self.task.key().container_name(),
            owner: Some(&self.context.instance_id),
            starts: Some(&self.context.starts),
            ends: Some(&self.context.ends),
            removals: Some(&self.context.removals),
            console: None,
            limits: Limits::default(),
        }
    }
}
