//! The worker threads and their two queues.

use std::io;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::task::record::{Phase, Record, TaskFiles};
use crate::task::{self, Context, Job, WorkerCommand};

/// The workers of one agent.
pub struct Workers {
    context: Arc<Context>,
    jobs: Queue,
    /// Results whose delivery was interrupted: they need no slot.
    deliveries: Queue,
}

struct Queue {
    sender: Sender<Job>,
    receiver: Receiver<Job>,
}

impl Queue {
    fn new() -> Self {
        let (sender, receiver) = unbounded();
        Self { sender, receiver }
    }
}

impl Workers {
    /// Queues without workers.
    pub fn new(context: &Arc<Context>) -> Self {
        Self { context: Arc::clone(context), jobs: Queue::new(), deliveries: Queue::new() }
    }

    /// Starts so many workers, and one for deliveries.
    pub fn start(&self, count: usize) -> io::Result<()> {
        for number in 1..=count {
            task::spawn(&format!("worker-{number}"), &self.context, &self.jobs.receiver)?;
        }
        task::spawn("courier", &self.context, &self.deliveries.receiver)
    }

    /// Hands a task over. A worker takes it when one is free.
    pub fn dispatch(&self, files: TaskFiles, record: Record, commands: Receiver<WorkerCommand>) {
        let queue = if record.phase >= Phase::Exited { &self.deliveries } else { &self.jobs };
        // Both ends of the queue are here, so this can't fail.
        let _ = queue.sender.send(Job { files, record, commands });
    }
}
