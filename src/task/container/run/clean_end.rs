//! The end of a container that needs no question to the engine: its client was with it, and the engine's events, which
//! were followed from before its start on, say that it ended by itself with status 0.

use std::time::Instant;

use super::{ContainerRun, Progress};
use crate::config::container_options::Pull;
use crate::task::container::ends::Followed;
use crate::task::handle::{ExitedContainer, Volumes};
use crate::task::outcome::{ContainerOutcome, Exit, StopCause};
use crate::task::starts::Starts;

impl ContainerRun<'_> {
    /// Whether the image is known to hide no results, so that its container needn't be looked at for that.
    pub(super) fn knows_image(&self) -> bool {
        let image = &self.container.config.executor.image;
        let is_kept = self.container.config.executor.options.pull != Some(Pull::Always);
        is_kept && self.container.starts.is_some_and(|starts: &Starts| starts.knows_image(image, Instant::now()))
    }

    /// The outcome of a container whose client has exited with 0, where nothing about it is in doubt.
    pub(super) fn find_clean_end(&mut self, followed: &Followed<'_>) -> Progress {
        self.task.check_commands()?;
        let Some(id) = self.task.files.load_cid().filter(|_| self.task.record.stop.is_none()) else { return Ok(None) };
        let Some(ran_for) = followed.clean_end(&id) else { return Ok(None) };
        self.task.exited = Some(ExitedContainer { id, volumes: Volumes::Unseen, is_removal_asked: false });
        let stop_cause = StopCause::OwnExit;
        Ok(Some(ContainerOutcome::Exited(Exit { code: 0, oom_killed: false, ran_for, stop_cause })))
    }

    /// Whether the engine's events say that the container was stopped. Only where this agent hasn't done that does it mean
    /// that another program has.
    pub(super) fn saw_stop(&self) -> bool {
        let id = self.task.files.load_cid();
        self.container.ends.zip(id).is_some_and(|(ends, id)| ends.saw_stop(&id))
    }
}
