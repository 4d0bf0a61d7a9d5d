//! From `exited` to `uploaded`: the results.
//!
//! What has arrived is in `uploads.jsonl`, so that a file is sent once over any number of restarts. When the Server
//! can't be reached the task is put down, which frees its slot, and taken up again later.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::discard::DISCARDED;
use super::ledger_entries::INTERRUPTED;
use super::transfer::Shown;
use super::uploads::Uploads;
use super::{StepError, TaskRunner};
use crate::ledger::{Direction, Entry, Outcome, Transfer};
use crate::server::protocol::{FinalStatus, LeftOut};
use crate::server::{ClientError, Upload};
use crate::task::outputs::{OutputFile, ReservedPaths, Selection, Skipped, scan};
use crate::task::record::{Phase, StopReason, UploadEvent};
use crate::units::{Bytes, Span};

/// How often an upload is tried that fails while other calls succeed, before it counts as the file's fault.
const TRIES: u32 = 5;
/// The pause after a first such failure; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// A file that is on the Server.
struct Arrived {
    size: u64,
    file_id: String,
    /// How that is known, if not by the answer.
    reason: Option<&'static str>,
}

impl TaskRunner<'_> {
    /// Sends every result that hasn't arrived yet.
    pub(super) fn upload(&mut self) -> Result<(), StepError> {
        let events = self.files.load_uploads().map_err(|error| StepError::retry(format!("uploads.jsonl: {error}")))?;
        let mut uploads = Uploads::from_events(events);
        self.enter_interrupted(&mut uploads)?;
        let files = if self.is_cancelled() { Vec::new() } else { self.collect(&mut uploads)? };
        self.remove_container()?;
        let (began, files_before, bytes_before) = (Instant::now(), uploads.done.len(), uploads.done_bytes);
        if !self.is_cancelled() {
            for file in &files {
                self.check_commands()?;
                if self.is_unwanted() {
                    break;
                }
                if !uploads.decided.contains(&file.name) {
                    self.deliver(&mut uploads, file)?;
                }
            }
        }
        if uploads.done.len() > files_before {
            let (count, bytes) = (uploads.done.len() - files_before, uploads.done_bytes - bytes_before);
            let time = Span(began.elapsed());
            log::info!(task:% = self.key(); "{count} result file(s) sent, {} in {time}", Bytes(bytes));
        }
        // Whoever cancels after the container's exit doesn't wait for the rest of the results.
        if self.is_unwanted() {
            let rest = files.iter().filter(|file| !uploads.decided.contains(&file.name));
            self.enter(rest.map(|file| stays_here(&file.name, "the task was cancelled")).collect())?;
            if let Some(ending) = self.record.ending.as_mut() {
                ending.status = FinalStatus::Cancelled;
                ending.error_message = None;
            }
        }
        self.advance(Phase::Uploaded)
    }

    /// Finds the results, with those that only the engine can read, and what isn't one or goes beyond the limits.
    pub(super) fn find(&mut self) -> Result<(Vec<OutputFile>, Skipped), StepError> {
        let config = Arc::clone(&self.context.config);
        let ours = ReservedPaths::new(config.paths.mounts.iter().map(|mount| mount.container.as_str()));
        let found = scan(self.workspace.dir(), &ours, &config.outputs);
        let leftovers = self.fetch_unreadable(&found.unreadable, &ours)?;
        let mut left_out = found.left_out;
        left_out.add(leftovers);
        let mut best = Selection::new(&config.outputs);
        found.files.into_iter().for_each(|file| best.push(file));
        for fetched in self.record.fetched.iter().flatten() {
            let file = fetched.number.to_string();
            match OutputFile::fetched(&self.files.fetched_dir(), file.as_ref(), &fetched.file) {
                Ok(file) => best.push(file),
                Err(error) => left_out.skip_deliverable(fetched.file.clone(), format!("can't be read: {error}")),
            }
        }
        let files = best.take(&mut left_out);
        Ok((files, left_out))
    }

    /// Finds the results, and writes down what isn't one.
    fn collect(&mut self, uploads: &mut Uploads) -> Result<Vec<OutputFile>, StepError> {
        let (files, left_out) = self.find()?;
        let is_new = |left: &LeftOut| !uploads.decided.contains(&left.file);
        let kept_back: Vec<LeftOut> = left_out.undelivered.into_iter().filter(is_new).collect();
        let named: Vec<LeftOut> = left_out.non_results.into_iter().filter(is_new).collect();
        self.keep_back(uploads, kept_back)?;
        self.leave_out(uploads, named)?;
        if left_out.unnamed > uploads.unnamed {
            log::warn!(task:% = self.key(); "{} more files are not delivered", left_out.unnamed);
            self.enter(vec![Entry::File(Transfer::unnamed(left_out.unnamed))])?;
            self.note(uploads, UploadEvent::Unnamed { count: left_out.unnamed })?;
        }
        Ok(files)
    }

    /// Whether nobody waits for the results any more.
    pub(super) fn is_unwanted(&self) -> bool {
        self.record.stop == Some(StopReason::Cancel)
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.record.ending.as_ref().is_some_and(|ending| ending.status == FinalStatus::Cancelled)
    }

    /// The container has told all that it had to tell. If the engine doesn't remove it now, the sweep does later.
    pub(super) fn remove_container(&mut self) -> Result<(), StepError> {
        if self.record.container_removed {
            return Ok(());
        }
        let name = self.container_name();
        match self.context.docker.inspect(&name) {
            Ok(Some(container)) if self.is_ours(&container) => {
                if let Err(error) = self.context.docker.remove(&name) {
                    log::warn!(task:% = self.key(); "the container `{name}` can't be removed yet: {error}");
                    return Ok(());
                }
            }
            Ok(_) => {}
            Err(error) => {
                log::warn!(task:% = self.key(); "the container `{name}` can't be removed yet: {error}");
                return Ok(());
            }
        }
        self.record.container_removed = true;
        self.save()
    }

    /// Brings one file to the Server, or finds out that it stays here.
    fn deliver(&mut self, uploads: &mut Uploads, found: &OutputFile) -> Result<(), StepError> {
        if uploads.before.is_none() {
            self.wait_for_room()?;
            if self.is_unwanted() {
                return Ok(());
            }
            let ids = match self.context.client.list_files(&self.record.task.id) {
                Ok(files) => files.into_iter().map(|file| file.id).collect(),
                // A Server that doesn't list can't be asked later either; then nothing is taken for arrived.
                Err(error) if !error.is_retryable() && !error.is_unauthorized() => Vec::new(),
                Err(error) => return Err(error.into()),
            };
            self.note(uploads, UploadEvent::Before { ids })?;
        }
        if let Some(size) = uploads.in_doubt.get(&found.name).copied() {
            if self.has_arrived(uploads, &found.name, size)? {
                return Ok(());
            }
        }
        self.wait_for_room()?;
        if self.is_unwanted() {
            return Ok(());
        }
        let keep_back = |reason| vec![LeftOut { file: found.name.clone(), reason }];
        let (file, size) = match found.open() {
            Ok(opened) => opened,
            Err(reason) => return self.keep_back(uploads, keep_back(reason)),
        };
        let begin = UploadEvent::Begin { file: found.name.clone(), size, at: Some(Timestamp::now()) };
        self.note(uploads, begin)?;
        let (task_id, taken) = (self.record.task.id.clone(), AtomicU64::new(0));
        let upload = Upload { task_id: &task_id, filename: &found.name, file: &file, size, bytes_read: &taken };
        let shown = Shown { what: format!("sending `{}`", found.name), bytes: size, moved: &taken };
        let sent = self.transfer(shown, |client| client.upload(&upload));
        let came_to = |outcome, reason: String| Transfer {
            bytes: Some(taken.load(Ordering::Relaxed)),
            reason: Some(reason),
            ..Transfer::new(Direction::Out, outcome, &found.name)
        };
        let error = match sent {
            Ok(Ok(file_id)) => {
                log::debug!(task:% = self.key(); "sent `{}`, {size} bytes", found.name);
                return self.note_done(uploads, &found.name, Arrived { size, file_id, reason: None });
            }
            Ok(Err(error)) => error,
            Err(halt) => {
                let why = if matches!(halt, StepError::Discarded) { DISCARDED } else { INTERRUPTED };
                self.enter_doubt(uploads, came_to(Outcome::Unknown, why.to_owned()))?;
                return Err(halt);
            }
        };
        // What came of it as long as the Server isn't asked whether it has the file.
        let unasked = if error.may_have_arrived() { Outcome::Unknown } else { not_arrived(&error) };
        if self.is_unwanted() {
            return self.enter_doubt(uploads, came_to(unasked, format!("the task was cancelled: {error}")));
        }
        if error.is_unauthorized() || error.status() == Some(429) {
            self.enter_doubt(uploads, came_to(unasked, error.to_string()))?;
            return Err(error.into());
        }
        if !error.is_retryable() {
            self.enter_upload(uploads, came_to(unasked, error.to_string()))?;
            let reason = match &error {
                ClientError::Local(error) => format!("can't be read: {error}"),
                other => other.to_string(),
            };
            return self.keep_back(uploads, keep_back(reason));
        }
        // The list answers two questions: whether the file has arrived all the same, and whether the Server can be
        // reached, so that it is the file that fails.
        match self.has_arrived(uploads, &found.name, size) {
            Ok(true) => return Ok(()),
            Ok(false) if self.is_unwanted() => {
                return self.enter_doubt(uploads, came_to(unasked, format!("the task was cancelled: {error}")));
            }
            Ok(false) => self.enter_upload(uploads, came_to(not_arrived(&error), error.to_string()))?,
            Err(halt) => {
                self.enter_doubt(uploads, came_to(unasked, error.to_string()))?;
                return Err(halt);
            }
        }
        self.note(uploads, UploadEvent::Failed { file: found.name.clone() })?;
        let failures = uploads.failures.get(&found.name).copied().unwrap_or_default();
        if failures >= TRIES {
            return self.keep_back(uploads, keep_back(format!("could not be sent in {TRIES} tries: {error}")));
        }
        // The pauses leave a Server whose storage is in trouble some minutes, and other tasks the slot.
        let pause = FIRST_PAUSE * 2u32.saturating_pow(failures.saturating_sub(1));
        let pause = error.retry_after().map_or(pause, |asked| asked.max(pause));
        Err(StepError::Retry { why: format!("`{}`: {error}", found.name), retry_after: Some(pause) })
    }

    /// Leaves out files that a person may want to fetch here by hand.
    fn keep_back(&mut self, uploads: &mut Uploads, all: Vec<LeftOut>) -> Result<(), StepError> {
        if !self.record.has_undelivered && !all.is_empty() {
            self.record.has_undelivered = true;
            self.save()?;
        }
        self.leave_out(uploads, all)
    }

    /// Whether an attempt whose end isn't known has arrived: there is a file of ours by that name and size that wasn't
    /// there before and isn't another one of ours.
    fn has_arrived(&mut self, uploads: &mut Uploads, name: &str, size: u64) -> Result<bool, StepError> {
        self.wait_for_room()?;
        if self.is_unwanted() {
            return Ok(false);
        }
        let listed = self.context.client.list_files(&self.record.task.id)?;
        let arrived = listed.into_iter().find(|file| {
            file.filename == name
                && file.size_bytes == size
                && file.created_by == "agent"
                && !uploads.before.as_ref().is_some_and(|before| before.contains(&file.id))
                && !uploads.done.iter().any(|(_, id)| *id == file.id)
        });
        match arrived {
            Some(file) => {
                log::info!(task:% = self.key(); "`{name}` had arrived although its answer was lost");
                let reason = Some("it had arrived although its answer was lost");
                self.note_done(uploads, name, Arrived { size, file_id: file.id, reason })?;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn leave_out(&self, uploads: &mut Uploads, all: Vec<LeftOut>) -> Result<(), StepError> {
        for left in &all {
            log::warn!(task:% = self.key(); "`{}` is not delivered: {}", left.file, left.reason);
        }
        self.enter(all.iter().map(|left| stays_here(&left.file, &left.reason)).collect())?;
        self.note_all(uploads, all.into_iter().map(UploadEvent::LeftOut).collect())
    }

    /// A file is on the Server: the ledger is told first.
    fn note_done(&self, uploads: &mut Uploads, name: &str, arrived: Arrived) -> Result<(), StepError> {
        let Arrived { size, file_id, reason } = arrived;
        let transfer = Transfer {
            bytes: Some(size),
            file_id: Some(file_id.clone()),
            reason: reason.map(str::to_owned),
            ..Transfer::new(Direction::Out, Outcome::Sent, name)
        };
        self.enter_upload(uploads, transfer)?;
        self.note(uploads, UploadEvent::Done { file: name.to_owned(), size, file_id })
    }

    fn note(&self, uploads: &mut Uploads, event: UploadEvent) -> Result<(), StepError> {
        self.note_all(uploads, vec![event])
    }

    /// Writes lines of `uploads.jsonl`; what isn't on the disk hasn't happened.
    pub(super) fn note_all(&self, uploads: &mut Uploads, events: Vec<UploadEvent>) -> Result<(), StepError> {
        if events.is_empty() {
            return Ok(());
        }
        let unwritten = |error| StepError::retry(format!("uploads.jsonl can't be written: {error}"));
        self.files.append_uploads(&events).map_err(unwritten)?;
        for event in events {
            uploads.note(event);
        }
        Ok(())
    }
}

fn stays_here(file: &str, reason: &str) -> Entry {
    Entry::File(Transfer { reason: Some(reason.to_owned()), ..Transfer::new(Direction::Out, Outcome::LeftOut, file) })
}

/// What became of an upload that isn't on the Server.
fn not_arrived(error: &ClientError) -> Outcome {
    if error.status().is_some() { Outcome::Refused } else { Outcome::Failed }
}
