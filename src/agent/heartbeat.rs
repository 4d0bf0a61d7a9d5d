//! Whether the Server hears of us, and what follows when it hasn't.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{Scheduler, UNAUTHORIZED};
use crate::agent::status_file::{LastError, ServerTrouble};
use crate::server::ClientError;
use crate::server::protocol::AgentStatus;
use crate::server::retry::Backoff;
use crate::shell::register_command;

/// The Server takes a service for dead after 60 s without a heartbeat (PROTOCOL 3).
const HEARTBEAT: Duration = Duration::from_secs(20);
/// How soon a heartbeat that failed is tried again.
const HEARTBEAT_RETRY: Duration = Duration::from_secs(5);
/// After so long without an acknowledged heartbeat, the Server may have requeued our tasks.
const GAP: Duration = Duration::from_secs(50);
/// How long tasks that are new to us are left alone after such a gap, so that twins get theirs back.
const HOLD: Duration = Duration::from_secs(15);

impl Scheduler {
    pub(super) fn heartbeat(&mut self) {
        let load = self.load();
        let status = if load.available == 0 { AgentStatus::Busy } else { AgentStatus::Online };
        let sent = Instant::now();
        match self.client.heartbeat(status, load, None) {
            Ok(()) => self.note_heartbeat(sent),
            Err(error) => self.note_server_trouble(&error),
        }
        self.state.server_tried = true;
    }

    pub(super) fn note_heartbeat(&mut self, sent: Instant) {
        let (now, wall) = (Instant::now(), Timestamp::now());
        // However late its answer came, the Server may count from its arrival.
        self.heartbeat_due = sent + HEARTBEAT;
        // The clock that stands still while a machine sleeps, and the one that somebody may set: the longer gap counts.
        let monotonic = self.acknowledged.map(|at| now.duration_since(at));
        let by_wall = self.state.last_heartbeat_at.and_then(|at| Duration::try_from(wall.duration_since(at)).ok());
        if monotonic.max(by_wall).is_some_and(|gap| gap >= GAP) {
            log::info!(
                "the Server had not heard from us for a while; asking for our own tasks first, and taking new ones in {} s",
                HOLD.as_secs()
            );
            self.reclaim_all();
        }
        self.acknowledged = Some(now);
        self.state.last_heartbeat_at = Some(wall);
        if self.server_trouble.take().is_some() {
            log::info!("the Server answers again");
            self.table.wake_waiting();
            self.poll_backoff = Backoff::default();
            self.poll_not_before = now;
            self.poll_due = now;
        }
    }

    /// The Server may have given up all our tasks for lost: asks for each before anything new is taken, and leaves
    /// what is new to us to twins for a while, who ask for theirs now.
    pub(super) fn reclaim_all(&mut self) {
        self.hold_until = Some(Instant::now() + HOLD);
        self.reclaim = self.table.keys().into();
    }

    /// From here on the Server is only asked to take a heartbeat, until it does. Says what is wrong, once for as long
    /// as it stays the same.
    pub(super) fn note_server_trouble(&mut self, error: &ClientError) {
        let pause = if error.is_unauthorized() { UNAUTHORIZED } else { HEARTBEAT_RETRY };
        self.heartbeat_due = Instant::now() + pause;
        let text = match error.remedy(&register_command(&self.context.config.file)) {
            Some(remedy) => format!("{error}; {remedy}"),
            None => error.to_string(),
        };
        let trouble = ServerTrouble { unauthorized: error.is_unauthorized(), message: text };
        if self.server_trouble.as_ref() != Some(&trouble) {
            self.state.last_error = Some(LastError { at: Timestamp::now(), message: trouble.message.clone() });
            log::warn!("{}; trying again", trouble.message);
            self.server_trouble = Some(trouble);
        }
    }

    /// A Server that didn't take our last heartbeat isn't asked for more than that.
    pub(super) fn may_poll(&self) -> bool {
        self.acknowledged.is_some() && self.server_trouble.is_none() && self.reclaim.is_empty()
    }

    pub(super) fn may_reclaim(&self) -> bool {
        self.acknowledged.is_some() && self.server_trouble.is_none() && !self.reclaim.is_empty()
    }
}
