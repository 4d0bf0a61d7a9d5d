//! A task that a person tries out: the same steps as for the Server's tasks, up to where something would be sent.

use std::collections::HashSet;

use super::archive::{self, is_wanted, pack, plan};
use super::notes::{Notes, Stayed};
use super::outputs::{OutputFile, Skipped, sending};
use super::record::Packed;
use super::results::Results;
use super::{
    Duty, Ending, Job, Phase, StepError, StopReason, TaskContainer, TaskHandle, Workspace, outcome, prepare, results,
};
use crate::config::OutputsConfig;
use crate::server::LeftOut;

/// The end of a trial.
pub struct Trial {
    pub ending: Ending,
    pub stop: Option<StopReason>,
    /// What would be sent, in this order.
    pub files: Vec<OutputFile>,
    /// What is in those that are archives.
    pub packed: Vec<Packed>,
    /// What wouldn't be sent, and why.
    pub skipped: Skipped,
}

/// Does a task whose record is [`Phase::Accepted`], and whose input files are in their places in the workspace.
///
/// # Errors
/// Why the task couldn't be brought to an end. Its container may still exist then.
pub fn try_out(container: &TaskContainer<'_>, workspace: Workspace, job: Job) -> Result<Trial, String> {
    run(container, TaskHandle::new(job, workspace, None)).map_err(|error| match error {
        StepError::Shutdown
        | StepError::Discarded
        | StepError::NeedsFetch
        | StepError::TurnOver
        | StepError::ServerAway => "interrupted".to_owned(),
        StepError::Retry { why, .. } | StepError::WithoutSlot { why, .. } => why,
    })
}

fn run(container: &TaskContainer<'_>, mut task: TaskHandle) -> Result<Trial, StepError> {
    loop {
        match task.record.phase {
            Phase::Accepted => prepare::prepare(None, &mut task)?,
            Phase::Prepared => {
                let outcome = container.run(&mut task)?;
                outcome::record(&mut task, outcome, container.config.executor.memory_limit.as_deref())?;
            }
            Phase::Exited => break,
            _ => return Err(StepError::retry("the task isn't accepted")),
        }
    }
    container.remove(&mut task)?;
    let mut results = results::collect(container, &mut task, Duty::Fetches)?;
    let (files, packed) = to_send(container, &mut task, &results)?;
    let Results { copy, skipped, .. } = &mut results;
    if let Some(copy) = copy.take() {
        skipped.skip(copy.name, sending::SAME_AS_ANSWER);
    }
    let skipped = results.skipped;
    let Some(ending) = task.record.ending else {
        return Err(StepError::retry("the record has no ending"));
    };
    Ok(Trial { ending, stop: task.record.stop, files, packed, skipped })
}

/// What would be sent, in this order, and what is in archives.
fn to_send(
    container: &TaskContainer<'_>,
    task: &mut TaskHandle,
    results: &Results,
) -> Result<(Vec<OutputFile>, Vec<Packed>), StepError> {
    let limits = &container.config.outputs;
    let (mut archives, mut all_packed, mut packed_names) = (Vec::new(), Vec::new(), HashSet::new());
    if is_wanted(limits, results.files.len()) && !task.is_cancelled() {
        let skipped = results.skipped.undelivered.iter().chain(&results.skipped.non_results);
        let names: HashSet<&str> = skipped.map(|left| left.file.as_str()).collect();
        let is_used = |name: &str| names.contains(name) || results.files.iter().any(|file| file.name == name);
        for planned in plan(results.files.iter(), limits, is_used).iter().rev() {
            let Some(packed) = pack(task, planned, container.config.paths.keep_free() / 2)? else { break };
            let opened = archive::open(&task.files, &packed);
            archives.push(opened.map_err(StepError::because(format!("`{}` can't be read", packed.archive)))?);
            packed_names.extend(packed.members.iter().map(|member| member.file.clone()));
            all_packed.push(packed);
        }
    }
    let alone = results.split().0.iter().filter(|file| !packed_names.contains(&file.name)).cloned();
    let files = alone.chain(archives).collect();
    Ok((with_notes(task, results, limits, files), all_packed))
}

/// These files with the agent's own notes and with the answer, in the order in which they would be sent.
fn with_notes(
    task: &TaskHandle,
    results: &Results,
    limits: &OutputsConfig,
    mut all: Vec<OutputFile>,
) -> Vec<OutputFile> {
    let (_, answers) = results.split();
    let Skipped { undelivered, non_results, unnamed, .. } = &results.skipped;
    let left_out: Vec<LeftOut> = undelivered.iter().chain(non_results).cloned().collect();
    let stayed = Stayed { files: &left_out, unnamed: *unnamed };
    let notes = Notes::new(task, limits, &results.left, &[]).filter(|_| !task.is_cancelled());
    let notes = notes.as_ref();
    all.extend(notes.and_then(|notes| notes.not_delivered(stayed)));
    all.extend_from_slice(answers);
    all.extend(notes.and_then(Notes::printed));
    all.extend(notes.and_then(|notes| notes.failure(stayed)));
    all
}
