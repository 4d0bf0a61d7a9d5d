//! A task's container: its run from `docker run` to its end, and its removal.
//!
//! Nothing in here reaches the Server. What the run comes to is a value, [`ContainerOutcome`].

mod ends;
mod engine_copy;
mod launch;
mod limits;
mod logs;
mod removals;
mod run;
mod watch;

use std::time::{Duration, Instant};

use super::console::TrialConsole;
use super::outcome::ContainerOutcome;
use super::starts::Starts;
use super::volumes::{HiddenParts, Hiding};
use super::{StepError, TaskHandle};
use crate::config::Config;
use crate::docker::{
    Container, Docker, DockerError, INSTANCE_LABEL, OFFERED_LABEL, SERVICE_LABEL, STOP_GRACE, TASK_LABEL,
};
pub use ends::Ends;
pub use limits::Limits;
pub use removals::Removals;
use run::ContainerRun;

/// The time between TERM and KILL for a container of a cancelled task. Nothing of it is delivered, so it has nothing to
/// bring to an end; and a shell as first process, which many images have, doesn't hear TERM.
const CANCEL_GRACE: Duration = Duration::from_secs(2);
/// How long a removal that is under way is waited for.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(10);

/// The container of one task: what it should be, and the engine that has it.
pub struct TaskContainer<'c> {
    pub config: &'c Config,
    pub docker: &'c Docker,
    pub name: String,
    /// The agent that the container's label names as its owner; a trial's container has no owner.
    pub owner: Option<&'c str>,
    /// Whether the agent starts containers at present; a trial does.
    pub starts: Option<&'c Starts>,
    /// Follows the ends of the agent's containers; a trial's has no owner by which it is followed.
    pub ends: Option<&'c Ends>,
    /// Removes containers beside all else; a trial removes its own.
    pub removals: Option<&'c Removals>,
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
        let offered = (OFFERED_LABEL, task.record.offered.at.to_string());
        vec![(TASK_LABEL, key), (SERVICE_LABEL, service), (INSTANCE_LABEL, owner.to_owned()), offered]
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

    /// Checks that no volume of the image hides results. An image that isn't here yet is pulled by `docker run`; what its
    /// volumes hide is looked at with the results.
    fn check_image(&self, task: &TaskHandle) -> Result<(), String> {
        let starts = self.starts;
        let image = &self.config.executor.image;
        if starts.is_some_and(|starts| starts.knows_image(image, Instant::now())) {
            return Ok(());
        }
        match self.find_hiding(task) {
            Ok(Some(hiding)) => return Err(hiding.describe(image)),
            Ok(None) => starts.into_iter().for_each(|starts| starts.note_image(image, Instant::now())),
            Err(error) => {
                log::info!(task:% = task.key(); "whether a volume of the image hides results isn't known yet: {error}");
            }
        }
        Ok(())
    }

    /// Whether a container of this name is this task's, and not another agent's.
    pub fn is_ours(&self, container: &Container) -> bool {
        container.labels.instance.as_deref() == self.owner
    }

    /// Whether an earlier task of this agent, whose record is gone, has left it.
    pub fn is_leftover(&self, container: &Container, task: &TaskHandle) -> bool {
        let offered = task.record.offered.at.to_string();
        self.is_ours(container) && container.labels.offered.as_ref().is_some_and(|other| *other != offered)
    }

    /// Stops the container of this id or name. A cancellation that comes meanwhile is heard: from then on the container has
    /// the time of a cancelled task's.
    fn stop(&self, task: &mut TaskHandle, id: &str) -> Result<Result<(), DockerError>, StepError> {
        let (docker, mut is_cancelled, mut commands) = (self.docker, task.is_cancel_requested(), Ok(()));
        let grace = if is_cancelled { CANCEL_GRACE } else { STOP_GRACE };
        let mut look = || {
            if commands.is_ok() {
                commands = task.check_commands();
            }
            if !is_cancelled && task.is_cancel_requested() {
                is_cancelled = true;
                if let Err(error) = docker.stop(id, CANCEL_GRACE) {
                    log::debug!(task:% = task.key(); "the stop of a cancelled task: {error}");
                }
            }
        };
        let stopped = docker.stop_with_looks(id, grace, Some(&mut look));
        commands.map(|()| stopped)
    }

    /// Has the container removed, once the record has all that is needed of it, beside what follows. A later call notes that
    /// it is.
    pub fn remove_soon(&self, task: &mut TaskHandle) -> Result<(), StepError> {
        if task.record.container_removed {
            return Ok(());
        }
        let Some(removals) = self.removals else { return self.remove(task) };
        if removals.is_waiting(&self.name) {
            return Ok(());
        }
        match &mut task.exited {
            Some(exited) if exited.is_removal_asked => {
                // What couldn't be removed is tried again, and the health thread removes it when the task is settled.
                exited.is_removal_asked = !removals.take_failure(&self.name);
                task.record.container_removed = exited.is_removal_asked;
                Ok(())
            }
            Some(exited) => {
                exited.is_removal_asked = true;
                removals.request(&self.name, &exited.id);
                Ok(())
            }
            None => self.remove(task),
        }
    }

    /// Removes the container, once the record has all that is needed of it. If the engine can't remove it now, the
    /// health thread does later.
    pub fn remove(&self, task: &mut TaskHandle) -> Result<(), StepError> {
        if task.record.container_removed {
            return Ok(());
        }
        if let Some(removals) = self.removals {
            removals.wait_for(&self.name, REMOVAL_PATIENCE);
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
