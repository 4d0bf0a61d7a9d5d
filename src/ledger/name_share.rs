//! How much of the ledger the names of files that stay here may fill. A task makes thousands of such files without a call
//! to the Server, which would be limited, and they must not push out of the ledger what has left this machine.

use std::time::Instant;

use super::{Entry, Line, Outcome, Transfer};

/// How many bytes such lines may have at once: less than a tenth of all that is kept.
const BURST: f64 = 16.0 * 1024.0 * 1024.0;
/// How many of them come back in a second: 1 MiB an hour.
const REFILL: f64 = 1024.0 * 1024.0 / 3600.0;

/// What is left of that room.
#[derive(Debug)]
pub struct NameShare {
    burst: f64,
    left: f64,
    at: Instant,
    /// Whether the last line had no room.
    is_used_up: bool,
}

impl Default for NameShare {
    fn default() -> Self {
        Self::new(BURST)
    }
}

impl NameShare {
    pub(super) fn new(burst: f64) -> Self {
        Self { burst, left: burst, at: Instant::now(), is_used_up: false }
    }

    /// Whether a line of so many bytes has room, and takes it. A line that isn't about a file that stays here always has.
    pub fn take(&mut self, line: &Line, bytes: usize, now: Instant) -> bool {
        let Entry::File(Transfer { outcome: Outcome::LeftOut, file: Some(_), .. }) = &line.entry else { return true };
        let back = now.saturating_duration_since(self.at).as_secs_f64() * REFILL;
        (self.left, self.at) = ((self.left + back).min(self.burst), now);
        let has_room = self.left >= bytes as f64;
        if has_room {
            self.left -= bytes as f64;
        } else if !self.is_used_up {
            log::warn!("files that stay on this machine are counted in the ledger, and not named: there are very many");
        }
        self.is_used_up = !has_room;
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::NameShare;
    use crate::ledger::{Direction, Entry, Line, Outcome, Peer, Transfer};
    use std::time::{Duration, Instant};

    #[test]
    fn names_of_files_that_stay_here_have_a_share_that_comes_back() {
        let line = |outcome| {
            let peer = Peer { server: "http://h", service_id: "s" };
            Line::new("t", peer, Entry::File(Transfer::new(Direction::Out, outcome, "f")))
        };
        let (left_out, sent) = (line(Outcome::LeftOut), line(Outcome::Sent));
        let (now, mut share) = (Instant::now(), NameShare::new(4096.0));
        let taken: Vec<bool> = (0..6).map(|_| share.take(&left_out, 1000, now)).collect();
        assert_eq!(taken, [true, true, true, true, false, false]);
        assert!(share.take(&sent, 1_000_000, now));
        assert!(!share.take(&left_out, 1000, now + Duration::from_secs(1)));
        assert!(share.take(&left_out, 1000, now + Duration::from_secs(10)));
        // A day fills no more than the burst.
        let day = now + Duration::from_secs(86_400);
        assert_eq!((0..10).filter(|_| share.take(&left_out, 1000, day)).count(), 4);
    }
}
