//! A free slot that the request budget keeps empty, for the log and `status`.

use std::time::{Duration, Instant};

use crate::logging::Reminder;
use crate::units::Span;

/// After so long without a call that had no room, the next one begins a new wait.
const SAME_WAIT: Duration = Duration::from_secs(60);

/// Whether a poll or an `accept` waits for the request budget.
#[derive(Default)]
pub(super) struct NoRoom {
    wait: Option<Wait>,
}

struct Wait {
    reminder: Reminder,
    until: Instant,
}

impl NoRoom {
    /// The budget has no room for a call about this for so long. A wait is logged at its begin, and then ever more seldom.
    pub fn note(&mut self, what: &str, time: Duration, now: Instant) {
        let until = now + time;
        let is_new = self.wait.as_ref().is_none_or(|wait| now >= wait.until + SAME_WAIT);
        if is_new {
            self.wait = Some(Wait { reminder: Reminder::new(), until });
        }
        let Some(wait) = &mut self.wait else { return };
        wait.until = until;
        if let Some(so_far) = wait.reminder.due() {
            let time = Span(time);
            log::info!("{what} waits {time} for the request budget (`server.max_requests_per_minute`){so_far}");
        }
    }

    /// Why a free slot takes no task now.
    pub fn shown(&self, now: Instant) -> Option<String> {
        self.wait.as_ref().filter(|wait| now < wait.until)?;
        Some("the request budget (`server.max_requests_per_minute`) has no room now".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::NoRoom;
    use std::time::{Duration, Instant};

    #[test]
    fn a_wait_is_shown_until_the_budget_has_room() {
        let now = Instant::now();
        let mut no_room = NoRoom::default();
        assert_eq!(no_room.shown(now), None);
        no_room.note("the next poll", Duration::from_secs(5), now);
        assert!(no_room.shown(now + Duration::from_secs(4)).unwrap().contains("max_requests_per_minute"));
        assert_eq!(no_room.shown(now + Duration::from_secs(5)), None);
        no_room.note("the next poll", Duration::from_secs(9), now);
        assert!(no_room.shown(now + Duration::from_secs(8)).is_some());
    }
}
