//! What the intake thread hears of the host, and what it asks the health thread to look at.

use std::time::Instant;

use super::Intake;
use crate::agent::admission::Mode;
use crate::agent::health::{HostHealth, RecheckRequest};
use crate::agent::messages::IntakeRequest;
use crate::agent::status_file::EngineState;

impl Intake {
    pub(super) fn note_health(&mut self, report: HostHealth) {
        let was_ready = self.admission.note_health(&report, Instant::now());
        let engine = if let HostHealth::EngineDown(_) = report { EngineState::Away } else { EngineState::Ready };
        match report {
            HostHealth::Unchanged => return,
            HostHealth::Ready if was_ready => {}
            HostHealth::Ready => {
                let accepting = if self.admission.mode() == Mode::Serve { "; tasks are accepted" } else { "" };
                log::info!("engine, mounts and disk are in order{accepting}");
                // Tasks that were deferred for want of an engine or of disk space needn't wait for their time.
                self.table.wake_waiting();
            }
            HostHealth::NotReady(why) | HostHealth::EngineDown(why) => log::warn!("no new task is accepted: {why}"),
        }
        self.status.note_engine(engine);
        self.request_heartbeat();
        self.request(IntakeRequest::PollSoon);
    }

    /// Has the health thread start a container of the agent's own.
    pub(super) fn recheck_starts(&self) {
        // The health thread ends only with the agent.
        let _ = self.rechecks.send(RecheckRequest::FailedStart);
    }

    /// Logs why no task is accepted, and tells the Server.
    pub(super) fn note_closed(&mut self) {
        if let Err(why) = self.admission.check(1, Instant::now()) {
            log::warn!("no new task is accepted: {why}");
        }
        self.request_heartbeat();
    }
}
