//! The request budget: how many calls we may make within a minute (PROTOCOL 6).
//!
//! The Server refuses calls past its limit, heartbeats too, and takes a service whose heartbeats it refuses for dead.
//! So transfers leave room in the window for what must not wait. The arithmetic is pure; who has to wait does so where
//! it can be woken.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The Server looks at the last 60 s. One more allows for calls that take different times to get there.
const WINDOW: Duration = Duration::from_secs(61);
/// Heartbeats within a window: every 20 s, and retries.
const HEARTBEATS: usize = 6;

/// What a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The poll that is due once in an interval: cancellations come with it.
    Poll,
    /// What else the main thread asks: further polls while there may be more, and accepts.
    Intake,
    /// How a task ended: while it is open the Server may hide all others behind it (PROTOCOL 2), so it goes before files.
    Report,
    /// Files, which can wait for some seconds.
    Delivery,
}

/// A sliding window over the calls of all threads.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    kept_for_polls: usize,
    window: Mutex<Window>,
}

/// What a call in the window was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Heartbeat,
    Poll,
    Other,
}

/// The calls of the last minute, the oldest first.
#[derive(Debug, Clone, Default)]
struct Window {
    calls: VecDeque<(Instant, Call)>,
    heartbeats: usize,
    polls: usize,
}

impl Window {
    fn push(&mut self, at: Instant, call: Call) {
        self.calls.push_back((at, call));
        self.heartbeats += usize::from(call == Call::Heartbeat);
        self.polls += usize::from(call == Call::Poll);
    }

    fn pop(&mut self) {
        if let Some((_, call)) = self.calls.pop_front() {
            self.heartbeats -= usize::from(call == Call::Heartbeat);
            self.polls -= usize::from(call == Call::Poll);
        }
    }
}

impl Budget {
    /// A budget of `limit` calls a minute, 0 for as many as one likes, for an agent that polls in this interval.
    pub fn new(limit: usize, poll_interval: Duration) -> Self {
        let polls = WINDOW.as_secs() / poll_interval.as_secs().max(1) + 1;
        // A short interval must not starve the results of the tasks that it brings.
        let kept_for_polls = usize::try_from(polls).unwrap_or(usize::MAX).min(limit / 2);
        Self { limit, kept_for_polls, window: Mutex::default() }
    }

    /// Counts a call that is made whatever the window says: a heartbeat.
    pub fn note(&self, now: Instant) {
        if self.limit > 0 {
            self.window(now).push(now, Call::Heartbeat);
        }
    }

    /// Takes room for a call, or says how long there is none.
    pub fn take(&self, purpose: Purpose, now: Instant) -> Result<(), Duration> {
        if self.limit == 0 {
            return Ok(());
        }
        let mut window = self.window(now);
        if self.has_room(&window, purpose) {
            window.push(now, if purpose == Purpose::Poll { Call::Poll } else { Call::Other });
            return Ok(());
        }
        // Room comes when enough of the oldest calls have left.
        let mut later = window.clone();
        let mut leaves_at = now;
        while let Some((at, _)) = later.calls.front().copied().filter(|_| !self.has_room(&later, purpose)) {
            leaves_at = at + WINDOW;
            later.pop();
        }
        Err(leaves_at.saturating_duration_since(now).max(Duration::from_millis(10)))
    }

    /// Whether a call still leaves room for the polls and heartbeats of this window: those that have been made need
    /// none any more.
    fn has_room(&self, window: &Window, purpose: Purpose) -> bool {
        let polls = match purpose {
            Purpose::Poll => 0,
            Purpose::Intake | Purpose::Report => self.kept_for_polls / 2,
            Purpose::Delivery => self.kept_for_polls,
        };
        let kept = HEARTBEATS.saturating_sub(window.heartbeats) + polls.saturating_sub(window.polls);
        window.calls.is_empty() || window.calls.len() + kept < self.limit
    }

    fn window(&self, now: Instant) -> MutexGuard<'_, Window> {
        // A thread that panicked in here has at worst counted one call too few.
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        while window.calls.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= WINDOW) {
            window.pop();
        }
        window
    }
}

#[cfg(test)]
mod tests {
    use super::{Budget, Purpose};
    use std::time::{Duration, Instant};

    #[test]
    fn deliveries_leave_room_for_polls_and_those_for_heartbeats() {
        let budget = Budget::new(140, Duration::from_secs(5));
        let now = Instant::now();
        let deliveries = (0..500).filter(|_| budget.take(Purpose::Delivery, now).is_ok()).count();
        let accepts = (0..500).filter(|_| budget.take(Purpose::Intake, now).is_ok()).count();
        let polls = (0..500).filter(|_| budget.take(Purpose::Poll, now).is_ok()).count();
        assert_eq!((deliveries, accepts, polls), (140 - 6 - 13, 7, 6));
        for _ in 0..6 {
            assert!(budget.take(Purpose::Poll, now).is_err());
            budget.note(now);
        }
    }

    #[test]
    fn polls_and_heartbeats_that_were_made_take_no_room_twice() {
        let budget = Budget::new(140, Duration::from_secs(1));
        let start = Instant::now();
        let mut deliveries = 0;
        for second in 0..300 {
            let now = start + Duration::from_secs(second);
            if second % 20 == 0 {
                budget.note(now);
            }
            assert!(budget.take(Purpose::Poll, now).is_ok(), "a poll in second {second}");
            while budget.take(Purpose::Delivery, now).is_ok() {
                deliveries += 1;
            }
        }
        // 72 in each of five windows.
        assert!(deliveries >= 5 * (140 - 6 - 62), "{deliveries}");
    }

    #[test]
    fn room_comes_back_when_calls_leave_the_window() {
        let budget = Budget::new(20, Duration::from_secs(60));
        let start = Instant::now();
        let second = |n| start + Duration::from_secs(n);
        let mut made = 0;
        while budget.take(Purpose::Delivery, second(made)).is_ok() {
            made += 1;
        }
        assert_eq!(made, 20 - 6 - 2);
        assert_eq!(budget.take(Purpose::Delivery, second(made)), Err(Duration::from_secs(61 - made)));
        assert!(budget.take(Purpose::Delivery, second(60)).is_err());
        assert!(budget.take(Purpose::Delivery, second(61)).is_ok());
        assert!(budget.take(Purpose::Delivery, second(61)).is_err());
    }

    #[test]
    fn never_more_than_the_limit_within_any_window() {
        let budget = Budget::new(30, Duration::from_secs(5));
        let start = Instant::now();
        let mut made = Vec::new();
        for tick in 0..3000_u32 {
            let now = start + Duration::from_millis(100) * tick;
            if tick % 200 == 0 {
                budget.note(now);
                made.push(now);
            }
            for purpose in [Purpose::Delivery, Purpose::Intake, Purpose::Poll] {
                if budget.take(purpose, now).is_ok() {
                    made.push(now);
                }
            }
        }
        for (index, at) in made.iter().enumerate() {
            let within = made[index..].iter().take_while(|later| **later < *at + Duration::from_secs(60)).count();
            assert!(within <= 30, "{within} calls within a minute");
        }
        assert!(made.len() > 120, "only {} calls in five minutes", made.len());
    }

    #[test]
    fn no_limit_and_tiny_limits() {
        let free = Budget::new(0, Duration::from_secs(5));
        assert!((0..10_000).all(|_| free.take(Purpose::Delivery, Instant::now()).is_ok()));
        let tiny = Budget::new(3, Duration::from_secs(5));
        assert!(tiny.take(Purpose::Delivery, Instant::now()).is_ok(), "even a tiny budget lets something through");
    }
}
