//! Staying with a running container until its end, and stopping it when that is due.

use std::fs;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use crossbeam_channel::{after, select};
use jiff::Timestamp;

use super::execute::{ENGINE_PAUSE, HEAD, Progress, TAIL, has_cid};
use super::{StepError, TaskRunner};
use crate::docker::{Container, DockerError, LogRange};
use crate::os::platform;
use crate::os::process::{BoundedLog, LoggedChild};
use crate::task::record::{Process, StopReason};

/// So much output of a stream the engine keeps in any case, however short its lines are.
const SURELY_KEPT: u64 = 64 * 1024;
/// How often a client that is followed is looked at, where nothing else wakes us.
const TICK: Duration = Duration::from_millis(500);
/// How long after a successful stop, or after tries of one, the client may live on.
const STOP_PATIENCE: Duration = Duration::from_secs(15);

/// What a client that was watched leads to.
#[derive(Clone, Copy)]
pub(super) struct Watched {
    /// The client's exit status.
    pub(super) exit_code: Option<i32>,
    /// When the container began to run, if it did.
    pub(super) began: Option<Instant>,
}

/// How far the stop of a container is.
struct Stopping {
    since: Instant,
    next: Instant,
    done: bool,
}

impl Stopping {
    fn begin() -> Self {
        Self { since: Instant::now(), next: Instant::now(), done: false }
    }
}

impl TaskRunner<'_> {
    /// Stays with a container that an earlier client, or an earlier life of the agent, has started.
    pub(super) fn follow(
        &mut self,
        name: &str,
        container: &Container,
        progress: &mut Progress,
    ) -> Result<(), StepError> {
        let stdout = BoundedLog::replay(self.files.stdout(), HEAD, TAIL);
        let stderr = BoundedLog::replay(self.files.stderr(), HEAD, TAIL);
        let follower = LoggedChild::spawn(self.context.docker.logs_command(name, LogRange::UntilExit), stdout, stderr)
            .map_err(|error| StepError::retry(format!("the container can't be followed: {error}")))?;
        // A crash of ours would leave it behind until the container prints or ends.
        self.record.client = Some(Process { id: follower.id(), started: platform::start_time(follower.id()) });
        self.save()?;
        // Only a container that began before this life of ours is timed by the engine's clock, which somebody may set.
        let by_engine = || Instant::now().checked_sub(container.ran_for(Timestamp::now())).unwrap_or_else(Instant::now);
        let began = *progress.began.get_or_insert_with(by_engine);
        let watched = self.watch(name, follower, Some(began))?;
        progress.captured = watched.exit_code == Some(0);
        progress.client_said = None;
        progress.watched = true;
        progress.engine_was_away |= watched.exit_code.is_some_and(|code| code != 0);
        if !progress.captured {
            // It ended before the container did, perhaps with the engine; don't ask again at once.
            self.pause(Duration::from_secs(1))?;
        }
        Ok(())
    }

    /// Fetches what a container printed that ended while nobody watched it, or whose client failed.
    ///
    /// What a failed client left in the logs may hold its own words (a pull's progress, a warning, "unexpected EOF"),
    /// which must not pass for the container's. So the engine's copy replaces it, unless that is so much that the
    /// engine can't have kept all.
    pub(super) fn collect_logs(&mut self, name: &str, progress: &Progress) -> Result<(), StepError> {
        let log = |path: PathBuf| {
            let is_small = fs::metadata(&path).is_ok_and(|meta| meta.len() < SURELY_KEPT);
            if progress.launches > 0 && is_small {
                BoundedLog::create(path, HEAD, TAIL)
            } else {
                BoundedLog::replay(path, HEAD, TAIL)
            }
        };
        let (stdout, stderr) = (log(self.files.stdout()), log(self.files.stderr()));
        match LoggedChild::spawn(self.context.docker.logs_command(name, LogRange::UntilNow), stdout, stderr) {
            Ok(reader) => {
                if reader.finish(Duration::from_secs(60)).is_none() {
                    log::warn!(task:% = self.key(); "`docker logs` didn't end within 60 s; its output may be incomplete");
                }
            }
            Err(error) => log::warn!(task:% = self.key(); "its output can't be fetched: {error}"),
        }
        Ok(())
    }

    /// Stays with a client until it ends, and stops the container when that is due. A container that hasn't `began` does
    /// so when docker has written its id.
    pub(super) fn watch(
        &mut self,
        name: &str,
        mut client: LoggedChild,
        mut began: Option<Instant>,
    ) -> Result<Watched, StepError> {
        let timeout = self.context.config.executor.timeout();
        let idle_timeout = self.context.config.executor.idle_timeout();
        let mut last_output = Instant::now();
        let mut stopping: Option<Stopping> = None;
        loop {
            if began.is_none() && has_cid(&self.files.cid()) {
                began = Some(Instant::now());
                // Until now nobody was there who could have printed anything.
                last_output = Instant::now();
            }
            let deadline = began.zip(timeout).map(|(began, limit)| began + limit);
            if self.record.stop.is_none() && deadline.is_some_and(|at| Instant::now() >= at) {
                let minutes = self.context.config.executor.timeout_minutes;
                self.note_stop(StopReason::Timeout { minutes })?;
            }
            if client.has_printed() {
                last_output = Instant::now();
            }
            if idle_timeout.is_some_and(|limit| began.is_some() && last_output.elapsed() >= limit) {
                let minutes = self.context.config.executor.idle_timeout_minutes;
                self.note_stop(StopReason::Idle { minutes })?;
            }
            if self.record.stop.is_some() {
                let stopping = stopping.get_or_insert_with(Stopping::begin);
                if stopping.since.elapsed() > STOP_PATIENCE {
                    log::warn!(task:% = self.key(); "the docker client doesn't end although the container was stopped");
                    break;
                }
                if Instant::now() >= stopping.next {
                    self.try_stop(name, stopping);
                }
            }
            if client.try_wait().is_ok_and(|status| status.is_some()) {
                break;
            }
            let until_deadline = deadline.map_or(TICK, |at| at.saturating_duration_since(Instant::now()));
            // A short look-out for the container's id makes the clock start with the container.
            let tick = if began.is_none() { TICK / 10 } else { TICK };
            let commands = self.commands.clone();
            let closings = client.eof().clone();
            select! {
                recv(closings) -> _ => if client.note_eof() { break },
                recv(commands) -> order => self.obey(order.map_err(|_| StepError::Shutdown)?)?,
                recv(after(tick.min(until_deadline).max(Duration::from_millis(1)))) -> _ => {}
            }
        }
        let exit_code = client.finish(Duration::from_secs(5)).as_ref().and_then(ExitStatus::code);
        Ok(Watched { exit_code, began })
    }

    /// Stops the container. One that isn't there yet, or is made and not started, is tried for again until patience is
    /// over; from then on the client is taken to hang.
    fn try_stop(&self, name: &str, stopping: &mut Stopping) {
        let pause = match self.context.docker.stop(name) {
            Ok(()) => {
                // A stop takes its time; patience begins with the first that came through.
                if !stopping.done {
                    (stopping.done, stopping.since) = (true, Instant::now());
                }
                Duration::from_secs(1)
            }
            Err(DockerError::Refused(why)) => {
                log::debug!(task:% = self.key(); "stop: {why}");
                Duration::from_millis(300)
            }
            Err(error) => {
                // While the engine is away, nothing can be stopped and the client is no witness.
                stopping.since = Instant::now();
                log::warn!(task:% = self.key(); "can't be stopped now: {error}");
                ENGINE_PAUSE
            }
        };
        stopping.next = Instant::now() + pause;
    }
}
