//! From `uploaded` to `settled`: the report.

use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::complete_request::Content;
use super::ledger_entries::{failed_report, interrupted_report, report_entry, settled, text_sizes};
use super::{Ending, Phase, ReportState, StepError, TaskClient, TaskHandle, Uploads, WorkerEvent};
use crate::ledger::{Entry, Outcome, TextSizes};
use crate::server::{ClientError, Failure, Item, Verdict, Way};
use crate::units::Span;

/// How often a task that isn't running on the Server is accepted again before the step is tried later.
const ACCEPTS: u32 = 3;
/// For so long a report is refused, by the Server or by something before it, until less of it is sent.
const REFUSED_BY_SERVER: Duration = Duration::from_secs(30);
const REFUSED: Duration = Duration::from_secs(120);
/// Then one part more is left out in each such time.
const NEXT_PART: Duration = Duration::from_secs(30);

/// The report of one task.
pub struct Report<'t> {
    client: TaskClient<'t>,
    task: &'t mut TaskHandle,
    uploads: Uploads,
    ending: Ending,
    content: Content,
    /// How many parts were left out.
    parts_left_out: u64,
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
        let content = Content::full(&task.files, &ending, &uploads);
        let may_have_arrived = task.record.report == ReportState::MaybeArrived;
        Ok(Self { client, task, uploads, ending, content, parts_left_out: 0, may_have_arrived })
    }

    /// Sends the report until the Server takes it or the task has ended there.
    ///
    /// Every step begins with the whole report, so that what was refused for a while is complete when it is over. One
    /// that is refused for longer is sent with ever less in it, down to the bare status: the Server's database, or a
    /// filter before it, may not take what the task has printed.
    pub fn send(mut self) -> Result<(), StepError> {
        let (mut accepts, mut has_ended) = (0, false);
        loop {
            let began = Instant::now();
            let Some(error) = self.send_once()? else { return Ok(()) };
            if error.is_unreachable() {
                self.client.client.patience().note_unreached(&self.task.record.task.id, Instant::now());
            }
            match error.status() {
                Some(413) if self.shrink() => {
                    log::warn!(task:% = self.task.key(); "the report is too large for the Server or its proxy; sending less");
                }
                // A report that the Server can't read is refused like one of a task that has ended.
                _ if error.is_wrong_state() && has_ended => {
                    self.check_end(&error, began)?;
                    if !self.shrink_for_end() {
                        return self.settle_ended(&error, began);
                    }
                }
                _ if error.is_wrong_state() && accepts < ACCEPTS => {
                    accepts += 1;
                    has_ended = self.has_ended()?;
                }
                _ if self.is_refused_for_long(&error, began) && self.shrink() => {
                    log::debug!(task:% = self.task.key(); "the report is refused for long: {error}; sending less");
                }
                _ => return Err(error.into()),
            }
        }
    }

    /// Removes a part of the report. Returns whether there was one.
    fn shrink(&mut self) -> bool {
        let had_one = self.content.shrink();
        self.parts_left_out += u64::from(had_one);
        had_one
    }

    /// The same, before the task is taken for ended. If an earlier report may have arrived, that is most likely so.
    fn shrink_for_end(&mut self) -> bool {
        let had_one = self.shrink();
        while self.may_have_arrived && self.shrink() {}
        had_one
    }

    /// Ends the step unless the Server has said for some time that the task isn't running there: it may just be requeued,
    /// and another machine may have it.
    fn check_end(&self, error: &ClientError, began: Instant) -> Result<(), StepError> {
        let (item, patience) = (self.item(Way::End), self.client.client.patience());
        if self.may_have_arrived || self.parts_left_out > 0 {
            return Ok(());
        }
        match patience.failing_for(&item, Instant::now()) {
            Some(time) if time >= REFUSED_BY_SERVER => Ok(()),
            Some(_) => Err(ask_again(error)),
            None => {
                patience.note_failure(&item, Failure { error, is_unsent: false, began }, Instant::now());
                Err(ask_again(error))
            }
        }
    }

    fn item(&self, way: Way) -> Item {
        Item::new(way, &self.task.record.task.id, "")
    }

    /// Notes a refusal. Returns whether there were others for so long that one part more is left out.
    fn is_refused_for_long(&self, error: &ClientError, began: Instant) -> bool {
        let ClientError::Refused { status, by_server, .. } = error else { return false };
        if matches!(status, 401 | 429) {
            return false;
        }
        let (item, patience) = (self.item(Way::Report), self.client.client.patience());
        if self.parts_left_out == 0 {
            patience.note_failure(&item, Failure { error, is_unsent: false, began }, Instant::now());
        }
        let limit = if *by_server { REFUSED_BY_SERVER } else { REFUSED };
        let over = patience.failing_for(&item, Instant::now()).and_then(|time| time.checked_sub(limit));
        over.is_some_and(|over| self.parts_left_out <= over.as_secs() / NEXT_PART.as_secs())
    }

    /// Sends the report and settles the task if the Server takes it. Returns the error otherwise.
    fn send_once(&mut self) -> Result<Option<ClientError>, StepError> {
        self.task.check_commands()?;
        self.client.acquire_report(self.task)?;
        let task_id = self.task.record.task.id.clone();
        let content = self.content.clone();
        let report = content.request(&task_id, self.ending.status).encode();
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
        // The id may be another task's by now, which would be accepted.
        self.task.check_commands()?;
        match self.client.client.accept(&self.task.record.task.id) {
            Ok(_) => {
                log::info!(task:% = self.task.key(); "had been requeued and is this agent's again");
                self.client.client.patience().note_success(&self.item(Way::End), Instant::now());
                self.task.send(WorkerEvent::Requeued);
                Ok(false)
            }
            Err(refused) if refused.is_wrong_state() => Ok(true),
            Err(other) => Err(other.into()),
        }
    }

    /// Settles a task that the Server neither takes a report for, not even one of the bare status, nor gives out again.
    /// Where no report of this agent can have ended it, the Server has to say so for some time.
    fn settle_ended(mut self, error: &ClientError, began: Instant) -> Result<(), StepError> {
        if !self.may_have_arrived {
            let verdict = self.client.client.patience().note_failure(
                &self.item(Way::End),
                Failure { error, is_unsent: false, began },
                Instant::now(),
            );
            if verdict != Verdict::GiveUp {
                return Err(ask_again(error));
            }
        }
        let (how, text_sizes) = if self.may_have_arrived {
            let how = "had ended on the Server already, by a report whose answer was lost";
            log::info!(task:% = self.task.key(); "{how}");
            // That was the whole one.
            let whole = Content::full(&self.task.files, &self.ending, &self.uploads);
            (how, text_sizes(&whole.output, whole.error_message.as_deref()))
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
        files.remove_leftovers();
        // The copies have been sent, unless something stayed here that a person may want to have.
        if !self.task.record.has_undelivered {
            if let Err(error) = files.remove_fetched() {
                log::warn!(task:% = files.key(); "`{}` can't be removed: {error}", files.fetched_dir().display());
            }
        }
        self.task.record.report.note_logged();
        self.task.record.settled_at.get_or_insert_with(Timestamp::now);
        self.task.advance(Phase::Settled)?;
        self.client.client.patience().forget(&self.task.record.task.id);
        Ok(())
    }

    fn text_sizes(&self) -> TextSizes {
        text_sizes(&self.content.output, self.content.error_message.as_deref())
    }

    fn log_settled(&self) {
        if self.parts_left_out > 0 {
            log::warn!(
                task:% = self.task.key();
                "the Server took its report only with less in it; all that the task has printed is in `{}`",
                self.task.files.stdout().parent().map(Path::display).map_or_else(String::new, |dir| dir.to_string())
            );
        }
        let (status, files) = (self.ending.status.as_str(), self.uploads.files_sent());
        let files = format!("{files} {}", if files == 1 { "file" } else { "files" });
        let since_offer = Timestamp::now().duration_since(self.task.record.offered.at);
        let time = Span(Duration::try_from(since_offer).unwrap_or_default());
        log::info!(task:% = self.task.key(); "settled as {status} with {files}, {time} after its offer");
    }
}

fn ask_again(error: &ClientError) -> StepError {
    StepError::retry(format!("the Server says that the task isn't running there, and is asked again: {error}"))
}
