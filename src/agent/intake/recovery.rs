//! What a start takes up: the records of an earlier run.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Intake;
use crate::agent::admission::Mode;
use crate::agent::task_table::Needs;
use crate::task::record::{Loaded, Phase, Record, TaskFiles};
use crate::task::{self, StopReason};

impl Intake {
    /// Takes up every unfinished task of this agent's service. Returns how many of them need a worker with a slot.
    pub(super) fn recover(&mut self) -> io::Result<usize> {
        self.store.remove_unwritten()?;
        let mut settled = Vec::new();
        let if_unfinished = |files: TaskFiles, record: Record| {
            if record.phase == Phase::Settled && files.reserve().exists() {
                settled.push(files.key().clone());
            }
            (record.phase < Phase::Settled).then_some((files, record))
        };
        let Loaded { taken: mut tasks, broken } = self.store.load_all(if_unfinished)?;
        self.reserves = settled;
        tasks.sort_by_key(|(_, record)| record.offered.at);
        for (dir, error) in broken {
            log::error!("the record in `{}` can't be read and is left alone: {error}", dir.display());
        }
        let mut foreign = BTreeMap::new();
        let mut need_slots = 0;
        for (files, mut record) in tasks {
            // The same service at an address that is spelled otherwise is still this agent's.
            if record.service_id != self.client.service_id {
                if let Err(error) = task::log_abandoned(&self.context.ledger, &files, &mut record) {
                    log::warn!(task:% = files.key(); "the ledger lacks its last transfers: {error}");
                }
                *foreign.entry((record.service_id, record.base_url)).or_insert(0) += 1;
                continue;
            }
            need_slots += usize::from(record.phase < Phase::Exited);
            self.take_up(&files, record);
        }
        for ((service, server), count) in foreign {
            log::warn!(
                "{count} unfinished task(s) of service {service} at {server} are kept and not worked on: this agent is \
                 registered as {} at {}",
                self.client.service_id,
                self.client.base_url()
            );
        }
        Ok(need_slots)
    }

    fn take_up(&mut self, files: &TaskFiles, record: Record) {
        let key = files.key().clone();
        log::info!(task:% = key; "left at `{}` by an earlier start; going on", record.phase);
        let time = record.times.since.and_then(|since| Duration::try_from(Timestamp::now().duration_since(since)).ok());
        self.table.insert(&key, &record.task.id, record.phase, time.unwrap_or_default());
        self.table.note_stop(&key, record.stop);
        if let Mode::Abort(_) = self.admission.mode() {
            self.table.note_stop(&key, Some(StopReason::Operator));
        }
        if record.settled_at.is_some() {
            self.table.note_settled_before(&key);
        }
        let memory = record.task.task_prompt.len() + record.task.output_prompt.as_ref().map_or(0, String::len);
        self.table.set_needs(&key, Needs { disk: record.task.input_size(), memory });
        if record.phase == Phase::Prepared && record.start.failures > 0 {
            // Whether the machine is in order by now is shown by a container of the agent's own first.
            let why = "a start had failed in an earlier run of the agent";
            self.context.starts.suspend(why);
            self.admission.note_failed_start(why, Instant::now());
            self.recheck_starts();
        }
        self.reclaims.push(&key);
        if record.phase > Phase::Accepting {
            self.table.make_due(&key);
        }
    }
}
