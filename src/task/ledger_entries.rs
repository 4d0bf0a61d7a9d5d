//! What the ledger says of a task's transfers and reports: pure functions.

use super::complete_request::Content;
use super::{Ending, Record, TaskFiles, Uploads};
use crate::ledger::{Direction, Entry, Outcome, Report, Settled, TextSizes, Transfer};
use crate::server::{ClientError, EncodedReport, InputFile, Output};

/// Why the result of an upload or a report isn't known.
pub const INTERRUPTED: &str = "the agent was interrupted before it knew";

/// An input file that is complete on this machine.
pub fn received(file: &InputFile) -> Entry {
    Entry::File(Transfer {
        bytes: Some(file.size_bytes),
        file_id: Some(file.id.clone()),
        ..Transfer::new(Direction::In, Outcome::Received, &file.filename)
    })
}

/// Input files that are complete on this machine, in one line.
pub fn received_unnamed<'f>(files: impl Iterator<Item = &'f InputFile>) -> Option<Entry> {
    let (count, bytes) =
        files.fold((0, 0u64), |(count, bytes), file| (count + 1, bytes.saturating_add(file.size_bytes)));
    (count > 0).then(|| Entry::File(Transfer::received_unnamed(count, bytes)))
}

/// An input file that can't be downloaded.
pub fn not_received(file: &InputFile, error: &ClientError) -> Entry {
    Entry::File(Transfer {
        file_id: Some(file.id.clone()),
        reason: Some(error.to_string()),
        ..Transfer::new(Direction::In, not_arrived(error), &file.filename)
    })
}

/// A file that isn't sent.
pub fn stays_here(file: &str, reason: &str) -> Entry {
    Entry::File(Transfer { reason: Some(reason.to_owned()), ..Transfer::new(Direction::Out, Outcome::LeftOut, file) })
}

/// Files that the Server never got, and that are removed from this machine.
pub fn removed_here(uploads: &Uploads, reason: &str) -> Entry {
    let count = Some(uploads.left_out_count());
    Entry::File(Transfer {
        file: None,
        count,
        reason: Some(reason.to_owned()),
        ..Transfer::new(Direction::Out, Outcome::Removed, "")
    })
}

/// A file that the Server never got, and that is removed from this machine before the rest of its task's.
pub fn removed_file(file: &str, reason: &str) -> Entry {
    Entry::File(Transfer { reason: Some(reason.to_owned()), ..Transfer::new(Direction::Out, Outcome::Removed, file) })
}

/// Uploads whose end isn't known because the agent was interrupted, or couldn't write the ledger.
pub fn interrupted(uploads: &Uploads) -> Vec<Entry> {
    let entry = |(file, began): (&String, &Option<_>)| {
        Entry::File(Transfer {
            bytes: uploads.in_doubt.get(file).copied(),
            attempt: uploads.attempts.get(file).copied(),
            began: *began,
            reason: Some(INTERRUPTED.to_owned()),
            ..Transfer::new(Direction::Out, Outcome::Unknown, file)
        })
    };
    uploads.unlogged.iter().map(entry).collect()
}

/// What became of a file that certainly didn't arrive.
pub fn not_arrived(error: &ClientError) -> Outcome {
    if error.status().is_some() { Outcome::Refused } else { Outcome::Failed }
}

/// A report that had begun when the agent was interrupted, or `None` for a task without an ending.
pub fn interrupted_report(files: &TaskFiles, record: &Record, uploads: &Uploads) -> Option<Entry> {
    let ending = record.ending.as_ref()?;
    let content = Content::full(files, ending, uploads);
    let report = content.request(&record.task.id, ending.status).encode();
    Some(report_entry(&report, Outcome::Unknown, Some(INTERRUPTED)))
}

/// A report that the Server didn't take, or `None` if it never left this machine.
pub fn failed_report(report: &EncodedReport<'_>, error: &ClientError) -> Option<Entry> {
    let outcome = match error {
        ClientError::NotSent(_) => return None,
        _ if error.may_have_arrived() => Outcome::Unknown,
        _ => Outcome::Refused,
    };
    Some(report_entry(report, outcome, Some(&error.to_string())))
}

/// A report with its outcome.
pub fn report_entry(report: &EncodedReport<'_>, outcome: Outcome, reason: Option<&str>) -> Entry {
    Entry::Report(Report {
        direction: Direction::Out,
        outcome,
        status: report.request.status,
        bytes: report.body.len() as u64,
        text_sizes: text_sizes(&report.request.output, report.request.error_message),
        reason: reason.map(str::to_owned),
    })
}

/// How much of a report the task wrote itself.
pub fn text_sizes(output: &Output, error_message: Option<&str>) -> TextSizes {
    let length = |text: Option<&str>| text.map_or(0, |text| text.len() as u64);
    TextSizes {
        stdout_bytes: length(output.stdout.as_deref()),
        stderr_bytes: length(output.stderr.as_deref()),
        error_bytes: length(error_message),
    }
}

/// The last line about a task. `text_sizes` are those of the report that the Server accepted.
pub fn settled(ending: &Ending, uploads: &Uploads, text_sizes: TextSizes, reason: Option<&str>) -> Entry {
    Entry::Task(Settled {
        status: ending.status,
        exit_code: ending.exit_code,
        duration_secs: ending.duration_secs,
        files_sent: uploads.files_sent(),
        files_left_out: uploads.left_out_count(),
        text_sizes,
        reason: reason.map(str::to_owned),
    })
}
