//! What ended a container that the agent didn't stop.

use super::ContainerRun;
use crate::docker::{Container, Docker, DockerError, ExitEvents};
use crate::task::StepError;
use crate::task::container::watch::ENGINE_PAUSE;
use crate::task::outcome::StopCause;

/// The exit statuses of a container that the engine lost, or ended while it couldn't be reached.
const ENGINE_EXIT_CODES: [i32; 3] = [137, 143, 255];
/// How often the engine is asked what ended a container, while it answers other calls.
const QUESTIONS: u32 = 3;

impl ContainerRun<'_> {
    /// Finds out what ended a container. What isn't known for certain doesn't speak against its program.
    ///
    /// An engine that is being stopped answers no calls while it ends its containers, and after its restart it has no
    /// events of that. An engine that was killed ends leftover containers at its next start, and has events of that. With
    /// live-restore neither happens.
    pub(super) fn stop_cause(&mut self, container: &Container) -> Result<StopCause, StepError> {
        if self.task.record.stop.is_some() {
            return Ok(StopCause::OwnExit);
        }
        let exit_events = self.ask(|docker| docker.exit_events(container))?.unwrap_or(ExitEvents::Unknown);
        // If no client watched the container, no events may also mean a reboot long after its own exit.
        let was_restarted = exit_events == ExitEvents::Nothing && self.seen.was_watched;
        let was_ended = was_restarted && self.ask(Docker::has_live_restore)?.is_some_and(|has| !has);
        let may_be_engine = self.seen.engine_was_down && ENGINE_EXIT_CODES.contains(&container.state.exit_code);
        Ok(match exit_events {
            ExitEvents::EndedByItself => StopCause::OwnExit,
            ExitEvents::Signalled if self.seen.engine_was_down => StopCause::Engine,
            ExitEvents::Signalled => StopCause::External,
            ExitEvents::Nothing if was_ended => StopCause::Engine,
            ExitEvents::Nothing | ExitEvents::Unknown if may_be_engine => StopCause::Engine,
            ExitEvents::Nothing | ExitEvents::Unknown => StopCause::OwnExit,
        })
    }

    /// Asks the engine about an end. An engine that is going away or coming back answers a moment later; one that answers
    /// other calls only, as one behind a filter of calls, gives no answer: `None`.
    fn ask<T>(&mut self, question: impl Fn(&Docker) -> Result<T, DockerError>) -> Result<Option<T>, StepError> {
        for tries_left in (0..QUESTIONS).rev() {
            match question(self.container.docker) {
                Ok(answer) => return Ok(Some(answer)),
                Err(error) if tries_left == 0 => {
                    log::warn!(task:% = self.task.key(); "can't find out what ended the container: {error}");
                }
                Err(error) => {
                    log::debug!(task:% = self.task.key(); "asking again what ended the container: {error}");
                    self.task.wait(ENGINE_PAUSE)?;
                    self.inspect_when_reachable()?;
                }
            }
        }
        Ok(None)
    }
}
