//! When the engine is looked at: each look costs a call of the docker client, which is most of what an idle agent costs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The pause between two looks while there are tasks here.
const INTERVAL: Duration = Duration::from_secs(10);
/// The same while there are none.
const IDLE_INTERVAL: Duration = Duration::from_secs(60);
/// For so long a look is good enough for a new task.
const FRESH: Duration = Duration::from_secs(15);

/// The looks at one engine: shared by the thread that looks and the one that accepts tasks.
#[derive(Debug, Default)]
pub struct EngineLooks {
    is_idle: AtomicBool,
    /// When the engine was found well last; `None` if it wasn't.
    last: Mutex<Option<Instant>>,
}

impl EngineLooks {
    /// Whether there are no tasks here.
    pub fn note_idle(&self, is_idle: bool) {
        self.is_idle.store(is_idle, Ordering::Relaxed);
    }

    /// The engine was looked at, and found well or not.
    pub fn note_look(&self, is_well: bool, now: Instant) {
        *self.last() = is_well.then_some(now);
    }

    /// The next look is due at once.
    pub fn require(&self) {
        *self.last() = None;
    }

    /// Whether it is time for a look. An engine that wasn't well is looked at each time.
    pub fn is_due(&self, now: Instant) -> bool {
        let interval = if self.is_idle.load(Ordering::Relaxed) { IDLE_INTERVAL } else { INTERVAL };
        // The thread wakes up a moment earlier or later.
        self.age(now).is_none_or(|age| age + INTERVAL / 2 >= interval)
    }

    /// Whether the last look is good enough for a new task.
    pub fn is_fresh(&self, now: Instant) -> bool {
        self.age(now).is_some_and(|age| age <= FRESH)
    }

    fn age(&self, now: Instant) -> Option<Duration> {
        self.last().map(|at| now.saturating_duration_since(at))
    }

    fn last(&self) -> MutexGuard<'_, Option<Instant>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::EngineLooks;
    use std::time::{Duration, Instant};

    #[test]
    fn an_idle_agent_looks_at_its_engine_once_a_minute() {
        let (looks, start) = (EngineLooks::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(looks.is_due(start) && !looks.is_fresh(start), "nothing is known at first");
        looks.note_look(true, start);
        assert_eq!([1, 10, 60].map(|seconds| looks.is_due(at(seconds))), [false, true, true]);
        looks.note_idle(true);
        assert_eq!([1, 10, 50, 60].map(|seconds| looks.is_due(at(seconds))), [false, false, false, true]);
        assert_eq!([10, 20].map(|seconds| looks.is_fresh(at(seconds))), [true, false]);
    }

    #[test]
    fn an_engine_that_is_not_well_is_looked_at_each_time() {
        let (looks, start) = (EngineLooks::default(), Instant::now());
        looks.note_idle(true);
        looks.note_look(false, start);
        assert!(looks.is_due(start) && !looks.is_fresh(start));
        looks.note_look(true, start);
        assert!(!looks.is_due(start));
        looks.require();
        assert!(looks.is_due(start));
    }
}
