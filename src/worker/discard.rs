//! A result that the operator gives up: the Server is told so once, and nothing more is sent.

use std::io;

use jiff::Timestamp;

use super::account::enter_abandoned;
use super::report::{failed_report, report_entry, settled, words};
use super::uploads::Uploads;
use crate::client::Client;
use crate::ledger::{Entry, Ledger, Line, Outcome, Peer, Words};
use crate::protocol::{CompleteRequest, FinalStatus, Output};
use crate::record::{Ending, Phase, Record, TaskFiles};

/// What the Server is told.
const WHY: &str = "the result was discarded by the operator";

/// Settles a task whose result waits for its delivery. For whoever holds the data_dir.
///
/// Without a client, and where the Server doesn't take the report, nobody is told: that is what giving up means. Returns
/// why the Server doesn't know, if so. A crash in the middle leaves a task that the next start reports as failed; its
/// files aren't sent any more from the first step on.
pub fn discard(
    ledger: &Ledger,
    client: Option<&Client>,
    files: &TaskFiles,
    record: &mut Record,
) -> io::Result<Result<(), String>> {
    enter_abandoned(ledger, files, record)?;
    let uploads = Uploads::of(files.uploads()?);
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
    record.kept_back = true;
    record.enter(Phase::Uploaded);
    files.save(record)?;
    // What the container printed is part of the result.
    let output = Output { exit_code, duration_secs, ..Output::default() };
    let task_id = record.task.id.clone();
    let file_ids = uploads.done.iter().map(|(_, id)| id.clone()).collect();
    let request =
        CompleteRequest { task_id: &task_id, status: FinalStatus::Failed, output, error_message: Some(WHY), file_ids };
    let (told, report) = match client {
        None => (Err("the task belongs to another registration".to_owned()), None),
        Some(client) => {
            // A crash right after the call leaves nobody who knows of it but the record.
            (record.report_in_doubt, record.report_open) = (true, true);
            files.save(record)?;
            match client.complete(&request) {
                Ok(()) => (Ok(()), Some(report_entry(&request, Outcome::Sent, None))),
                Err(error) => (Err(error.to_string()), failed_report(&request, &error)),
            }
        }
    };
    let said = if told.is_ok() { words(&request) } else { Words::default() };
    let end = settled(&ending, &uploads, said, Some(WHY));
    let peer = Peer { server: &record.base_url, service_id: &record.service_id };
    let entries: Vec<Entry> = report.into_iter().chain([end]).collect();
    let lines: Vec<Line> = entries.into_iter().map(|entry| Line::now(&task_id, peer, entry)).collect();
    files.write_elsewhere(|| ledger.append(&lines))?;
    record.report_open = false;
    record.settled_at = Some(Timestamp::now());
    record.enter(Phase::Settled);
    files.save(record)?;
    Ok(told)
}
