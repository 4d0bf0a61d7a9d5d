//! The worker threads and their two queues.

use std::io;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::task::{self, Context, Job, Phase, Record, TaskFiles, WorkerCommand};

/// The workers of one agent.
pub struct Workers {
    context: Arc<Context>,
    jobs: (Sender<Job>, Receiver<Job>),
    /// Results whose delivery was interrupted: they need no slot.
    deliveries: (Sender<Job>, Receiver<Job>),
}

impl Workers {
    /// Queues without workers.
    pub fn new(context: &Arc<Context>) -> Self {
        Self { context: Arc::clone(context), jobs: unbounded(), deliveries: unbounded() }
    }

    /// Starts so many workers, and one for deliveries.
    pub fn start(&self, count: usize) -> io::Result<()> {
        for number in 1..=count {
            task::spawn(&format!("worker-{number}"), &self.context, &self.jobs.1)?;
        }
        task::spawn("courier", &self.context, &self.deliveries.1)
    }

    /// Hands a task over. A worker takes it when one is free.
    pub fn dispatch(&self, files: TaskFiles, record: Record, commands: Receiver<WorkerCommand>) {
        let (queue, _) = if record.phase >= Phase::Exited { &self.deliveries } else { &self.jobs };
        // Both ends of the queue are here, so this can't fail.
        let _ = queue.send(Job { files, record, commands });
    }
}
