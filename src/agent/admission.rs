//! Admission: whether this agent may accept an offered task, and if not, why. Nothing else in the program decides that;
//! `poller.rs` decides when the agent asks for one, and an offer that can't be used at all is refused in `intake.rs` and
//! `intake/accept.rs`.
//!
//! Tasks of this agent that have a record here are not subject to it: they are accepted again (P8).

use std::time::{Duration, Instant};

use thiserror::Error;

use super::health::HostHealth;

/// The health thread reports every ten seconds as a rule, and later when it waits for the engine or deletes workspaces.
/// After so long without a report, the health of the host is unknown.
const SILENT_HEALTH: Duration = Duration::from_secs(180);
/// How long no new task is accepted after a container that couldn't be started; it doubles with each in a row.
const AFTER_FAILED_START: Duration = Duration::from_secs(10);
const LONGEST_AFTER_FAILED_STARTS: Duration = Duration::from_secs(300);
/// After an interruption of heartbeats, a queued task may be one that the Server took from another agent of the service.
/// For so long it is left for that agent to take back (PROTOCOL 3).
pub const HOLD: Duration = Duration::from_secs(15);

/// How long no new task is accepted while no file can be sent or fetched, before one is; it doubles with each.
const FIRST_PROBE: Duration = Duration::from_secs(600);
const LONGEST_PROBE: Duration = Duration::from_secs(4 * 3600);

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
    /// The first health report hasn't come yet.
    #[error("engine, mounts and disk haven't been checked yet")]
    NotChecked,
    /// The last health report says this.
    #[error("{0}")]
    Unhealthy(String),
    /// The health thread checks image and mounts after a failed start.
    #[error("a container couldn't be started; image and mounts are being checked")]
    Rechecking,
    /// No health report has come for three minutes.
    #[error("no health report for 3 minutes: the Docker engine, a mount or the disk may be hanging")]
    HealthUnknown,
    /// A heartbeat failed, or a poll because of the key or the network. It lasts until a heartbeat is acknowledged.
    #[error("the Server doesn't acknowledge this agent's heartbeats")]
    ServerTrouble,
    /// No file can be sent to the Server, or fetched from it.
    #[error("{0}; a new task is tried now and then")]
    Transfers(String),
    /// The Server may have requeued this agent's tasks.
    #[error("heartbeats were interrupted; this agent reclaims its own tasks first, for some seconds")]
    Reclaiming,
    /// The pause after a failed start.
    #[error("a container couldn't be started a moment ago; soon one task is tried")]
    StartFailed,
}

impl NotAccepting {
    /// Whether the Server is told that no slot is available. It isn't for the reasons that end when the Server answers,
    /// or within seconds after that.
    fn is_announced(&self) -> bool {
        !matches!(self, Self::ServerTrouble | Self::Reclaiming)
    }
}

/// Why no file can be sent or fetched.
#[derive(Debug)]
struct Transfers {
    why: String,
    /// When a task is accepted all the same: it may be only the files of the tasks here that fail.
    next: Instant,
    pause: Duration,
}

/// Everything that decides whether a new task may be accepted. Pure: the time is an argument.
#[derive(Debug)]
pub struct Admission {
    mode: Mode,
    /// Whether the last health report allows new tasks.
    health: Result<(), NotAccepting>,
    health_at: Instant,
    server_trouble: bool,
    transfers: Option<Transfers>,
    hold_until: Option<Instant>,
    /// Containers in a row that couldn't be started.
    start_failures: u32,
    retry_at: Option<Instant>,
}

impl Admission {
    /// No health report has come yet.
    pub fn new(mode: Mode, now: Instant) -> Self {
        Self {
            mode,
            health: Err(NotAccepting::NotChecked),
            health_at: now,
            server_trouble: false,
            transfers: None,
            hold_until: None,
            start_failures: 0,
            retry_at: None,
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
        if let Some(transfers) = self.transfers.as_ref().filter(|transfers| now < transfers.next) {
            return Err(NotAccepting::Transfers(transfers.why.clone()));
        }
        if self.retry_at.is_some_and(|at| now < at) {
            return Err(NotAccepting::StartFailed);
        }
        Ok(self.slots(free))
    }

    /// The available capacity that heartbeats and polls report.
    pub fn announced(&self, free: usize, now: Instant) -> usize {
        match self.check(free, now) {
            Ok(slots) => slots,
            Err(why) if why.is_announced() => 0,
            // `check` stops at the first reason; the pause after a failed start may hold behind it.
            Err(_) if self.retry_at.is_some_and(|at| now < at) => 0,
            Err(_) => self.slots(free),
        }
    }

    fn slots(&self, free: usize) -> usize {
        if self.start_failures > 0 || self.transfers.is_some() { free.min(1) } else { free }
    }

    /// When the answer changes by time alone.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let transfers = self.transfers.as_ref().map(|transfers| transfers.next);
        let times = [self.hold_until, self.retry_at, transfers, Some(self.health_at + SILENT_HEALTH)];
        times.into_iter().flatten().filter(|at| *at > now).min()
    }

    /// What the agent works for.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// From now on no new task is accepted, and the agent ends when every task is settled.
    pub fn drain(&mut self) {
        self.mode = Mode::Drain;
    }

    /// Takes in a health report. Returns whether the host was ready before.
    pub fn note_health(&mut self, report: &HostHealth, now: Instant) -> bool {
        let was_ready = self.health.is_ok();
        self.health_at = now;
        match report {
            HostHealth::Unchanged => {}
            HostHealth::Ready => self.health = Ok(()),
            HostHealth::NotReady(why) | HostHealth::EngineDown(why) => {
                self.health = Err(NotAccepting::Unhealthy(why.clone()));
            }
        }
        was_ready
    }

    /// A container couldn't be started, for a reason of the host's: image and mounts are checked before the next task,
    /// and where they are in order, one task is tried after a pause. Otherwise the unknown reason would fail every task
    /// of the queue.
    pub fn note_failed_start(&mut self, now: Instant) {
        if self.health.is_ok() {
            self.health = Err(NotAccepting::Rechecking);
        }
        let pause = AFTER_FAILED_START.saturating_mul(2u32.saturating_pow(self.start_failures));
        self.start_failures = self.start_failures.saturating_add(1);
        self.retry_at = Some(now + pause.min(LONGEST_AFTER_FAILED_STARTS));
    }

    /// A container ran to its end, so that containers can be started.
    pub fn note_container_exit(&mut self) {
        self.start_failures = 0;
        self.retry_at = None;
    }

    /// Notes whether there is trouble with the Server.
    pub fn note_server(&mut self, trouble: bool) {
        self.server_trouble = trouble;
    }

    /// Notes whether files can be sent and fetched, or why not. Returns whether that has changed.
    pub fn note_transfers(&mut self, trouble: Option<String>, now: Instant) -> bool {
        match (&mut self.transfers, trouble) {
            (None, None) => false,
            (Some(transfers), Some(why)) => {
                transfers.why = why;
                false
            }
            (None, Some(why)) => {
                self.transfers = Some(Transfers { why, next: now + FIRST_PROBE, pause: FIRST_PROBE });
                true
            }
            (Some(_), None) => {
                self.transfers = None;
                true
            }
        }
    }

    /// A new task was accepted. While no file can be transferred, the next one has to wait.
    pub fn note_accepted(&mut self, now: Instant) {
        if let Some(transfers) = &mut self.transfers {
            transfers.pause = transfers.pause.saturating_mul(2).min(LONGEST_PROBE);
            transfers.next = now + transfers.pause;
        }
    }

    /// Accepts no new task for [`HOLD`].
    pub fn hold(&mut self, now: Instant) {
        self.hold_until = Some(now + HOLD);
    }
}

#[cfg(test)]
mod tests {
    use super::{Admission, Mode, NotAccepting};
    use crate::agent::health::HostHealth;
    use std::time::{Duration, Instant};

    fn ready(now: Instant) -> Admission {
        let mut admission = Admission::new(Mode::Serve, now);
        assert!(!admission.note_health(&HostHealth::Ready, now));
        admission
    }

    fn secs(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn no_task_is_accepted_before_the_first_health_report() {
        let now = Instant::now();
        let mut admission = Admission::new(Mode::Serve, now);
        assert_eq!((admission.check(2, now), admission.announced(2, now)), (Err(NotAccepting::NotChecked), 0));
        assert!(!admission.note_health(&HostHealth::EngineDown("no socket".to_owned()), now));
        assert_eq!(admission.check(2, now), Err(NotAccepting::Unhealthy("no socket".to_owned())));
        assert!(!admission.note_health(&HostHealth::Ready, now));
        assert!(admission.note_health(&HostHealth::Ready, now));
        assert_eq!((admission.check(2, now), admission.announced(2, now)), (Ok(2), 2));
    }

    #[test]
    fn health_is_unknown_after_three_minutes_without_a_report() {
        let now = Instant::now();
        let mut admission = ready(now);
        assert_eq!(admission.due(now), Some(now + secs(180)));
        assert_eq!(admission.check(1, now + secs(179)), Ok(1));
        assert_eq!(admission.check(1, now + secs(180)), Err(NotAccepting::HealthUnknown));
        assert_eq!(admission.announced(1, now + secs(180)), 0);
        assert!(admission.note_health(&HostHealth::Unchanged, now + secs(181)));
        assert_eq!(admission.check(1, now + secs(181)), Ok(1));
    }

    #[test]
    fn failed_starts_pause_longer_before_one_task_is_tried() {
        let now = Instant::now();
        let mut admission = ready(now);
        for (failures, pause) in [(1, 10), (2, 20), (3, 40), (20, 300)] {
            while admission.start_failures < failures {
                admission.note_failed_start(now);
            }
            assert_eq!(admission.check(4, now), Err(NotAccepting::Rechecking));
            admission.note_health(&HostHealth::Ready, now + secs(pause));
            assert_eq!(admission.check(4, now + secs(pause - 1)), Err(NotAccepting::StartFailed));
            assert_eq!((admission.check(4, now + secs(pause)), admission.check(0, now + secs(pause))), (Ok(1), Ok(0)));
        }
        admission.note_container_exit();
        assert_eq!(admission.check(4, now), Ok(4));
    }

    #[test]
    fn server_trouble_and_a_hold_are_not_reported_to_the_server() {
        let now = Instant::now();
        let mut admission = ready(now);
        admission.note_server(true);
        assert_eq!((admission.check(3, now), admission.announced(3, now)), (Err(NotAccepting::ServerTrouble), 3));
        admission.note_server(false);
        admission.hold(now);
        assert_eq!((admission.check(3, now), admission.announced(3, now)), (Err(NotAccepting::Reclaiming), 3));
        assert_eq!(admission.due(now), Some(now + secs(15)));
        assert_eq!(admission.check(3, now + secs(15)), Ok(3));
        admission.note_failed_start(now);
        admission.note_health(&HostHealth::Ready, now);
        assert_eq!(admission.announced(3, now), 0, "the pause after a failed start counts all the same");
    }

    #[test]
    fn no_task_is_accepted_while_files_fail_but_one_now_and_then() {
        let now = Instant::now();
        let mut admission = ready(now);
        let why = || Some("no result can be sent: 500".to_owned());
        assert!(admission.note_transfers(why(), now) && !admission.note_transfers(why(), now));
        let refused = Err(NotAccepting::Transfers("no result can be sent: 500".to_owned()));
        let report = |admission: &mut Admission, at| admission.note_health(&HostHealth::Unchanged, at);
        assert_eq!((admission.check(4, now), admission.announced(4, now)), (refused.clone(), 0));
        report(&mut admission, now + secs(599));
        assert_eq!(
            (admission.check(4, now + secs(599)), admission.check(4, now + secs(600))),
            (refused.clone(), Ok(1))
        );
        admission.note_accepted(now + secs(600));
        report(&mut admission, now + secs(1799));
        assert_eq!((admission.check(4, now + secs(1799)), admission.check(4, now + secs(1800))), (refused, Ok(1)));
        assert!(admission.note_transfers(None, now + secs(1800)));
        assert_eq!(admission.check(4, now + secs(1800)), Ok(4));
    }

    #[test]
    fn a_draining_agent_accepts_no_task_in_any_health() {
        let now = Instant::now();
        let mut admission = ready(now);
        admission.drain();
        assert_eq!((admission.check(1, now), admission.announced(1, now)), (Err(NotAccepting::Draining), 0));
    }
}
