//! Files in one direction, and how often a new task is accepted while none can be transferred.

use std::time::{Duration, Instant};

/// How long no new task is accepted, before one is: it may be only the files of the tasks here that fail. The time
/// doubles with each.
const FIRST_PROBE: Duration = Duration::from_secs(600);
const LONGEST_PROBE: Duration = Duration::from_secs(4 * 3600);

/// Files in one direction.
#[derive(Debug, Default)]
pub struct Transfers {
    failing: Option<Failing>,
}

/// While no file can be transferred.
#[derive(Debug)]
struct Failing {
    why: String,
    /// When a task is accepted all the same.
    next: Instant,
    pause: Duration,
}

impl Transfers {
    /// Notes why no file can be transferred, if none can. Returns whether that has changed.
    pub fn note(&mut self, trouble: Option<String>, now: Instant) -> bool {
        match (&mut self.failing, trouble) {
            (None, None) => false,
            (Some(failing), Some(why)) => {
                failing.why = why;
                false
            }
            (failing, trouble) => {
                *failing = trouble.map(|why| Failing { why, next: now + FIRST_PROBE, pause: FIRST_PROBE });
                true
            }
        }
    }

    /// Whether a task may be accepted, or why none may.
    pub fn check(&self, now: Instant) -> Result<(), String> {
        match &self.failing {
            Some(failing) if now < failing.next => Err(failing.why.clone()),
            _ => Ok(()),
        }
    }

    /// A task was accepted. The next one has to wait.
    pub fn note_accepted(&mut self, now: Instant) {
        if let Some(failing) = &mut self.failing {
            failing.pause = failing.pause.saturating_mul(2).min(LONGEST_PROBE);
            failing.next = now + failing.pause;
        }
    }

    pub fn are_failing(&self) -> bool {
        self.failing.is_some()
    }

    /// When a task is accepted although files fail.
    pub fn next(&self) -> Option<Instant> {
        self.failing.as_ref().map(|failing| failing.next)
    }
}
