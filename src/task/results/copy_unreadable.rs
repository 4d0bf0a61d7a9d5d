//! Results that this agent's user may not read where they lie: a container that runs as root may leave files that only
//! root can open. The engine can, so `docker cp` copies them out of a container that is created for that and never
//! started. It has the workspace as its only mount, read-only.
//!
//! The task's own container would not do: for `docker cp` the engine mounts everything again, and resolves each mount's
//! target through the links that the task has made, so a file of a mount could appear in the workspace.
//!
//! The copies are complete, and so is their list, before anything is sent; after a crash before that, the copying starts
//! anew. The list also says what isn't copied, and why.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::docker::DockerError;
use crate::docker::probe::{MOUNT_POINT, ProbeSpec, View};
use crate::os::files::{is_full, make_new_dir};
use crate::os::platform;
use crate::os::process::{PipedChild, PipedOutput};
use crate::os::trust::check_place;
use crate::task::beside::{Wake, Work};
use crate::task::outputs::unpack::{Budget, ExtractOptions, Extracted, Pass, UnpackError};
use crate::task::outputs::{Fetched, OUTPUT, ReservedPaths, Unreadable, shown_name};
use crate::task::results::NoRoom;
use crate::task::{StepError, TaskContainer, TaskHandle};

/// How often one place is tried while the engine answers other calls.
const TRIES: u32 = 3;
/// The pause between two such tries.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How long `docker cp` may send nothing: the engine may have to wake a disk, and no longer.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How often it is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How many times the bytes that may be delivered are read in all.
const READ_FACTOR: u64 = 4;

/// How long the copying is tried again in all while this machine has no room for the copies, or the engine refuses to show
/// the workspace: as long as the agent needs to remove delivered workspaces. What isn't copied stays on this machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// The pause between two such tries.
const PAUSE: Duration = Duration::from_secs(10);

/// Why the copying is tried again while the engine can't be reached.
const NOT_YET: &str = "results can't be fetched yet";
const NOT_WRITTEN: &str = "only the engine can read it, and its copy can't be written";
/// Why what isn't read any more isn't delivered.
const TOO_MUCH: &str = "only the engine can read it, and there is far more in it than is delivered; the rest was not \
                        looked at";
const TOO_LATE: &str = "only the engine can read it, and after 10 minutes the rest was not looked at";

/// The copying for one task.
pub struct CopyUnreadable<'t> {
    pub container: &'t TaskContainer<'t>,
    pub task: &'t mut TaskHandle,
    pub reserved: &'t ReservedPaths,
    /// When the copying ends, also if something is left.
    pub deadline: Instant,
    /// Whether room on the disk is waited for, and what has none in the end is left out.
    pub waits_for_room: bool,
}

/// How far the copying has come.
struct Copied {
    extracted: Extracted,
    /// Whether [`OUTPUT`] was copied as a place of its own.
    has_output: bool,
    budget: Arc<Budget>,
    deadline: Instant,
    /// When this machine's trouble isn't waited for any more. It is set by the first trouble.
    patience: Option<Instant>,
    /// The size of a file for which there was no room that isn't waited for.
    no_room: Option<u64>,
    /// Whether room was waited for in vain, so that each file without room is left out.
    leaves_out: bool,
}

impl Copied {
    fn new(unreadable: &Unreadable, limit: u64, deadline: Instant) -> Self {
        let (extracted, budget) = (Extracted::expecting(unreadable.named()), Arc::new(Budget::new(limit)));
        Self { extracted, has_output: false, budget, deadline, patience: None, no_room: None, leaves_out: false }
    }

    fn is_patience_over(&mut self) -> bool {
        let now = Instant::now();
        now >= *self.patience.get_or_insert(now + PATIENCE)
    }

    /// Adds that these places aren't copied.
    fn skip<'p>(&mut self, places: impl IntoIterator<Item = &'p PathBuf>, reason: &str) {
        for place in places {
            self.extracted.skipped.skip_deliverable(shown_name(place), reason);
        }
        // What is in there isn't known.
        self.extracted.forget_missing();
    }
}

/// How the copying of one place has ended.
enum Ended {
    Whole,
    /// It can't go on, for this reason, and neither can that of the next place.
    Limit(&'static str),
    /// It failed, in docker's words.
    Failed(String),
    /// A copy can't be written, for this reason.
    NotWritten(io::Error),
    /// There is no room for a copy of so many bytes.
    NoRoom(u64),
}

impl CopyUnreadable<'_> {
    /// Copies these files and folders to the task's own folder.
    pub fn copy(mut self, unreadable: &Unreadable) -> Result<Result<Fetched, NoRoom>, StepError> {
        let into = self.task.files.fetched_dir();
        let failed = || StepError::because(format!("results can't be fetched to `{}`", into.display()));
        // The copies of an interrupted try are incomplete.
        self.task.files.remove_fetched().map_err(failed())?;
        let count = unreadable.count();
        log::info!(task:% = self.task.key(); "{count} file(s) or folder(s) can be read by the engine only; fetching them");
        match make_new_dir(&into) {
            // On a disk without a single block nothing can be copied, and the report must not wait for ever.
            Err(error) if is_full(&error) && self.has_ended_before(PATIENCE) => {
                let mut copied = Copied::new(unreadable, 0, self.deadline);
                copied.skip(&unreadable.places(), &format!("{NOT_WRITTEN}: {error}"));
                return Ok(Ok(Fetched { files: Vec::new(), skipped: copied.extracted.finish() }));
            }
            made => made.map_err(failed())?,
        }
        let mut copied = Copied::new(unreadable, self.read_limit(), self.deadline);
        let places = unreadable.places();
        if let Some((id, view)) = self.wait_for_view(&places, &mut copied)? {
            let done = self.copy_places(&view, &places, &mut copied);
            // Where that fails, the health thread removes it later.
            if let Err(error) = self.container.docker.remove(&id) {
                log::warn!(task:% = self.task.key(); "the container `{view}` can't be removed yet: {error}");
            }
            done?;
        }
        if self.task.is_cancel_requested() {
            return Ok(Ok(Fetched::default()));
        }
        if let Some(bytes) = copied.no_room {
            return Ok(Err(NoRoom(bytes)));
        }
        let mut extracted = copied.extracted;
        platform::sync_dir(&into).map_err(failed())?;
        let files = std::mem::take(&mut extracted.files);
        let fetched = Fetched { files, skipped: extracted.finish() };
        match self.task.files.save_fetched(&fetched) {
            Ok(()) => {}
            // A crash will begin anew. What has arrived until then isn't sent again.
            Err(error) if is_full(&error) => {
                log::warn!(task:% = self.task.key(); "the list of its fetched results has no room on the disk: {error}");
            }
            Err(error) => return Err(StepError::because("the list of fetched results can't be written")(error)),
        }
        Ok(Ok(fetched))
    }

    /// Whether the task's container has ended so long ago, or this machine's clock was changed by so much since.
    fn has_ended_before(&self, time: Duration) -> bool {
        let ended = self.task.record.ending.as_ref().map(|ending| Timestamp::now().duration_since(ending.at));
        ended.is_some_and(|ended| ended.unsigned_abs() >= time)
    }

    /// How many bytes are read of [`OUTPUT`], and how many of all other places.
    fn read_limit(&self) -> u64 {
        self.container.config.outputs.max_total.saturating_mul(READ_FACTOR)
    }

    /// As [`Self::create_view`] does. Returns `None` if the engine refuses it again and again, or the task was cancelled.
    fn wait_for_view(
        &mut self,
        places: &[PathBuf],
        copied: &mut Copied,
    ) -> Result<Option<(String, String)>, StepError> {
        loop {
            check_place(self.task.workspace.dir()).map_err(StepError::because(NOT_YET))?;
            match self.create_view() {
                Ok(view) => return Ok(Some(view)),
                Err(DockerError::Refused(words)) if copied.is_patience_over() => {
                    copied.skip(places, &format!("only the engine could read it, and shows no workspaces: {words}"));
                    return Ok(None);
                }
                Err(error @ DockerError::Refused(_)) => {
                    log::warn!(task:% = self.task.key(); "{NOT_YET}: {error}");
                }
                Err(error) => return Err(StepError::because(NOT_YET)(error)),
            }
            self.task.wait(PAUSE)?;
            if self.task.is_cancel_requested() {
                return Ok(None);
            }
        }
    }

    /// Creates the container that shows the workspace to the engine, and returns its id and its name.
    fn create_view(&self) -> Result<(String, String), DockerError> {
        let (docker, config) = (self.container.docker, self.container.config);
        let name = self.container.view_name();
        let spec = ProbeSpec {
            name: &name,
            labels: self.container.labels(self.task),
            image: &config.executor.image,
            platform: config.executor.options.docker_args.platform.as_deref(),
            source: self.task.workspace.dir(),
            view: View::Source,
        };
        let created = match docker.inspect(&name) {
            // A killed agent has left it.
            Ok(Some(old)) if self.container.is_ours(&old) => docker.remove(&old.id),
            Ok(Some(_)) => Err(DockerError::Refused(format!("another agent's container has the name `{name}`"))),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        created.and_then(|()| docker.create_probe(&spec)).map(|id| (id, name.clone()))
    }

    /// Copies what is in these places, until the task is cancelled.
    fn copy_places(&mut self, view: &str, places: &[PathBuf], copied: &mut Copied) -> Result<(), StepError> {
        let has_whole = places.last().is_some_and(|place| place.as_os_str().is_empty());
        for (number, place) in places.iter().enumerate() {
            let is_output = place == Path::new(OUTPUT);
            if is_output && has_whole && !self.is_there(view, place)? {
                continue;
            }
            let stopped = self.copy_place(view, place, copied)?;
            copied.extracted.end_archive();
            if self.task.is_cancel_requested() || copied.no_room.is_some() {
                return Ok(());
            }
            if let Some(reason) = stopped {
                log::warn!(task:% = self.task.key(); "not all results are fetched: {reason}");
                // The other places have bytes of their own.
                let goes_on = is_output && reason == TOO_MUCH;
                copied.skip(if goes_on { &places[number..=number] } else { &places[number..] }, reason);
                if !goes_on {
                    return Ok(());
                }
            }
            if is_output {
                // What is elsewhere takes nothing from it, and neither does it from them.
                let again = if has_whole { copied.budget.read() } else { 0 };
                copied.budget = Arc::new(Budget::new(self.read_limit().saturating_add(again)));
                copied.has_output = true;
            }
        }
        Ok(())
    }

    /// Whether the workspace has such an entry.
    fn is_there(&self, view: &str, place: &Path) -> Result<bool, StepError> {
        match self.container.docker.inspect_path(view, &Path::new(MOUNT_POINT).join(place)) {
            Ok(_) => Ok(true),
            Err(DockerError::Refused(_)) => Ok(false),
            Err(error) => Err(StepError::because(NOT_YET)(error)),
        }
    }

    /// Copies what is in one place. Returns why the next place isn't to be copied, if it isn't.
    fn copy_place(
        &mut self,
        view: &str,
        place: &PathBuf,
        copied: &mut Copied,
    ) -> Result<Option<&'static str>, StepError> {
        let into = self.task.files.fetched_dir();
        let name = shown_name(place);
        let (mut pass, mut tries) = (Pass::Results, 0);
        loop {
            let (before, spent) = (copied.extracted.clone(), copied.budget.spent());
            let why = match self.try_copy(view, (place, pass), copied)? {
                Ended::Whole if pass == Pass::Results && copied.extracted.needs_other_names() => {
                    // The same bytes come once more.
                    copied.budget.allow(copied.budget.read() - spent[0]);
                    (pass, tries) = (Pass::OtherNames, 0);
                    continue;
                }
                Ended::Whole => return Ok(None),
                Ended::Limit(reason) => return Ok(Some(reason)),
                Ended::Failed(words) => Ok(words),
                Ended::NotWritten(error) if platform::is_shortage(&error) => {
                    return Err(StepError::because(NOT_YET)(error));
                }
                Ended::NotWritten(error) => Err((error, copied.is_patience_over())),
                Ended::NoRoom(bytes) if !self.waits_for_room => {
                    copied.no_room = Some(bytes);
                    return Ok(None);
                }
                Ended::NoRoom(_) => {
                    // One more try takes what there is room for.
                    copied.leaves_out = copied.is_patience_over();
                    Err((io::ErrorKind::StorageFull.into(), false))
                }
            };
            let failed = || StepError::because(format!("results can't be fetched to `{}`", into.display()));
            copied.extracted.revert(before, &into).map_err(failed())?;
            if self.task.is_cancel_requested() {
                return Ok(None);
            }
            let (reason, pause, is_last) = match why {
                Ok(words) => {
                    self.container.docker.engine_version().map_err(StepError::because(NOT_YET))?;
                    tries += 1;
                    (format!("only the engine could read it, and failed: {words}"), RETRY_PAUSE, tries == TRIES)
                }
                Err((error, is_last)) => {
                    copied.budget.restore(spent);
                    (format!("{NOT_WRITTEN}: {error}"), PAUSE, is_last)
                }
            };
            log::warn!(task:% = self.task.key(); "`{name}` can't be fetched: {reason}");
            if is_last {
                copied.skip([place], &reason);
                return Ok(None);
            }
            self.task.wait(pause)?;
        }
    }

    /// What extracts an archive, and returns what it has added to what there is.
    fn unpack(
        &self,
        stdout: PipedOutput,
        (place, pass): (&Path, Pass),
        copied: &mut Copied,
    ) -> impl FnOnce() -> (Extracted, Result<(), UnpackError>) + Send + use<> {
        let (into, workspace) = (self.task.files.fetched_dir(), self.task.workspace.dir().to_owned());
        let (base, reserved, limits) = (place.to_owned(), self.reserved.clone(), self.container.config.outputs.clone());
        // The rest of that space is for results that have to leave before their workspace can be removed.
        let keep_free = self.container.config.paths.keep_free() / 2;
        let done = (copied.has_output && place.as_os_str().is_empty()).then_some(Path::new(OUTPUT));
        let leaves_out = copied.leaves_out;
        let (mut extracted, budget) = (std::mem::take(&mut copied.extracted), Arc::clone(&copied.budget));
        move || {
            let options = ExtractOptions {
                into: &into,
                workspace: &workspace,
                base: &base,
                done,
                pass,
                reserved: &reserved,
                limits: &limits,
                keep_free,
                leaves_out,
                budget: &budget,
            };
            let unpacked = extracted.unpack(stdout, &options);
            (extracted, unpacked)
        }
    }

    /// Runs `docker cp` and extracts what it sends. A command ends it, and so does a standstill.
    fn try_copy(&mut self, view: &str, (place, pass): (&Path, Pass), copied: &mut Copied) -> Result<Ended, StepError> {
        let (budget, deadline) = (Arc::clone(&copied.budget), copied.deadline);
        let command = self.container.docker.copy_out_command(view, &Path::new(MOUNT_POINT).join(place));
        let (mut child, stdout) =
            PipedChild::spawn(command).map_err(StepError::because("`docker cp` can't be started"))?;
        let (mut seen, mut since) = (0, Instant::now());
        let unpack = self.unpack(stdout, (place, pass), copied);
        let (extracted, unpacked) = self.task.run_beside(("docker-cp", LOOK_INTERVAL), unpack, |task, wake| {
            let now = budget.read();
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
            let is_stalled = since.elapsed() >= STALL_TIMEOUT;
            if is_stalled {
                log::warn!(task:% = task.key(); "`docker cp` has sent nothing for 60 s; killing it");
            }
            if !is_stalled && wake == Wake::Interval && Instant::now() < deadline {
                return Work::GoesOn;
            }
            child.kill();
            Work::IsToEnd
        })?;
        copied.extracted = extracted;
        // That the rest of the archive wasn't read isn't docker's failure.
        let is_cut = matches!(unpacked, Err(UnpackError::TooLarge | UnpackError::Local(_) | UnpackError::NoRoom(_)));
        let ended = child.finish(if is_cut { Duration::ZERO } else { Duration::from_secs(10) });
        Ok(match (unpacked, ended) {
            (Err(UnpackError::Local(error)), _) => Ended::NotWritten(error),
            (Err(UnpackError::NoRoom(bytes)), _) => Ended::NoRoom(bytes),
            (Err(UnpackError::TooLarge), _) => Ended::Limit(TOO_MUCH),
            (Ok(()), Ok(())) => Ended::Whole,
            // docker's words would be about the end of the reading.
            (Err(UnpackError::Archive(error)), _) if error.kind() == io::ErrorKind::InvalidData => {
                Ended::Failed(format!("its archive: {error}"))
            }
            _ if Instant::now() >= deadline => Ended::Limit(TOO_LATE),
            (Ok(()) | Err(UnpackError::Archive(_)), Err(words)) => Ended::Failed(words),
            (Err(UnpackError::Archive(error)), Ok(())) => Ended::Failed(format!("its archive: {error}")),
        })
    }
}
