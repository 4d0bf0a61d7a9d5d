//! From `accepted` to `prepared`: the workspace, the input files and `task.json`.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use super::ledger_entries::{not_received, received, received_unnamed};
use super::outcome::{self, ContainerOutcome};
use super::task_client::{TaskClient, TransferProgress};
use super::{Pause, Phase, StepError, TaskHandle, WorkerEvent, input_names};
use crate::os::files::{self, remove_if_exists};
use crate::os::platform;
use crate::server::{Backoff, Client, ClientError, Failure, InputFile, Item, Verdict, Way};
use crate::units::{Bytes, Files, Span};

/// How many input files of a task have a line of their own in the ledger; the rest have one line together. A Server can
/// offer thousands of empty files, and their lines must not push others out.
const NAMED_INPUTS: usize = 100;

/// After how many bytes of a download its disk is looked at.
const DISK_CHECK: u64 = 16 * 1024 * 1024;

/// Why the workspace isn't complete.
enum PrepareError {
    /// The task can't be done.
    Task(String),
    Step(StepError),
    /// The task is being stopped.
    Stopped,
}

impl From<StepError> for PrepareError {
    fn from(error: StepError) -> Self {
        Self::Step(error)
    }
}

/// Makes the workspace complete, or ends the task. Without a client the input files lie in it already.
pub fn prepare(client: Option<TaskClient<'_>>, task: &mut TaskHandle) -> Result<(), StepError> {
    let outcome = match fill_workspace(client, task) {
        Ok(()) => return task.advance(Phase::Prepared),
        Err(PrepareError::Step(error)) => return Err(error),
        Err(PrepareError::Stopped) => ContainerOutcome::Stopped,
        Err(PrepareError::Task(message)) => {
            log::warn!(task:% = task.key(); "{message}");
            ContainerOutcome::NotStarted(message)
        }
    };
    // A part of an input file may be large, and isn't needed any more.
    let part = task.files.partial_download();
    if let Err(error) = remove_if_exists(&part) {
        log::warn!(task:% = task.key(); "`{}` can't be removed: {error}", part.display());
    }
    outcome::record(task, outcome, None)
}

/// A file of the task that can't be written. That is this machine's fault, and the task waits, unless the file itself
/// can't be one here: then it would wait for ever.
fn not_written(task: &TaskHandle, what: &str, error: &io::Error) -> PrepareError {
    let why = format!("{what}: {error}");
    match error.kind() {
        ErrorKind::InvalidFilename | ErrorKind::InvalidInput | ErrorKind::FileTooLarge => PrepareError::Task(why),
        _ => {
            task.send(WorkerEvent::WriteFailed(why.clone()));
            PrepareError::Step(StepError::retry(why))
        }
    }
}

fn fill_workspace(client: Option<TaskClient<'_>>, task: &mut TaskHandle) -> Result<(), PrepareError> {
    const WORKSPACE: &str = "the workspace can't be made";
    // A task that waits for this machine's disk is cancelled all the same: until then the Server offers no other
    // (PROTOCOL 2).
    task.check_commands()?;
    if task.record.stop.is_some() {
        return Err(PrepareError::Stopped);
    }
    task.workspace.create().map_err(|error| not_written(task, WORKSPACE, &error))?;
    if let Some(why) = task.record.ending.as_ref().and_then(|ending| ending.error_message.clone()) {
        return Err(PrepareError::Task(why));
    }
    let names = input_names(&task.record.task);
    if let Some(mut client) = client {
        download_inputs(&mut client, task, &names)?;
    }
    task.workspace.write_task(&task.record.task, &names).map_err(|error| not_written(task, WORKSPACE, &error))
}

fn download_inputs(client: &mut TaskClient<'_>, task: &mut TaskHandle, names: &[String]) -> Result<(), PrepareError> {
    check_disk_size(client, task)?;
    let files = task.record.task.input_files.clone();
    let (began, mut left) = (Instant::now(), task.record.task.input_size());
    let mut inputs = files.iter().zip(names).enumerate();
    let done = inputs.try_for_each(|(index, (file, name))| {
        let is_named = index < NAMED_INPUTS;
        Download { client, task, file, name, is_named, left }.run()?;
        left = left.saturating_sub(file.size_bytes);
        Ok(())
    });
    // A step that is tried again writes the line at its end.
    if !matches!(done, Err(PrepareError::Step(_))) {
        let unnamed = files.iter().zip(names).skip(NAMED_INPUTS);
        let here = unnamed.filter(|(file, name)| is_complete(&task.workspace.input(name), file.size_bytes));
        let line = received_unnamed(here.map(|(file, _)| file));
        client.append_to_ledger(task, line.into_iter().collect())?;
    }
    done?;
    if !files.is_empty() {
        let bytes = Bytes(files.iter().map(|file| file.size_bytes).fold(0, u64::saturating_add));
        let time = Span(began.elapsed());
        log::info!(task:% = task.key(); "{} downloaded, {bytes} in {time}", Files(files.len(), "input"));
    }
    Ok(())
}

/// Whether an input file is in its place: only a complete one is moved there.
fn is_complete(place: &Path, size: u64) -> bool {
    fs::symlink_metadata(place).is_ok_and(|meta| meta.is_file() && meta.len() == size)
}

/// Fails a task whose input files would fit on no disk of this size. One that fits when there is more room waits for it.
fn check_disk_size(client: &TaskClient<'_>, task: &TaskHandle) -> Result<(), PrepareError> {
    let (announced, dir) = (task.record.task.input_size(), task.workspace.dir());
    match platform::disk_size(dir) {
        Ok(size) if announced > size.saturating_sub(client.keep_free) => Err(PrepareError::Task(format!(
            "the input files have {} together, more than this machine's disk takes ({}, of which {} stay free)",
            Bytes(announced),
            Bytes(size),
            Bytes(client.keep_free)
        ))),
        _ => Ok(()),
    }
}

/// The download of one input file.
struct Download<'d, 'c> {
    client: &'d mut TaskClient<'c>,
    task: &'d mut TaskHandle,
    file: &'d InputFile,
    /// Its name in the workspace.
    name: &'d str,
    /// Whether it has a line of its own in the ledger.
    is_named: bool,
    /// The bytes of this file and of those after it.
    left: u64,
}

impl Download<'_, '_> {
    /// Downloads the file, unless it is in its place: a download goes to a file beside the record and is moved when it
    /// is complete. A file that fails for long frees the task's slot between two tries.
    fn run(mut self) -> Result<(), PrepareError> {
        let place = self.task.workspace.input(self.name);
        let item = Item::new(Way::Download, &self.task.record.task.id, &self.file.id);
        let mut backoff = Backoff::default();
        loop {
            self.task.check_commands()?;
            self.check_stop()?;
            if is_complete(&place, self.file.size_bytes) {
                return Ok(());
            }
            if !self.client.client.is_answering() {
                return Err(StepError::ServerAway.into());
            }
            if let Some(wait) = self.client.client.patience().waits(&item, Instant::now()) {
                if wait.lets_others_pass {
                    return Err(self.wait_without_slot(&wait.why, Pause::Due(wait.left)).into());
                }
                self.task.wait(wait.left)?;
                continue;
            }
            self.client.acquire_delivery(self.task)?;
            self.check_stop()?;
            let began = Instant::now();
            let Some(error) = self.attempt(&place)? else {
                self.client.client.patience().note_success(&item, Instant::now());
                continue;
            };
            self.check_stop()?;
            self.note_failure(&item, Failure { error: &error, is_unsent: false, began }, &mut backoff)?;
        }
    }

    /// Waits after a failure, ends the step, or ends the task.
    fn note_failure(&mut self, item: &Item, failure: Failure<'_>, backoff: &mut Backoff) -> Result<(), PrepareError> {
        let error = failure.error;
        if matches!(error, ClientError::Local(_)) {
            return Err(self.give_up(error, "")?);
        }
        let pause = match self.client.client.patience().note_failure(item, failure, Instant::now()) {
            Verdict::GiveUp if error.is_retryable() => return Err(self.give_up(error, "for an hour: ")?),
            Verdict::GiveUp => return Err(self.give_up(error, "")?),
            Verdict::LetOthersPass(own) => {
                let pause = Pause::of(own, error.retry_after());
                return Err(self.wait_without_slot(&error.to_string(), pause).into());
            }
            Verdict::TryAgain(_) => backoff.next(error.retry_after()),
        };
        let seconds = pause.as_secs();
        log::warn!(task:% = self.task.key(); "input file `{}`: {error}; trying again in {seconds} s", self.name);
        Ok(self.task.wait(pause)?)
    }

    fn wait_without_slot(&self, why: &str, pause: Pause) -> StepError {
        StepError::WithoutSlot { why: format!("input file `{}`: {why}", self.name), pause }
    }

    fn check_stop(&self) -> Result<(), PrepareError> {
        if self.task.record.stop.is_some() { Err(PrepareError::Stopped) } else { Ok(()) }
    }

    /// Makes one call, and moves the file to its place. Returns the call's error, if there was one.
    fn attempt(&mut self, place: &Path) -> Result<Option<ClientError>, PrepareError> {
        let part = self.task.files.partial_download();
        self.check_room(&part)?;
        let (file, received_bytes, keep_free) = (self.file, Arc::<AtomicU64>::default(), self.client.keep_free);
        let what = format!("fetching `{}`", self.name);
        let progress = TransferProgress { what, bytes: file.size_bytes, moved: Arc::clone(&received_bytes) };
        let (wanted, path) = (file.clone(), part.clone());
        let call = move |client: &Client| download(client, &wanted, Part { path: &path, keep_free }, &received_bytes);
        match self.client.transfer(self.task, progress, call)? {
            Ok(()) => {}
            Err(ClientError::Local(error)) if error.kind() == ErrorKind::StorageFull => {
                return Err(self.wait_for_room(&part).into());
            }
            Err(ClientError::Local(error)) => return self.refuse_file(ClientError::Local(error)),
            Err(error) => return Ok(Some(error)),
        }
        // Before the file has its place, or a crash in between would leave it there without a line in the ledger.
        if self.is_named {
            self.client.append_to_ledger(self.task, vec![received(file)])?;
        }
        let moved = platform::make_world_writable(&part).and_then(|()| fs::rename(&part, place));
        moved
            .map_err(|error| not_written(self.task, &format!("input file `{}` can't be written", self.name), &error))?;
        Ok(None)
    }

    /// What was downloaded can't be written here.
    fn refuse_file(&self, error: ClientError) -> Result<Option<ClientError>, PrepareError> {
        let ClientError::Local(cause) = &error else { return Ok(Some(error)) };
        match not_written(self.task, &format!("input file `{}` can't be written", self.name), cause) {
            PrepareError::Task(_) => Ok(Some(error)),
            wait => Err(wait),
        }
    }

    /// Checks that the file and those after it fit on the disk: a part of them would keep other tasks from it, and be of no
    /// use. A full disk isn't the task's fault, so the task waits.
    fn check_room(&self, part: &Path) -> Result<(), StepError> {
        remove_if_exists(part).map_err(StepError::because("a part of an input file can't be removed"))?;
        let free = platform::free_disk(self.task.workspace.dir());
        let wanted = self.left.saturating_add(self.client.keep_free);
        if free.is_ok_and(|free| free < wanted) { Err(self.wait_for_room(part)) } else { Ok(()) }
    }

    /// Removes what was downloaded of the file, and returns the reason for the pause, for which the task needs no slot: what
    /// is in the way may stay there for long. The reason has no number of the moment, so that it is logged once.
    fn wait_for_room(&self, part: &Path) -> StepError {
        if let Err(error) = remove_if_exists(part) {
            log::warn!(task:% = self.task.key(); "`{}` can't be removed: {error}", part.display());
        }
        let (left, keep_free) = (Bytes(self.left), Bytes(self.client.keep_free));
        let why = format!(
            "the disk has no room for the input file `{}` and those after it, {left} together, and {keep_free} that stay \
             free (`paths.min_free_disk_mb`)",
            self.name
        );
        StepError::WithoutSlot { why, pause: Pause::Backoff }
    }

    /// Logs the failure, and returns the task's error. `after` says after what it was given up.
    fn give_up(&self, error: &ClientError, after: &str) -> Result<PrepareError, StepError> {
        self.client.append_to_ledger(self.task, vec![not_received(self.file, error)])?;
        Ok(PrepareError::Task(format!("input file `{}` can't be fetched: {after}{error}", self.name)))
    }
}

/// A file that is being downloaded.
struct Part<'p> {
    path: &'p Path,
    /// How many bytes of its disk it doesn't take.
    keep_free: u64,
}

fn download(client: &Client, file: &InputFile, part: Part<'_>, received: &AtomicU64) -> Result<(), ClientError> {
    let sink = files::create(part.path).map_err(ClientError::Local)?;
    let mut sink = WatchedFile { file: sink, part, left: file.size_bytes, unchecked: 0 };
    client.download(&file.id, file.size_bytes, &mut sink, received)?;
    // The record will say that the input is complete, so it has to outlive a power cut as the record does.
    sink.file.sync_all().map_err(ClientError::Local)
}

/// A file that is written while its disk has room: other tasks write to the disk, too.
struct WatchedFile<'p> {
    file: File,
    part: Part<'p>,
    /// How many of the announced bytes are not written yet.
    left: u64,
    /// How many bytes were written since the last look at the disk.
    unchecked: u64,
}

impl Write for WatchedFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.unchecked >= DISK_CHECK {
            self.unchecked = 0;
            let wanted = self.part.keep_free.saturating_add(self.left.min(DISK_CHECK));
            if platform::free_disk(self.part.path).is_ok_and(|free| free < wanted) {
                return Err(ErrorKind::StorageFull.into());
            }
        }
        let count = self.file.write(bytes)?;
        self.unchecked += count as u64;
        self.left = self.left.saturating_sub(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::{Phase, TaskHandle, prepare};
    use crate::data_dir::DataDir;
    use crate::server::protocol::{FinalStatus, Task};
    use crate::task::record::{Record, Store, TaskKey};
    use crate::task::{Job, StepError, WorkerCommand, Workspace};
    use crossbeam_channel::unbounded;
    use std::fs;
    use std::sync::Arc;

    #[test]
    fn a_cancellation_is_heard_where_no_workspace_can_be_made() {
        let dir = tempfile::tempdir().unwrap();
        let (data_dir, key) = (DataDir::new(dir.path()), TaskKey::from_id("t").unwrap());
        let task = Task { id: "t".to_owned(), ..Task::default() };
        let mut record = Record::from_offer(task, "s", "u");
        record.set_phase(Phase::Accepted);
        let files = Store::open(&data_dir).unwrap().create(&key, &record).unwrap();
        fs::write(data_dir.workspaces(), "no folder").unwrap();
        let (sender, commands) = unbounded();
        let job = Job { files, record, commands, is_worker_wanted: Arc::default() };
        let mut task = TaskHandle::new(job, Workspace::new(&data_dir, &key), None);
        assert!(matches!(prepare(None, &mut task), Err(StepError::Retry { .. })));
        sender.send(WorkerCommand::Cancel).unwrap();
        prepare(None, &mut task).unwrap();
        assert_eq!(task.record.phase, Phase::Exited);
        assert_eq!(task.record.ending.map(|ending| ending.status), Some(FinalStatus::Cancelled));
    }
}
