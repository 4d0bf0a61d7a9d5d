//! What ended a container that the agent didn't stop.

use jiff::{SignedDuration, Timestamp};

use super::ContainerRun;
use crate::docker::{Container, Docker, DockerError, ExitEvents, State};
use crate::os::platform;
use crate::task::container::watch::ENGINE_PAUSE;
use crate::task::outcome::StopCause;
use crate::task::{StepError, TaskHandle};

/// The exit statuses of a container that the engine lost, or ended while it couldn't be reached.
const ENGINE_EXIT_CODES: [i32; 3] = [137, 143, 255];
/// How often the engine is asked what ended a container, while it answers other calls.
const QUESTIONS: u32 = 3;
/// How long before a boot a container ends that the shutdown before it has ended: a machine takes some minutes to come up.
const DOWN: SignedDuration = SignedDuration::from_mins(10);
/// How long before, and how long after the agent's end its containers end at a shutdown.
const WITH_AGENT: [SignedDuration; 2] = [SignedDuration::from_secs(15), SignedDuration::from_mins(3)];

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
        if !self.seen.was_watched && Boot::of(self.task).has_ended(&container.state, exit_events) {
            return Ok(StopCause::Machine);
        }
        // If no client watched the container, no events may also mean a reboot long after its own exit.
        let was_restarted = exit_events == ExitEvents::Nothing && self.seen.was_watched;
        let was_ended = was_restarted && self.ask(Docker::has_live_restore)?.is_some_and(|has| !has);
        let may_be_engine = self.seen.engine_was_down && ENGINE_EXIT_CODES.contains(&container.state.exit_code);
        Ok(match exit_events {
            ExitEvents::EndedByItself | ExitEvents::EndedAfterSignal => StopCause::OwnExit,
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

/// What is known of this machine's boot, and of the time before it.
struct Boot {
    at: Option<Timestamp>,
    /// When the agent that last was with the container ended, where that was in an earlier boot.
    agent_left_at: Option<Timestamp>,
    /// Whether the container's last client was started in another boot.
    is_later: bool,
}

impl Boot {
    fn of(task: &TaskHandle) -> Self {
        let client = task.record.client.as_ref();
        let started = client.and_then(|client| client.started.as_deref());
        let is_later = started.is_some_and(platform::is_of_other_boot);
        let agent_left_at = client.and_then(|client| client.left_at).filter(|_| is_later);
        Self { at: platform::boot_time().and_then(|at| Timestamp::from_second(at).ok()), agent_left_at, is_later }
    }

    /// Whether a container that no client of this boot has watched ended since the machine went down. A program may answer
    /// the shutdown's TERM with exit status 0, and docker 23 and 24 call a container so that a power cut has ended.
    ///
    /// Nothing outlives a boot. A container that ended before it may have ended by itself, while no agent ran; but at a
    /// shutdown it ends shortly before the boot, or with the agent. The engine has no events of that.
    fn has_ended(&self, state: &State, events: ExitEvents) -> bool {
        let (Some(boot), Some(started), Some(ended)) = (self.at, state.started_at, state.finished_at) else {
            return false;
        };
        if started >= boot || ended < started {
            return false;
        }
        if ended >= boot {
            // A clock that was set looks like a boot.
            return self.is_later || !matches!(events, ExitEvents::EndedByItself | ExitEvents::EndedAfterSignal);
        }
        let [before, after] = WITH_AGENT;
        let with_agent = |left: Timestamp| {
            let later = ended.duration_since(left);
            -before <= later && later <= after
        };
        let is_shutdown = boot.duration_since(ended) <= DOWN || self.agent_left_at.is_some_and(with_agent);
        // An engine of this boot has no events of a container that a client of an earlier one has started, however many it has.
        is_shutdown && (events == ExitEvents::Nothing || self.is_later && events == ExitEvents::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::Boot;
    use crate::docker::{ExitEvents, State, Status};
    use jiff::Timestamp;

    const HOUR: i64 = 3600;
    /// The boot, in seconds; the times of the tests are relative to it.
    const AT: i64 = 1_800_000_000;

    fn time(second: i64) -> Timestamp {
        Timestamp::from_second(AT + second).unwrap()
    }

    fn exited(started: i64, ended: i64) -> State {
        State {
            status: Status::Exited,
            exit_code: 0,
            oom_killed: false,
            error: String::new(),
            started_at: Some(time(started)),
            finished_at: Some(time(ended)),
        }
    }

    fn boot(is_later: bool, agent_left_at: Option<i64>) -> Boot {
        Boot { at: Some(time(0)), agent_left_at: agent_left_at.map(time), is_later }
    }

    #[test]
    fn nothing_outlives_a_boot() {
        for events in [ExitEvents::Nothing, ExitEvents::Unknown, ExitEvents::Signalled] {
            assert!(boot(false, None).has_ended(&exited(-HOUR, 20), events), "{events:?}");
            assert!(boot(true, None).has_ended(&exited(-HOUR, 0), events), "{events:?}");
        }
        // The engine of this boot has seen a container of this boot: the clock was set.
        assert!(!boot(false, None).has_ended(&exited(-HOUR, 20), ExitEvents::EndedByItself));
        assert!(boot(true, None).has_ended(&exited(-HOUR, 20), ExitEvents::EndedByItself));
        assert!(!boot(true, None).has_ended(&exited(5, 20), ExitEvents::Nothing), "it started after the boot");
        assert!(!Boot { at: None, ..boot(true, None) }.has_ended(&exited(-HOUR, 20), ExitEvents::Nothing));
    }

    #[test]
    fn a_container_that_ends_with_the_agent_or_shortly_before_a_boot_ended_by_the_shutdown() {
        let events = ExitEvents::Nothing;
        assert!(boot(false, None).has_ended(&exited(-HOUR, -10), events));
        assert!(!boot(true, None).has_ended(&exited(-90 * HOUR, -60 * HOUR), events), "no agent ran");
        // Off over a weekend.
        for ended in [-60 * HOUR - 10, -60 * HOUR, -60 * HOUR + 120] {
            assert!(boot(true, Some(-60 * HOUR)).has_ended(&exited(-90 * HOUR, ended), events));
        }
        assert!(!boot(true, Some(-60 * HOUR)).has_ended(&exited(-90 * HOUR, -59 * HOUR), events), "it ran on");
        assert!(!boot(false, None).has_ended(&exited(-HOUR, -10), ExitEvents::EndedByItself));
    }
}
