//! From `exited` to `uploaded`: the results.
//!
//! `uploads.jsonl` says what has arrived, so that a file is sent once over any number of restarts. If the Server can't
//! be reached, the worker returns the task, which frees its slot, and the agent tries again later.

mod archives;
mod failure;
mod removed;

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use jiff::Timestamp;

use super::ledger_entries::{INTERRUPTED, interrupted, stays_here};
use super::outputs::{OutputFile, Skipped, Unopened};
use super::task_client::{TaskClient, TransferProgress};
use super::{KnownIds, Pause, Phase, StepError, TaskHandle, UploadEvent, Uploads};
use crate::ledger::{Direction, Entry, Outcome, Transfer};
use crate::server::protocol::ListedFile;
use crate::server::{self, Client, ClientError, FinalStatus, Item, LeftOut, Way};
use crate::text::cut;
use crate::units::{Bytes, Files, Span};
use failure::{Attempted, wait_for};

/// The reason in the ledger for an upload that a request to discard the result has ended.
const DISCARDED: &str = "the result was discarded before it was known";

/// The longest reason why a file isn't sent that is kept, in bytes.
const REASON_MAX: usize = 4096;
/// How many files that aren't delivered are named in the log.
const NAMED: usize = 20;
/// How many attempts to send one file have a line each in the ledger.
const LOGGED_ATTEMPTS: u64 = 16;
/// What the Server's file list calls the creator of a result.
const BY_AGENT: &str = "agent";
/// Whether an attempt that didn't succeed has a line in the ledger: the first ones, and later ever fewer. A Server that
/// never takes a file must not push the past out of the ledger.
fn has_line(attempt: u64) -> bool {
    attempt <= LOGGED_ATTEMPTS || attempt.is_power_of_two()
}

/// The uploads of one task.
pub struct Upload<'t> {
    client: TaskClient<'t>,
    pub task: &'t mut TaskHandle,
    uploads: Uploads,
    /// When this try began, and how many files and bytes had been sent before.
    start: (Instant, usize, u64),
    /// Whether the file that is being sent is the agent's own.
    is_note: bool,
    /// How many files have failed in this try that had failed for long.
    failures: u32,
    /// A file that is tried again later while others are sent: why, and when.
    held: Option<(String, Pause)>,
}

impl<'t> Upload<'t> {
    /// Reads `uploads.jsonl`. Uploads that were interrupted get their lines in the ledger.
    pub fn open(client: TaskClient<'t>, task: &'t mut TaskHandle) -> Result<Self, StepError> {
        let uploads = Uploads::open(task)?;
        let start = (Instant::now(), uploads.done.len(), uploads.done_bytes);
        let mut upload = Self { client, task, uploads, start, is_note: false, failures: 0, held: None };
        upload.append_to_ledger(interrupted(&upload.uploads))?;
        upload.note_all(upload.uploads.logged_events())?;
        Ok(upload)
    }

    /// Writes down which files aren't sent.
    pub fn note_skipped(&mut self, skipped: Skipped) -> Result<(), StepError> {
        let archived = self.archived();
        let is_new = |left: &LeftOut| !self.uploads.decided.contains(&left.file) && !archived.contains(&left.file);
        let undelivered: Vec<LeftOut> = skipped.undelivered.into_iter().filter(is_new).collect();
        let non_results: Vec<LeftOut> = skipped.non_results.into_iter().filter(is_new).collect();
        self.skip_deliverable(undelivered)?;
        self.skip(non_results)?;
        if skipped.unnamed > self.uploads.unnamed {
            log::warn!(task:% = self.task.key(); "{} more files are not delivered", skipped.unnamed);
            self.append_to_ledger(vec![Entry::File(Transfer::unnamed(skipped.unnamed))])?;
            self.note(UploadEvent::Unnamed { count: skipped.unnamed })?;
        }
        Ok(())
    }

    /// Sends a file that hasn't arrived yet, unless the task is cancelled. Whether it arrives, [`Upload::has`] says later.
    pub fn send(&mut self, file: &OutputFile) -> Result<(), StepError> {
        if self.is_cancelled() {
            return Ok(());
        }
        self.task.check_commands()?;
        if self.task.is_cancel_requested() || self.uploads.decided.contains(&file.name) {
            return Ok(());
        }
        let waits = self.client.client.patience().waits(&self.item(&file.name), Instant::now());
        match waits {
            Some(wait) if wait.lets_others_pass => {
                self.hold(&file.name, &wait.why, Pause::Due(wait.left));
                Ok(())
            }
            Some(wait) => Err(wait_for(&file.name, &wait.why, Pause::Due(wait.left))),
            None => self.send_file(file),
        }
    }

    /// A file of this task, for what is remembered of its failures.
    fn item(&self, name: &str) -> Item {
        Item::new(Way::Upload, &self.task.record.task.id, name)
    }

    /// Sends a file of the agent's own in the same way. Where the Server doesn't take it, nothing of the task is missing there.
    pub fn send_note(&mut self, note: &OutputFile) -> Result<(), StepError> {
        self.is_note = true;
        let sent = self.send(note);
        self.is_note = false;
        sent
    }

    /// What isn't sent, and how many more files aren't.
    pub fn left_out(&self) -> (&[LeftOut], u64) {
        (&self.uploads.left_out, self.uploads.unnamed)
    }

    /// Whether a file has arrived in this try.
    pub fn has_sent(&self) -> bool {
        self.uploads.done.len() > self.start.1
    }

    /// Whether the Server has a file of this task by this name.
    pub fn has(&self, name: &str) -> bool {
        self.uploads.done.iter().any(|(done, _)| done == name)
    }

    /// Writes down that a file isn't sent, although nothing of it is missing on the Server.
    pub fn skip_equal(&mut self, name: &str, reason: &str) -> Result<(), StepError> {
        if self.is_cancelled() || self.uploads.decided.contains(name) {
            return Ok(());
        }
        self.skip(vec![LeftOut { file: name.to_owned(), reason: reason.to_owned() }])
    }

    pub fn is_cancelled(&self) -> bool {
        self.task.is_cancelled() || self.task.is_cancel_requested()
    }

    /// Ends the delivery of these files.
    pub fn finish<'f>(self, files: impl IntoIterator<Item = &'f OutputFile>) -> Result<(), StepError> {
        let (began, files_before, bytes_before) = self.start;
        if self.uploads.done.len() > files_before {
            let (count, bytes) = (self.uploads.done.len() - files_before, self.uploads.done_bytes - bytes_before);
            let time = Span(began.elapsed());
            log::info!(task:% = self.task.key(); "{} sent, {} in {time}", Files(count, "result"), Bytes(bytes));
        }
        // A cancellation after the container's exit doesn't wait for the rest of the results.
        if self.task.is_cancel_requested() {
            let archived = self.archived();
            let is_there = |name: &String| self.uploads.decided.contains(name) || archived.contains(name);
            let rest = files.into_iter().filter(|file| !is_there(&file.name));
            self.append_to_ledger(rest.map(|file| stays_here(&file.name, "the task was cancelled")).collect())?;
            if let Some(ending) = self.task.record.ending.as_mut() {
                ending.status = FinalStatus::Cancelled;
                ending.error_message = None;
            }
        }
        self.task.advance(Phase::Uploaded)
    }

    /// Uploads one file, or finds out that it has arrived already or can't be sent.
    fn send_file(&mut self, file: &OutputFile) -> Result<(), StepError> {
        if !self.knows_what_was_before()? {
            return Ok(());
        }
        if let Some(size) = self.uploads.in_doubt.get(&file.name).copied() {
            if self.has_arrived(&file.name, size)? == Some(true) {
                return Ok(());
            }
        }
        self.client.acquire_delivery(self.task)?;
        if self.task.is_cancel_requested() {
            return Ok(());
        }
        match file.open() {
            Ok((opened, size)) => self.attempt(file, opened, size),
            Err(Unopened::Skip(reason)) => self.skip_deliverable(vec![LeftOut { file: file.name.clone(), reason }]),
            Err(Unopened::Shortage(why)) => Err(StepError::because(format!("`{}` can't be read now", file.name))(why)),
            Err(Unopened::Leased) => self.wait_for_lease(&file.name, &Unopened::Leased.to_string()),
        }
    }

    /// From when on files on the Server are this agent's, by the Server's own clock: from when it gave the task to this
    /// agent. `None` if that isn't known, or if another agent may have had the task later.
    fn own_since(&self) -> Option<Timestamp> {
        self.task.record.offered.accepted.filter(|_| !self.task.files.is_requeued())
    }

    /// Asks the Server, once a task, which files it has before the first upload, unless their times tell that. Returns
    /// `false` if the task was cancelled meanwhile.
    fn knows_what_was_before(&mut self) -> Result<bool, StepError> {
        if self.uploads.before.is_some() || self.own_since().is_some() {
            return Ok(true);
        }
        self.client.acquire_delivery(self.task)?;
        if self.task.is_cancel_requested() {
            return Ok(false);
        }
        let mut known = KnownIds::default();
        let listed = self.client.client.list_files(&self.task.record.task.id, &mut |file| {
            // Another file can't be mistaken for an upload of this agent.
            if file.created_by == BY_AGENT {
                known.insert(&file.id);
            }
            Ok(())
        });
        match listed {
            Ok(()) => self.note_listed(Way::FirstList, ""),
            // The Server has no list of the task, so there is nothing that could be mistaken for a new upload.
            Err(error) if error.is_unknown() => known = KnownIds::default(),
            // Nothing of this task was sent yet, so nothing is sent twice.
            Err(error) => {
                self.go_on_without_list(Way::FirstList, "", error)?;
                known = KnownIds::any();
            }
        }
        self.note(UploadEvent::Before(known))?;
        Ok(true)
    }

    fn attempt(&mut self, file: &OutputFile, opened: File, size: u64) -> Result<(), StepError> {
        self.note(UploadEvent::Begin { file: file.name.clone(), size, at: Some(Timestamp::now()), attempt: None })?;
        let (task_id, taken) = (self.task.record.task.id.clone(), Arc::<AtomicU64>::default());
        let (moved, bytes_read, filename) = (Arc::clone(&taken), Arc::clone(&taken), file.name.clone());
        let progress = TransferProgress { what: format!("sending `{}`", file.name), bytes: size, moved };
        let send = move |client: &Client| {
            let (task_id, filename, file, bytes_read) = (&*task_id, &*filename, &opened, &*bytes_read);
            client.upload(&server::Upload { task_id, filename, file, size, bytes_read })
        };
        let began = Instant::now();
        let sent = self.client.transfer(self.task, progress, send);
        // The outcome is unknown as long as nothing says more, and these bytes at most have left this machine.
        let transfer = Transfer {
            bytes: Some(taken.load(Ordering::Relaxed)),
            ..Transfer::new(Direction::Out, Outcome::Unknown, &file.name)
        };
        match sent {
            Ok(Ok(file_id)) => {
                log::debug!(task:% = self.task.key(); "sent `{}`, {size} bytes", file.name);
                self.client.client.patience().note_success(&self.item(&file.name), Instant::now());
                self.note_done(&file.name, size, file_id, None)
            }
            Ok(Err(error)) => {
                let is_unsent =
                    size > 0 && taken.load(Ordering::Relaxed) == 0 && !matches!(error, ClientError::Local(_));
                self.handle_failure(Attempted { name: &file.name, size, is_unsent, began }, transfer, error)
            }
            Err(error) => {
                let reason = if matches!(error, StepError::Discarded) { DISCARDED } else { INTERRUPTED };
                self.append_doubt(Transfer { reason: Some(reason.to_owned()), ..transfer })?;
                Err(error)
            }
        }
    }

    /// Whether an upload without an answer reached the Server: its file list has an agent file of this name and size
    /// that is neither older than the first upload, or than the task's acceptance, nor already counted. A list too long to be
    /// remembered before the first upload leaves no such file: what is in doubt is sent again. Returns `None` where that can't
    /// be known: the list can't be used, or has such a file that isn't known to be new, or the task was cancelled.
    ///
    /// That file may be of an earlier agent, or its time and the task's are of two clocks. So it is sent again, once: from
    /// then on the ids of this list tell which file is new.
    fn has_arrived(&mut self, name: &str, size: u64) -> Result<Option<bool>, StepError> {
        self.client.acquire_delivery(self.task)?;
        if self.task.is_cancel_requested() {
            return Ok(None);
        }
        let (mut arrived, mut others, mut has_old) = (None, KnownIds::default(), false);
        let (uploads, since) = (&self.uploads, self.own_since());
        let is_new = |file: &ListedFile| match (&uploads.before, since) {
            (Some(before), _) => !before.may_have(&file.id),
            (None, Some(since)) => file.created_at.is_some_and(|at| at >= since),
            (None, None) => false,
        };
        let listed = self.client.client.list_files(&self.task.record.task.id, &mut |file| {
            if file.created_by != BY_AGENT {
                return Ok(());
            }
            let is_new = is_new(&file);
            if !is_new && uploads.before.is_none() {
                others.insert(&file.id);
            }
            let is_it = arrived.is_none()
                && file.filename == name
                && file.size_bytes == size
                && !uploads.done.iter().any(|(_, id)| **id == *file.id);
            if is_it && is_new {
                arrived = Some(file);
            }
            has_old |= is_it && !is_new;
            Ok(())
        });
        let is_by_list = uploads.before.is_some();
        if let Err(error) = listed {
            self.go_on_without_list(Way::List, name, error)?;
            return Ok(None);
        }
        self.note_listed(Way::List, name);
        let Some(file) = arrived else {
            if is_by_list || !has_old {
                return Ok(Some(false));
            }
            self.note(UploadEvent::Before(others))?;
            return Ok(None);
        };
        log::info!(task:% = self.task.key(); "`{name}` had arrived although its answer was lost");
        self.client.client.patience().note_success(&self.item(name), Instant::now());
        self.note_done(name, size, file.id.into_string(), Some("it had arrived although its answer was lost"))?;
        Ok(Some(true))
    }

    /// Skips files that a person may want to have from this machine.
    fn skip_deliverable(&mut self, files: Vec<LeftOut>) -> Result<(), StepError> {
        if !self.is_note && !self.task.record.has_undelivered && !files.is_empty() {
            self.task.record.has_undelivered = true;
            self.task.save()?;
        }
        self.skip(files)
    }

    fn skip(&mut self, files: Vec<LeftOut>) -> Result<(), StepError> {
        let (key, before) = (self.task.key(), self.uploads.left_out.len());
        for left in files.iter().take(NAMED.saturating_sub(before)) {
            log::warn!(task:% = key; "`{}` is not delivered: {}", left.file, left.reason);
        }
        let more = (before + files.len()).saturating_sub(NAMED.max(before));
        if more > 0 && (before <= NAMED || files.len() > 1) {
            log::warn!(task:% = key; "{more} more file(s) are not delivered, and not named here");
        }
        self.append_to_ledger(files.iter().map(|left| stays_here(&left.file, &left.reason)).collect())?;
        let cut_reason = |left: LeftOut| LeftOut { reason: cut(&left.reason, REASON_MAX).into_owned(), ..left };
        self.note_all(files.into_iter().map(|left| UploadEvent::LeftOut(cut_reason(left))).collect())
    }

    /// A file is on the Server. `reason` says how that is known, if not by the answer.
    fn note_done(&mut self, name: &str, size: u64, file_id: String, reason: Option<&str>) -> Result<(), StepError> {
        self.append_upload(Transfer {
            bytes: Some(size),
            file_id: Some(file_id.clone()),
            reason: reason.map(str::to_owned),
            ..Transfer::new(Direction::Out, Outcome::Sent, name)
        })?;
        self.note(UploadEvent::Done { file: name.to_owned(), size, file_id })
    }

    fn append_to_ledger(&self, entries: Vec<Entry>) -> Result<(), StepError> {
        self.client.append_to_ledger(self.task, entries)
    }

    fn append_upload(&self, transfer: Transfer) -> Result<(), StepError> {
        let attempt = transfer.file.as_ref().and_then(|file| self.uploads.attempts.get(file)).copied();
        // The later line has the number of the attempt, which says how many there were.
        if transfer.outcome != Outcome::Sent && attempt.is_some_and(|attempt| !has_line(attempt)) {
            return Ok(());
        }
        self.append_to_ledger(vec![Entry::File(Transfer { attempt, ..transfer })])
    }

    /// Appends the line of an upload that may or may not have arrived, and notes that the ledger has it.
    fn append_doubt(&mut self, transfer: Transfer) -> Result<(), StepError> {
        let logged = transfer.file.clone().map(|file| UploadEvent::Logged { file });
        self.append_upload(transfer)?;
        self.note_all(logged.into_iter().collect())
    }

    fn note(&mut self, event: UploadEvent) -> Result<(), StepError> {
        self.note_all(vec![event])
    }

    /// Writes lines of `uploads.jsonl`, before they count.
    fn note_all(&mut self, events: Vec<UploadEvent>) -> Result<(), StepError> {
        if events.is_empty() {
            return Ok(());
        }
        self.task.files.append_uploads(&events).map_err(StepError::because("uploads.jsonl can't be written"))?;
        events.into_iter().for_each(|event| self.uploads.apply(event));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
