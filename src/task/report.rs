//! From `uploaded` to `settled`: the report.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use super::ledger_entries::INTERRUPTED;
use super::uploads::Uploads;
use super::{StepError, TaskRunner, WorkerEvent};
use crate::ledger::{Direction, Entry, Outcome, Report, Settled, Words};
use crate::os::process::read_tail;
use crate::server::ClientError;
use crate::server::protocol::{CompleteRequest, EncodedReport, Output};
use crate::task::record::{Ending, Phase, Record, TaskFiles};
use crate::units::Span;

/// How much of the container's output the Server gets, per stream.
const OUTPUT_TAIL: u64 = 64 * 1024;
/// How many files that were left out are named to the Server; the log names all.
const NAMED: usize = 100;

impl TaskRunner<'_> {
    /// Tells the Server how the task ended.
    pub(super) fn complete(&mut self) -> Result<(), StepError> {
        let events = self.files.load_uploads().map_err(|error| StepError::retry(format!("uploads.jsonl: {error}")))?;
        let uploads = Uploads::from_events(events);
        let Some(ending) = self.record.ending.clone() else {
            return Err(StepError::retry("the record names no ending"));
        };
        if self.record.report_open {
            self.enter(of_record(&self.files, &self.record, &uploads).into_iter().collect())?;
            self.record.report_open = false;
            self.save()?;
        }
        let task_id = self.record.task.id.clone();
        let mut output = output(&self.files, &ending, &uploads);
        let (mut tries, mut ended) = (0, false);
        let mut in_doubt = self.record.report_in_doubt;
        loop {
            self.check_commands()?;
            self.wait_for_room_to_report()?;
            let report = request(&task_id, &ending, &uploads, output.clone()).encode();
            // A crash right after the call leaves nobody who knows of it but the record.
            (self.record.report_in_doubt, self.record.report_open) = (true, true);
            self.save()?;
            let error = match self.context.client.complete(&report) {
                Ok(()) => {
                    let entry = report_entry(&report, Outcome::Sent, None);
                    self.settle(vec![entry, settled(&ending, &uploads, words(&report.request), None)])?;
                    let (status, files) = (ending.status.as_str(), uploads.done.len());
                    let files = format!("{files} {}", if files == 1 { "file" } else { "files" });
                    let since_offer = Timestamp::now().duration_since(self.record.offered_at);
                    let time = Span(Duration::try_from(since_offer).unwrap_or_default());
                    log::info!(task:% = self.key(); "settled as {status} with {files}, {time} after its offer");
                    return Ok(());
                }
                Err(error) => error,
            };
            self.enter(failed_report(&report, &error).into_iter().collect())?;
            in_doubt |= error.may_have_arrived();
            (self.record.report_in_doubt, self.record.report_open) = (in_doubt, false);
            self.save()?;
            match error.status() {
                Some(413) if output.shrink() => {
                    log::warn!(task:% = self.key(); "the report is too large for the Server or its proxy; sending less");
                }
                // Not running on the Server: requeued meanwhile, or ended by a call whose answer was lost. Accepting
                // it tells which (PROTOCOL 5).
                _ if error.is_wrong_state() && tries < 3 => {
                    tries += 1;
                    if ended {
                        let how = self.note_ended(in_doubt, &error);
                        let words = if in_doubt { words(&report.request) } else { Words::default() };
                        return self.settle(vec![settled(&ending, &uploads, words, Some(how))]);
                    }
                    self.wait_for_room_to_report()?;
                    match self.context.client.accept(&self.record.task.id) {
                        Ok(()) => {
                            log::info!(task:% = self.key(); "had been requeued and is ours again");
                            self.tell(WorkerEvent::Requeued);
                        }
                        // The scheduler may have accepted it for us a moment ago, so the report is tried once more.
                        Err(refused) if refused.is_wrong_state() => ended = true,
                        Err(other) => return Err(other.into()),
                    }
                }
                _ => return Err(error.into()),
            }
        }
    }

    /// The Server neither takes a report nor gives the task out again: it has ended there. Returns how, in words.
    fn note_ended(&mut self, in_doubt: bool, error: &ClientError) -> &'static str {
        if in_doubt {
            let how = "had ended on the Server already, by a report whose answer was lost";
            log::info!(task:% = self.key(); "{how}");
            how
        } else {
            let how = "had ended on the Server already, without this report";
            log::warn!(task:% = self.key(); "{how} ({error})");
            self.record.has_undelivered = true;
            how
        }
    }

    /// Closes the record. The last lines of the ledger come before that.
    fn settle(&mut self, entries: Vec<Entry>) -> Result<(), StepError> {
        self.enter(entries)?;
        // What was fetched has been sent; only what stayed here may still be wanted by somebody.
        if !self.record.has_undelivered {
            if let Err(error) = self.files.remove_fetched() {
                log::warn!(task:% = self.key(); "`{}` can't be removed: {error}", self.files.fetched_dir().display());
            }
        }
        self.record.report_open = false;
        self.record.settled_at = Some(Timestamp::now());
        self.advance(Phase::Settled)
    }
}

/// A report that was begun, and of which the record doesn't say what became; `None` where there is nothing to report.
pub(super) fn of_record(files: &TaskFiles, record: &Record, uploads: &Uploads) -> Option<Entry> {
    let ending = record.ending.as_ref()?;
    let report = request(&record.task.id, ending, uploads, output(files, ending, uploads)).encode();
    Some(report_entry(&report, Outcome::Unknown, Some(INTERRUPTED)))
}

/// A report that the Server didn't take, for the ledger. Where there was nobody to take it, nothing has left: `None`.
pub fn failed_report(report: &EncodedReport<'_>, error: &ClientError) -> Option<Entry> {
    let outcome = match error {
        ClientError::NotSent(_) => return None,
        _ if error.may_have_arrived() => Outcome::Unknown,
        _ => Outcome::Refused,
    };
    Some(report_entry(report, outcome, Some(&error.to_string())))
}

/// A report for the ledger.
pub fn report_entry(report: &EncodedReport<'_>, outcome: Outcome, reason: Option<&str>) -> Entry {
    Entry::Report(Report {
        direction: Direction::Out,
        outcome,
        status: report.request.status,
        bytes: report.body.len() as u64,
        words: words(&report.request),
        reason: reason.map(str::to_owned),
    })
}

pub(super) fn words(request: &CompleteRequest<'_>) -> Words {
    let length = |text: Option<&str>| text.map_or(0, |text| text.len() as u64);
    Words {
        stdout_bytes: length(request.output.stdout.as_deref()),
        stderr_bytes: length(request.output.stderr.as_deref()),
        error_bytes: length(request.error_message),
    }
}

pub(super) fn settled(ending: &Ending, uploads: &Uploads, words: Words, reason: Option<&str>) -> Entry {
    Entry::Task(Settled {
        status: ending.status,
        exit_code: ending.exit_code,
        duration_secs: ending.duration_secs,
        files_sent: uploads.done.len() as u64,
        files_left_out: uploads.left_out.len() as u64 + uploads.unnamed,
        words,
        reason: reason.map(str::to_owned),
    })
}

fn request<'a>(task_id: &'a str, ending: &'a Ending, uploads: &Uploads, output: Output) -> CompleteRequest<'a> {
    CompleteRequest {
        task_id,
        status: ending.status,
        output,
        error_message: ending.error_message.as_deref(),
        file_ids: uploads.done.iter().map(|(_, id)| id.clone()).collect(),
    }
}

fn output(files: &TaskFiles, ending: &Ending, uploads: &Uploads) -> Output {
    let tail = |path: PathBuf| {
        read_tail(&path, OUTPUT_TAIL).unwrap_or_else(|error| {
            log::warn!(task:% = files.key(); "`{}` can't be read: {error}", path.display());
            String::new()
        })
    };
    let left_out = &uploads.left_out;
    Output {
        files: uploads.done.iter().map(|(name, _)| name.clone()).collect(),
        stdout: Some(tail(files.stdout())),
        stderr: Some(tail(files.stderr())),
        exit_code: ending.exit_code,
        duration_secs: ending.duration_secs,
        left_out: left_out.iter().take(NAMED).cloned().collect(),
        left_out_count: (left_out.len() > NAMED || uploads.unnamed > 0)
            .then(|| left_out.len() as u64 + uploads.unnamed),
    }
}

impl Output {
    /// Leaves out what can be spared, the least important first. Returns whether there was anything.
    fn shrink(&mut self) -> bool {
        if !self.left_out.is_empty() {
            self.left_out_count.get_or_insert(self.left_out.len() as u64);
            self.left_out.clear();
            return true;
        }
        if self.stdout.take().is_some() | self.stderr.take().is_some() {
            return true;
        }
        // The Server knows the names of the files by their ids.
        let had_files = !self.files.is_empty();
        self.files.clear();
        had_files
    }
}

#[cfg(test)]
mod tests {
    use crate::server::protocol::{LeftOut, Output};

    #[test]
    fn a_report_shrinks_to_the_bare_status() {
        let left = LeftOut { file: "f".to_owned(), reason: "r".to_owned() };
        let mut output = Output {
            files: vec!["f".to_owned()],
            stdout: Some("x".to_owned()),
            stderr: Some("y".to_owned()),
            left_out: vec![left],
            ..Output::default()
        };
        assert!(output.shrink());
        assert_eq!((output.left_out.len(), output.left_out_count, output.stdout.is_some()), (0, Some(1), true));
        assert!(output.shrink());
        assert_eq!((output.stdout.clone(), output.stderr.clone(), output.files.len()), (None, None, 1));
        assert!(output.shrink());
        assert!(output.files.is_empty());
        assert!(!output.shrink());
    }
}
