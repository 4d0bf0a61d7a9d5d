//! What a start takes up: the records that an earlier run has left.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use jiff::Timestamp;

use super::Scheduler;
use super::task_table::Stage;
use crate::task;
use crate::task::record::{Loaded, Phase, Record, TaskFiles};

impl Scheduler {
    /// Takes up what an earlier run has left and returns how many tasks of that take a worker.
    pub(super) fn recover(&mut self) -> io::Result<usize> {
        self.store.remove_unwritten()?;
        let if_unfinished = |files, record: Record| (record.phase < Phase::Settled).then_some((files, record));
        let Loaded { taken: mut tasks, broken } = self.store.load_all(if_unfinished)?;
        tasks.sort_by_key(|(_, record)| record.offered_at);
        for (dir, error) in broken {
            log::error!("the record in `{}` can't be read and is left alone: {error}", dir.display());
        }
        let mut foreign = BTreeMap::new();
        let mut workers = 0;
        for (files, mut record) in tasks {
            // The same service at an address that is spelled otherwise is still ours.
            if record.service_id != self.client.service_id() {
                if let Err(error) = task::log_abandoned(&self.context.ledger, &files, &mut record) {
                    log::warn!(task:% = files.key(); "what was sent of it last isn't in the ledger yet: {error}");
                }
                *foreign.entry((record.service_id, record.base_url)).or_insert(0) += 1;
                continue;
            }
            self.take_up(&files, record);
            workers += usize::from(self.table.phase(files.key()) < Phase::Exited);
        }
        for ((service, server), count) in foreign {
            log::warn!(
                "{count} unfinished task(s) of service {service} at {server} are kept and not worked on: this agent is \
                 registered as {} at {}",
                self.client.service_id(),
                self.client.base_url()
            );
        }
        Ok(workers)
    }

    fn take_up(&mut self, files: &TaskFiles, record: Record) {
        let key = files.key().clone();
        log::info!(task:% = key; "going on from `{}`", record.phase);
        let time = record.phase_since.and_then(|since| Duration::try_from(Timestamp::now().duration_since(since)).ok());
        let progress = (record.phase, time.unwrap_or_default());
        self.table.insert_since(&key, &record.task.id, progress, Stage::InDoubt);
        self.reclaim.push_back(key.clone());
        if record.phase > Phase::Accepting {
            self.hand_over(&key, record);
        }
    }
}
