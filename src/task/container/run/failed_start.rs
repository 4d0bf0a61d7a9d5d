//! A start that failed: the container is started again, the task waits, or the task fails.

use std::time::Duration;

use super::{ContainerRun, LAUNCHES, Progress};
use crate::docker::{Container, StartFault, find_fault};
use crate::os::process::read_tail;
use crate::task::outcome::{ContainerOutcome, last_words};
use crate::task::{StepError, WorkerEvent};
use crate::units::Span;

/// The pauses before the second and the third start.
const PAUSES: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(5)];
/// After so many failed starts a task fails also where it could wait: the reason may be its own.
const MOST_FAILURES: u32 = 12;

impl ContainerRun<'_> {
    /// The engine couldn't start the container that it has made, or it made none.
    ///
    /// Another start is tried only where the container certainly never ran (P1).
    pub(super) fn fail_start(&mut self, container: Option<&Container>) -> Progress {
        let why = self.explain(container.map_or("", |container| &container.state.error));
        let fault = find_fault(&why);
        let never_ran = !self.has_printed() && (fault != StartFault::Unclear || container.is_none());
        if !never_ran || self.task.record.stop.is_some() {
            self.suspend(&why);
            return Ok(Some(self.not_started(why)));
        }
        // It belongs to this start, and says nothing of the next one.
        self.seen.client_exit_code = None;
        self.task.record.start.failures = self.task.record.start.failures.saturating_add(1);
        self.task.save()?;
        let may_pass = matches!(fault, StartFault::Machine | StartFault::Unclear);
        let is_tried_again =
            may_pass && self.seen.launches < LAUNCHES && self.task.record.start.failures < MOST_FAILURES;
        if !is_tried_again && !self.suspend_or_wait(&why, may_pass) {
            return Ok(Some(self.not_started(why)));
        }
        if let Some(container) = container {
            let outcome = self.replace(container)?;
            if outcome.is_some() {
                return Ok(outcome);
            }
        }
        if !is_tried_again {
            return Err(waiting(&why));
        }
        let pause = PAUSES[usize::from(self.seen.launches > 1)];
        log::warn!(task:% = self.task.key(); "the container can't be started: {why}; trying again in {} s", pause.as_secs());
        self.task.wait(pause).map(|()| None)
    }

    /// The client hasn't started the container within this time: none has run. The task isn't the reason, so that it waits,
    /// unless that happens again and again.
    pub(super) fn fail_overdue(&mut self, container: Option<&Container>, limit: Duration) -> Progress {
        let words = read_tail(&self.task.files.stderr(), 8192).ok().and_then(|words| last_words("", &words));
        let words = words.map(|words| format!(": {words}")).unwrap_or_default();
        let why = format!("docker didn't start the container within {}{words}", Span(limit));
        self.task.record.start.failures = self.task.record.start.failures.saturating_add(1);
        self.task.save()?;
        self.suspend(&why);
        if let Some(container) = container {
            let outcome = self.replace(container)?;
            if outcome.is_some() {
                return Ok(outcome);
            }
        }
        if self.container.starts.is_none() || self.task.record.start.failures >= MOST_FAILURES {
            return Ok(Some(self.not_started(why)));
        }
        Err(waiting(&why))
    }

    /// Something on this machine keeps every container from being started, as was seen before the start.
    pub(super) fn refuse_start(&mut self, why: String) -> Progress {
        if self.suspend_or_wait(&why, false) {
            return Err(waiting(&why));
        }
        log::error!(task:% = self.task.key(); "{why}");
        Ok(Some(ContainerOutcome::NotStarted(why)))
    }

    /// Suspends all starts. Returns whether the task waits instead of failing: where another task has failed for that
    /// already, or where the reason `may_pass` and this agent's running containers may hold what is missing, such as the
    /// last address of a network.
    fn suspend_or_wait(&self, why: &str, may_pass: bool) -> bool {
        let is_first = self.suspend(why);
        let Some(owner) = self.container.owner else { return false };
        let failures = self.task.record.start.failures;
        let is_held = || may_pass && self.container.docker.is_any_running(owner).unwrap_or(false);
        failures < MOST_FAILURES && (!is_first || is_held())
    }

    /// Suspends all starts, and reports that at once: what comes next may take long, and nothing new is accepted from now
    /// on (P8). Returns whether the starts weren't suspended before.
    pub(super) fn suspend(&self, why: &str) -> bool {
        let is_first = self.container.starts.is_none_or(|starts| starts.suspend(why));
        self.task.send(WorkerEvent::StartFailed(why.to_owned()));
        is_first
    }

    /// Why the start failed: in the engine's words where it left some with the container, else in those that the client
    /// printed.
    fn explain(&self, engine_error: &str) -> String {
        let client_words = read_tail(&self.task.files.stderr(), 8192).unwrap_or_default();
        last_words("", if engine_error.is_empty() { &client_words } else { engine_error })
            .unwrap_or_else(|| "docker gave no reason".to_owned())
    }

    pub(super) fn not_started(&self, mut why: String) -> ContainerOutcome {
        let image = &self.container.config.executor.image;
        if let Ok(false) = self.container.docker.has_image(image) {
            why.push_str(&format!(
                "\nThe image `{image}` (`executor.image`) isn't on this machine; build it, for example with \
                 `docker build -t {image} executor-example`, or pull it."
            ));
        }
        log::error!(task:% = self.task.key(); "the container can't be started: {why}");
        ContainerOutcome::NotStarted(format!("the container can't be started: {why}"))
    }
}

fn waiting(why: &str) -> StepError {
    StepError::retry(format!("containers can't be started now: {why}"))
}
