//! When a long wait is logged.

use std::time::{Duration, Instant};

use crate::units::Span;

/// How long a wait counts as new.
const NEW: Duration = Duration::from_secs(60);
/// The interval of lines about a new wait.
const NEW_INTERVAL: Duration = Duration::from_secs(10);
/// The interval of lines about an old one.
const OLD_INTERVAL: Duration = Duration::from_secs(600);

/// Decides when a wait is logged: at its begin, every ten seconds during the first minute, and then every ten minutes, so
/// that a wait of days doesn't fill the log.
pub struct Reminder {
    began: Instant,
    next: Duration,
}

impl Reminder {
    /// A wait that begins now.
    pub fn new() -> Self {
        Self { began: Instant::now(), next: Duration::ZERO }
    }

    /// If a line is due now: how long the wait has lasted, as the end of a sentence; empty for the first line.
    pub fn due(&mut self) -> Option<String> {
        self.due_after(self.began.elapsed())
    }

    fn due_after(&mut self, waited: Duration) -> Option<String> {
        if waited < self.next {
            return None;
        }
        let is_first = self.next.is_zero();
        self.next = waited + if waited < NEW { NEW_INTERVAL } else { OLD_INTERVAL };
        Some(if is_first { String::new() } else { format!(", {} so far", Span(waited)) })
    }
}

#[cfg(test)]
mod tests {
    use super::Reminder;
    use std::time::Duration;

    #[test]
    fn a_wait_is_logged_often_for_a_minute_and_then_seldom() {
        let mut reminder = Reminder::new();
        let logged = (0..3600).filter_map(|second| {
            let words = reminder.due_after(Duration::from_secs(second))?;
            assert_eq!(words.is_empty(), second == 0, "{words}");
            Some(second)
        });
        assert_eq!(logged.collect::<Vec<_>>(), [0, 10, 20, 30, 40, 50, 60, 660, 1260, 1860, 2460, 3060]);
    }
}
