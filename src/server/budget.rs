//! The request budget: how many calls the agent may make within a minute (PROTOCOL 6).
//!
//! The Server refuses calls past its limit, heartbeats too, and a service without heartbeats becomes offline. So
//! transfers leave room in the window for calls that must not wait, and a task with hundreds of files leaves room for
//! those of other tasks. Nothing in this module waits: the caller does, where a command can interrupt the wait.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The Server counts the calls of the last 60 s. One more second allows for calls that take different times to arrive.
const WINDOW: Duration = Duration::from_secs(61);
/// Heartbeats within a window: every 20 s, and retries.
const HEARTBEATS: usize = 6;
/// A task that has made more transfers than this within a window is a large one.
const LARGE: usize = 30;

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
    /// Files of this task, which can wait for some seconds.
    Delivery(TaskShare),
}

impl Purpose {
    /// A file of the task with this name.
    pub fn delivery(task: impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        task.hash(&mut hasher);
        Self::Delivery(TaskShare(hasher.finish()))
    }
}

/// Whose transfers are counted together. Two tasks that were counted as one would only wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TaskShare(u64);

/// A sliding window over the calls of all threads.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    reserved: Reserved,
    /// The calls of the last minute, the oldest first.
    window: Mutex<VecDeque<(Instant, Call)>>,
}

/// How many calls of each kind always find room within a window.
#[derive(Debug)]
struct Reserved {
    polls: usize,
    /// What files leave to intake: a free slot takes a task within a poll.
    intake: usize,
    /// What the files of large tasks leave to those of all others.
    others: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Heartbeat,
    Poll,
    Intake,
    Report,
    Delivery(TaskShare),
}

/// The calls of a window by their kinds.
#[derive(Default)]
struct Counts {
    all: usize,
    heartbeats: usize,
    polls: usize,
    intake: usize,
    tasks: HashMap<TaskShare, usize>,
}

impl Counts {
    fn of<'c>(calls: impl Iterator<Item = &'c (Instant, Call)>) -> Self {
        let mut counts = Self::default();
        for (_, call) in calls {
            counts.all += 1;
            match call {
                Call::Heartbeat => counts.heartbeats += 1,
                Call::Poll => counts.polls += 1,
                Call::Intake => counts.intake += 1,
                Call::Report => {}
                Call::Delivery(task) => *counts.tasks.entry(*task).or_default() += 1,
            }
        }
        counts
    }

    fn is_large(&self, task: TaskShare) -> bool {
        self.tasks.get(&task).is_some_and(|count| *count > LARGE)
    }

    /// The transfers of tasks that aren't large.
    fn of_small_tasks(&self) -> usize {
        self.tasks.values().filter(|count| **count <= LARGE).sum()
    }
}

impl Budget {
    /// A budget of `limit` calls a minute, where 0 means no limit, for an agent that polls in this interval.
    pub fn new(limit: usize, poll_interval: Duration) -> Self {
        let polls = WINDOW.as_secs() / poll_interval.as_secs().max(1) + 1;
        // A short interval must leave room for the results of the tasks, and so must the other shares.
        let polls = usize::try_from(polls).unwrap_or(usize::MAX).min(limit / 2);
        let rest = limit.saturating_sub(HEARTBEATS + polls);
        let reserved = Reserved { polls, intake: rest / 10, others: (rest / 4).min(LARGE) };
        Self { limit, reserved, window: Mutex::default() }
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
            let call = match purpose {
                Purpose::Poll => Call::Poll,
                Purpose::Intake => Call::Intake,
                Purpose::Report => Call::Report,
                Purpose::Delivery(task) => Call::Delivery(task),
            };
            window.push_back((now, call));
            return Ok(());
        }
        // There is room when enough of the oldest calls have left the window. A call that leaves never takes room away, since
        // it makes at most one more reserved.
        let (mut too_few, mut enough) = (0, window.len());
        while enough - too_few > 1 {
            let middle = too_few + (enough - too_few) / 2;
            if self.has_room(&window, middle, purpose) { enough = middle } else { too_few = middle }
        }
        let leaves_at = window.get(enough.saturating_sub(1)).map_or(now, |(at, _)| *at + WINDOW);
        Err(leaves_at.saturating_duration_since(now).max(Duration::from_millis(10)))
    }

    /// Whether a call leaves room for the more urgent ones that this window still lacks, without its oldest calls.
    fn has_room(&self, window: &VecDeque<(Instant, Call)>, left: usize, purpose: Purpose) -> bool {
        let counts = Counts::of(window.range(left..));
        let Reserved { polls, intake, others } = self.reserved;
        let (polls, intake, others) = match purpose {
            Purpose::Poll => (0, 0, 0),
            Purpose::Intake | Purpose::Report => (polls / 2, 0, 0),
            Purpose::Delivery(task) if counts.is_large(task) => (polls, intake, others),
            Purpose::Delivery(_) => (polls, intake, 0),
        };
        let reserved = HEARTBEATS.saturating_sub(counts.heartbeats)
            + polls.saturating_sub(counts.polls)
            + intake.saturating_sub(counts.intake)
            + others.saturating_sub(counts.of_small_tasks());
        counts.all == 0 || counts.all + reserved < self.limit
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
        let deliveries = (0..500).filter(|n| budget.try_acquire(Purpose::delivery(n), now).is_ok()).count();
        let accepts = (0..500).filter(|_| budget.try_acquire(Purpose::Intake, now).is_ok()).count();
        let polls = (0..500).filter(|_| budget.try_acquire(Purpose::Poll, now).is_ok()).count();
        assert_eq!((deliveries, accepts, polls), (140 - 6 - 13 - 12, 19, 6));
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
            while budget.try_acquire(Purpose::delivery(second), now).is_ok() {
                deliveries += 1;
            }
        }
        // 65 in each of five windows, beside those that are kept for intake.
        assert!(deliveries >= 5 * (140 - 6 - 62 - 7), "{deliveries}");
    }

    #[test]
    fn room_is_free_again_when_calls_leave_the_window() {
        let budget = Budget::new(20, Duration::from_secs(60));
        let start = Instant::now();
        let second = |n| start + Duration::from_secs(n);
        let mut made = 0;
        let file = Purpose::delivery("t");
        while budget.try_acquire(file, second(made)).is_ok() {
            made += 1;
        }
        assert_eq!(made, 20 - 6 - 2 - 1);
        assert_eq!(budget.try_acquire(file, second(made)), Err(Duration::from_secs(61 - made)));
        assert!(budget.try_acquire(file, second(60)).is_err());
        assert!(budget.try_acquire(file, second(61)).is_ok());
        assert!(budget.try_acquire(file, second(61)).is_err());
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
            for purpose in [Purpose::delivery("t"), Purpose::Intake, Purpose::Poll] {
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
        assert!((0..10_000).all(|_| free.try_acquire(Purpose::delivery("t"), Instant::now()).is_ok()));
        let tiny = Budget::new(3, Duration::from_secs(5));
        assert!(
            tiny.try_acquire(Purpose::delivery("t"), Instant::now()).is_ok(),
            "even a tiny budget lets something through"
        );
    }

    /// One minute after another of an agent whose task sends a file whenever it may. `others` makes its own calls then.
    fn beside_a_large_task(budget: &Budget, mut others: impl FnMut(u64, Instant)) -> usize {
        let start = Instant::now();
        let mut sent = 0;
        for tick in 0..3000u64 {
            let now = start + Duration::from_millis(100 * tick);
            if tick % 200 == 0 {
                budget.note_heartbeat(now);
            }
            if tick % 50 == 0 {
                assert!(budget.try_acquire(Purpose::Poll, now).is_ok(), "the poll at {tick}");
            }
            others(tick, now);
            // Ten files a second.
            sent += usize::from(budget.try_acquire(Purpose::delivery("large"), now).is_ok());
        }
        sent
    }

    #[test]
    fn a_large_task_leaves_room_for_accepts_and_for_files_of_others_at_every_moment() {
        for first in (1..600).step_by(37) {
            let budget = Budget::new(140, Duration::from_secs(5));
            let mut number = 0;
            let sent = beside_a_large_task(&budget, |tick, now| {
                // A small task every twelve seconds: an accept, a further poll, an input, a list, two files, a report.
                if tick % 120 == first % 120 && tick >= first {
                    number += 1;
                    let file = Purpose::delivery(number);
                    for purpose in [Purpose::Intake, Purpose::Intake, file, file, file, file, Purpose::Report] {
                        assert_eq!(budget.try_acquire(purpose, now), Ok(()), "at {tick}: {purpose:?}");
                    }
                }
            });
            assert!(sent > 300, "the large task goes on: {sent} files");
        }
    }

    #[test]
    fn two_large_tasks_leave_room_for_a_third() {
        let budget = Budget::new(140, Duration::from_secs(5));
        let sent = beside_a_large_task(&budget, |tick, now| {
            let _ = budget.try_acquire(Purpose::delivery("another"), now);
            // After both are large, and their calls of before that have left the window.
            if tick >= 1400 && tick % 700 == 0 {
                let file = Purpose::delivery(tick);
                assert!((0..30).all(|_| budget.try_acquire(file, now).is_ok()), "a third task's files at {tick}");
            }
        });
        assert!(sent > 100, "{sent} files");
    }

    #[test]
    fn a_task_alone_is_slowed_by_what_is_reserved_only() {
        let budget = Budget::new(140, Duration::from_secs(5));
        let sent = beside_a_large_task(&budget, |_, _| {});
        assert!(sent >= 5 * (140 - 6 - 13 - 12 - 30), "{sent} files in five minutes");
        // Also where the limit is the smallest that the configuration takes.
        let smallest = Budget::new(20, Duration::from_secs(5));
        let start = Instant::now();
        let tries = (0..3000).filter(|tick| {
            let now = start + Duration::from_millis(100) * *tick;
            let _ = smallest.try_acquire(Purpose::Poll, now);
            smallest.try_acquire(Purpose::delivery("t"), now).is_ok()
        });
        assert!(tries.count() >= 10);
    }
}
