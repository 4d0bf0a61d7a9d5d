//! Results that this agent's user may not read where they lie: a container that runs as root may leave files that only
//! root can open. The engine can, so they are copied by `docker cp` from the stopped container before that is removed.
//!
//! The copies are complete, and their list is in the record, before the container is removed; after a crash before
//! that, the copying starts anew.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::config::WORKSPACE;
use crate::os::files::make_new_dir;
use crate::os::platform;
use crate::os::process::PipedChild;
use crate::task::handle::Wake;
use crate::task::outputs::unpack::{ExtractOptions, Extracted, LimitedReader, UnpackError};
use crate::task::outputs::{ReservedPaths, Skipped, Unreadable};
use crate::task::{StepError, TaskContainer, TaskHandle};

/// How often one file or folder is tried while the engine answers other calls.
const TRIES: u32 = 3;
/// How long `docker cp` may send nothing: the engine may have to wake a disk, and no longer.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How many times the bytes that may be delivered are read of one folder.
const READ_FACTOR: u64 = 4;

/// Why the copying is tried again while the engine can't be reached.
const NOT_YET: &str = "results can't be fetched yet";

/// The copying for one task.
pub struct CopyUnreadable<'t> {
    pub container: &'t TaskContainer<'t>,
    pub task: &'t mut TaskHandle,
    pub reserved: &'t ReservedPaths,
}

impl CopyUnreadable<'_> {
    /// Copies these files and folders to the task's own folder, unless that was done before. Returns what isn't copied.
    pub fn copy(mut self, unreadable: &[Unreadable]) -> Result<Skipped, StepError> {
        let mut extracted = Extracted::default();
        if self.task.record.fetched.is_some() || unreadable.is_empty() {
            return Ok(extracted.skipped);
        }
        let into = self.task.files.fetched_dir();
        let failed = || StepError::because(format!("results can't be fetched to `{}`", into.display()));
        // The copies of an interrupted try are incomplete.
        self.task.files.remove_fetched().map_err(failed())?;
        let Some(id) = self.container_id()? else {
            let reason = "only the user that wrote it may read it, and the container doesn't exist any more";
            unreadable.iter().for_each(|one| extracted.skipped.skip_deliverable(one.name.clone(), reason));
            self.task.record.fetched = Some(Vec::new());
            self.task.save()?;
            return Ok(extracted.skipped);
        };
        log::info!(task:% = self.task.key(); "fetching what only the engine can read, in {} place(s)", unreadable.len());
        make_new_dir(&into).map_err(failed())?;
        for one in unreadable {
            self.copy_one(&id, one, &mut extracted)?;
            if self.task.is_cancel_requested() {
                return Ok(Skipped::default());
            }
        }
        platform::sync_dir(&into).map_err(failed())?;
        self.task.record.fetched = Some(extracted.files);
        self.task.save()?;
        Ok(extracted.skipped)
    }

    /// The id of the task's stopped container, if the engine has it.
    fn container_id(&self) -> Result<Option<String>, StepError> {
        let container = self.container.docker.inspect(&self.container.name).map_err(StepError::because(NOT_YET))?;
        Ok(container.filter(|container| self.container.is_ours(container)).map(|container| container.id))
    }

    fn copy_one(&mut self, id: &str, one: &Unreadable, extracted: &mut Extracted) -> Result<(), StepError> {
        for tries in 1.. {
            let before = extracted.clone();
            let Err(why) = self.try_copy(id, &one.path, extracted)? else { return Ok(()) };
            *extracted = before;
            if self.task.is_cancel_requested() {
                return Ok(());
            }
            self.container.docker.engine_version().map_err(StepError::because(NOT_YET))?;
            log::warn!(task:% = self.task.key(); "`{}` can't be fetched: {why}", one.name);
            if tries == TRIES {
                let reason = format!("only the engine could read it, and failed: {why}");
                extracted.skipped.skip_deliverable(one.name.clone(), reason);
                return Ok(());
            }
            self.task.wait(Duration::from_secs(1))?;
        }
        Ok(())
    }

    /// Runs `docker cp` and extracts what it sends. A command ends it, and so does a standstill. Returns what is wrong
    /// in docker's words, or with its archive.
    fn try_copy(&mut self, id: &str, path: &Path, extracted: &mut Extracted) -> Result<Result<(), String>, StepError> {
        let config = self.container.config;
        let into = self.task.files.fetched_dir();
        let options = ExtractOptions {
            into: &into,
            base: path,
            reserved: self.reserved,
            limits: &config.outputs,
            keep_free: config.paths.min_free_disk_mb << 20,
        };
        let limit = config.outputs.max_total.saturating_mul(READ_FACTOR);
        let command = self.container.docker.copy_out_command(id, &Path::new(WORKSPACE).join(path));
        let (mut child, stdout) =
            PipedChild::spawn(command).map_err(StepError::because("`docker cp` can't be started"))?;
        let bytes_read = AtomicU64::new(0);
        let reader = LimitedReader { source: stdout, bytes_read: &bytes_read, limit };
        let (mut seen, mut since) = (0, Instant::now());
        let unpack = || extracted.unpack(reader, &options);
        let unpacked = self.task.run_beside("docker-cp", Duration::from_secs(1), unpack, |task, wake| {
            let now = bytes_read.load(Ordering::Relaxed);
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
            let is_stalled = since.elapsed() >= STALL_TIMEOUT;
            if is_stalled {
                log::warn!(task:% = task.key(); "`docker cp` has sent nothing for 60 s; killing it");
                since = Instant::now();
            }
            if is_stalled || wake == Wake::Command {
                child.kill();
            }
        })?;
        // That the rest of the archive wasn't read isn't docker's failure.
        let is_whole = bytes_read.load(Ordering::Relaxed) <= limit;
        let ended = child.finish(if is_whole { Duration::from_secs(10) } else { Duration::ZERO });
        match (unpacked, ended) {
            (Err(UnpackError::Local(error)), _) => {
                Err(StepError::retry(format!("results can't be fetched to `{}`: {error}", into.display())))
            }
            (Err(UnpackError::Archive(_)), Err(words)) => Ok(Err(words)),
            (Err(UnpackError::Archive(error)), Ok(())) => Ok(Err(format!("its archive: {error}"))),
            (Ok(()), Err(words)) if is_whole => Ok(Err(words)),
            (Ok(()), _) => Ok(Ok(())),
        }
    }
}
