//! A task that a person tries out: the same steps as for the Server's tasks, up to where something would be sent.

use super::notes::{Notes, Stayed};
use super::outputs::{OutputFile, Skipped, sending};
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
    let files = with_notes(&task, &results, &container.config.outputs);
    let Results { copy, skipped, .. } = &mut results;
    if let Some(copy) = copy.take() {
        skipped.skip(copy.name, sending::SAME_AS_ANSWER);
    }
    let skipped = results.skipped;
    let Some(ending) = task.record.ending else {
        return Err(StepError::retry("the record has no ending"));
    };
    Ok(Trial { ending, stop: task.record.stop, files, skipped })
}

/// The results in the order in which they would be sent, with the agent's own notes.
fn with_notes(task: &TaskHandle, results: &Results, limits: &OutputsConfig) -> Vec<OutputFile> {
    let (files, answers) = results.split();
    let Skipped { undelivered, non_results, unnamed, .. } = &results.skipped;
    let left_out: Vec<LeftOut> = undelivered.iter().chain(non_results).cloned().collect();
    let stayed = Stayed { files: &left_out, unnamed: *unnamed };
    let notes = Notes::new(task, limits, &results.left, &[]).filter(|_| !task.is_cancelled());
    let notes = notes.as_ref();
    let mut all = files.to_vec();
    all.extend(notes.and_then(|notes| notes.not_delivered(stayed)));
    all.extend_from_slice(answers);
    all.extend(notes.and_then(Notes::printed));
    all.extend(notes.and_then(|notes| notes.failure(stayed)));
    all
}
