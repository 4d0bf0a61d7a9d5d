//! Staying with a running container until its client ends, and stopping the container when that is due.

mod looks;

use std::fs;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use crossbeam_channel::{after, select};

use super::{Limits, TaskContainer};
use crate::config::ExecutorConfig;
use crate::docker::DockerError;
use crate::os::process::LoggedChild;
use crate::task::{StepError, StopReason, TaskHandle, WorkerEvent};
use looks::{Look, Looks};

/// How long a client may take to end whose outputs are closed.
const CLIENT_GRACE: Duration = Duration::from_secs(5);
/// How much earlier than this agent the engine may have noted the last output.
const IDLE_MARGIN: Duration = Duration::from_secs(5);
/// How often the clocks are checked where nothing else wakes this thread.
const TICK: Duration = Duration::from_millis(500);
/// How long the client may go on after a stop that succeeded, or after stops that were refused.
const STOP_PATIENCE: Duration = Duration::from_secs(15);
/// The pause after a stop that the engine refused, and after one that succeeded.
const REFUSED_PAUSE: Duration = Duration::from_millis(300);
const STOPPED_PAUSE: Duration = Duration::from_secs(1);
/// The pause while the engine can't be reached.
pub const ENGINE_PAUSE: Duration = Duration::from_secs(2);

/// A container that is there for so long without an error runs, although nothing is printed.
const RUNS: Duration = Duration::from_secs(60);

/// The watch over one container.
pub struct Watch<'t> {
    container: &'t TaskContainer<'t>,
    task: &'t mut TaskHandle,
    /// When the container started: when docker writes its id, for one that the client is still to start.
    started: Option<Instant>,
    last_output: Instant,
    /// Whether the agent knows that the container's program runs.
    is_known_to_run: bool,
    stop: Option<StopTries>,
    looks: Looks,
}

/// How a watch has ended.
pub struct Watched {
    /// The client's exit status, unless it had to be killed.
    pub exit_code: Option<i32>,
    /// When the container started.
    pub started: Option<Instant>,
    /// The limit, where the client hasn't started the container in time.
    pub overdue: Option<Duration>,
}

/// The tries to stop the container.
struct StopTries {
    /// When the client's time to end began.
    since: Instant,
    next: Instant,
    has_succeeded: bool,
}

impl<'t> Watch<'t> {
    pub fn new(container: &'t TaskContainer<'t>, task: &'t mut TaskHandle, started: Option<Instant>) -> Self {
        let Limits { look, reminders, .. } = container.limits;
        let looks = Looks::new(started.is_some(), look, reminders[0]);
        Self { container, task, started, last_output: Instant::now(), is_known_to_run: false, stop: None, looks }
    }

    /// Waits until the client ends, or has to be ended.
    pub fn run(mut self, mut client: LoggedChild) -> Result<Watched, StepError> {
        let (mut grace, mut overdue) = (CLIENT_GRACE, None);
        loop {
            if self.started.is_none() && self.task.files.has_cid() {
                self.started = Some(Instant::now());
                // The idle timer starts with the container.
                self.last_output = Instant::now();
            }
            if client.has_printed() {
                self.last_output = Instant::now();
            }
            self.note_run();
            self.note_timeout();
            if self.note_idleness() {
                grace = Duration::ZERO;
                break;
            }
            if self.task.record.stop.is_some() && !self.stop_when_due()? {
                break;
            }
            if client.has_ended() {
                break;
            }
            let look = self.look();
            if look != Look::GoOn {
                grace = Duration::ZERO;
                overdue = if let Look::Overdue(limit) = look { Some(limit) } else { None };
                break;
            }
            let (commands, eof) = (self.task.commands(), client.eof().clone());
            select! {
                recv(eof) -> _ => if client.note_eof() { break },
                recv(commands) -> command => self.task.handle(command)?,
                recv(after(self.next_check())) -> _ => {}
            }
        }
        let exit_code = client.finish(grace).as_ref().and_then(ExitStatus::code);
        Ok(Watched { exit_code, started: self.started, overdue })
    }

    /// Watches a container that has no client, for this time or until its end. What it prints isn't seen meanwhile.
    pub fn run_alone(mut self, time: Duration) -> Result<(), StepError> {
        let end = Instant::now() + time;
        loop {
            self.note_timeout();
            if self.task.record.stop.is_some() && !self.stop_when_due()? {
                return Ok(());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || self.stop.as_ref().is_some_and(|tries| tries.has_succeeded) || self.has_ended() {
                return Ok(());
            }
            self.task.wait(self.next_check().min(left))?;
        }
    }

    /// Reports once that the container's program runs. That would be known by its end only, which may be hours later. On
    /// standard output the client has no words of its own.
    fn note_run(&mut self) {
        let runs = || {
            self.looks.has_started() && self.started.is_some_and(|started| started.elapsed() >= RUNS)
                || fs::metadata(self.task.files.stdout()).is_ok_and(|log| log.len() > 0)
        };
        if !self.is_known_to_run && runs() {
            self.is_known_to_run = true;
            self.task.send(WorkerEvent::ProgramRan);
        }
    }

    /// Notes that the container has to be stopped because it has run for too long.
    fn note_timeout(&mut self) {
        if self.deadline().is_some_and(|at| Instant::now() >= at) {
            self.task.note_stop(StopReason::Timeout { minutes: self.executor().timeout_minutes });
        }
    }

    /// Notes that it has to be stopped because it has printed nothing for too long. Returns whether the client has fallen
    /// silent instead: the engine has later output than the client has shown.
    fn note_idleness(&mut self) -> bool {
        let executor = self.executor();
        let Some(limit) = executor.idle_timeout() else { return false };
        if self.started.is_none() || self.last_output.elapsed() < limit || self.task.record.stop.is_some() {
            return false;
        }
        let (docker, container) = (self.container.docker, self.container_id());
        // The engine's own times may be a little earlier.
        if docker.has_printed_within(&container, limit.saturating_sub(IDLE_MARGIN)).unwrap_or(false) {
            log::warn!(task:% = self.task.key(); "the docker client doesn't show what the container prints; ending the client");
            return true;
        }
        self.task.note_stop(StopReason::Idle { minutes: executor.idle_timeout_minutes });
        false
    }

    /// The container's id, or its name where that isn't known: the name may be another one's by now.
    fn container_id(&self) -> String {
        self.task.files.load_cid().unwrap_or_else(|| self.container.name.clone())
    }

    fn deadline(&self) -> Option<Instant> {
        self.started.zip(self.executor().timeout()).map(|(started, limit)| started + limit)
    }

    fn executor(&self) -> &'t ExecutorConfig {
        &self.container.config.executor
    }

    fn next_check(&self) -> Duration {
        let until_deadline = self.deadline().map_or(TICK, |at| at.saturating_duration_since(Instant::now()));
        // Until the container has an id, it is looked for more often, so that the clock starts with the container.
        let tick = if self.started.is_none() { TICK / 10 } else { TICK };
        tick.min(until_deadline).max(Duration::from_millis(1))
    }

    /// Tries to stop the container. One that doesn't exist yet, or that was created and not started, is tried for
    /// again. Returns `false` when the client has had its time to end: then it hangs.
    fn stop_when_due(&mut self) -> Result<bool, StepError> {
        let (now, container) = (Instant::now(), self.container_id());
        let tries = self.stop.get_or_insert(StopTries { since: now, next: now, has_succeeded: false });
        if tries.since.elapsed() > STOP_PATIENCE {
            log::warn!(task:% = self.task.key(); "the docker client doesn't end although the container was stopped");
            return Ok(false);
        }
        if now < tries.next {
            return Ok(true);
        }
        let pause = match self.container.stop(self.task, &container)? {
            Ok(()) => {
                // A stop may take long, so the client's time begins after the first one that succeeded.
                if !tries.has_succeeded {
                    (tries.has_succeeded, tries.since) = (true, Instant::now());
                }
                STOPPED_PAUSE
            }
            Err(DockerError::Refused(why)) => {
                log::debug!(task:% = self.task.key(); "stop: {why}");
                REFUSED_PAUSE
            }
            Err(error) => {
                // Without the engine nothing can be stopped, and that the client lives on means nothing.
                tries.since = Instant::now();
                log::warn!(task:% = self.task.key(); "can't be stopped now: {error}");
                ENGINE_PAUSE
            }
        };
        tries.next = Instant::now() + pause;
        Ok(true)
    }
}
