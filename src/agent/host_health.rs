//! What the monitor tells of this machine, and what follows for new tasks.

use std::time::{Duration, Instant};

use super::{Mode, Scheduler};
use crate::agent::health::HostHealth;
use crate::agent::status_file::EngineState;

/// After so long without a word of the monitor, which looks every ten seconds and asks nobody for longer than a minute,
/// no new task is taken.
const SILENT_MONITOR: Duration = Duration::from_secs(180);

impl Scheduler {
    pub(super) fn note_machine(&mut self, machine: HostHealth) {
        self.health_at = Instant::now();
        let (closed, engine) = match machine {
            HostHealth::Unchanged => return,
            HostHealth::Ready => (None, EngineState::Ready),
            HostHealth::NotReady(why) => (Some(why), EngineState::Ready),
            HostHealth::EngineDown(why) => (Some(why), EngineState::Away),
        };
        self.state.engine = engine;
        match (&self.closed, &closed) {
            (_, Some(why)) => log::warn!("no new task is accepted: {why}"),
            (Some(_), None) => {
                let then = if self.mode == Mode::Serve { "; tasks are accepted" } else { "" };
                log::info!("engine, mounts and disk are in order{then}");
                // What was put down for want of an engine or of room on the disk needn't wait for its time.
                self.table.wake_waiting();
            }
            (None, None) => {}
        }
        self.closed = closed;
        // The Server shows whether we take tasks.
        self.heartbeat_due = Instant::now();
        self.poll_soon();
    }

    /// Whether nobody knows any more what this machine is like.
    pub(super) fn monitor_is_silent(&self) -> bool {
        self.health_at.elapsed() >= SILENT_MONITOR
    }
}
