//! The worker threads and their three queues.

use std::io;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::task::{self, Context, Duty, Job};

/// The workers of one agent.
pub struct Workers {
    context: Arc<Context>,
    jobs: (Sender<Job>, Receiver<Job>),
    /// Results whose delivery was interrupted: they need no slot.
    deliveries: (Sender<Job>, Receiver<Job>),
    /// Results that have to be fetched first: they need no slot either, and may take ten minutes each.
    fetches: (Sender<Job>, Receiver<Job>),
}

/// How many tasks' results are fetched at a time.
pub const FETCHERS: usize = 2;

/// Which workers take a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    Jobs,
    Deliveries,
    Fetches,
}

impl Workers {
    /// Queues without workers.
    pub fn new(context: &Arc<Context>) -> Self {
        Self { context: Arc::clone(context), jobs: unbounded(), deliveries: unbounded(), fetches: unbounded() }
    }

    /// Starts so many workers, one for deliveries, and those that fetch.
    pub fn start(&self, count: usize) -> io::Result<()> {
        for number in 1..=count {
            task::spawn(&format!("worker-{number}"), &self.context, &self.jobs.1, Duty::Tasks)?;
        }
        for number in 1..=FETCHERS {
            task::spawn(&format!("fetcher-{number}"), &self.context, &self.fetches.1, Duty::Fetches)?;
        }
        task::spawn("courier", &self.context, &self.deliveries.1, Duty::Deliveries)
    }

    /// Hands a task over. A worker takes it when one is free.
    pub fn dispatch(&self, queue: Queue, job: Job) {
        let (queue, _) = match queue {
            Queue::Jobs => &self.jobs,
            Queue::Deliveries => &self.deliveries,
            Queue::Fetches => &self.fetches,
        };
        // Both ends of the queue are here, so this can't fail.
        let _ = queue.send(job);
    }
}
