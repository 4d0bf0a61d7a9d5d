//! What the agent tells of itself: `status.json`, `metrics.prom`, and a loud word about results that wait for long.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

use super::{Mode, Scheduler};
use crate::metrics::Gauges;
use crate::task::record::{Phase, TaskKey};

/// A result that has waited for so long is said loudly.
const OVERDUE: SignedDuration = SignedDuration::from_hours(24);

impl Scheduler {
    /// Brings `status.json` up to date.
    pub(super) fn publish(&mut self) {
        self.state.server_trouble.clone_from(&self.server_trouble);
        self.state.deferred = self.table.reasons();
        let waits_after_failure = self.closed_until.is_some_and(|until| Instant::now() < until);
        self.state.not_accepting = if self.mode == Mode::Serve {
            let silent = self.monitor_is_silent().then(|| {
                "it hasn't been found out for three minutes whether engine, mounts and disk are in order; one of them may \
                 give no answer"
                    .to_owned()
            });
            let trouble =
                self.server_trouble.as_ref().map(|_| "the Server doesn't take this agent's heartbeats".to_owned());
            let held = self.hold_until.is_some_and(|until| Instant::now() < until).then(|| {
                "the Server had not heard from this agent for a while; for a few seconds it takes back only its own tasks"
                    .to_owned()
            });
            self.closed.clone().or(silent).or(trouble).or(held).or_else(|| {
                waits_after_failure
                    .then(|| "a container couldn't be started a moment ago; soon one task is tried".to_owned())
            })
        } else {
            Some("it is draining, and ends when what is here is delivered".to_owned())
        };
        if self.published.as_ref() == Some(&self.state) {
            return;
        }
        // What can't be written is tried again with the next change: on a full disk every round would fail.
        self.published = Some(self.state.clone());
        if let Err(error) = self.state_file.save(&self.state) {
            log::debug!("status.json can't be written: {error}");
        }
    }

    pub(super) fn write_metrics(&self) {
        let gauges = Gauges {
            running: self.table.slots_taken(),
            capacity: self.table.capacity(),
            undelivered: self.table.count(Phase::Exited..Phase::Settled, |_| true),
            accepting: self.state.not_accepting.is_none(),
            last_heartbeat_at: self.state.last_heartbeat_at,
            started_at: self.state.started_at,
        };
        if let Err(error) = self.metrics.write(&self.context.config.paths.data_dir.metrics(), &gauges) {
            log::debug!("metrics.prom can't be written: {error}");
        }
    }

    /// A result is kept for as long as it takes, but somebody should look why it takes so long.
    pub(super) fn say_overdue(&self) {
        let now = Timestamp::now();
        let waiting = self.table.keys().into_iter().filter(|key| self.table.phase(key) >= Phase::Exited);
        let ends = waiting.filter_map(|key| {
            // What can't be read is said where it is taken up.
            let ended = self.store.task(&key).load().ok()??.ending?.at;
            (now.duration_since(ended) >= OVERDUE).then_some((ended, key))
        });
        let overdue: Vec<(Timestamp, TaskKey)> = ends.collect();
        if let Some((ended, key)) = overdue.iter().min() {
            log::error!(
                "{} result(s) have been waiting for delivery for over a day; the oldest is that of task {key}, for {} h{}",
                overdue.len(),
                now.duration_since(*ended).as_hours(),
                self.table.reason(key).map(|why| format!(": {why}")).unwrap_or_default()
            );
        }
    }
}
