//! Heartbeats: when the next one is due, and whether the Server has missed some. Pure: the time is an argument.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// The time between two heartbeats. The Server declares a service offline after 60 s without one (PROTOCOL 3).
const INTERVAL: Duration = Duration::from_secs(20);
/// How soon a heartbeat that failed is sent again.
const RETRY: Duration = Duration::from_secs(5);
/// How often a heartbeat is sent to a Server that refuses the key.
const UNAUTHORIZED_RETRY: Duration = Duration::from_secs(30);
/// After so long without an acknowledged heartbeat, the Server may have requeued this agent's tasks.
const INTERRUPTION: Duration = Duration::from_secs(50);
/// While calls succeed, a heartbeat is sent at the latest so long after the one before, so that it arrives within 30 s
/// (P5).
const LATEST: Duration = Duration::from_secs(29);
/// So long before a heartbeat is due, no other call begins: with its whole time limit it could end too late.
const EARLY: Duration = Duration::from_secs(1);

/// The heartbeats of one agent.
#[derive(Debug)]
pub struct Heartbeat {
    due: Instant,
    sent_at: Option<Instant>,
    acknowledged_at: Option<Instant>,
    /// By the wall clock, and over restarts.
    last_acknowledged: Option<Timestamp>,
    in_trouble: bool,
}

impl Heartbeat {
    /// The first heartbeat is due now. An earlier run of the agent may have had one acknowledged.
    pub fn new(last_acknowledged: Option<Timestamp>, now: Instant) -> Self {
        Self { due: now, sent_at: None, acknowledged_at: None, last_acknowledged, in_trouble: false }
    }

    /// When the next heartbeat is to be sent.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Whether a heartbeat has to be sent before a call that starts now: it is due, or so nearly that the call could
    /// delay it too long.
    pub fn precedes_calls(&self, now: Instant) -> bool {
        self.due <= now + EARLY
    }

    /// How long another call that starts now may take.
    pub fn call_limit(&self, longest: Duration, now: Instant) -> Duration {
        let latest = self.sent_at.unwrap_or(now) + LATEST;
        latest.saturating_duration_since(now).min(longest)
    }

    /// Whether the Server has acknowledged the last heartbeat, and no call since then found trouble.
    pub fn is_acknowledged(&self) -> bool {
        self.acknowledged_at.is_some() && !self.in_trouble
    }

    /// Whether any heartbeat of this run was acknowledged.
    pub fn was_ever_acknowledged(&self) -> bool {
        self.acknowledged_at.is_some()
    }

    /// Sends the next heartbeat now.
    pub fn hurry(&mut self, now: Instant) {
        self.due = now;
    }

    /// Another call has failed in a way in which every call would: the next heartbeat is sent as if the last one had failed.
    pub fn note_doubt(&mut self, now: Instant) {
        let soon = self.sent_at.map_or(now, |at| now.max(at + RETRY));
        if !self.in_trouble {
            self.due = self.due.min(soon);
        }
    }

    /// A heartbeat leaves now.
    pub fn note_sent(&mut self, now: Instant) {
        self.sent_at = Some(now);
    }

    /// Whether a call has failed since the last acknowledged heartbeat.
    pub fn is_in_trouble(&self) -> bool {
        self.in_trouble
    }

    /// The heartbeat was acknowledged. Returns whether heartbeats were interrupted for so long that the Server may have
    /// requeued this agent's tasks.
    pub fn note_acknowledged(&mut self, now: Instant, at: Timestamp) -> bool {
        // However late the answer came, the Server may count from the heartbeat's arrival.
        self.due = self.sent_at.unwrap_or(now) + INTERVAL;
        // The monotonic clock stands still while a machine sleeps, and the wall clock can be set: the longer gap counts.
        let monotonic = self.acknowledged_at.map(|before| now.saturating_duration_since(before));
        let by_wall = self.last_acknowledged.and_then(|before| Duration::try_from(at.duration_since(before)).ok());
        (self.acknowledged_at, self.last_acknowledged, self.in_trouble) = (Some(now), Some(at), false);
        monotonic.max(by_wall).is_some_and(|gap| gap >= INTERRUPTION)
    }

    /// A heartbeat failed, or a poll in a way in which every call would fail. From now on only heartbeats are sent, until
    /// one is acknowledged.
    pub fn note_trouble(&mut self, is_key_refused: bool, now: Instant) {
        self.in_trouble = true;
        self.due = now + if is_key_refused { UNAUTHORIZED_RETRY } else { RETRY };
    }
}

#[cfg(test)]
mod tests {
    use super::Heartbeat;
    use jiff::{SignedDuration, Timestamp};
    use std::time::{Duration, Instant};

    const LONGEST: Duration = Duration::from_secs(10);

    fn secs(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn the_next_heartbeat_is_due_20_s_after_the_last_was_sent() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(None, start);
        assert!(heartbeat.precedes_calls(start) && !heartbeat.is_acknowledged());
        heartbeat.note_sent(start);
        assert!(!heartbeat.note_acknowledged(start + secs(9), Timestamp::now()));
        assert_eq!(heartbeat.due(), start + secs(20));
        assert!(heartbeat.is_acknowledged() && !heartbeat.precedes_calls(start + secs(18)));
        assert!(heartbeat.precedes_calls(start + secs(19)), "a call of ten seconds would end too late");
    }

    #[test]
    fn every_call_ends_in_time_for_a_heartbeat_within_30_s() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(None, start);
        heartbeat.note_sent(start);
        heartbeat.note_acknowledged(start, Timestamp::now());
        for tenth in 0..300 {
            let now = start + Duration::from_millis(100 * tenth);
            let limit = heartbeat.call_limit(LONGEST, now);
            assert!(now + limit < start + secs(30), "a call at {tenth} tenths of a second");
            assert!(heartbeat.precedes_calls(now) || limit == LONGEST, "cut short at {tenth} tenths of a second");
        }
    }

    #[test]
    fn an_interruption_is_seen_by_either_clock_and_over_restarts() {
        let (start, wall) = (Instant::now(), Timestamp::now());
        let mut restarted = Heartbeat::new(Some(wall - SignedDuration::from_secs(50)), start);
        assert!(restarted.note_acknowledged(start, wall));
        assert!(!restarted.note_acknowledged(start + secs(49), wall));
        assert!(restarted.note_acknowledged(start + secs(99), wall), "the wall clock was set back");
        let asleep = wall + SignedDuration::from_secs(3600);
        assert!(restarted.note_acknowledged(start + secs(100), asleep), "the machine slept");
    }

    #[test]
    fn a_call_without_a_connection_hurries_the_next_heartbeat() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(None, start);
        heartbeat.note_sent(start);
        heartbeat.note_acknowledged(start, Timestamp::now());
        heartbeat.note_doubt(start + secs(1));
        assert_eq!(heartbeat.due(), start + secs(5), "calls that fail in a row send no flood of heartbeats");
        heartbeat.note_doubt(start + secs(7));
        assert_eq!(heartbeat.due(), start + secs(5));
        heartbeat.note_acknowledged(start + secs(8), Timestamp::now());
        heartbeat.note_doubt(start + secs(9));
        assert_eq!(heartbeat.due(), start + secs(9));
        heartbeat.note_trouble(true, start + secs(9));
        heartbeat.note_doubt(start + secs(10));
        assert_eq!(heartbeat.due(), start + secs(39), "it is known already");
    }

    #[test]
    fn trouble_lasts_until_a_heartbeat_is_acknowledged() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(None, start);
        heartbeat.note_acknowledged(start, Timestamp::now());
        heartbeat.note_trouble(false, start);
        assert_eq!((heartbeat.is_acknowledged(), heartbeat.due()), (false, start + secs(5)));
        heartbeat.note_trouble(true, start);
        assert_eq!(heartbeat.due(), start + secs(30));
        assert!(heartbeat.is_in_trouble() && heartbeat.was_ever_acknowledged());
        heartbeat.note_acknowledged(start + secs(30), Timestamp::now());
        assert!(heartbeat.is_acknowledged() && !heartbeat.is_in_trouble());
    }
}
