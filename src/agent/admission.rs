//! Admission: whether this agent may accept an offered task, and if not, why. Nothing else in the program decides that;
//! `poller.rs` decides when the agent asks for one, and an offer that can't be used at all is refused in `intake.rs` and
//! `intake/accept.rs`.
//!
//! Tasks of this agent that have a record here are not subject to it: they are accepted again (P8).

mod transfers;

use std::time::{Duration, Instant};

use thiserror::Error;

use super::health::HostHealth;
use crate::server::Way;
use crate::text::gist;
use transfers::Transfers;

/// The health thread reports every ten seconds as a rule, and later when it waits for the engine or deletes workspaces.
/// After so long without a report, the health of the host is unknown.
const SILENT_HEALTH: Duration = Duration::from_secs(180);
/// How long no new task is accepted after a container that couldn't be started: the first time, doubling with each in a
/// row, and at most.
const AFTER_FAILED_START: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(300)];
/// The same after a task's files couldn't be written. Trying that costs no task anything.
const AFTER_FAILED_WRITE: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(60)];
/// The same after containers of several tasks in a row ended at once and printed nothing, and how many those are. Each
/// try may cost a task.
const AFTER_SILENT_ENDS: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(1800)];
const SILENT_ENDS: u32 = 3;
/// How many characters of a reason are shown.
const SHOWN: usize = 300;
/// After an interruption of heartbeats, a queued task may be one that the Server took from another agent of the service.
/// For so long it is left for that agent to take back (PROTOCOL 3).
pub const HOLD: Duration = Duration::from_secs(15);

/// What the agent works for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It accepts tasks until a signal or a drain ends it.
    Serve,
    /// It accepts no new task, and ends when every task here is settled.
    Drain,
    /// It stops every container, accepts no new task, and ends when every task here is settled, or at this time.
    Abort(Instant),
}

/// Why no new task is accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotAccepting {
    /// A drain was requested.
    #[error("the agent is draining, and ends when every task here is delivered")]
    Draining,
    /// The operator has paused the agent.
    #[error("{0}; `agent-core resume` ends that")]
    Paused(String),
    /// The first health report hasn't come yet.
    #[error("engine, mounts and disk haven't been checked yet")]
    NotChecked,
    /// The last health report says this.
    #[error("{0}")]
    Unhealthy(String),
    /// The health thread starts a container of its own after a failed start.
    #[error("a container couldn't be started ({0}); one of the agent's own is started first")]
    Rechecking(String),
    /// No health report has come for three minutes.
    #[error("no health report for 3 minutes: the Docker engine, a mount or the disk may be hanging")]
    HealthUnknown,
    /// A heartbeat failed, or a poll because of the key or the network. It lasts until a heartbeat is acknowledged.
    #[error("the Server doesn't acknowledge this agent's heartbeats")]
    ServerTrouble,
    /// No file can be sent to the Server.
    #[error("{0}; a new task is tried now and then")]
    Uploads(String),
    /// No file can be fetched from it. A task without input files needs none.
    #[error("none with input files: {0}; one is tried now and then")]
    Downloads(String),
    /// The Server may have requeued this agent's tasks.
    #[error("heartbeats were interrupted; this agent reclaims its own tasks first, for some seconds")]
    Reclaiming,
    /// The pause after a failed start.
    #[error("a container couldn't be started a moment ago ({0}); soon one task is tried")]
    StartFailed(String),
    /// The pause after containers that ended at once, the last with this status.
    #[error(
        "the containers of the last tasks ended at once, the last with exit status {0}, and printed nothing, as if no \
         program could run here; after a pause one task is tried (`agent-core check` tries to run one)"
    )]
    SilentEnds(i32),
    /// The pause after a task's files couldn't be written.
    #[error("a task's files can't be written: {0}; soon that is tried again")]
    CantWrite(String),
}

impl NotAccepting {
    /// Whether the Server is told that no slot is available. It isn't for the reasons that end when the Server answers,
    /// or within seconds after that.
    fn is_announced(&self) -> bool {
        !matches!(self, Self::ServerTrouble | Self::Reclaiming)
    }
}

/// A pause after something that would befall every task.
#[derive(Debug, Default)]
struct Pause {
    /// How often in a row it has happened.
    count: u32,
    /// The pause's end, and its reason.
    until: Option<(Instant, NotAccepting)>,
    /// How long it is.
    time: Duration,
}

impl Pause {
    /// Begins a pause for the `count`th time.
    fn begin(&mut self, [first, longest]: [Duration; 2], count: u32, why: NotAccepting, now: Instant) {
        self.time = first.saturating_mul(2u32.saturating_pow(count.saturating_sub(1))).min(longest);
        self.until = Some((now + self.time, why));
    }

    /// One task is tried: the next one waits for what becomes of it, and as long as the pause at most.
    fn begin_again(&mut self, now: Instant) {
        if let Some((until, _)) = &mut self.until {
            *until = now + self.time;
        }
    }

    fn check(&self, now: Instant) -> Result<(), NotAccepting> {
        match &self.until {
            Some((until, why)) if now < *until => Err(why.clone()),
            _ => Ok(()),
        }
    }
}

/// Everything that decides whether a new task may be accepted. Pure: the time is an argument.
#[derive(Debug)]
pub struct Admission {
    mode: Mode,
    /// Why and until when the operator has paused the agent.
    pause: Option<String>,
    /// Whether the last health report allows new tasks.
    health: Result<(), NotAccepting>,
    health_at: Instant,
    server_trouble: bool,
    /// Whether files can be sent to the Server, and fetched from it.
    uploads: Transfers,
    downloads: Transfers,
    hold_until: Option<Instant>,
    /// After containers that couldn't be started.
    starts: Pause,
    /// After containers that ended at once.
    silent_ends: Pause,
    /// After files that couldn't be written.
    writes: Pause,
}

impl Admission {
    /// No health report has come yet.
    pub fn new(mode: Mode, now: Instant) -> Self {
        Self {
            mode,
            pause: None,
            health: Err(NotAccepting::NotChecked),
            health_at: now,
            server_trouble: false,
            uploads: Transfers::default(),
            downloads: Transfers::default(),
            hold_until: None,
            starts: Pause::default(),
            silent_ends: Pause::default(),
            writes: Pause::default(),
        }
    }

    /// How many of `free` slots new tasks may take now. After a failed start one task at a time is tried.
    ///
    /// # Errors
    /// No new task may be accepted, for this reason.
    pub fn check(&self, free: usize, now: Instant) -> Result<usize, NotAccepting> {
        if self.mode != Mode::Serve {
            return Err(NotAccepting::Draining);
        }
        if let Some(pause) = &self.pause {
            return Err(NotAccepting::Paused(pause.clone()));
        }
        self.health.clone()?;
        if now.saturating_duration_since(self.health_at) >= SILENT_HEALTH {
            return Err(NotAccepting::HealthUnknown);
        }
        if self.server_trouble {
            return Err(NotAccepting::ServerTrouble);
        }
        if self.hold_until.is_some_and(|until| now < until) {
            return Err(NotAccepting::Reclaiming);
        }
        self.uploads.check(now).map_err(NotAccepting::Uploads)?;
        self.check_pauses(now)?;
        Ok(self.slots(free))
    }

    /// Whether a new task with input files may be accepted where others may.
    ///
    /// # Errors
    /// It may not, for this reason.
    pub fn check_inputs(&self, now: Instant) -> Result<(), NotAccepting> {
        self.downloads.check(now).map_err(NotAccepting::Downloads)
    }

    /// The available capacity that heartbeats and polls report.
    pub fn announced(&self, free: usize, now: Instant) -> usize {
        match self.check(free, now) {
            Ok(slots) => slots,
            Err(why) if why.is_announced() => 0,
            // `check` stops at the first reason; a pause may hold behind it.
            Err(_) if self.check_pauses(now).is_err() => 0,
            Err(_) => self.slots(free),
        }
    }

    fn check_pauses(&self, now: Instant) -> Result<(), NotAccepting> {
        [&self.starts, &self.silent_ends, &self.writes].into_iter().try_for_each(|pause| pause.check(now))
    }

    fn slots(&self, free: usize) -> usize {
        let is_tried = self.starts.count > 0
            || self.silent_ends.count >= SILENT_ENDS
            || self.writes.count > 0
            || self.uploads.are_failing();
        if is_tried { free.min(1) } else { free }
    }

    /// When the answer changes by time alone.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let ends =
            [&self.starts, &self.silent_ends, &self.writes].map(|pause| pause.until.as_ref().map(|until| until.0));
        let transfers = [&self.uploads, &self.downloads].map(Transfers::next);
        let times = [self.hold_until, Some(self.health_at + SILENT_HEALTH)].into_iter().chain(transfers).chain(ends);
        times.flatten().filter(|at| *at > now).min()
    }

    /// What the agent works for.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// From now on no new task is accepted, and the agent ends when every task is settled.
    pub fn drain(&mut self) {
        self.mode = Mode::Drain;
    }

    /// A drain is taken back: new tasks are accepted again.
    pub fn end_drain(&mut self) {
        self.mode = Mode::Serve;
    }

    /// Notes whether the operator has paused the agent, and why. Returns whether that has changed.
    pub fn note_pause(&mut self, pause: Option<String>) -> bool {
        let is_new = self.pause != pause;
        self.pause = pause;
        is_new
    }

    /// Takes in a health report. Returns whether the host was ready before.
    pub fn note_health(&mut self, report: &HostHealth, now: Instant) -> bool {
        let was_ready = self.health.is_ok();
        self.health_at = now;
        match report {
            HostHealth::Unchanged => {}
            HostHealth::Ready => {
                if !was_ready {
                    self.writes = Pause::default();
                }
                self.health = Ok(());
            }
            HostHealth::NotReady(why) | HostHealth::EngineDown(why) => {
                self.health = Err(NotAccepting::Unhealthy(why.clone()));
            }
        }
        was_ready
    }

    /// The configuration was read again: what the last health report says may not be true of the new one. Where that
    /// `may_repair` containers, those that failed say nothing of the next ones.
    pub fn note_reloaded(&mut self, may_repair: bool) {
        self.health = Err(NotAccepting::NotChecked);
        if may_repair {
            self.note_program_ran();
        }
    }

    /// A container couldn't be started, for this reason: one of the agent's own is started before the next task, and
    /// where that works, one task is tried after a pause. Otherwise the reason would fail every task of the queue.
    pub fn note_failed_start(&mut self, why: &str, now: Instant) {
        let why = first_line(why);
        if self.health.is_ok() {
            self.health = Err(NotAccepting::Rechecking(why.clone()));
        }
        self.starts.count = self.starts.count.saturating_add(1);
        self.starts.begin(AFTER_FAILED_START, self.starts.count, NotAccepting::StartFailed(why), now);
    }

    /// A task's program has run or runs, so that containers can be started, and programs run in them.
    pub fn note_program_ran(&mut self) {
        self.starts = Pause::default();
        self.silent_ends = Pause::default();
    }

    /// A task's container ended at once with this status, and printed nothing. After some in a row, one task at a time is
    /// tried, after a pause. Returns whether that is so.
    pub fn note_silent_end(&mut self, code: i32, now: Instant) -> bool {
        self.starts = Pause::default();
        self.silent_ends.count = self.silent_ends.count.saturating_add(1);
        let Some(over) = self.silent_ends.count.checked_sub(SILENT_ENDS) else { return false };
        self.silent_ends.begin(AFTER_SILENT_ENDS, over.saturating_add(1), NotAccepting::SilentEnds(code), now);
        true
    }

    /// A task's files couldn't be written, for this reason. No task fails for that. Returns whether the reason is new.
    pub fn note_failed_write(&mut self, why: &str, now: Instant) -> bool {
        let reason = NotAccepting::CantWrite(first_line(why));
        let is_new =
            self.writes.until.as_ref().is_none_or(|(_, last)| gist(&last.to_string()) != gist(&reason.to_string()));
        self.writes.count = self.writes.count.saturating_add(1);
        self.writes.begin(AFTER_FAILED_WRITE, self.writes.count, reason, now);
        is_new
    }

    /// A task's workspace is complete.
    pub fn note_written(&mut self) {
        self.writes = Pause::default();
    }

    /// Notes whether there is trouble with the Server.
    pub fn note_server(&mut self, trouble: bool) {
        self.server_trouble = trouble;
    }

    /// Notes whether files can be sent, or fetched, or why not. Returns whether that has changed.
    pub fn note_transfers(&mut self, way: Way, trouble: Option<String>, now: Instant) -> bool {
        let transfers = if way == Way::Upload { &mut self.uploads } else { &mut self.downloads };
        transfers.note(trouble, now)
    }

    /// A new task was accepted. While no file can be transferred, and where one task at a time is tried, the next one has to
    /// wait.
    pub fn note_accepted(&mut self, has_inputs: bool, now: Instant) {
        self.uploads.note_accepted(now);
        if has_inputs {
            self.downloads.note_accepted(now);
        }
        [&mut self.starts, &mut self.silent_ends].into_iter().for_each(|pause| pause.begin_again(now));
    }

    /// Accepts no new task for [`HOLD`].
    pub fn hold(&mut self, now: Instant) {
        self.hold_until = Some(now + HOLD);
    }
}

/// What is shown of a reason.
fn first_line(why: &str) -> String {
    why.lines().next().unwrap_or_default().chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests;
