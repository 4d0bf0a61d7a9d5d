//! What the intake thread reports of itself: to the main thread, in `status.json` and in the log.

use std::mem;
use std::time::Instant;

use super::Intake;
use crate::agent::messages::IntakeRequest;
use crate::server::Load;

/// What the main thread knows of this one, and what the log says.
#[derive(Default)]
pub(super) struct Reported {
    pub(super) load: Option<Load>,
    pub(super) is_reclaiming: bool,
    /// What the log says of a host that isn't ready.
    pub(super) unready: Option<String>,
    /// Whether the log says that the host is ready, and not yet that tasks are accepted.
    pub(super) is_opening: bool,
    /// Whether the Server was answering when the intake thread looked last.
    pub(super) was_answering: bool,
}

impl Intake {
    /// The load for the Server.
    pub(in crate::agent) fn load(&self, now: Instant) -> Load {
        let (current, capacity) = (self.table.slots_taken(), self.table.capacity());
        Load { current, capacity, available: self.admission.announced(capacity.saturating_sub(current), now) }
    }

    pub(super) fn report_load(&mut self, now: Instant) {
        self.host.looks.note_idle(self.table.is_empty());
        let load = self.load(now);
        if self.reported.load != Some(load) {
            self.reported.load = Some(load);
            self.request(IntakeRequest::Load(load));
        }
        if self.reported.is_reclaiming == self.reclaims.is_asked() {
            self.report_reclaiming();
        }
    }

    /// Tells the Server at once whether tasks are accepted.
    pub(in crate::agent) fn request_heartbeat(&mut self) {
        self.report_load(Instant::now());
        self.request(IntakeRequest::HeartbeatNow);
    }

    pub(super) fn report_reclaiming(&mut self) {
        self.reported.is_reclaiming = !self.reclaims.is_asked();
        self.request(IntakeRequest::Reclaiming(self.reported.is_reclaiming));
    }

    /// A worker may be the first to find that the Server is away.
    pub(super) fn check_answering(&mut self) {
        let is_answering = self.client.is_answering();
        if self.reported.was_answering && !is_answering {
            self.request(IntakeRequest::ServerInDoubt);
        }
        self.reported.was_answering = is_answering;
    }

    pub(super) fn report_status(&mut self, now: Instant) {
        let not_accepting = self.not_accepting(now);
        if not_accepting.is_none() && mem::take(&mut self.reported.is_opening) {
            log::info!("tasks are accepted");
        }
        self.status.publish(not_accepting, &self.table);
    }

    /// Why no new task is accepted now, as `status` says it.
    pub(super) fn not_accepting(&self, now: Instant) -> Option<String> {
        let why = self.admission.check(1, now).err().map(|why| why.to_string());
        let why = why.or_else(|| self.offers.no_room.shown(now));
        why.or_else(|| self.admission.check_inputs(now).err().map(|why| why.to_string()))
    }
}
