//! Cancellations, also those of tasks that no agent works on any more.

use std::time::{Duration, Instant};

use super::Intake;
use crate::ledger::{Entry, Line, Outcome, Peer};
use crate::server::{CompleteRequest, FinalStatus, Output};
use crate::task::{failed_report, report_entry};
use crate::text::quote_foreign;

/// How long the Server asks for the cancellation of a task that isn't here before this agent reports it as cancelled: the
/// agent that owns the task needs some seconds to stop it (PROTOCOL 2).
const ORPHAN_PATIENCE: Duration = Duration::from_secs(60);
/// The reason, in the ledger and the log.
const ORPHANED: &str = "after a minute no agent had stopped the task";

/// A cancellation of a task that isn't here. A failed call ends it: the minute is one of answers without a break.
pub(super) struct Orphan {
    id: String,
    since: Instant,
}

impl Intake {
    /// Passes a cancellation on to the worker of its task. Where the task isn't here, reports it as cancelled after a
    /// minute: the Server offers no task to any agent of the service until one has reported it.
    ///
    /// That holds also for a task whose `accept` is unconfirmed. The Server has given it to this agent or to another one,
    /// and the `accept` that could tell may fail for ever.
    pub(super) fn cancel(&mut self, id: &str) {
        let here = self.unfinished(id);
        if let Some(key) = &here {
            self.table.cancel(key);
            if !self.table.is_unconfirmed(key) {
                self.orphan = None;
                return;
            }
        }
        let now = Instant::now();
        let since = match &self.orphan {
            Some(orphan) if orphan.id == id => orphan.since,
            _ => {
                log::debug!("the Server cancels a task that isn't here; it may be another agent's");
                self.orphan = Some(Orphan { id: id.to_owned(), since: now });
                now
            }
        };
        if now.saturating_duration_since(since) < ORPHAN_PATIENCE {
            return;
        }
        match here {
            Some(key) => {
                log::info!(task:% = key; "cancelled, and {ORPHANED}; it counts as accepted by this one");
                if self.confirm_accepted(&key, now) {
                    self.reclaims.remove(&key);
                }
            }
            None if self.try_acquire() => self.report_orphan(id),
            None => return,
        }
        self.orphan = None;
    }

    fn report_orphan(&self, id: &str) {
        let shown = quote_foreign(id);
        let (output, status) = (Output::default(), FinalStatus::Cancelled);
        let report =
            CompleteRequest { task_id: id, status, output, error_message: None, file_ids: Vec::new() }.encode();
        let entry = match self.client.complete(&report) {
            Ok(()) => {
                log::info!("the task {shown}, which isn't here, is reported as cancelled: {ORPHANED}");
                Some(report_entry(&report, Outcome::Sent, Some(ORPHANED)))
            }
            Err(error) => {
                log::warn!(
                    "the task {shown}, which isn't here, can't be reported as cancelled, although {ORPHANED}: {error}"
                );
                failed_report(&report, &error)
            }
        };
        if let Some(Err(error)) = entry.map(|entry| self.append_to_ledger(id, entry)) {
            log::error!("the ledger lacks the report that the task {shown}, which isn't here, was cancelled: {error}");
        }
    }

    /// Adds a line about a task that isn't here to the ledger.
    fn append_to_ledger(&self, id: &str, entry: Entry) -> std::io::Result<()> {
        let peer = Peer { server: self.client.base_url(), service_id: &self.client.service_id };
        self.context.ledger.append(&[Line::new(id, peer, entry)])
    }
}
