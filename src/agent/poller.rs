//! Polls: when the next one is due. Pure: the time is an argument.

use std::time::{Duration, Instant};

use super::messages::NextPoll;
use crate::server::{Backoff, Purpose};

/// How long the intake thread may take for an answer before the agent reports that it has no room: its disk hangs, or
/// the Server is slow to answer `accept`.
const STUCK_INTAKE: Duration = Duration::from_secs(30);
/// How long a poll waits for reclaims: a Server that is slow to answer each, or makes the agent begin again and again,
/// must not keep cancellations from it.
const RECLAIM_MAX: Duration = Duration::from_secs(45);

/// The polls of one agent.
#[derive(Debug)]
pub struct Poller {
    interval: Duration,
    due: Instant,
    polled_at: Option<Instant>,
    /// The end of the pause after a failed poll.
    not_before: Instant,
    backoff: Backoff,
    /// Since when the intake thread works on the last answer.
    handed_over_at: Option<Instant>,
    /// Whether tasks of this agent are being reclaimed.
    is_reclaiming: bool,
    /// Since when the next poll has waited for reclaims, perhaps with breaks.
    reclaiming_since: Option<Instant>,
}

impl Poller {
    /// The first poll is due now, unless tasks of an earlier run are reclaimed first.
    pub fn new(interval: Duration, is_reclaiming: bool, now: Instant) -> Self {
        Self {
            interval,
            due: now,
            polled_at: None,
            not_before: now,
            backoff: Backoff::default(),
            handed_over_at: None,
            is_reclaiming,
            reclaiming_since: is_reclaiming.then_some(now),
        }
    }

    /// The interval from the next poll on.
    pub fn set_interval(&mut self, interval: Duration) {
        self.interval = interval;
    }

    /// When to poll next; `None` while the intake thread works on the last answer. A poll waits for reclaims, but not for
    /// longer than [`RECLAIM_MAX`].
    pub fn due(&self) -> Option<Instant> {
        let latest = self.reclaiming_since.filter(|_| self.is_reclaiming).map(|since| since + RECLAIM_MAX);
        let due = latest.map_or(self.due, |latest| self.due.max(latest));
        self.handed_over_at.is_none().then_some(due)
    }

    /// Reclaims begin or are done.
    pub fn note_reclaiming(&mut self, is_reclaiming: bool, now: Instant) {
        self.is_reclaiming = is_reclaiming;
        if is_reclaiming {
            self.reclaiming_since.get_or_insert(now);
        }
    }

    /// Whether the intake thread is stuck on the last answer.
    pub fn is_intake_stuck(&self, now: Instant) -> bool {
        self.handed_over_at.is_some_and(|at| now.saturating_duration_since(at) >= STUCK_INTAKE)
    }

    /// What a poll now counts as in the request budget, which keeps room for one poll an interval.
    pub fn purpose(&self, now: Instant) -> Purpose {
        let is_regular = self.polled_at.is_none_or(|at| now.saturating_duration_since(at) >= self.interval);
        if is_regular { Purpose::Poll } else { Purpose::Intake }
    }

    /// The request budget has no room for so long. It may have room for the regular poll before it has room for a further one.
    pub fn defer(&mut self, time: Duration, now: Instant) {
        let regular = self.polled_at.map(|at| at + self.interval).filter(|regular| *regular > now);
        self.due = regular.map_or(now + time, |regular| regular.min(now + time));
    }

    /// A poll leaves now.
    pub fn note_sent(&mut self, now: Instant) {
        self.polled_at = Some(now);
        self.reclaiming_since = self.is_reclaiming.then_some(now);
    }

    /// The answer goes to the intake thread, which replies with the time of the next poll.
    pub fn note_answered(&mut self, now: Instant) {
        self.backoff = Backoff::default();
        self.handed_over_at = Some(now);
    }

    /// The intake thread has handled the last answer.
    pub fn note_handled(&mut self, next: NextPoll, now: Instant) {
        self.handed_over_at = None;
        self.due = match next {
            NextPoll::Immediately => now,
            NextPoll::AfterInterval => now + self.interval,
        };
    }

    /// A poll failed. Returns how long the pause is.
    pub fn note_failed(&mut self, retry_after: Option<Duration>, now: Instant) -> Duration {
        let pause = self.backoff.next(retry_after).max(self.interval);
        self.not_before = now + pause;
        self.due = self.not_before;
        pause
    }

    /// There may be a task to accept, or room for one. A pause after a failed poll is kept all the same.
    pub fn hurry(&mut self, now: Instant) {
        self.due = self.not_before.max(now);
    }

    /// The Server answers again: no pause is left.
    pub fn reset(&mut self, now: Instant) {
        self.backoff = Backoff::default();
        (self.not_before, self.due) = (now, now);
    }
}

#[cfg(test)]
mod tests {
    use super::{Poller, RECLAIM_MAX, STUCK_INTAKE};
    use crate::agent::messages::NextPoll;
    use crate::server::budget::Purpose;
    use std::time::{Duration, Instant};

    const INTERVAL: Duration = Duration::from_secs(5);

    #[test]
    fn reclaims_delay_a_poll_by_45_seconds_at_most() {
        let start = Instant::now();
        let mut poller = Poller::new(INTERVAL, false, start);
        // Reclaims begin again and again, with an end in between.
        for second in 0..60 {
            poller.note_reclaiming(second % 10 != 0, start + Duration::from_secs(second));
        }
        assert_eq!(poller.due(), Some(start + Duration::from_secs(1) + RECLAIM_MAX));
        let polled = start + Duration::from_secs(60);
        poller.note_sent(polled);
        poller.note_answered(polled);
        poller.note_handled(NextPoll::Immediately, polled);
        assert_eq!(poller.due(), Some(polled + RECLAIM_MAX));
        poller.note_reclaiming(false, polled);
        assert_eq!(poller.due(), Some(polled));
    }

    #[test]
    fn no_poll_is_due_during_an_answer_or_a_reclaim() {
        let now = Instant::now();
        let mut poller = Poller::new(INTERVAL, true, now);
        assert_eq!(poller.due(), Some(now + RECLAIM_MAX));
        poller.note_reclaiming(false, now);
        assert_eq!(poller.due(), Some(now));
        poller.note_sent(now);
        poller.note_answered(now);
        poller.hurry(now);
        assert_eq!(poller.due(), None);
        assert!(!poller.is_intake_stuck(now) && poller.is_intake_stuck(now + STUCK_INTAKE));
        poller.note_handled(NextPoll::AfterInterval, now);
        assert_eq!((poller.due(), poller.is_intake_stuck(now + STUCK_INTAKE)), (Some(now + INTERVAL), false));
        poller.note_handled(NextPoll::Immediately, now);
        assert_eq!(poller.due(), Some(now));
    }

    #[test]
    fn a_failed_polls_pause_lasts_until_the_server_answers() {
        let now = Instant::now();
        let mut poller = Poller::new(INTERVAL, false, now);
        let pause = poller.note_failed(Some(Duration::from_secs(60)), now);
        assert!(pause >= Duration::from_secs(60), "{pause:?}");
        poller.hurry(now);
        assert_eq!(poller.due(), Some(now + pause));
        poller.reset(now);
        assert_eq!(poller.due(), Some(now));
        assert_eq!(poller.note_failed(None, now), INTERVAL);
    }

    #[test]
    fn one_poll_per_interval_has_reserved_budget() {
        let now = Instant::now();
        let mut poller = Poller::new(INTERVAL, false, now);
        assert_eq!(poller.purpose(now), Purpose::Poll);
        poller.note_sent(now);
        assert_eq!(poller.purpose(now), Purpose::Intake);
        assert_eq!(poller.purpose(now + INTERVAL), Purpose::Poll);
    }

    #[test]
    fn a_further_poll_without_room_waits_for_the_regular_one_at_most() {
        let now = Instant::now();
        let mut poller = Poller::new(INTERVAL, false, now);
        poller.defer(Duration::from_secs(50), now);
        assert_eq!(poller.due(), Some(now + Duration::from_secs(50)), "there was no poll yet");
        poller.note_sent(now);
        let later = now + Duration::from_secs(1);
        poller.defer(Duration::from_secs(50), later);
        assert_eq!(poller.due(), Some(now + INTERVAL));
        poller.defer(Duration::from_secs(2), later);
        assert_eq!(poller.due(), Some(later + Duration::from_secs(2)));
        poller.defer(Duration::from_secs(50), now + INTERVAL);
        assert_eq!(poller.due(), Some(now + INTERVAL + Duration::from_secs(50)), "the regular one has none");
    }
}
