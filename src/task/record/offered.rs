//! When a task came to this agent.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How far the clock of an answer's maker may be from this machine's. A proxy writes dates of its own, and one of another
/// day would make all files on the Server older or younger than the task.
const LARGEST_SKEW: SignedDuration = SignedDuration::from_secs(60);

/// The times of the offer, in the record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offered {
    /// When it was offered, by this machine's clock.
    #[serde(rename = "offered_at")]
    pub at: Timestamp,
    /// When the Server gave the task to this agent, by the Server's own clock and not later than that. `None` if it hasn't
    /// said so, as where the answer was lost.
    #[serde(default, rename = "accepted_at_server", skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Timestamp>,
}

impl Offered {
    /// Offered now, and not accepted yet.
    pub fn now() -> Self {
        Self { at: Timestamp::now(), accepted: None }
    }

    /// The Server has given the task to this agent, at this time by its own clock. A time that can't be right is left out.
    pub fn note_accepted(&mut self, at: Option<Timestamp>, now: Timestamp) {
        self.accepted = at.filter(|at| at.duration_since(now).abs() <= LARGEST_SKEW);
    }
}

#[cfg(test)]
mod tests {
    use super::{LARGEST_SKEW, Offered};
    use jiff::{SignedDuration, Timestamp};

    #[test]
    fn a_date_of_another_day_is_not_when_a_task_was_accepted() {
        let now = Timestamp::now();
        let accepted = |at| {
            let mut offered = Offered::now();
            offered.note_accepted(at, now);
            offered.accepted
        };
        let second = SignedDuration::from_secs(1);
        for right in [now, now - LARGEST_SKEW, now + LARGEST_SKEW] {
            assert_eq!(accepted(Some(right)), Some(right));
        }
        for wrong in [
            Timestamp::MIN,
            Timestamp::MAX,
            Timestamp::UNIX_EPOCH,
            now - LARGEST_SKEW - second,
            now + LARGEST_SKEW + second,
        ] {
            assert_eq!(accepted(Some(wrong)), None, "{wrong}");
        }
        assert_eq!(accepted(None), None);
    }
}
