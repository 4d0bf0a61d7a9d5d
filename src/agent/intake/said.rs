//! What the log says of the Server's answers, where each may have another fault.

use std::time::{Duration, Instant};

/// So many different faults are logged in each [`WINDOW`]: a Server must not push the past out of the log.
const IN_WINDOW: u32 = 10;
const WINDOW: Duration = Duration::from_secs(600);

/// What was said last.
#[derive(Default)]
pub(super) struct Said {
    text: Option<String>,
    window: Option<Instant>,
    count: u32,
}

impl Said {
    /// Returns whether a fault is to be logged: the log doesn't say it yet, and has room for it.
    pub fn is_new(&mut self, text: &str, now: Instant) -> bool {
        if self.text.as_deref() == Some(text) {
            return false;
        }
        if self.window.is_none_or(|begin| now.saturating_duration_since(begin) >= WINDOW) {
            (self.window, self.count) = (Some(now), 0);
        }
        let is_new = self.count < IN_WINDOW;
        if is_new {
            self.count += 1;
            self.text = Some(text.to_owned());
        }
        is_new
    }

    /// The fault is over; the next one is said, even if it is the same.
    pub fn forget(&mut self) {
        self.text = None;
    }
}

#[cfg(test)]
mod tests {
    use super::{IN_WINDOW, Said, WINDOW};
    use std::time::Instant;

    #[test]
    fn a_server_with_ever_other_faults_does_not_fill_the_log() {
        let (mut said, now) = (Said::default(), Instant::now());
        let said_at = |said: &mut Said, now| (0..1000).filter(|number| said.is_new(&number.to_string(), now)).count();
        assert_eq!(said_at(&mut said, now), IN_WINDOW as usize);
        assert_eq!(said_at(&mut said, now + WINDOW), IN_WINDOW as usize);
        said.forget();
        assert!(!said.is_new("9", now + WINDOW), "a fault that comes and goes");
    }
}
