//! Results that our uid may not read where they lie: a container that runs as root may leave files that only root can
//! open. The engine can, so they are fetched with `docker cp` from the stopped container, before that is removed.
//!
//! They are complete here, with their list in the record, before the container goes; a crash before that begins anew.

use std::fs;
use std::io;
use std::path::Path;
use std::process::ChildStdout;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, select};

use super::{StepError, TaskRunner};
use crate::config::WORKSPACE;
use crate::os::platform;
use crate::os::process::PipedChild;
use crate::task::outputs::unpack::{Extracted, Rules, Stream, UnpackError};
use crate::task::outputs::{ReservedPaths, Skipped, Unreadable};

/// How often one file or folder is tried while the engine answers otherwise.
const TRIES: u32 = 3;
/// How long `docker cp` may stand still: the engine may have to wake a disk, and no longer.
const STALL: Duration = Duration::from_secs(60);
/// So many times what may be delivered is looked at in one folder.
const LOOKED_AT: u64 = 4;

/// Why a fetch didn't come to its end.
enum Trouble {
    StepError(StepError),
    /// In docker's words, or ours about its archive.
    Docker(String),
}

impl From<StepError> for Trouble {
    fn from(halt: StepError) -> Self {
        Self::StepError(halt)
    }
}

impl TaskRunner<'_> {
    /// Brings what can't be read here into the task's own folder, if that hasn't been done. Returns what stays where
    /// it is, and why.
    pub(super) fn fetch_unreadable(
        &mut self,
        unreadable: &[Unreadable],
        ours: &ReservedPaths,
    ) -> Result<Skipped, StepError> {
        let mut haul = Extracted::default();
        if self.record.fetched.is_some() || unreadable.is_empty() {
            return Ok(haul.left_out);
        }
        let into = self.files.fetched_dir();
        let local =
            |error: io::Error| StepError::retry(format!("results can't be fetched to `{}`: {error}", into.display()));
        // What a crash has left there is incomplete.
        self.files.remove_fetched().map_err(local)?;
        let Some(id) = self.container_id()? else {
            let reason = "only the user that wrote it may read it, and the container is gone";
            unreadable.iter().for_each(|one| haul.left_out.skip_deliverable(one.name.clone(), reason));
            self.record.fetched = Some(Vec::new());
            self.save()?;
            return Ok(haul.left_out);
        };
        log::info!(task:% = self.key(); "fetching what only the engine can read, in {} place(s)", unreadable.len());
        fs::create_dir(&into).map_err(local)?;
        for one in unreadable {
            self.fetch_one(&id, one, ours, &mut haul)?;
            if self.is_unwanted() {
                return Ok(Skipped::default());
            }
        }
        platform::sync_dir(&into).map_err(local)?;
        self.record.fetched = Some(haul.files);
        self.save()?;
        Ok(haul.left_out)
    }

    /// Our stopped container, if it is there.
    fn container_id(&self) -> Result<Option<String>, StepError> {
        let container = self.context.docker.inspect(&self.container_name());
        let container =
            container.map_err(|error| StepError::retry(format!("results can't be fetched yet: {error}")))?;
        Ok(container.filter(|container| self.is_ours(container)).map(|container| container.id))
    }

    fn fetch_one(
        &mut self,
        id: &str,
        one: &Unreadable,
        ours: &ReservedPaths,
        haul: &mut Extracted,
    ) -> Result<(), StepError> {
        for tries in 1.. {
            let before = haul.mark();
            let why = match self.copy_out(id, &one.path, ours, haul) {
                Ok(()) => return Ok(()),
                Err(Trouble::StepError(halt)) => return Err(halt),
                Err(Trouble::Docker(why)) => why,
            };
            haul.return_to(before);
            if self.is_unwanted() {
                return Ok(());
            }
            if let Err(error) = self.context.docker.engine_version() {
                return Err(StepError::retry(format!("results can't be fetched yet: {error}")));
            }
            log::warn!(task:% = self.key(); "`{}` can't be fetched: {why}", one.name);
            if tries == TRIES {
                haul.left_out
                    .skip_deliverable(one.name.clone(), format!("only the engine could read it, and failed: {why}"));
                return Ok(());
            }
            self.pause(Duration::from_secs(1))?;
        }
        Ok(())
    }

    /// Runs `docker cp` and takes in what it streams. An order that comes meanwhile ends it, and so does a standstill.
    fn copy_out(&mut self, id: &str, path: &Path, ours: &ReservedPaths, haul: &mut Extracted) -> Result<(), Trouble> {
        let command = self.context.docker.copy_out_command(id, &Path::new(WORKSPACE).join(path));
        let context = self.context;
        let config = &context.config;
        let into = self.files.fetched_dir();
        let keep_free = config.paths.min_free_disk_mb << 20;
        let rules = Rules { into: &into, ours, limits: &config.outputs, keep_free };
        let limit = config.outputs.max_total.saturating_mul(LOOKED_AT);
        let (mut feed, stdout) = PipedChild::spawn(command)
            .map_err(|error| StepError::retry(format!("`docker cp` can't be started: {error}")))?;
        let progress = AtomicU64::new(0);
        let stream = Stream { source: stdout, progress: &progress, limit };
        let unpacked = self.unpack_under_watch(&mut feed, stream, path, &rules, haul)?;
        // A stream that was left where it stood is no failure of docker's.
        let is_whole = progress.load(Ordering::Relaxed) <= limit;
        let ended = feed.finish(if is_whole { Duration::from_secs(10) } else { Duration::ZERO });
        match (unpacked, ended) {
            (Err(UnpackError::Local(error)), _) => {
                Err(StepError::retry(format!("results can't be fetched to `{}`: {error}", into.display())).into())
            }
            (Err(UnpackError::Archive(_)), Err(words)) => Err(Trouble::Docker(words)),
            (Err(UnpackError::Archive(error)), Ok(())) => Err(Trouble::Docker(format!("its archive: {error}"))),
            (Ok(()), Err(words)) if is_whole => Err(Trouble::Docker(words)),
            (Ok(()), _) => Ok(()),
        }
    }

    fn unpack_under_watch(
        &mut self,
        feed: &mut PipedChild,
        stream: Stream<'_, ChildStdout>,
        path: &Path,
        rules: &Rules<'_>,
        haul: &mut Extracted,
    ) -> Result<Result<(), UnpackError>, StepError> {
        let progress = stream.progress;
        let commands = self.commands.clone();
        let (done, result) = bounded(1);
        thread::scope(|scope| {
            thread::Builder::new()
                .name("fetch".to_owned())
                // There is always somebody to take the result, or nobody needs it any more.
                .spawn_scoped(scope, || drop(done.send(haul.unpack(stream, path, rules))))
                .map_err(|error| StepError::retry(format!("no thread for `docker cp`: {error}")))?;
            let (mut seen, mut since) = (0, Instant::now());
            loop {
                select! {
                    recv(result) -> result => {
                        return result.map_err(|_| StepError::retry("`docker cp` ended without a result"));
                    }
                    recv(commands) -> order => {
                        let obeyed = order.map_err(|_| StepError::Shutdown).and_then(|order| self.obey(order));
                        feed.kill();
                        obeyed?;
                    }
                    default(Duration::from_secs(1)) => {
                        let now = progress.load(Ordering::Relaxed);
                        if now != seen {
                            (seen, since) = (now, Instant::now());
                        } else if since.elapsed() >= STALL {
                            log::warn!(task:% = self.key(); "`docker cp` stands still and is ended");
                            feed.kill();
                            since = Instant::now();
                        }
                    }
                }
            }
        })
    }
}
