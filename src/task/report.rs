//! From `uploaded` to `settled`: the report.

use std::time::Duration;

use jiff::Timestamp;

use super::complete_request::{build, full_output, shrink};
use super::ledger_entries::{failed_report, interrupted_report, report_entry, settled, text_sizes};
use super::{Ending, Phase, ReportState, StepError, TaskClient, TaskHandle, Uploads, WorkerEvent};
use crate::ledger::{Entry, Outcome, TextSizes};
use crate::server::{ClientError, Output};
use crate::units::Span;

/// How often a task that isn't running on the Server is accepted again before the step is tried later.
const ACCEPTS: u32 = 3;

/// The report of one task.
pub struct Report<'t> {
    client: TaskClient<'t>,
    task: &'t mut TaskHandle,
    uploads: Uploads,
    ending: Ending,
    output: Output,
    /// Whether a report that failed may have arrived all the same.
    may_have_arrived: bool,
}

impl<'t> Report<'t> {
    /// Reads what is to be reported. An earlier report whose answer never came gets its line in the ledger.
    pub fn open(client: TaskClient<'t>, task: &'t mut TaskHandle) -> Result<Self, StepError> {
        let uploads = Uploads::open(task)?;
        let Some(ending) = task.record.ending.clone() else {
            return Err(StepError::retry("the record has no ending"));
        };
        if task.record.report == ReportState::Sending {
            client.append_to_ledger(
                task,
                interrupted_report(&task.files, &task.record, &uploads).into_iter().collect(),
            )?;
            task.record.report.note_logged();
            task.save()?;
        }
        let output = full_output(&task.files, &ending, &uploads);
        let may_have_arrived = task.record.report == ReportState::MaybeArrived;
        Ok(Self { client, task, uploads, ending, output, may_have_arrived })
    }

    /// Sends the report until the Server takes it or the task has ended there.
    pub fn send(mut self) -> Result<(), StepError> {
        let (mut accepts, mut has_ended) = (0, false);
        loop {
            let Some(error) = self.send_once()? else { return Ok(()) };
            match error.status() {
                Some(413) if shrink(&mut self.output) => {
                    log::warn!(task:% = self.task.key(); "the report is too large for the Server or its proxy; sending less");
                }
                _ if error.is_wrong_state() && accepts < ACCEPTS => {
                    if has_ended {
                        return self.settle_ended(&error);
                    }
                    accepts += 1;
                    has_ended = self.has_ended()?;
                }
                _ => return Err(error.into()),
            }
        }
    }

    /// Sends the report and settles the task if the Server takes it. Returns the error otherwise.
    fn send_once(&mut self) -> Result<Option<ClientError>, StepError> {
        self.task.check_commands()?;
        self.client.acquire_report(self.task)?;
        let task_id = self.task.record.task.id.clone();
        let report = build(&task_id, &self.ending, &self.uploads, self.output.clone()).encode();
        // Before the call: after a crash, the record alone says that a report may have arrived.
        self.task.record.report = ReportState::Sending;
        self.task.save()?;
        let Err(error) = self.client.client.complete(&report) else {
            let end = settled(&self.ending, &self.uploads, self.text_sizes(), None);
            self.settle(vec![report_entry(&report, Outcome::Sent, None), end])?;
            self.log_settled();
            return Ok(None);
        };
        self.client.append_to_ledger(self.task, failed_report(&report, &error).into_iter().collect())?;
        self.may_have_arrived |= error.may_have_arrived();
        self.task.record.report = if self.may_have_arrived { ReportState::MaybeArrived } else { ReportState::NotSent };
        self.task.save()?;
        Ok(Some(error))
    }

    /// Finds out why the task isn't running on the Server, by accepting it: it was requeued and is this agent's again,
    /// or it has ended (PROTOCOL 5). In both cases the report is sent once more, since the agent may have accepted the
    /// task a moment ago for another reason. Returns whether the task seems to have ended.
    fn has_ended(&mut self) -> Result<bool, StepError> {
        self.client.acquire_report(self.task)?;
        match self.client.client.accept(&self.task.record.task.id) {
            Ok(()) => {
                log::info!(task:% = self.task.key(); "had been requeued and is this agent's again");
                self.task.send(WorkerEvent::Requeued);
                Ok(false)
            }
            Err(refused) if refused.is_wrong_state() => Ok(true),
            Err(other) => Err(other.into()),
        }
    }

    /// Settles a task that the Server neither takes a report for nor gives out again.
    fn settle_ended(mut self, error: &ClientError) -> Result<(), StepError> {
        let (how, text_sizes) = if self.may_have_arrived {
            let how = "had ended on the Server already, by a report whose answer was lost";
            log::info!(task:% = self.task.key(); "{how}");
            (how, self.text_sizes())
        } else {
            let how = "had ended on the Server already, without this report";
            log::warn!(task:% = self.task.key(); "{how} ({error})");
            self.task.record.has_undelivered = true;
            (how, TextSizes::default())
        };
        let end = settled(&self.ending, &self.uploads, text_sizes, Some(how));
        self.settle(vec![end])
    }

    /// Closes the record, after the last lines of the ledger.
    fn settle(&mut self, entries: Vec<Entry>) -> Result<(), StepError> {
        self.client.append_to_ledger(self.task, entries)?;
        let files = &self.task.files;
        if let Err(error) = files.remove_notes() {
            log::warn!(task:% = files.key(); "`{}` can't be removed: {error}", files.notes_dir().display());
        }
        // The copies have been sent, unless something stayed here that a person may want to have.
        if !self.task.record.has_undelivered {
            if let Err(error) = files.remove_fetched() {
                log::warn!(task:% = files.key(); "`{}` can't be removed: {error}", files.fetched_dir().display());
            }
        }
        self.task.record.report.note_logged();
        self.task.record.settled_at.get_or_insert_with(Timestamp::now);
        self.task.advance(Phase::Settled)
    }

    fn text_sizes(&self) -> TextSizes {
        text_sizes(&self.output, self.ending.error_message.as_deref())
    }

    fn log_settled(&self) {
        let (status, files) = (self.ending.status.as_str(), self.uploads.done.len());
        let files = format!("{files} {}", if files == 1 { "file" } else { "files" });
        let since_offer = Timestamp::now().duration_since(self.task.record.offered_at);
        let time = Span(Duration::try_from(since_offer).unwrap_or_default());
        log::info!(task:% = self.task.key(); "settled as {status} with {files}, {time} after its offer");
    }
}
