//! A result that can't be sent, and a list that can't be used: what is tried again, when, and what is given up.

use std::time::{Duration, Instant};

use super::Upload;
use crate::ledger::{Outcome, Transfer};
use crate::os::platform::is_shortage;
use crate::server::{ClientError, Failure, Item, LeftOut, Verdict, Way};
use crate::task::ledger_entries::not_arrived;
use crate::task::{Pause, StepError, UploadEvent};

/// How often a file may be held by another process of this machine when it is to be sent.
const LEASED_TRIES: u32 = 5;
/// How many uploads of a file of the agent's own may fail: the report of the task's end waits for it.
const NOTE_TRIES: u32 = 2;
/// The same for an archive, which takes the place of many files: its tries take two minutes and a half at least.
const ARCHIVE_TRIES: u32 = 6;
/// The pause after the first such try; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// After so many failures of files that have failed for long, the rest waits: it may be the Server's trouble.
const FAILURES_MAX: u32 = 3;

/// An upload that failed.
#[derive(Clone, Copy)]
pub(super) struct Attempted<'a> {
    pub name: &'a str,
    pub size: u64,
    /// Whether nothing of the file was sent.
    pub is_unsent: bool,
    pub began: Instant,
}

/// A retry of the step when a file is due.
pub(super) fn wait_for(name: &str, why: &str, pause: Pause) -> StepError {
    StepError::Retry { why: format!("`{name}`: {why}"), pause }
}

/// The pause after so many failures, which are few.
fn doubled(failures: u32) -> Duration {
    FIRST_PAUSE * 2u32.saturating_pow(failures.saturating_sub(1))
}

impl Upload<'_> {
    pub(super) fn hold(&mut self, name: &str, why: &str, pause: Pause) {
        let first = self.held.take();
        self.held = Some(match first {
            Some((why, before)) => (why, before.min(pause)),
            None => (format!("`{name}`: {why}"), pause),
        });
    }

    /// Ends the step if a file is to be tried again later.
    pub fn check_held(&mut self) -> Result<(), StepError> {
        match self.held.take() {
            Some((why, pause)) if !self.is_cancelled() => Err(StepError::Retry { why, pause }),
            _ => Ok(()),
        }
    }

    /// The Server's list was read.
    pub(super) fn note_listed(&self, way: Way, name: &str) {
        let item = Item::new(way, &self.task.record.task.id, name);
        self.client.client.patience().note_success(&item, Instant::now());
    }

    /// The Server's list can't be used. After a while the files are sent by this agent's own record, or a list that never
    /// works would keep the result here.
    pub(super) fn go_on_without_list(&mut self, way: Way, name: &str, error: ClientError) -> Result<(), StepError> {
        let (item, now) = (Item::new(way, &self.task.record.task.id, name), Instant::now());
        match self.client.client.patience().note_failure(
            &item,
            Failure { error: &error, is_unsent: false, began: now },
            now,
        ) {
            Verdict::GiveUp => {
                log::warn!(task:% = self.task.key(); "the Server's list of its files can't be used: {error}; going on without it");
                Ok(())
            }
            Verdict::TryAgain(_) | Verdict::LetOthersPass(_) => Err(error.into()),
        }
    }

    pub(super) fn handle_failure(
        &mut self,
        attempted: Attempted<'_>,
        transfer: Transfer,
        error: ClientError,
    ) -> Result<(), StepError> {
        let Attempted { name, size, is_unsent, .. } = attempted;
        let arrival = if error.may_have_arrived() && !is_unsent { Outcome::Unknown } else { not_arrived(&error) };
        let transfer = Transfer { outcome: arrival, reason: Some(error.to_string()), ..transfer };
        let cancelled = |transfer| Transfer { reason: Some(format!("the task was cancelled: {error}")), ..transfer };
        if self.task.is_cancel_requested() {
            return self.append_doubt(cancelled(transfer));
        }
        if let ClientError::Local(why) = &error {
            self.append_upload(transfer)?;
            if is_shortage(why) {
                return Err(error.into());
            }
            return self
                .skip_deliverable(vec![LeftOut { file: name.to_owned(), reason: format!("can't be read: {error}") }]);
        }
        // A file of the agent's own has few tries, and none is lost to a call that reached nothing.
        if error.is_unauthorized() || error.status() == Some(429) || (self.is_note && error.is_unreachable()) {
            self.append_doubt(transfer)?;
            return Err(error.into());
        }
        if !error.is_retryable() || is_unsent {
            self.append_upload(transfer)?;
            return self.retry_later(attempted, &error);
        }
        // The list answers two questions: whether the file has arrived all the same, and whether the Server can be
        // reached, so that it is the file that fails.
        match self.has_arrived(name, size) {
            Ok(Some(true)) => return Ok(()),
            Ok(_) if self.task.is_cancel_requested() => return self.append_doubt(cancelled(transfer)),
            Ok(Some(false)) => self.append_upload(Transfer { outcome: not_arrived(&error), ..transfer })?,
            Ok(None) => self.append_doubt(transfer)?,
            Err(unanswered) => {
                self.append_doubt(transfer)?;
                return Err(unanswered);
            }
        }
        self.retry_later(attempted, &error)
    }

    /// Notes a failure, and what follows: the file is tried again, or it was refused for so long that it isn't sent.
    fn retry_later(&mut self, attempted: Attempted<'_>, error: &ClientError) -> Result<(), StepError> {
        let Attempted { name, is_unsent, began, .. } = attempted;
        self.note(UploadEvent::Failed { file: name.to_owned() })?;
        if self.is_note {
            return self.retry_note(name, error);
        }
        let before = self.client.client.patience().why(&self.item(name));
        let verdict = self.client.client.patience().note_failure(
            &self.item(name),
            Failure { error, is_unsent, began },
            Instant::now(),
        );
        let pause_of = |own| Pause::of(own, error.retry_after());
        match verdict {
            Verdict::GiveUp => {
                let reason = match before {
                    Some(before) if is_unsent => before,
                    _ if error.is_retryable() => format!("could not be sent for hours: {error}"),
                    _ => error.to_string(),
                };
                self.skip_deliverable(vec![LeftOut { file: name.to_owned(), reason }])
            }
            Verdict::TryAgain(pause) => Err(wait_for(name, &error.to_string(), pause_of(pause))),
            Verdict::LetOthersPass(pause) => {
                self.hold(name, &error.to_string(), pause_of(pause));
                self.failures += u32::from(error.is_retryable());
                if self.failures < FAILURES_MAX { Ok(()) } else { self.check_held() }
            }
        }
    }

    /// A file of the agent's own is tried a few times: the report of the task's end waits for it, and without it nothing is
    /// missing on the Server.
    fn retry_note(&mut self, name: &str, error: &ClientError) -> Result<(), StepError> {
        let failures = self.uploads.failures.get(name).copied().unwrap_or_default();
        let is_archive = self.uploads.packed.iter().any(|packed| packed.archive == name);
        let tries = if is_archive { ARCHIVE_TRIES } else { NOTE_TRIES };
        if error.is_retryable() && failures < tries {
            return Err(wait_for(name, &error.to_string(), Pause::of(doubled(failures), error.retry_after())));
        }
        let tries = if error.is_retryable() { format!("could not be sent in {tries} tries: ") } else { String::new() };
        self.skip_deliverable(vec![LeftOut { file: name.to_owned(), reason: format!("{tries}{error}") }])
    }

    /// Counts a try for which another process held the file. After too many, the file isn't sent.
    pub(super) fn wait_for_lease(&mut self, name: &str, why: &str) -> Result<(), StepError> {
        self.note(UploadEvent::Failed { file: name.to_owned() })?;
        let failures = self.uploads.failures.get(name).copied().unwrap_or_default();
        if failures >= LEASED_TRIES {
            let reason = format!("could not be sent in {LEASED_TRIES} tries: {why}");
            return self.skip_deliverable(vec![LeftOut { file: name.to_owned(), reason }]);
        }
        // Meanwhile the slot is free for other tasks.
        Err(wait_for(name, why, Pause::Due(doubled(failures))))
    }
}
