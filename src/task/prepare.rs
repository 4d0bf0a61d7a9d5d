//! From `accepted` to `prepared`: the workspace, the input files and `task.json`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::transfer::Shown;
use super::{RunMode, StepError, TaskRunner};
use crate::ledger::{Direction, Entry, Outcome, Transfer};
use crate::os::files::remove_if_exists;
use crate::os::platform;
use crate::server::protocol::InputFile;
use crate::server::retry::Backoff;
use crate::server::{Client, ClientError};
use crate::task::record::Phase;
use crate::task::workspace::input_names;
use crate::units::{Bytes, Span};

/// How often a download is tried that fails while other calls succeed, before it counts as the file's fault.
const TRIES: u32 = 5;
/// How often a download of another length than announced is tried: a connection may have been cut.
const WRONG_LENGTHS: u32 = 3;

/// Why the workspace isn't complete.
enum Trouble {
    /// The task can't be done.
    Task(String),
    /// The worker has to stop here.
    StepError(StepError),
    /// The task was cancelled meanwhile.
    Stopped,
}

impl From<StepError> for Trouble {
    fn from(halt: StepError) -> Self {
        Self::StepError(halt)
    }
}

impl TaskRunner<'_> {
    pub(super) fn prepare(&mut self) -> Result<(), StepError> {
        let filled = self.fill_workspace();
        if matches!(filled, Err(Trouble::Task(_) | Trouble::Stopped)) {
            self.drop_partial_download();
        }
        match filled {
            Ok(()) => self.advance(Phase::Prepared),
            Err(Trouble::Task(message)) => {
                log::warn!(task:% = self.key(); "{message}");
                self.end_before_start(message)
            }
            Err(Trouble::StepError(halt)) => Err(halt),
            Err(Trouble::Stopped) => self.end_before_start(String::new()),
        }
    }

    /// What has come of an input that nobody needs any more may be large.
    fn drop_partial_download(&self) {
        let part = self.files.partial_download();
        if let Err(error) = remove_if_exists(&part) {
            log::warn!(task:% = self.key(); "`{}` can't be removed: {error}", part.display());
        }
    }

    fn fill_workspace(&mut self) -> Result<(), Trouble> {
        let local = |error: io::Error| Trouble::Task(format!("the workspace can't be made: {error}"));
        self.workspace.create().map_err(local)?;
        let names = input_names(&self.record.task);
        let files = self.record.task.input_files.clone();
        let began = Instant::now();
        for (file, name) in files.iter().zip(&names) {
            self.fetch(file, name)?;
        }
        // Those of a trial were there before.
        if !files.is_empty() && self.context.mode == RunMode::Server {
            let bytes = Bytes(files.iter().map(|file| file.size_bytes).fold(0, u64::saturating_add));
            let time = Span(began.elapsed());
            log::info!(task:% = self.key(); "{} input file(s) are here, {bytes} in {time}", files.len());
        }
        self.workspace.write_task(&self.record.task, &names).map_err(local)?;
        Ok(())
    }

    /// Brings one input file to its place. What lies there under its name is whole: downloads arrive beside the record
    /// and are moved when they are complete.
    fn fetch(&mut self, file: &InputFile, name: &str) -> Result<(), Trouble> {
        let place = self.workspace.input(name);
        let part = self.files.partial_download();
        let mut backoff = Backoff::default();
        let (mut failures, mut wrong_lengths) = (0, 0);
        loop {
            self.check_commands()?;
            if self.record.stop.is_some() {
                return Err(Trouble::Stopped);
            }
            if fs::symlink_metadata(&place).is_ok_and(|meta| meta.is_file() && meta.len() == file.size_bytes) {
                return Ok(());
            }
            self.wait_for_room()?;
            if self.record.stop.is_some() {
                return Err(Trouble::Stopped);
            }
            let came = AtomicU64::new(0);
            let shown = Shown { what: format!("fetching `{name}`"), bytes: file.size_bytes, moved: &came };
            let error = match self.transfer(shown, |client| download(client, file, &part, &came))? {
                Ok(()) => {
                    // Before it has its place, or a crash in between would leave it there untold.
                    self.enter(vec![received(file)])?;
                    let moved = platform::make_world_writable(&part).and_then(|()| fs::rename(&part, &place));
                    moved.map_err(|error| Trouble::Task(format!("input file `{name}` can't be written: {error}")))?;
                    continue;
                }
                Err(error) => error,
            };
            if self.record.stop.is_some() {
                return Err(Trouble::Stopped);
            }
            let says_nothing = error.is_unauthorized() || error.status() == Some(429);
            let is_final = match error {
                ClientError::Local(_) => true,
                ClientError::WrongLength { .. } => {
                    wrong_lengths += 1;
                    wrong_lengths >= WRONG_LENGTHS
                }
                _ => !error.is_retryable() && !error.is_unauthorized(),
            };
            if is_final {
                self.enter(vec![not_received(file, &error)])?;
                return Err(Trouble::Task(format!("input file `{name}` can't be fetched: {error}")));
            }
            let pause = backoff.next(error.retry_after());
            log::warn!(task:% = self.key(); "input file `{name}`: {error}; trying again in {} s", pause.as_secs());
            let answered = self.context.client.success_count();
            self.pause(pause)?;
            // A failure says something about the file only if the Server can be reached otherwise.
            if self.context.client.success_count() > answered && !says_nothing {
                failures += 1;
            }
            if failures >= TRIES {
                self.enter(vec![not_received(file, &error)])?;
                return Err(Trouble::Task(format!(
                    "input file `{name}` can't be fetched: {TRIES} tries failed while other calls succeeded: {error}"
                )));
            }
        }
    }
}

/// Tells another thread how much has come.
struct Counted<'f> {
    sink: &'f mut File,
    came: &'f AtomicU64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.sink.write(bytes)?;
        self.came.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

fn received(file: &InputFile) -> Entry {
    Entry::File(Transfer {
        bytes: Some(file.size_bytes),
        file_id: Some(file.id.clone()),
        ..Transfer::new(Direction::In, Outcome::Received, &file.filename)
    })
}

fn not_received(file: &InputFile, error: &ClientError) -> Entry {
    let outcome = if error.status().is_some() { Outcome::Refused } else { Outcome::Failed };
    Entry::File(Transfer {
        file_id: Some(file.id.clone()),
        reason: Some(error.to_string()),
        ..Transfer::new(Direction::In, outcome, &file.filename)
    })
}

fn download(client: &Client, file: &InputFile, part: &Path, came: &AtomicU64) -> Result<(), ClientError> {
    let mut sink = File::create(part).map_err(ClientError::Local)?;
    client.download(&file.id, file.size_bytes, &mut Counted { sink: &mut sink, came })?;
    // The record will say that the input is complete, so it has to outlive a power cut as the record does.
    sink.sync_all().map_err(ClientError::Local)
}
