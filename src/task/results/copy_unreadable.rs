//! Results that this agent's user may not read where they lie: a container that runs as root may leave files that only
//! root can open. The engine can, so `docker cp` copies them out of a container that is created for that and never
//! started. It has the workspace as its only mount, read-only.
//!
//! The task's own container would not do: for `docker cp` the engine mounts everything again, and resolves each mount's
//! target through the links that the task has made, so a file of a mount could appear in the workspace.
//!
//! The copies are complete, and their list is in the record, before anything is sent; after a crash before that, the
//! copying starts anew.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::docker::DockerError;
use crate::docker::probe::{MOUNT_POINT, ProbeSpec};
use crate::os::files::make_new_dir;
use crate::os::platform;
use crate::os::process::PipedChild;
use crate::task::handle::Wake;
use crate::task::outputs::unpack::{Budget, ExtractOptions, Extracted, UnpackError};
use crate::task::outputs::{ReservedPaths, Skipped, Unreadable, shown_name};
use crate::task::{StepError, TaskContainer, TaskHandle};

/// How often one place is tried while the engine answers other calls.
const TRIES: u32 = 3;
/// How long `docker cp` may send nothing: the engine may have to wake a disk, and no longer.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the copying may take in all.
const TIME: Duration = Duration::from_secs(600);
/// How many times the bytes that may be delivered are read in all.
const READ_FACTOR: u64 = 4;

/// Why the copying is tried again while the engine can't be reached.
const NOT_YET: &str = "results can't be fetched yet";
/// Why what isn't read any more isn't delivered.
const TOO_MUCH: &str = "only the engine can read it, and there is far more in it than is delivered; the rest was not \
                        looked at";
const TOO_LATE: &str = "only the engine can read it, and after 10 minutes the rest was not looked at";

/// The copying for one task.
pub struct CopyUnreadable<'t> {
    pub container: &'t TaskContainer<'t>,
    pub task: &'t mut TaskHandle,
    pub reserved: &'t ReservedPaths,
}

/// How far the copying has come.
struct Copied {
    extracted: Extracted,
    budget: Budget,
    deadline: Instant,
}

/// How the copying of one place has ended.
enum Ended {
    Whole,
    /// It can't go on, for this reason, and neither can that of the next place.
    Limit(&'static str),
    /// It failed, in docker's words.
    Failed(String),
}

impl CopyUnreadable<'_> {
    /// Copies these files and folders to the task's own folder, unless that was done before. Returns what isn't copied.
    pub fn copy(mut self, unreadable: &Unreadable) -> Result<Skipped, StepError> {
        if self.task.record.fetched.is_some() || unreadable.is_empty() {
            return Ok(Skipped::default());
        }
        let into = self.task.files.fetched_dir();
        let failed = || StepError::because(format!("results can't be fetched to `{}`", into.display()));
        // The copies of an interrupted try are incomplete.
        self.task.files.remove_fetched().map_err(failed())?;
        let count = unreadable.count();
        log::info!(task:% = self.task.key(); "{count} file(s) or folder(s) can be read by the engine only; fetching them");
        make_new_dir(&into).map_err(failed())?;
        let view = self.create_view()?;
        let copied = self.copy_places(&view, unreadable);
        // Where that fails, the health thread removes it later.
        if let Err(error) = self.container.docker.remove(&view) {
            log::warn!(task:% = self.task.key(); "the container `{view}` can't be removed yet: {error}");
        }
        let Some(mut extracted) = copied? else { return Ok(Skipped::default()) };
        platform::sync_dir(&into).map_err(failed())?;
        self.task.record.fetched = Some(std::mem::take(&mut extracted.files));
        self.task.save()?;
        Ok(extracted.finish())
    }

    /// Creates the container that shows the workspace to the engine, and returns its name.
    fn create_view(&self) -> Result<String, StepError> {
        let (docker, config) = (self.container.docker, self.container.config);
        let name = self.container.view_name();
        let spec = ProbeSpec {
            name: &name,
            labels: self.container.labels(self.task),
            image: &config.executor.image,
            platform: config.executor.options.docker_args.platform.as_deref(),
            source: self.task.workspace.dir(),
        };
        let created = match docker.inspect(&name) {
            // A killed agent has left it.
            Ok(Some(old)) if self.container.is_ours(&old) => docker.remove(&old.id),
            Ok(Some(_)) => Err(DockerError::Refused(format!("another agent's container has the name `{name}`"))),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        created.and_then(|()| docker.create_probe(&spec)).map_err(StepError::because(NOT_YET))?;
        Ok(name)
    }

    /// Copies what is in these places. Returns `None` if the task was cancelled meanwhile.
    fn copy_places(&mut self, view: &str, unreadable: &Unreadable) -> Result<Option<Extracted>, StepError> {
        let limit = self.container.config.outputs.max_total.saturating_mul(READ_FACTOR);
        let mut copied = Copied {
            extracted: Extracted::expecting(unreadable.named().0),
            budget: Budget::new(limit),
            deadline: Instant::now() + TIME,
        };
        let mut end = None;
        for place in unreadable.places() {
            if end.is_none() {
                end = self.copy_place(view, &place, &mut copied)?;
            }
            if let Some(reason) = end {
                log::warn!(task:% = self.task.key(); "not all results are fetched: {reason}");
                copied.extracted.skipped.skip_deliverable(shown_name(&place), reason);
                // What is in there isn't known.
                copied.extracted.missing.clear();
            }
            if self.task.is_cancel_requested() {
                return Ok(None);
            }
        }
        Ok(Some(copied.extracted))
    }

    /// Copies what is in one place. Returns why the next place isn't to be copied, if it isn't.
    fn copy_place(&mut self, view: &str, place: &Path, copied: &mut Copied) -> Result<Option<&'static str>, StepError> {
        for tries in 1.. {
            let before = copied.extracted.clone();
            let why = match self.try_copy(view, place, copied)? {
                Ended::Whole => return Ok(None),
                Ended::Limit(reason) => return Ok(Some(reason)),
                Ended::Failed(why) => why,
            };
            copied.extracted = before;
            if self.task.is_cancel_requested() {
                return Ok(None);
            }
            self.container.docker.engine_version().map_err(StepError::because(NOT_YET))?;
            let name = shown_name(place);
            log::warn!(task:% = self.task.key(); "`{name}` can't be fetched: {why}");
            if tries == TRIES {
                let reason = format!("only the engine could read it, and failed: {why}");
                copied.extracted.skipped.skip_deliverable(name, reason);
                return Ok(None);
            }
            self.task.wait(Duration::from_secs(1))?;
        }
        Ok(None)
    }

    /// Runs `docker cp` and extracts what it sends. A command ends it, and so does a standstill.
    fn try_copy(&mut self, view: &str, place: &Path, copied: &mut Copied) -> Result<Ended, StepError> {
        let config = self.container.config;
        let into = self.task.files.fetched_dir();
        let workspace = self.task.workspace.dir().to_owned();
        let Copied { extracted, budget, deadline } = copied;
        let (budget, deadline) = (&*budget, *deadline);
        let options = ExtractOptions {
            into: &into,
            workspace: &workspace,
            base: place,
            reserved: self.reserved,
            limits: &config.outputs,
            keep_free: config.paths.min_free_disk_mb << 20,
            budget,
        };
        let command = self.container.docker.copy_out_command(view, &Path::new(MOUNT_POINT).join(place));
        let (mut child, stdout) =
            PipedChild::spawn(command).map_err(StepError::because("`docker cp` can't be started"))?;
        let (mut seen, mut since) = (0, Instant::now());
        let unpack = || extracted.unpack(stdout, &options);
        let unpacked = self.task.run_beside("docker-cp", Duration::from_secs(1), unpack, |task, wake| {
            let now = budget.read();
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
            let is_stalled = since.elapsed() >= STALL_TIMEOUT;
            if is_stalled {
                log::warn!(task:% = task.key(); "`docker cp` has sent nothing for 60 s; killing it");
                since = Instant::now();
            }
            if is_stalled || wake == Wake::Command || Instant::now() >= deadline {
                child.kill();
            }
        })?;
        // That the rest of the archive wasn't read isn't docker's failure.
        let is_cut = matches!(unpacked, Err(UnpackError::TooLarge));
        let ended = child.finish(if is_cut { Duration::ZERO } else { Duration::from_secs(10) });
        Ok(match (unpacked, ended) {
            (Err(UnpackError::Local(error)), _) => {
                return Err(StepError::retry(format!("results can't be fetched to `{}`: {error}", into.display())));
            }
            (Err(UnpackError::TooLarge), _) => Ended::Limit(TOO_MUCH),
            (Ok(()), Ok(())) => Ended::Whole,
            _ if Instant::now() >= deadline => Ended::Limit(TOO_LATE),
            (Ok(()) | Err(UnpackError::Archive(_)), Err(words)) => Ended::Failed(words),
            (Err(UnpackError::Archive(error)), Ok(())) => Ended::Failed(format!("its archive: {error}")),
        })
    }
}
