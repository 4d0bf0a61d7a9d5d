//! Tasks whose results aren't delivered: those of another registration, and those that the operator discards.
//!
//! Where no agent runs, the `discard` command settles the task itself. Otherwise it leaves a request, and the task's
//! worker settles it.

use std::io;

use jiff::Timestamp;

use super::complete_request::Content;
use super::ledger_entries::{failed_report, interrupted, interrupted_report, report_entry, settled, text_sizes};
use super::record::{Before, DiscardRequests, Discarded, Ending, Phase, Record, ReportState, TaskFiles};
use super::task_ledger::TaskLedger;
use super::{StepError, TaskClient, TaskHandle, Uploads, WorkerEvent};
use crate::ledger::{Entry, Ledger, Outcome, TextSizes};
use crate::server::{Client, FinalStatus};
use crate::text::escape;

/// The error message on the Server, and the reason in the ledger.
const REASON: &str = "the result was discarded by the operator";
/// The same for a task that only this machine knows.
const SUPERSEDED: &str = "the Server has given the task's id to another task";
/// Why a task isn't reported whose Server this agent isn't registered with.
pub const OTHER_REGISTRATION: &str = "the task belongs to another registration";

/// Settles the task of a worker without its result.
pub fn settle(client: &TaskClient<'_>, task: &mut TaskHandle, requests: &DiscardRequests) -> Result<(), StepError> {
    client.acquire_report(task)?;
    let discarded = discard(client.ledger, Ok(client.client), &task.files, &mut task.record)
        .map_err(StepError::because("can't be discarded"))?;
    match discarded.unreported {
        None => log::info!(task:% = task.key(); "discarded by the operator; the Server knows that it failed"),
        Some(why) => {
            log::warn!(task:% = task.key(); "discarded by the operator; the Server doesn't know: {}", escape(&why));
        }
    }
    client.client.patience().forget(&task.record.task.id);
    end(task, requests);
    Ok(())
}

/// Settles the task of a worker without a call: under its id, its results would be another task's.
pub fn settle_superseded(ledger: &Ledger, task: &mut TaskHandle, requests: &DiscardRequests) -> Result<(), StepError> {
    let before = Before { phase: task.record.phase, ending: task.record.ending.clone() };
    let how = GivenUp { client: Err(SUPERSEDED), reason: SUPERSEDED, before: Some(before) };
    give_up(ledger, how, &task.files, &mut task.record)
        .map_err(StepError::because("can't be settled without its result"))?;
    log::warn!(task:% = task.key(); "settled without a report: {SUPERSEDED}; its results are kept here");
    end(task, requests);
    Ok(())
}

/// Ends the work on a settled task.
fn end(task: &TaskHandle, requests: &DiscardRequests) {
    // The agent removes a request of a settled task, too.
    if let Err(error) = requests.remove(task.key()) {
        log::debug!(task:% = task.key(); "the request to discard it can't be removed: {error}");
    }
    task.send(WorkerEvent::PhaseReached(Phase::Settled));
}

/// Writes ledger lines for transfers that were in flight when the agent stopped, for a task that won't be resumed (e.g.
/// another service's).
pub fn log_abandoned(ledger: &Ledger, files: &TaskFiles, record: &mut Record) -> io::Result<()> {
    log_transfers(ledger, files, record, &Uploads::load(files)?)
}

fn log_transfers(ledger: &Ledger, files: &TaskFiles, record: &mut Record, uploads: &Uploads) -> io::Result<()> {
    let mut entries = interrupted(uploads);
    if record.report == ReportState::Sending {
        entries.extend(interrupted_report(files, record, uploads));
    }
    if entries.is_empty() {
        return Ok(());
    }
    TaskLedger::new(ledger, files, record).append(entries)?;
    let logged = uploads.logged_events();
    if !logged.is_empty() {
        files.append_uploads(&logged)?;
    }
    record.report.note_logged();
    files.save(record)
}

/// Settles a task whose result waits for its delivery. The caller holds the task.
///
/// The Server gets one report that the task failed. Without a client there is a reason for that; the record has it, or why
/// the Server didn't take the report. A crash in the middle of a report leaves a task that is reported as failed when its
/// worker resumes; its files aren't sent any more from the first write on. Without a client a crash leaves the task as it was.
pub fn discard(
    ledger: &Ledger,
    client: Result<&Client, &'static str>,
    files: &TaskFiles,
    record: &mut Record,
) -> io::Result<Discarded> {
    give_up(ledger, GivenUp { client, reason: REASON, before: None }, files, record)
}

/// How a task is settled without its result.
struct GivenUp<'c> {
    /// What reports it, or why nothing does.
    client: Result<&'c Client, &'static str>,
    /// The error message, and the reason in the ledger.
    reason: &'static str,
    /// Where the task stands, if it may have to go on from there.
    before: Option<Before>,
}

fn give_up(
    ledger: &Ledger,
    GivenUp { client, reason, before }: GivenUp<'_>,
    files: &TaskFiles,
    record: &mut Record,
) -> io::Result<Discarded> {
    // Also without a readable file: its results aren't wanted.
    let (uploads, unread) = match Uploads::load(files) {
        Ok(uploads) => (uploads, None),
        Err(error) => (Uploads::default(), Some(format!("{reason}; its uploads.jsonl can't be read: {error}"))),
    };
    log_transfers(ledger, files, record, &uploads)?;
    let ending = discarded_ending(record.ending.take(), reason);
    record.ending = Some(ending.clone());
    record.has_undelivered = true;
    record.set_phase(Phase::Uploaded);
    // Without a call, nothing is lost where the last write is the only one.
    if client.is_ok() {
        files.save(record)?;
    }
    let task_id = record.task.id.clone();
    // The container's output is part of the result, so it isn't sent.
    let content = Content::without_output(&ending, &uploads);
    let report = content.request(&task_id, ending.status).encode();
    let (unreported, entry) = match client {
        Err(why) => (Some(why.to_owned()), None),
        Ok(client) => {
            // Before the call: after a crash, the record alone says that a report may have arrived.
            record.report = ReportState::Sending;
            files.save(record)?;
            match client.complete(&report) {
                Ok(()) => (None, Some(report_entry(&report, Outcome::Sent, None))),
                Err(error) if error.is_wrong_state() => (
                    Some(format!("there the task isn't (or no longer) this agent's: {error}")),
                    failed_report(&report, &error),
                ),
                Err(error) => (Some(error.to_string()), failed_report(&report, &error)),
            }
        }
    };
    let taken =
        if unreported.is_none() { text_sizes(&report.request.output, Some(reason)) } else { TextSizes::default() };
    let entries: Vec<Entry> = entry
        .into_iter()
        .chain([settled(&ending, &uploads, taken, Some(unread.as_deref().unwrap_or(reason)))])
        .collect();
    TaskLedger::new(ledger, files, record).append(entries)?;
    let discarded = Discarded { unreported, before };
    record.report.note_logged();
    record.discarded = Some(discarded.clone());
    record.settled_at.get_or_insert_with(Timestamp::now);
    record.set_phase(Phase::Settled);
    files.save(record)?;
    files.remove_leftovers();
    Ok(discarded)
}

fn discarded_ending(ending: Option<Ending>, reason: &str) -> Ending {
    Ending {
        status: FinalStatus::Failed,
        exit_code: ending.as_ref().and_then(|ending| ending.exit_code),
        error_message: Some(reason.to_owned()),
        duration_secs: ending.as_ref().map_or(0.0, |ending| ending.duration_secs),
        at: ending.map_or_else(Timestamp::now, |ending| ending.at),
    }
}
