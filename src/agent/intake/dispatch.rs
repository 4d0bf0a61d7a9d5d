//! Hands tasks to workers.

use std::time::{Duration, Instant};

use super::Intake;
use crate::agent::workers::Queue;
use crate::task::{Job, Pause, Phase, Record, TaskKey};

/// How often a record that can't be read is tried again.
const UNREADABLE_RETRY: Duration = Duration::from_secs(30);

impl Intake {
    /// Tells the workers that take turns whether others wait for them.
    pub(super) fn note_wanted(&self, now: Instant) {
        for queue in [Queue::Deliveries, Queue::Fetches] {
            self.workers.note_wanted(queue, self.table.is_worker_wanted(queue, now));
        }
    }

    /// Dispatches a task whose pause is over. Returns whether there was one.
    pub(super) fn dispatch_due(&mut self, now: Instant) -> bool {
        let Some(key) = self.table.due(self.client.is_answering(), now) else { return false };
        match self.store.task(&key).load() {
            Ok(Some(record)) => self.dispatch(&key, record),
            Ok(None) => {
                log::error!(task:% = key; "its record has disappeared; the agent gives the task up");
                self.table.remove(&key);
            }
            Err(error) => {
                let why = format!("its record can't be read: {error}");
                self.table.defer(&key, self.table.phase(&key), &why, Pause::Due(UNREADABLE_RETRY));
            }
        }
        true
    }

    /// Hands a task to a worker.
    pub(super) fn dispatch(&mut self, key: &TaskKey, mut record: Record) {
        if record.phase < Phase::Exited {
            record.stop = record.stop.or(self.table.stop(key));
        }
        let (queue, commands) = self.table.start_work(key, record.phase);
        let is_worker_wanted = self.workers.wanted(queue);
        self.workers.dispatch(queue, Job { files: self.store.task(key), record, commands, is_worker_wanted });
    }
}
