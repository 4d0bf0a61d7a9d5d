//! Finds the results of a task whose container has exited, also those that only the engine can read.

mod copy_unreadable;
mod own_room;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::beside::{Wake, Work};
use super::handle::Volumes;
use super::notes::{Left, is_sendable};
use super::outputs::sending::{self, Rank};
use super::outputs::{
    CopiedFile, Fetched, OutputFile, Pulse, ReservedPaths, ScanResult, Selection, Skipped, beyond_max_files, scan,
    shown_name,
};
use super::upload::Upload;
use super::{Duty, StepError, TaskContainer, TaskHandle};
use crate::config::{Config, OutputsConfig, WORKSPACE};
use crate::os::platform::is_shortage;
use crate::server::FinalStatus;
use crate::shell::agent_command;
use crate::units::Bytes;
use copy_unreadable::CopyUnreadable;

/// What a task wrote.
#[derive(Debug, Default)]
pub struct Results {
    /// The files to send, in this order.
    pub files: Vec<OutputFile>,
    /// The copy of the answer, which is sent only if the answer can't be.
    pub copy: Option<OutputFile>,
    pub skipped: Skipped,
    pub left: Left,
}

/// How long looking for results and fetching them may take together.
const TIME: Duration = Duration::from_secs(600);
/// How long a worker with a slot may look for results: longer than that takes for a hundred thousand files.
const TIME_WITH_SLOT: Duration = Duration::from_secs(10);
/// How long files are waited for that another program has a lease of: longer than the kernel needs to take it away.
const LEASE_PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked at whether a look has had its time.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The pause between two looks at such files.
const LEASE_PAUSE: Duration = Duration::from_secs(3);

/// How long a worker looks for results.
#[derive(Clone, Copy)]
struct Until {
    duty: Duty,
    deadline: Instant,
}

/// Finds the results as [`collect`] does. Where they have to be copied and this machine's disk stays without room for that,
/// files of the same task are removed that can't be delivered.
pub fn collect_with_room(
    container: &TaskContainer<'_>,
    upload: &mut Upload<'_>,
    duty: Duty,
) -> Result<Results, StepError> {
    make_room(container, upload, duty)?;
    match collect_once(container, upload.task, duty, false)? {
        Ok(results) => Ok(results),
        Err(NoRoom(bytes)) => {
            own_room::make(upload, &reserved_paths(container.config), container.config, bytes)?;
            collect(container, upload.task, duty)
        }
    }
}

/// The same where the disk is full, before anything is copied.
fn make_room(container: &TaskContainer<'_>, upload: &mut Upload<'_>, duty: Duty) -> Result<(), StepError> {
    let is_needed = duty.may_fetch()
        && !upload.is_cancelled()
        && own_room::is_full(upload.task.workspace.dir(), container.config, 0);
    if !is_needed || copied_before(upload.task)?.is_some() {
        return Ok(());
    }
    container.remove(upload.task)?;
    let reserved = reserved_paths(container.config);
    let until = Until { duty, deadline: Instant::now() + TIME };
    match look(container, upload.task, &reserved, until)? {
        Some(found) if !found.unreadable.is_empty() => own_room::make(upload, &reserved, container.config, 0),
        _ => Ok(()),
    }
}

fn reserved_paths(config: &Config) -> ReservedPaths {
    ReservedPaths::new(config.paths.mounts.iter().map(|mount| mount.container.as_str()))
}

/// Finds the results, and fetches them where that is the worker's duty. Those of a cancelled task aren't wanted.
pub fn collect(container: &TaskContainer<'_>, task: &mut TaskHandle, duty: Duty) -> Result<Results, StepError> {
    match collect_once(container, task, duty, true)? {
        Ok(results) => Ok(results),
        // Not where room is waited for.
        Err(NoRoom(bytes)) => Err(StepError::retry(format!("the disk has no room for {}", Bytes(bytes)))),
    }
}

/// The disk has no room for the copy of a result that has so many bytes.
struct NoRoom(u64);

fn collect_once(
    container: &TaskContainer<'_>,
    task: &mut TaskHandle,
    duty: Duty,
    waits_for_room: bool,
) -> Result<Result<Results, NoRoom>, StepError> {
    if task.is_cancelled() {
        return Ok(Ok(Results::default()));
    }
    let config = container.config;
    let reserved = reserved_paths(config);
    let deadline = Instant::now() + TIME;
    let Some(found) = look(container, task, &reserved, Until { duty, deadline })? else {
        return Ok(Ok(Results::default()));
    };
    let fetched = match copied_before(task)? {
        Some(fetched) => fetched,
        None if found.unreadable.is_empty() => Fetched::default(),
        None if !duty.may_fetch() => return Err(StepError::NeedsFetch),
        None => {
            // What it has written outside the workspace may be what fills the engine's disk.
            container.remove(task)?;
            let copying = CopyUnreadable { container, task, reserved: &reserved, deadline, waits_for_room };
            match copying.copy(&found.unreadable)? {
                Ok(fetched) => fetched,
                Err(no_room) => return Ok(Err(no_room)),
            }
        }
    };
    let may_have_empty_folder = found.has_empty_folder || found.is_cut || !found.unreadable.is_empty();
    let mut skipped = found.skipped;
    skipped.add(fetched.skipped);
    name_hidden(container, task, may_have_empty_folder, &mut skipped);
    let mut selection = Selection::new(&config.outputs);
    found.files.into_iter().for_each(|file| selection.push(file));
    for CopiedFile { file, number } in fetched.files {
        match OutputFile::copied(&task.files.fetched_dir(), number.to_string().as_ref(), &file) {
            Ok(copied) => selection.push(copied),
            Err(error) if is_shortage(&error) => {
                return Err(StepError::because(format!("`{file}` can't be read now"))(error));
            }
            Err(error) => skipped.skip_deliverable(file, format!("can't be read: {error}")),
        }
    }
    let mut files = selection.finish(&mut skipped);
    leave_room(&mut files, &mut skipped, task, &config.outputs);
    // Where one of them can't be read, sending it says so.
    let copy = sending::take_copy(&mut files).unwrap_or_default();
    sending::sort(&mut files);
    let left = Left::new(&files, &skipped);
    Ok(Ok(Results { files, copy, skipped, left }))
}

/// Names the folder of the workspace that a volume of the image has hidden, so that its results are lost.
fn name_hidden(
    container: &TaskContainer<'_>,
    task: &mut TaskHandle,
    may_have_empty_folder: bool,
    skipped: &mut Skipped,
) {
    // The image may have come with the container's start. Where the engine doesn't answer, the results don't wait for it.
    let has_no_volume = task.exited.as_ref().is_some_and(|exited| match exited.volumes {
        Volumes::None => true,
        Volumes::Some => false,
        // A volume that has taken the results leaves an empty folder in the workspace, maybe where nothing was looked at.
        Volumes::Unseen => !may_have_empty_folder,
    });
    let hiding = if has_no_volume { Ok(None) } else { container.find_hiding(task) };
    if let Ok(Some(hiding)) = hiding {
        let folder = hiding.hidden.strip_prefix(WORKSPACE).unwrap_or(&hiding.hidden);
        skipped.skip_deliverable(shown_name(folder) + "/", hiding.describe(&container.config.executor.image));
    }
}

/// Leaves the last place of `outputs.max_files` to the note that is due: of a failed task, or of one whose results aren't all
/// delivered anyway. No result gives way to a note that isn't sent, or that says only which links stay here.
fn leave_room(files: &mut Vec<OutputFile>, skipped: &mut Skipped, task: &TaskHandle, limits: &OutputsConfig) {
    let is_failed = task.record.ending.as_ref().is_some_and(|ending| ending.status == FinalStatus::Failed);
    let is_due = is_failed || !skipped.undelivered.is_empty() || skipped.unnamed > 0;
    let bytes = files.iter().map(|file| file.size).fold(0, u64::saturating_add);
    if is_due && files.len() > 1 && files.len() >= limits.max_files && is_sendable(limits, is_failed, bytes) {
        if let Some(last) = files.pop() {
            skipped.skip_deliverable(last.name, beyond_max_files(limits));
        }
    }
}

impl Results {
    /// The files that clients don't show as the answer, and those that they may show.
    pub fn split(&self) -> (&[OutputFile], &[OutputFile]) {
        self.files.split_at(self.files.partition_point(|file| Rank::of(&file.name) < Rank::RootAnswer))
    }
}

/// What was copied in an earlier try, if that was brought to its end.
fn copied_before(task: &TaskHandle) -> Result<Option<Fetched>, StepError> {
    let of_older_version = || task.record.fetched.clone().map(|files| Fetched { files, skipped: Skipped::default() });
    match task.files.load_fetched() {
        Ok(fetched) => Ok(fetched.or_else(of_older_version)),
        // The results are still in the workspace.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            log::warn!(task:% = task.key(); "the list of its fetched results is damaged: {error}; fetching them again");
            Ok(None)
        }
        Err(error) => Err(StepError::because("the list of fetched results can't be read")(error)),
    }
}

/// Looks through the workspace. A worker with a slot gives up a look that takes long, for one without a slot to begin
/// anew. Returns `None` for a cancelled task.
fn look(
    container: &TaskContainer<'_>,
    task: &mut TaskHandle,
    reserved: &ReservedPaths,
    until: Until,
) -> Result<Option<ScanResult>, StepError> {
    let workspace = task.workspace.dir().to_owned();
    let began = Instant::now();
    let end = if until.duty.may_fetch() { until.deadline } else { until.deadline.min(began + TIME_WITH_SLOT) };
    loop {
        // A command may have come before.
        task.check_commands()?;
        if task.is_cancel_requested() {
            return Ok(None);
        }
        let is_wanted = Arc::new(AtomicBool::new(true));
        let look = {
            let (place, reserved, limits) = (workspace.clone(), reserved.clone(), container.config.outputs.clone());
            let is_wanted = Arc::clone(&is_wanted);
            let pulse = move || match () {
                () if !is_wanted.load(Ordering::Relaxed) => Pulse::Stop,
                () if Instant::now() >= end => Pulse::TooLate,
                () => Pulse::GoOn,
            };
            move || scan(&place, &reserved, &limits, pulse)
        };
        let found = task.run_beside(("scan", LOOK_INTERVAL), look, |_, wake| {
            is_wanted.store(wake == Wake::Interval, Ordering::Relaxed);
            if wake == Wake::Command || Instant::now() >= end { Work::IsToEnd } else { Work::GoesOn }
        })?;
        // The rest of the delivery finds out the same.
        if task.is_cancel_requested() {
            return Ok(None);
        }
        if let Some(why) = found.shortage {
            return Err(StepError::retry(why));
        }
        // A container has been there. Its results are on a disk that isn't mounted now, or gone: that an operator decides.
        if found.is_missing && task.files.has_cid() {
            return Err(StepError::retry(format!(
                "its workspace `{}` isn't there; mount its disk, or give its results up with `{}`",
                workspace.display(),
                agent_command(&container.config.file, &["discard", task.key().as_str()])
            )));
        }
        if !until.duty.may_fetch() && (found.is_cut || found.has_leased) {
            log::info!(task:% = task.key(); "looking for its results takes long, and goes on without a slot");
            return Err(StepError::NeedsFetch);
        }
        if !found.has_leased || found.is_cut || began.elapsed() >= LEASE_PATIENCE {
            return Ok(Some(found));
        }
        task.wait(LEASE_PAUSE)?;
    }
}
