//! A task's container: its run from `docker run` to its end, and its removal.
//!
//! Nothing in here reaches the Server. What the run comes to is a value, [`ContainerOutcome`].

mod engine_copy;
mod launch;
mod limits;
mod logs;
mod run;
mod watch;

use super::console::TrialConsole;
use super::outcome::ContainerOutcome;
use super::starts::Starts;
use super::volumes::{HiddenParts, Hiding};
use super::{StepError, TaskHandle};
use crate::config::Config;
use crate::docker::{Container, Docker, DockerError, INSTANCE_LABEL, SERVICE_LABEL, TASK_LABEL};
pub use limits::Limits;
use run::ContainerRun;

/// The container of one task: what it should be, and the engine that has it.
pub struct TaskContainer<'c> {
    pub config: &'c Config,
    pub docker: &'c Docker,
    pub name: String,
    /// The agent that the container's label names as its owner; a trial's container has no owner.
    pub owner: Option<&'c str>,
    /// Whether the agent starts containers at present; a trial does.
    pub starts: Option<&'c Starts>,
    /// Where a trial shows what the container prints.
    pub console: Option<&'c TrialConsole>,
    pub limits: Limits,
}

impl TaskContainer<'_> {
    /// Runs the container once, or goes on with the run that an earlier run of the agent has started.
    pub fn run(&self, task: &mut TaskHandle) -> Result<ContainerOutcome, StepError> {
        ContainerRun::new(self, task).run()
    }

    /// The labels of a task's containers; a trial's have none.
    pub fn labels(&self, task: &TaskHandle) -> Vec<(&'static str, String)> {
        let Some(owner) = self.owner else { return Vec::new() };
        let (key, service) = (task.key().to_string(), task.record.service_id.clone());
        vec![(TASK_LABEL, key), (SERVICE_LABEL, service), (INSTANCE_LABEL, owner.to_owned())]
    }

    /// The name of the container that shows the workspace to the engine.
    pub fn view_name(&self) -> String {
        view_name(&self.name)
    }

    /// What hides a part of the workspace in the task's container.
    pub fn find_hiding(&self, task: &TaskHandle) -> Result<Option<Hiding>, DockerError> {
        let (name, labels) = (self.view_name(), self.labels(task));
        let (config, docker, beside) = (self.config, self.docker, task.workspace.dir());
        HiddenParts { config, docker, name: &name, labels, owner: self.owner, beside }.find()
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
            // By its id: the name may be another one's by then.
            Some(container) if self.is_ours(&container) => self.docker.remove(&container.id),
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

/// What the names begin with of containers that show a workspace to the engine.
const VIEW_PREFIX: &str = "open-aaas-view-of-";

/// The name of the container that shows the workspace of the container with this name to the engine.
pub fn view_name(container: &str) -> String {
    format!("{VIEW_PREFIX}{container}")
}

/// The name of the container whose workspace the container with this name shows to the engine.
pub fn viewed(name: &str) -> Option<&str> {
    name.strip_prefix(VIEW_PREFIX)
}

#[cfg(all(test, unix))]
mod tests;
