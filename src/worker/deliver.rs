//! From `exited` to `settled`: the results and the report.
//!
//! What has arrived is in `uploads.jsonl`, so that a file is sent once over any number of restarts. When the Server
//! can't be reached the task is put down, which frees its slot, and taken up again later.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{Halt, Happened, Run};
use crate::client::{ClientError, Upload};
use crate::outputs::{Best, Found, Ours, scan};
use crate::process::read_tail;
use crate::protocol::{CompleteRequest, FinalStatus, LeftOut, Output};
use crate::record::{Ending, Phase, StopReason, UploadEvent};
use crate::worker::execute::container_name;

/// How often an upload is tried that fails while other calls succeed, before it counts as the file's fault.
const TRIES: u32 = 5;
/// The pause after a first such failure; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// How much of the container's output the Server gets, per stream.
const OUTPUT_TAIL: u64 = 64 * 1024;
/// How many files that were left out are named to the Server; the log names all.
const NAMED: usize = 100;

/// What `uploads.jsonl` says.
#[derive(Default)]
struct Ledger {
    /// The files that were on the Server before our first upload, once that was asked.
    before: Option<HashSet<String>>,
    /// Name and id of what has arrived, in order.
    done: Vec<(String, String)>,
    left_out: Vec<LeftOut>,
    /// How many more were left out.
    unnamed: u64,
    /// Names whose fate is known.
    decided: HashSet<String>,
    /// Names and sizes of attempts whose end isn't known.
    in_doubt: HashMap<String, u64>,
    /// How often each name failed while the Server could be reached.
    failures: HashMap<String, u32>,
}

impl Ledger {
    fn of(events: Vec<UploadEvent>) -> Self {
        let mut ledger = Self::default();
        for event in events {
            ledger.note(event);
        }
        ledger
    }

    fn note(&mut self, event: UploadEvent) {
        match event {
            UploadEvent::Before { ids } => self.before = Some(ids.into_iter().collect()),
            UploadEvent::Begin { file, size } => {
                self.in_doubt.insert(file, size);
            }
            UploadEvent::Failed { file } => *self.failures.entry(file).or_default() += 1,
            UploadEvent::Done { file, file_id, .. } => {
                self.in_doubt.remove(&file);
                self.decided.insert(file.clone());
                self.done.push((file, file_id));
            }
            UploadEvent::LeftOut(left) => {
                self.in_doubt.remove(&left.file);
                self.decided.insert(left.file.clone());
                self.left_out.push(left);
            }
            UploadEvent::Unnamed { count } => self.unnamed = self.unnamed.max(count),
        }
    }
}

impl Run<'_> {
    /// Sends every result that hasn't arrived yet.
    pub(super) fn upload(&mut self) -> Result<(), Halt> {
        let events = self.files.uploads().map_err(|error| Halt::later(format!("uploads.jsonl: {error}")))?;
        let mut ledger = Ledger::of(events);
        let files = if self.is_cancelled() { Vec::new() } else { self.collect(&mut ledger)? };
        self.remove_container()?;
        if !self.is_cancelled() {
            for file in &files {
                self.take_orders()?;
                if self.is_unwanted() {
                    break;
                }
                if !ledger.decided.contains(&file.name) {
                    self.deliver(&mut ledger, file)?;
                }
            }
        }
        // Whoever cancels after the container's exit doesn't wait for the rest of the results.
        if self.is_unwanted() {
            if let Some(ending) = self.record.ending.as_mut() {
                ending.status = FinalStatus::Cancelled;
                ending.error_message = None;
            }
        }
        self.advance(Phase::Uploaded)
    }

    /// Finds the results, with those that only the engine can read, and writes down what isn't one.
    fn collect(&mut self, ledger: &mut Ledger) -> Result<Vec<Found>, Halt> {
        let config = Arc::clone(&self.shop.config);
        let ours = Ours::new(config.paths.mounts.iter().map(|mount| mount.container.as_str()));
        let found = scan(self.workspace.dir(), &ours, &config.outputs);
        let leftovers = self.fetch_unreadable(&found.unreadable, &ours)?;
        let mut left_out = found.left_out;
        left_out.add(leftovers);
        let mut best = Best::new(&config.outputs);
        found.files.into_iter().for_each(|file| best.push(file));
        for fetched in self.record.fetched.iter().flatten() {
            let file = fetched.number.to_string();
            match Found::fetched(&self.files.fetched_dir(), file.as_ref(), &fetched.file) {
                Ok(file) => best.push(file),
                Err(error) => left_out.keep_back(fetched.file.clone(), format!("can't be read: {error}")),
            }
        }
        let files = best.take(&mut left_out);
        let is_new = |left: &LeftOut| !ledger.decided.contains(&left.file);
        let kept_back: Vec<LeftOut> = left_out.kept_back.into_iter().filter(is_new).collect();
        let named: Vec<LeftOut> = left_out.named.into_iter().filter(is_new).collect();
        self.keep_back(ledger, kept_back)?;
        self.leave_out(ledger, named)?;
        if left_out.unnamed > ledger.unnamed {
            log::warn!("task {}: {} more files are not delivered", self.key(), left_out.unnamed);
            self.note(ledger, UploadEvent::Unnamed { count: left_out.unnamed })?;
        }
        Ok(files)
    }

    /// Tells the Server how the task ended.
    pub(super) fn complete(&mut self) -> Result<(), Halt> {
        let events = self.files.uploads().map_err(|error| Halt::later(format!("uploads.jsonl: {error}")))?;
        let ledger = Ledger::of(events);
        let Some(ending) = self.record.ending.clone() else {
            return Err(Halt::later("the record names no ending"));
        };
        let mut output = self.output(&ending, &ledger);
        let (mut tries, mut ended) = (0, false);
        // A crash right after the call leaves nobody who knows of it but the record.
        let mut in_doubt = self.record.report_in_doubt;
        if !in_doubt {
            self.record.report_in_doubt = true;
            self.save()?;
        }
        loop {
            self.take_orders()?;
            self.wait_for_room_to_report()?;
            let request = CompleteRequest {
                task_id: &self.record.task.id,
                status: ending.status,
                output: output.clone(),
                error_message: ending.error_message.as_deref(),
                file_ids: ledger.done.iter().map(|(_, id)| id.clone()).collect(),
            };
            let error = match self.shop.client.complete(&request) {
                Ok(()) => {
                    log::info!(
                        "task {}: settled as {} with {} {}",
                        self.key(),
                        ending.status.as_str(),
                        ledger.done.len(),
                        if ledger.done.len() == 1 { "file" } else { "files" }
                    );
                    return self.settle();
                }
                Err(error) => error,
            };
            match error.status() {
                Some(413) if output.shrink() => {
                    log::warn!(
                        "task {}: the report is too large for the Server or its proxy; sending less",
                        self.key()
                    );
                }
                // Not running on the Server: requeued meanwhile, or ended by a call whose answer was lost. Accepting
                // it tells which (PROTOCOL 5).
                _ if error.is_wrong_state() && tries < 3 => {
                    tries += 1;
                    if ended {
                        self.note_ended(in_doubt, &error);
                        return self.settle();
                    }
                    self.wait_for_room_to_report()?;
                    match self.shop.client.accept(&self.record.task.id) {
                        Ok(()) => {
                            log::info!("task {}: had been requeued and is ours again", self.key());
                            self.tell(Happened::WasRequeued);
                        }
                        // The scheduler may have accepted it for us a moment ago, so the report is tried once more.
                        Err(refused) if refused.is_wrong_state() => ended = true,
                        Err(other) => return Err(other.into()),
                    }
                }
                _ => {
                    in_doubt |= error.may_have_arrived();
                    if !in_doubt {
                        self.record.report_in_doubt = false;
                        self.save()?;
                    }
                    return Err(error.into());
                }
            }
        }
    }

    /// The Server neither takes a report nor gives the task out again: it has ended there.
    fn note_ended(&mut self, in_doubt: bool, error: &ClientError) {
        if in_doubt {
            log::info!("task {}: had ended on the Server already, by a report whose answer was lost", self.key());
        } else {
            log::warn!("task {}: had ended on the Server already, without this report ({error})", self.key());
            self.record.kept_back = true;
        }
    }

    fn settle(&mut self) -> Result<(), Halt> {
        // What was fetched has been sent; only what stayed here may still be wanted by somebody.
        if !self.record.kept_back {
            if let Err(error) = self.files.remove_fetched() {
                log::warn!("task {}: `{}` can't be removed: {error}", self.key(), self.files.fetched_dir().display());
            }
        }
        self.record.settled_at = Some(Timestamp::now());
        self.advance(Phase::Settled)
    }

    /// Whether nobody waits for the results any more.
    pub(super) fn is_unwanted(&self) -> bool {
        self.record.stop == Some(StopReason::Cancel)
    }

    fn is_cancelled(&self) -> bool {
        self.record.ending.as_ref().is_some_and(|ending| ending.status == FinalStatus::Cancelled)
    }

    /// The container has told all that it had to tell. If the engine doesn't remove it now, the sweep does later.
    fn remove_container(&mut self) -> Result<(), Halt> {
        if self.record.container_removed {
            return Ok(());
        }
        let name = container_name(self.key());
        match self.shop.docker.inspect(&name) {
            Ok(Some(container)) if container.instance.as_deref() == Some(&self.shop.instance_id) => {
                if let Err(error) = self.shop.docker.remove(&name) {
                    log::warn!("task {}: the container `{name}` can't be removed yet: {error}", self.key());
                    return Ok(());
                }
            }
            Ok(_) => {}
            Err(error) => {
                log::warn!("task {}: the container `{name}` can't be removed yet: {error}", self.key());
                return Ok(());
            }
        }
        self.record.container_removed = true;
        self.save()
    }

    /// Brings one file to the Server, or finds out that it stays here.
    fn deliver(&mut self, ledger: &mut Ledger, found: &Found) -> Result<(), Halt> {
        if ledger.before.is_none() {
            self.wait_for_room()?;
            if self.is_unwanted() {
                return Ok(());
            }
            let ids = match self.shop.client.list_files(&self.record.task.id) {
                Ok(files) => files.into_iter().map(|file| file.id).collect(),
                // A Server that doesn't list can't be asked later either; then nothing is taken for arrived.
                Err(error) if !error.is_retryable() && !error.is_unauthorized() => Vec::new(),
                Err(error) => return Err(error.into()),
            };
            self.note(ledger, UploadEvent::Before { ids })?;
        }
        if let Some(size) = ledger.in_doubt.get(&found.name).copied() {
            if self.has_arrived(ledger, &found.name, size)? {
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
            Err(reason) => return self.keep_back(ledger, keep_back(reason)),
        };
        self.note(ledger, UploadEvent::Begin { file: found.name.clone(), size })?;
        let task_id = self.record.task.id.clone();
        let upload = Upload { task_id: &task_id, filename: &found.name, file: &file, size };
        let error = match self.transfer(|client| client.upload(&upload))? {
            Ok(file_id) => {
                log::debug!("task {}: sent `{}`, {size} bytes", self.key(), found.name);
                return self.note(ledger, UploadEvent::Done { file: found.name.clone(), size, file_id });
            }
            Err(error) => error,
        };
        if self.is_unwanted() {
            return Ok(());
        }
        if error.is_unauthorized() || error.status() == Some(429) {
            return Err(error.into());
        }
        if !error.is_retryable() {
            let reason = match &error {
                ClientError::Local(error) => format!("can't be read: {error}"),
                other => other.to_string(),
            };
            return self.keep_back(ledger, keep_back(reason));
        }
        // The list answers two questions: whether the file has arrived all the same, and whether the Server can be
        // reached, so that it is the file that fails.
        if self.has_arrived(ledger, &found.name, size)? || self.is_unwanted() {
            return Ok(());
        }
        self.note(ledger, UploadEvent::Failed { file: found.name.clone() })?;
        let failures = ledger.failures.get(&found.name).copied().unwrap_or_default();
        if failures >= TRIES {
            return self.keep_back(ledger, keep_back(format!("could not be sent in {TRIES} tries: {error}")));
        }
        // The pauses leave a Server whose storage is in trouble some minutes, and other tasks the slot.
        let pause = FIRST_PAUSE * 2u32.saturating_pow(failures.saturating_sub(1));
        let pause = error.retry_after().map_or(pause, |asked| asked.max(pause));
        Err(Halt::Later { why: format!("`{}`: {error}", found.name), retry_after: Some(pause) })
    }

    /// Leaves out files that a person may want to fetch here by hand.
    fn keep_back(&mut self, ledger: &mut Ledger, all: Vec<LeftOut>) -> Result<(), Halt> {
        if !self.record.kept_back && !all.is_empty() {
            self.record.kept_back = true;
            self.save()?;
        }
        self.leave_out(ledger, all)
    }

    /// Whether an attempt whose end isn't known has arrived: there is a file of ours by that name and size that wasn't
    /// there before and isn't another one of ours.
    fn has_arrived(&mut self, ledger: &mut Ledger, name: &str, size: u64) -> Result<bool, Halt> {
        self.wait_for_room()?;
        if self.is_unwanted() {
            return Ok(false);
        }
        let listed = self.shop.client.list_files(&self.record.task.id)?;
        let arrived = listed.into_iter().find(|file| {
            file.filename == name
                && file.size_bytes == size
                && file.created_by == "agent"
                && !ledger.before.as_ref().is_some_and(|before| before.contains(&file.id))
                && !ledger.done.iter().any(|(_, id)| *id == file.id)
        });
        match arrived {
            Some(file) => {
                log::info!("task {}: `{name}` had arrived although its answer was lost", self.key());
                self.note(ledger, UploadEvent::Done { file: name.to_owned(), size, file_id: file.id })?;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn leave_out(&self, ledger: &mut Ledger, all: Vec<LeftOut>) -> Result<(), Halt> {
        for left in &all {
            log::warn!("task {}: `{}` is not delivered: {}", self.key(), left.file, left.reason);
        }
        self.note_all(ledger, all.into_iter().map(UploadEvent::LeftOut).collect())
    }

    fn note(&self, ledger: &mut Ledger, event: UploadEvent) -> Result<(), Halt> {
        self.note_all(ledger, vec![event])
    }

    /// Writes lines of `uploads.jsonl`; what isn't on the disk hasn't happened.
    fn note_all(&self, ledger: &mut Ledger, events: Vec<UploadEvent>) -> Result<(), Halt> {
        if events.is_empty() {
            return Ok(());
        }
        let unwritten = |error| Halt::later(format!("uploads.jsonl can't be written: {error}"));
        self.files.note_uploads(&events).map_err(unwritten)?;
        for event in events {
            ledger.note(event);
        }
        Ok(())
    }

    fn output(&self, ending: &Ending, ledger: &Ledger) -> Output {
        let tail = |path: std::path::PathBuf| {
            read_tail(&path, OUTPUT_TAIL).unwrap_or_else(|error| {
                log::warn!("task {}: `{}` can't be read: {error}", self.key(), path.display());
                String::new()
            })
        };
        let left_out = &ledger.left_out;
        Output {
            files: ledger.done.iter().map(|(name, _)| name.clone()).collect(),
            stdout: Some(tail(self.files.stdout())),
            stderr: Some(tail(self.files.stderr())),
            exit_code: ending.exit_code,
            duration_secs: ending.duration_secs,
            left_out: left_out.iter().take(NAMED).cloned().collect(),
            left_out_count: (left_out.len() > NAMED || ledger.unnamed > 0)
                .then(|| left_out.len() as u64 + ledger.unnamed),
        }
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
    use super::Ledger;
    use crate::protocol::{LeftOut, Output};
    use crate::record::UploadEvent;

    #[test]
    fn a_begun_upload_is_in_doubt_until_its_end_is_known() {
        let begin = |file: &str| UploadEvent::Begin { file: file.to_owned(), size: 3 };
        let ledger = Ledger::of(vec![
            UploadEvent::Before { ids: vec!["old".to_owned()] },
            begin("a"),
            UploadEvent::Done { file: "a".to_owned(), size: 3, file_id: "1".to_owned() },
            begin("b"),
            begin("c"),
            UploadEvent::LeftOut(LeftOut { file: "c".to_owned(), reason: "refused".to_owned() }),
        ]);
        assert_eq!(ledger.in_doubt.keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!(ledger.done, [("a".to_owned(), "1".to_owned())]);
        assert!(ledger.decided.contains("c") && !ledger.decided.contains("b"));
    }

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
