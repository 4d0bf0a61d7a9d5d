//! A result that the operator gives up: the Server is told so once, and nothing more is sent.
//!
//! Where no agent runs, the command does it itself; otherwise it leaves a note, and the worker that has the task, or
//! takes it up for that, does it.

use std::io;

use jiff::Timestamp;

use super::ledger_entries::log_abandoned;
use super::report::{failed_report, report_entry, settled, words};
use super::uploads::Uploads;
use super::{StepError, TaskRunner, WorkerEvent};
use crate::ledger::{Entry, Ledger, Line, Outcome, Peer, Words};
use crate::server::Client;
use crate::server::protocol::{CompleteRequest, FinalStatus, Output};
use crate::task::record::{DiscardRequests, Discarded, Ending, Phase, Record, TaskFiles};
use crate::text::escape;

/// What the ledger is told of an upload that this ended.
pub(super) const DISCARDED: &str = "the result was discarded before it was known";
/// What the Server is told.
const WHY: &str = "the result was discarded by the operator";

impl TaskRunner<'_> {
    /// Whether the operator has given this task's result up.
    pub(super) fn is_given_up(&self) -> bool {
        self.record.phase >= Phase::Exited && self.discards().contains(self.key())
    }

    /// Settles the task without its result.
    pub(super) fn give_up(&mut self) -> Result<(), StepError> {
        self.remove_container()?;
        self.wait_for_room_to_report()?;
        let (ledger, client) = (&self.context.ledger, &self.context.client);
        let discarded = discard(ledger, Some(client), &self.files, &mut self.record)
            .map_err(|error| StepError::retry(format!("can't be discarded: {error}")))?;
        match discarded.unreported {
            None => log::info!(task:% = self.key(); "discarded by the operator; the Server knows that it failed"),
            Some(why) => {
                log::warn!(task:% = self.key(); "discarded by the operator; the Server doesn't know: {}", escape(&why));
            }
        }
        // The scheduler takes away what stays here.
        if let Err(error) = self.discards().remove(self.key()) {
            log::debug!(task:% = self.key(); "the note to discard it can't be removed: {error}");
        }
        self.tell(WorkerEvent::PhaseReached(Phase::Settled));
        Ok(())
    }

    fn discards(&self) -> DiscardRequests {
        DiscardRequests::new(&self.context.config.paths.data_dir)
    }
}

/// Settles a task whose result waits for its delivery. For whoever has the task.
///
/// Without a client, and where the Server doesn't take the report, nobody is told: that is what giving up means; the
/// record says so. A crash in the middle leaves a task that is reported as failed when it is taken up again; its files
/// aren't sent any more from the first step on.
pub fn discard(
    ledger: &Ledger,
    client: Option<&Client>,
    files: &TaskFiles,
    record: &mut Record,
) -> io::Result<Discarded> {
    log_abandoned(ledger, files, record)?;
    let uploads = Uploads::from_events(files.load_uploads()?);
    let (exit_code, duration_secs) =
        record.ending.as_ref().map_or((None, 0.0), |ending| (ending.exit_code, ending.duration_secs));
    let ending = Ending {
        status: FinalStatus::Failed,
        exit_code,
        error_message: Some(WHY.to_owned()),
        duration_secs,
        at: record.ending.as_ref().map_or_else(Timestamp::now, |ending| ending.at),
    };
    record.ending = Some(ending.clone());
    record.has_undelivered = true;
    record.set_phase(Phase::Uploaded);
    files.save(record)?;
    // What the container printed is part of the result.
    let output = Output { exit_code, duration_secs, ..Output::default() };
    let task_id = record.task.id.clone();
    let file_ids = uploads.done.iter().map(|(_, id)| id.clone()).collect();
    let request =
        CompleteRequest { task_id: &task_id, status: FinalStatus::Failed, output, error_message: Some(WHY), file_ids };
    let encoded = request.encode();
    let (told, report) = match client {
        None => (Err("the task belongs to another registration".to_owned()), None),
        Some(client) => {
            // A crash right after the call leaves nobody who knows of it but the record.
            (record.report_in_doubt, record.report_open) = (true, true);
            files.save(record)?;
            match client.complete(&encoded) {
                Ok(()) => (Ok(()), Some(report_entry(&encoded, Outcome::Sent, None))),
                Err(error) => {
                    let why = if error.is_wrong_state() {
                        format!("there, the task isn't one that this agent works on (any more): {error}")
                    } else {
                        error.to_string()
                    };
                    (Err(why), failed_report(&encoded, &error))
                }
            }
        }
    };
    let said = if told.is_ok() { words(&encoded.request) } else { Words::default() };
    let end = settled(&ending, &uploads, said, Some(WHY));
    let peer = Peer { server: &record.base_url, service_id: &record.service_id };
    let entries: Vec<Entry> = report.into_iter().chain([end]).collect();
    let lines: Vec<Line> = entries.into_iter().map(|entry| Line::now(&task_id, peer, entry)).collect();
    files.with_reserve(|| ledger.append(&lines))?;
    let discarded = Discarded { unreported: told.err() };
    record.report_open = false;
    record.discarded = Some(discarded.clone());
    record.settled_at = Some(Timestamp::now());
    record.set_phase(Phase::Settled);
    files.save(record)?;
    Ok(discarded)
}
