//! A task that a person tries out: the same steps as for the Server's tasks, up to where something would be sent.

use super::Job;
use super::console::TrialConsole;
use super::container::TaskContainer;
use super::error::StepError;
use super::handle::{Requester, TaskHandle};
use super::outcome;
use super::prepare::prepare;
use super::results::{self, Results};
use crate::config::Config;
use crate::docker::Docker;
use crate::task::outputs::{OutputFile, Skipped};
use crate::task::record::{Ending, Phase, StopReason};
use crate::task::workspace::Workspace;

/// What a trial needs beside its task.
pub struct TrialSetup<'t> {
    pub config: &'t Config,
    pub docker: &'t Docker,
    /// The name of the container. It carries no label, so no agent takes it for its own.
    pub container: String,
    /// The workspace, with the input files in their places.
    pub workspace: Workspace,
    pub console: &'t TrialConsole,
}

/// The end of a trial.
pub struct Trial {
    pub ending: Ending,
    pub stop: Option<StopReason>,
    /// What would be sent, in this order.
    pub files: Vec<OutputFile>,
    /// What wouldn't be sent, and why.
    pub skipped: Skipped,
}

/// Does a task whose record is [`Phase::Accepted`].
///
/// # Errors
/// Why the task couldn't be brought to an end. Its container may still exist then.
pub fn try_out(setup: TrialSetup<'_>, job: Job) -> Result<Trial, String> {
    let TrialSetup { config, docker, container: name, workspace, console } = setup;
    let container = TaskContainer { config, docker, name, owner: None, console: Some(console) };
    run(&container, TaskHandle::new(job, workspace, Requester::Person)).map_err(|error| match error {
        StepError::Shutdown | StepError::Discarded => "interrupted".to_owned(),
        StepError::Retry { why, .. } => why,
    })
}

fn run(container: &TaskContainer<'_>, mut task: TaskHandle) -> Result<Trial, StepError> {
    loop {
        match task.record.phase {
            Phase::Accepted => prepare(None, &mut task)?,
            Phase::Prepared => {
                let outcome = container.run(&mut task)?;
                outcome::record(&mut task, outcome, container.config.executor.memory_limit.as_deref())?;
            }
            Phase::Exited => break,
            _ => return Err(StepError::retry("the task isn't accepted")),
        }
    }
    let Results { files, skipped } = results::collect(container, &mut task)?;
    container.remove(&mut task)?;
    let Some(ending) = task.record.ending else {
        return Err(StepError::retry("the record has no ending"));
    };
    Ok(Trial { ending, stop: task.record.stop, files, skipped })
}
