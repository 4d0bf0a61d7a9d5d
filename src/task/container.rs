//! A task's container: its run from `docker run` to its end, and its removal.
//!
//! Nothing in here reaches the Server. What the run comes to is a value, [`ContainerOutcome`].

mod launch;
mod logs;
mod run;
mod watch;

use super::console::TrialConsole;
use super::outcome::ContainerOutcome;
use super::{StepError, TaskHandle};
use crate::config::Config;
use crate::docker::{Container, Docker};
use run::ContainerRun;

/// The container of one task: what it should be, and the engine that has it.
pub struct TaskContainer<'c> {
    pub config: &'c Config,
    pub docker: &'c Docker,
    pub name: String,
    /// The agent that the container's label names as its owner; a trial's container has no owner.
    pub owner: Option<&'c str>,
    /// Where a trial shows what the container prints.
    pub console: Option<&'c TrialConsole>,
}

impl TaskContainer<'_> {
    /// Runs the container once, or goes on with the run that an earlier run of the agent has started.
    pub fn run(&self, task: &mut TaskHandle) -> Result<ContainerOutcome, StepError> {
        ContainerRun::new(self, task).run()
    }

    /// Whether a container of this name is this task's, and not another agent's.
    pub fn is_ours(&self, container: &Container) -> bool {
        container.instance.as_deref() == self.owner
    }

    /// Removes the container, once the record has all that is needed of it. If the engine can't remove it now, the
    /// health thread does later.
    pub fn remove(&self, task: &mut TaskHandle) -> Result<(), StepError> {
        if task.record.container_removed {
            return Ok(());
        }
        let removed = self.docker.inspect(&self.name).and_then(|container| match container {
            Some(container) if self.is_ours(&container) => self.docker.remove(&self.name),
            _ => Ok(()),
        });
        if let Err(error) = removed {
            log::warn!(task:% = task.key(); "the container `{}` can't be removed yet: {error}", self.name);
            return Ok(());
        }
        task.record.container_removed = true;
        task.save()
    }
}
