//! Offered tasks whose `accept` failed without a doubt: each is asked for again after a pause of its own.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::server::Backoff;

/// How many are remembered. A Server offers its oldest task until an agent has it (PROTOCOL 1), so there is one as a rule.
const REMEMBERED: usize = 32;

/// The offered tasks whose `accept` failed.
#[derive(Default)]
pub(super) struct FailedOffers(VecDeque<Failed>);

struct Failed {
    id: String,
    backoff: Backoff,
    until: Instant,
}

impl FailedOffers {
    /// Begins a pause, perhaps one that the Server asks for, and returns how long it is.
    pub fn note(&mut self, id: &str, retry_after: Option<Duration>, now: Instant) -> Duration {
        let mut backoff = self.remove(id).map(|failed| failed.backoff).unwrap_or_default();
        let pause = backoff.next(retry_after);
        self.0.truncate(REMEMBERED - 1);
        self.0.push_front(Failed { id: id.to_owned(), backoff, until: now + pause });
        pause
    }

    /// Whether a task's pause isn't over.
    pub fn is_paused(&self, id: &str, now: Instant) -> bool {
        self.0.iter().any(|failed| failed.id == id && now < failed.until)
    }

    /// The Server has answered for this task.
    pub fn forget(&mut self, id: &str) {
        self.remove(id);
    }

    fn remove(&mut self, id: &str) -> Option<Failed> {
        let at = self.0.iter().position(|failed| failed.id == id)?;
        self.0.remove(at)
    }
}

#[cfg(test)]
mod tests {
    use super::{FailedOffers, REMEMBERED};
    use std::time::{Duration, Instant};

    #[test]
    fn each_offer_whose_accept_fails_has_a_pause_of_its_own() {
        let (mut failed, mut now) = (FailedOffers::default(), Instant::now());
        assert!(!failed.is_paused("a", now));
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let pause = failed.note("a", None, now);
            assert!((0.74..=1.0).contains(&(pause.as_secs_f64() / f64::from(seconds))), "{pause:?}");
            assert!(failed.is_paused("a", now) && !failed.is_paused("b", now));
            now += pause;
            assert!(!failed.is_paused("a", now));
        }
        assert!(failed.note("b", Some(Duration::from_secs(86_400)), now) <= Duration::from_secs(61));
        failed.forget("a");
        assert!(failed.note("a", None, now) <= Duration::from_secs(1), "it begins anew");
    }

    #[test]
    fn few_offers_are_remembered() {
        let (mut failed, now) = (FailedOffers::default(), Instant::now());
        for number in 0..1000 {
            failed.note(&number.to_string(), None, now);
        }
        assert!(failed.0.len() == REMEMBERED && failed.is_paused("999", now) && !failed.is_paused("0", now));
    }
}
