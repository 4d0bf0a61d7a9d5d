//! What the intake thread hears of the host, and what it asks the health thread to look at.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use log::Level;

use super::Intake;
use crate::agent::health::{EngineLooks, HostHealth, RecheckRequest};
use crate::agent::messages::IntakeRequest;
use crate::agent::status_file::EngineState;
use crate::text::gist;

/// How long an offered task waits for a fresh look at the engine: longer than an engine that hangs takes to be found out.
const LOOK_PATIENCE: Duration = Duration::from_secs(20);

/// The intake thread's side of the health thread.
pub(super) struct HostWatch {
    /// What the health thread is asked for. It ends only with the agent.
    pub(super) rechecks: Sender<RecheckRequest>,
    pub(super) looks: Arc<EngineLooks>,
    /// Since when an offered task waits for a look at the engine.
    waiting_since: Option<Instant>,
}

impl HostWatch {
    pub(super) fn new(rechecks: Sender<RecheckRequest>, looks: Arc<EngineLooks>) -> Self {
        Self { rechecks, looks, waiting_since: None }
    }

    /// Whether a new task may be accepted as far as the engine is concerned, or has to wait for a look at it: an idle agent
    /// hasn't looked for up to a minute. Where none comes, as from a thread that removes large workspaces, the task waits
    /// for some seconds only.
    pub(super) fn is_known(&mut self, now: Instant) -> bool {
        if self.looks.is_fresh(now) {
            self.waiting_since = None;
            return true;
        }
        if self.waiting_since.is_none() {
            self.waiting_since = Some(now);
            let _ = self.rechecks.send(RecheckRequest::Look);
        }
        self.waiting_since.is_some_and(|since| now.saturating_duration_since(since) >= LOOK_PATIENCE)
    }
}

impl Intake {
    pub(super) fn note_health(&mut self, report: HostHealth) {
        let now = Instant::now();
        let was_ready = self.admission.note_health(&report, now);
        let is_waiting = self.host.waiting_since.take().is_some();
        let engine = if let HostHealth::EngineDown(_) = report { EngineState::Away } else { EngineState::Ready };
        match report {
            HostHealth::Unchanged if is_waiting => return self.request(IntakeRequest::PollSoon),
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
        let _ = self.host.rechecks.send(RecheckRequest::ProveStart);
    }

    /// Logs why no task is accepted, and tells the Server.
    pub(super) fn note_closed(&mut self) {
        if let Err(why) = self.admission.check(1, Instant::now()) {
            log::warn!("no new task is accepted: {why}");
        }
        self.request_heartbeat();
    }
}
