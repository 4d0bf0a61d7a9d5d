//! Finds the results of a task whose container has exited, also those that only the engine can read.

mod copy_unreadable;

use super::outputs::{OutputFile, ReservedPaths, Selection, Skipped, scan, sending, shown_name};
use super::volumes::{describe, hiding_volume};
use super::{Duty, StepError, TaskContainer, TaskHandle};
use crate::config::WORKSPACE;
use copy_unreadable::CopyUnreadable;

/// What a task wrote.
#[derive(Debug, Default)]
pub struct Results {
    /// The files to send, in this order.
    pub files: Vec<OutputFile>,
    /// The copy of the answer, which is sent only if the answer can't be.
    pub copy: Option<OutputFile>,
    pub skipped: Skipped,
}

/// Finds the results, and fetches them where that is the worker's duty. Those of a cancelled task aren't wanted.
pub fn collect(container: &TaskContainer<'_>, task: &mut TaskHandle, duty: Duty) -> Result<Results, StepError> {
    if task.is_cancelled() {
        return Ok(Results::default());
    }
    let config = container.config;
    let reserved = ReservedPaths::new(config.paths.mounts.iter().map(|mount| mount.container.as_str()));
    let workspace = task.workspace.dir().to_owned();
    let mut commands = Ok(());
    let found = scan(&workspace, &reserved, &config.outputs, || {
        commands = task.check_commands();
        commands.is_ok() && !task.is_cancel_requested()
    });
    commands?;
    // The rest of the delivery finds out the same.
    if task.is_cancel_requested() {
        return Ok(Results::default());
    }
    if duty == Duty::Tasks && task.record.fetched.is_none() && !found.unreadable.is_empty() {
        return Err(StepError::NeedsFetch);
    }
    let not_copied = CopyUnreadable { container, task, reserved: &reserved }.copy(&found.unreadable)?;
    let mut skipped = found.skipped;
    skipped.add(not_copied);
    // The image may have come with the container's start. Where the engine doesn't answer, the results don't wait for it.
    if let Ok(Some(volume)) = hiding_volume(config, container.docker) {
        let folder = volume.strip_prefix(WORKSPACE).unwrap_or(&volume);
        skipped.skip_deliverable(shown_name(folder) + "/", describe(&config.executor.image, &volume));
    }
    let mut selection = Selection::new(&config.outputs);
    found.files.into_iter().for_each(|file| selection.push(file));
    for copied in task.record.fetched.iter().flatten() {
        let file = copied.number.to_string();
        match OutputFile::copied(&task.files.fetched_dir(), file.as_ref(), &copied.file) {
            Ok(file) => selection.push(file),
            Err(error) => skipped.skip_deliverable(copied.file.clone(), format!("can't be read: {error}")),
        }
    }
    let mut files = selection.finish(&mut skipped);
    // Where one of them can't be read, sending it says so.
    let copy = sending::take_copy(&mut files).unwrap_or_default();
    sending::sort(&mut files);
    Ok(Results { files, copy, skipped })
}
