//! States of a container in which nothing but waiting helps: one that is being removed, one that can't be removed, and one
//! of a word that this agent doesn't know. Each is waited for, logged once, and ends.

use std::time::{Duration, Instant};

use super::{ContainerRun, Progress};
use crate::docker::Container;
use crate::task::outcome::ContainerOutcome;
use crate::task::{Pause, StepError};
use crate::units::Span;

/// The shortest and the longest pause between two looks. In between they are a quarter of the time waited.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(10)];
/// How long a task whose container is in an unknown state waits without a slot before the next look.
const UNKNOWN_PAUSE: Duration = Duration::from_secs(300);

/// The wait for the end of such a state.
pub(super) struct Stuck {
    since: Instant,
    is_said: bool,
}

impl ContainerRun<'_> {
    /// How long the container has been in such a state.
    pub(super) fn stuck_for(&self) -> Duration {
        self.seen.stuck.as_ref().map_or(Duration::ZERO, |stuck| stuck.since.elapsed())
    }

    /// The engine removes the container, on the word of another program. One that has exited can be collected, where the
    /// removal takes too long.
    pub(super) fn wait_for_removal(&mut self, container: &Container) -> Progress {
        let limit = self.stuck_limit();
        if self.wait_stuck("is being removed", limit)? {
            return Ok(None);
        }
        let (started, finished) = (container.state.started_at, container.state.finished_at);
        match started {
            Some(started) if finished.is_some_and(|finished| finished >= started) => {
                self.handle_exited(container).map(Some)
            }
            _ if self.task.record.stop.is_some() => Ok(Some(ContainerOutcome::Stopped)),
            Some(_) => Ok(Some(self.lost(format!(
                "the container was removed behind the agent's back, and its removal doesn't end within {}; its result is \
                 lost",
                Span(limit)
            )))),
            None => self.give_up_start(&format!("is being removed, which doesn't end within {}", Span(limit))),
        }
    }

    /// A container that never started can't be removed, for this reason.
    pub(super) fn wait_for_removable(&mut self, why: &str) -> Progress {
        let limit = self.stuck_limit();
        if self.wait_stuck(&format!("was never started and can't be removed: {why}"), limit)? {
            return Ok(None);
        }
        self.give_up_start(&format!("can't be removed within {}: {why}", Span(limit)))
    }

    /// The container may be running or not.
    pub(super) fn wait_for_known_state(&mut self, container: &Container, word: &str) -> Progress {
        let is_stopping = self.task.record.stop.is_some();
        if is_stopping {
            if let Err(error) = self.container.stop(self.task, &container.id)? {
                log::debug!(task:% = self.task.key(); "stop: {error}");
            }
        }
        let limits = self.container.limits;
        let limit = if is_stopping { limits.stuck[1] } else { limits.unknown };
        let what = format!("is in the state `{word}`, which this agent doesn't know");
        if self.wait_stuck(&what, limit)? {
            return Ok(None);
        }
        if is_stopping {
            return Ok(Some(ContainerOutcome::Stopped));
        }
        let why = format!("the container `{}` {what}; waiting until it has exited", self.container.name);
        Err(StepError::WithoutSlot { pause: Pause::Due(UNKNOWN_PAUSE), why })
    }

    /// What is left of the container is removed later: the record says that it may be there.
    fn give_up_start(&mut self, what: &str) -> Progress {
        if self.task.record.stop.is_some() {
            return Ok(Some(ContainerOutcome::Stopped));
        }
        let why = format!("the container `{}` of an earlier try, which never started, {what}", self.container.name);
        self.suspend(&why);
        Ok(Some(self.not_started(why)))
    }

    fn stuck_limit(&self) -> Duration {
        let [limit, when_stopped] = self.container.limits.stuck;
        if self.task.record.stop.is_some() { when_stopped } else { limit }
    }

    /// Waits a while for another state. Returns whether that can go on.
    fn wait_stuck(&mut self, what: &str, limit: Duration) -> Result<bool, StepError> {
        let name = &self.container.name;
        let stuck = self.seen.stuck.get_or_insert_with(|| Stuck { since: Instant::now(), is_said: false });
        let waited = stuck.since.elapsed();
        if waited >= limit {
            return Ok(false);
        }
        if waited >= self.container.limits.said_after && !stuck.is_said {
            stuck.is_said = true;
            log::warn!(task:% = self.task.key(); "the container `{name}` {what}; waiting for up to {}", Span(limit));
        }
        let [shortest, longest] = PAUSES;
        self.task.wait((waited / 4).clamp(shortest, longest).min(limit - waited))?;
        Ok(true)
    }
}
