//! What the operator's commands ask of a running agent. They leave it in the data_dir, since not every system has
//! signals for it.

use std::time::Instant;

use super::{Mode, Scheduler};
use crate::data_dir::instance;
use crate::task;
use crate::task::record::{DiscardRequests, Phase, TaskKey};

impl Scheduler {
    pub(super) fn look_at_wishes(&mut self) {
        self.look_for_drain();
        let discards = DiscardRequests::new(&self.context.config.paths.data_dir);
        match discards.all() {
            Ok(keys) => keys.iter().for_each(|key| self.look_at_discard(&discards, key)),
            Err(error) => log::debug!("the notes of `discard` can't be read: {error}"),
        }
    }

    fn look_for_drain(&mut self) {
        if self.mode == Mode::Serve
            && instance::is_drain_requested(&self.context.config.paths.data_dir, std::process::id())
        {
            self.mode = Mode::Drain(None);
            log::info!(
                "draining: no new task is accepted, and the agent ends when what is here is delivered: {} task(s)",
                self.table.keys().len()
            );
            // The Server shows whether we take tasks.
            self.heartbeat_due = Instant::now();
        }
    }

    fn look_at_discard(&mut self, discards: &DiscardRequests, key: &TaskKey) {
        if self.table.discard(key) {
            return;
        }
        // It is settled, or the work of another registration, which nobody is sending.
        let files = self.store.task(key);
        let done = files.load().and_then(|record| match record {
            Some(mut record) if (Phase::Exited..Phase::Settled).contains(&record.phase) => {
                task::discard(&self.context.ledger, None, &files, &mut record)?;
                log::info!(task:% = key; "work of another registration, discarded by the operator");
                Ok(())
            }
            _ => Ok(()),
        });
        if let Err(error) = done.and_then(|()| discards.remove(key)) {
            let why = error.to_string();
            // Once for as long as it stays the same.
            if self.undiscarded.as_ref() != Some(&(key.clone(), why.clone())) {
                log::warn!(task:% = key; "can't be discarded: {why}; it is tried again every second");
                self.undiscarded = Some((key.clone(), why));
            }
        }
    }
}
