//! The request budget: how many calls the agent may make within a minute (PROTOCOL 6).
//!
//! The Server refuses calls past its limit, heartbeats too, and a service without heartbeats becomes offline. So
//! transfers leave room in the window for calls that must not wait. Nothing in this module waits: the caller does, where
//! a command can interrupt the wait.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The Server counts the calls of the last 60 s. One more second allows for calls that take different times to arrive.
const WINDOW: Duration = Duration::from_secs(61);
/// Heartbeats within a window: every 20 s, and retries.
const HEARTBEATS: usize = 6;

/// What a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The poll that is due once an interval: its answer may be a cancellation.
    Poll,
    /// Further polls while the Server may have more tasks, and accepts.
    Intake,
    /// The report of a task's end. A cancelled task without one hides all others on the Server (PROTOCOL 2), so reports
    /// precede files.
    Report,
    /// Files, which can wait for some seconds.
    Delivery,
}

/// A sliding window over the calls of all threads.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    reserved_for_polls: usize,
    /// The calls of the last minute, the oldest first.
    window: Mutex<VecDeque<(Instant, Call)>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Heartbeat,
    Poll,
    Other,
}

impl Budget {
    /// A budget of `limit` calls a minute, where 0 means no limit, for an agent that polls in this interval.
    pub fn new(limit: usize, poll_interval: Duration) -> Self {
        let polls = WINDOW.as_secs() / poll_interval.as_secs().max(1) + 1;
        // A short interval must leave room for the results of the tasks.
        let reserved_for_polls = usize::try_from(polls).unwrap_or(usize::MAX).min(limit / 2);
        Self { limit, reserved_for_polls, window: Mutex::default() }
    }

    /// Counts a heartbeat, which is sent without regard to the limit.
    pub fn note_heartbeat(&self, now: Instant) {
        if self.limit > 0 {
            self.window(now).push_back((now, Call::Heartbeat));
        }
    }

    /// Reserves room for a call, or returns the time until there is room.
    pub fn try_acquire(&self, purpose: Purpose, now: Instant) -> Result<(), Duration> {
        if self.limit == 0 {
            return Ok(());
        }
        let mut window = self.window(now);
        if self.has_room(&window, 0, purpose) {
            window.push_back((now, if purpose == Purpose::Poll { Call::Poll } else { Call::Other }));
            return Ok(());
        }
        // There is room when enough of the oldest calls have left the window.
        let leaving = (1..=window.len()).find(|left| self.has_room(&window, *left, purpose)).unwrap_or_default();
        let leaves_at = window.get(leaving.saturating_sub(1)).map_or(now, |(at, _)| *at + WINDOW);
        Err(leaves_at.saturating_duration_since(now).max(Duration::from_millis(10)))
    }

    /// Whether a call leaves room for the polls and heartbeats that this window still lacks, without its oldest calls.
    fn has_room(&self, window: &VecDeque<(Instant, Call)>, left: usize, purpose: Purpose) -> bool {
        let polls = match purpose {
            Purpose::Poll => 0,
            Purpose::Intake | Purpose::Report => self.reserved_for_polls / 2,
            Purpose::Delivery => self.reserved_for_polls,
        };
        let count = |kind| window.range(left..).filter(|(_, call)| *call == kind).count();
        let reserved = HEARTBEATS.saturating_sub(count(Call::Heartbeat)) + polls.saturating_sub(count(Call::Poll));
        let calls = window.len() - left;
        calls == 0 || calls + reserved < self.limit
    }

    fn window(&self, now: Instant) -> MutexGuard<'_, VecDeque<(Instant, Call)>> {
        // A thread that panicked with the lock has at worst left one call uncounted.
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        while window.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= WINDOW) {
            window.pop_front();
        }
        window
    }
}

#[cfg(test)]
mod tests {
    use super::{Budget, Purpose};
    use std::time::{Duration, Instant};

    #[test]
    fn budget_keeps_room_for_polls_and_heartbeats() {
        let budget = Budget::new(140, Duration::from_secs(5));
        let now = Instant::now();
        let deliveries = (0..500).filter(|_| budget.try_acquire(Purpose::Delivery, now).is_ok()).count();
        let accepts = (0..500).filter(|_| budget.try_acquire(Purpose::Intake, now).is_ok()).count();
        let polls = (0..500).filter(|_| budget.try_acquire(Purpose::Poll, now).is_ok()).count();
        assert_eq!((deliveries, accepts, polls), (140 - 6 - 13, 7, 6));
        for _ in 0..6 {
            assert!(budget.try_acquire(Purpose::Poll, now).is_err());
            budget.note_heartbeat(now);
        }
    }

    #[test]
    fn polls_and_heartbeats_use_the_reserved_room_once() {
        let budget = Budget::new(140, Duration::from_secs(1));
        let start = Instant::now();
        let mut deliveries = 0;
        for second in 0..300 {
            let now = start + Duration::from_secs(second);
            if second % 20 == 0 {
                budget.note_heartbeat(now);
            }
            assert!(budget.try_acquire(Purpose::Poll, now).is_ok(), "a poll in second {second}");
            while budget.try_acquire(Purpose::Delivery, now).is_ok() {
                deliveries += 1;
            }
        }
        // 72 in each of five windows.
        assert!(deliveries >= 5 * (140 - 6 - 62), "{deliveries}");
    }

    #[test]
    fn room_is_free_again_when_calls_leave_the_window() {
        let budget = Budget::new(20, Duration::from_secs(60));
        let start = Instant::now();
        let second = |n| start + Duration::from_secs(n);
        let mut made = 0;
        while budget.try_acquire(Purpose::Delivery, second(made)).is_ok() {
            made += 1;
        }
        assert_eq!(made, 20 - 6 - 2);
        assert_eq!(budget.try_acquire(Purpose::Delivery, second(made)), Err(Duration::from_secs(61 - made)));
        assert!(budget.try_acquire(Purpose::Delivery, second(60)).is_err());
        assert!(budget.try_acquire(Purpose::Delivery, second(61)).is_ok());
        assert!(budget.try_acquire(Purpose::Delivery, second(61)).is_err());
    }

    #[test]
    fn calls_stay_within_the_limit_in_every_window() {
        let budget = Budget::new(30, Duration::from_secs(5));
        let start = Instant::now();
        let mut made = Vec::new();
        for tick in 0..3000_u32 {
            let now = start + Duration::from_millis(100) * tick;
            if tick % 200 == 0 {
                budget.note_heartbeat(now);
                made.push(now);
            }
            for purpose in [Purpose::Delivery, Purpose::Intake, Purpose::Poll] {
                if budget.try_acquire(purpose, now).is_ok() {
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
    fn calls_are_allowed_without_a_limit_and_with_a_tiny_one() {
        let free = Budget::new(0, Duration::from_secs(5));
        assert!((0..10_000).all(|_| free.try_acquire(Purpose::Delivery, Instant::now()).is_ok()));
        let tiny = Budget::new(3, Duration::from_secs(5));
        assert!(
            tiny.try_acquire(Purpose::Delivery, Instant::now()).is_ok(),
            "even a tiny budget lets something through"
        );
    }
}
