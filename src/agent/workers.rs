//! The worker threads and their three channels. The table of tasks says which worker is free; so a job never waits in a
//! channel, where no command would reach it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::task::{self, Context, Duty, Job};

/// The workers of one agent.
pub struct Workers {
    context: Arc<Context>,
    jobs: Crew,
    /// Results whose delivery was interrupted, and reports: they need no slot.
    couriers: Crew,
    /// Results that have to be fetched first: they need no slot either, and may take ten minutes each.
    fetchers: Crew,
}

/// Workers of one kind.
struct Crew {
    jobs: (Sender<Job>, Receiver<Job>),
    /// How many there are.
    count: usize,
    /// Whether a task waits for one of them.
    is_wanted: Arc<AtomicBool>,
}

impl Crew {
    fn new() -> Self {
        Self { jobs: unbounded(), count: 0, is_wanted: Arc::default() }
    }
}

/// How many tasks' results are fetched at a time.
pub const FETCHERS: usize = 2;

/// What a task needs a worker for, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Queue {
    /// A report, or a cancelled task. No file of it is sent, and the Server offers no task while a cancellation is open
    /// (PROTOCOL 2).
    Reports,
    /// A task with a slot.
    Jobs,
    /// Results that have to be fetched.
    Fetches,
    /// Results that are to be sent.
    Deliveries,
}

impl Workers {
    /// Workers that aren't started yet.
    pub fn new(context: &Arc<Context>) -> Self {
        Self { context: Arc::clone(context), jobs: Crew::new(), couriers: Crew::new(), fetchers: Crew::new() }
    }

    /// Starts so many workers for tasks, so many couriers and one more, which is left to reports, and those that fetch.
    pub fn start(&mut self, workers: usize, couriers: usize) -> io::Result<()> {
        let crews = [
            ("worker", workers, &mut self.jobs, Duty::Tasks),
            ("courier", couriers.saturating_add(1), &mut self.couriers, Duty::Deliveries),
            ("fetcher", FETCHERS, &mut self.fetchers, Duty::Fetches),
        ];
        for (name, count, crew, duty) in crews {
            while crew.count < count {
                task::spawn(&format!("{name}-{}", crew.count + 1), &self.context, &crew.jobs.1, duty)?;
                crew.count += 1;
            }
        }
        Ok(())
    }

    /// Starts those that an agent with this capacity lacks. None ends where there are more.
    pub fn grow(&mut self, capacity: usize) -> io::Result<()> {
        self.start(capacity, capacity)
    }

    /// Hands a task over to a worker that is free.
    pub fn dispatch(&self, queue: Queue, job: Job) {
        // Both ends of the channel are here, so this can't fail.
        let _ = self.crew(queue).jobs.0.send(job);
    }

    /// Tells the workers that take turns whether another task waits for one of them.
    pub fn note_wanted(&self, queue: Queue, is_wanted: bool) {
        self.crew(queue).is_wanted.store(is_wanted, Ordering::Relaxed);
    }

    /// Whether another task waits for a worker of this kind, as the worker sees it.
    pub fn wanted(&self, queue: Queue) -> Arc<AtomicBool> {
        Arc::clone(&self.crew(queue).is_wanted)
    }

    fn crew(&self, queue: Queue) -> &Crew {
        match queue {
            Queue::Jobs => &self.jobs,
            Queue::Reports | Queue::Deliveries => &self.couriers,
            Queue::Fetches => &self.fetchers,
        }
    }
}
