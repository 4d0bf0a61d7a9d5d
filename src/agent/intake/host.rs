//! What the intake thread hears of the host, and what it asks the health thread to look at.

use std::time::Instant;

use log::Level;

use super::Intake;
use crate::agent::health::{HostHealth, RecheckRequest};
use crate::agent::messages::IntakeRequest;
use crate::agent::status_file::EngineState;
use crate::text::gist;

impl Intake {
    pub(super) fn note_health(&mut self, report: HostHealth) {
        let now = Instant::now();
        let was_ready = self.admission.note_health(&report, now);
        let engine = if let HostHealth::EngineDown(_) = report { EngineState::Away } else { EngineState::Ready };
        match report {
            HostHealth::Unchanged => return,
            HostHealth::Ready if was_ready => {}
            HostHealth::Ready => {
                self.reported.unready = None;
                // Something else may keep the door closed; see `report_status`.
                self.reported.is_opening = self.not_accepting(now).is_some();
                let accepting = if self.reported.is_opening { "" } else { "; tasks are accepted" };
                log::info!("engine, mounts and disk are in order{accepting}");
                // Tasks that were deferred for want of an engine or of disk space needn't wait for their time.
                self.table.wake_waiting();
            }
            HostHealth::NotReady(why) | HostHealth::EngineDown(why) => {
                self.reported.is_opening = false;
                let said = Some(gist(&why));
                let level = if self.reported.unready == said { Level::Debug } else { Level::Warn };
                self.reported.unready = said;
                log::log!(level, "no new task is accepted: {why}");
            }
        }
        self.status.note_engine(engine);
        self.request_heartbeat();
        self.request(IntakeRequest::PollSoon);
    }

    /// Has the health thread start a container of the agent's own.
    pub(super) fn recheck_starts(&self) {
        // The health thread ends only with the agent.
        let _ = self.rechecks.send(RecheckRequest::ProveStart);
    }

    /// Logs why no task is accepted, and tells the Server.
    pub(super) fn note_closed(&mut self) {
        if let Err(why) = self.admission.check(1, Instant::now()) {
            log::warn!("no new task is accepted: {why}");
        }
        self.request_heartbeat();
    }
}
