//! How often one task is accepted again because the Server goes on offering it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::task::TaskKey;

/// The pause after the first time. A Server that goes on offering a task that it has just given to this agent would have
/// all calls for that.
const INTERVAL: Duration = Duration::from_secs(10);
/// The longest pause of a settled task. Each time, the log and the ledger get new lines about it.
const SETTLED_INTERVAL: Duration = Duration::from_secs(600);

/// The tasks that were accepted again lately.
#[derive(Debug, Default)]
pub(super) struct AcceptedAgain(HashMap<TaskKey, Last>);

#[derive(Debug, Clone, Copy)]
struct Last {
    at: Instant,
    pause: Duration,
}

impl AcceptedAgain {
    /// Whether it is too soon to accept this task once more.
    pub fn is_too_soon(&self, key: &TaskKey, now: Instant) -> bool {
        self.0.get(key).is_some_and(|last| now.saturating_duration_since(last.at) < last.pause)
    }

    /// An unfinished task was accepted again.
    pub fn note(&mut self, key: &TaskKey, now: Instant) {
        self.note_with(key, INTERVAL, now);
    }

    /// A settled task is handed in again. The pause doubles with each time.
    pub fn note_settled(&mut self, key: &TaskKey, now: Instant) {
        self.note_with(key, SETTLED_INTERVAL, now);
    }

    fn note_with(&mut self, key: &TaskKey, longest: Duration, now: Instant) {
        // What the Server hasn't offered for longer is forgotten, so few tasks are remembered.
        self.0.retain(|_, last| now.saturating_duration_since(last.at) < last.pause.saturating_mul(2));
        let pause = self.0.get(key).map_or(INTERVAL, |last| last.pause.saturating_mul(2).min(longest));
        self.0.insert(key.clone(), Last { at: now, pause });
    }
}

#[cfg(test)]
mod tests {
    use super::AcceptedAgain;
    use crate::task::TaskKey;
    use std::time::{Duration, Instant};

    /// How often tasks that are offered each second for an hour are accepted again.
    fn times_in_an_hour(note: fn(&mut AcceptedAgain, &TaskKey, Instant)) -> usize {
        let keys = ["a", "b"].map(|id| TaskKey::from_id(id).unwrap());
        let (mut again, start, mut count) = (AcceptedAgain::default(), Instant::now(), 0);
        for second in 0..3600 {
            let now = start + Duration::from_secs(second);
            for key in keys.iter().filter(|key| !again.is_too_soon(key, now)).collect::<Vec<_>>() {
                note(&mut again, key, now);
                count += 1;
            }
        }
        count
    }

    #[test]
    fn a_task_that_is_offered_without_end_is_accepted_ever_less_often_once_settled() {
        assert_eq!(times_in_an_hour(AcceptedAgain::note), 2 * 360);
        // After 0, 10, 30, 70, 150, 310, 630 and 1230 s, and from then on every ten minutes.
        assert_eq!(times_in_an_hour(AcceptedAgain::note_settled), 2 * 11);
    }

    #[test]
    fn a_task_that_is_offered_again_after_a_long_time_is_accepted_at_once() {
        let (key, other) = (TaskKey::from_id("a").unwrap(), TaskKey::from_id("b").unwrap());
        let (mut again, start) = (AcceptedAgain::default(), Instant::now());
        again.note_settled(&key, start);
        assert!(again.is_too_soon(&key, start + Duration::from_secs(9)) && !again.is_too_soon(&other, start));
        let later = start + Duration::from_secs(20);
        again.note_settled(&other, later);
        assert!(again.0.len() == 1 && !again.is_too_soon(&key, later));
    }
}
