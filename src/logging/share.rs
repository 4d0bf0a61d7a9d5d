//! How much of the log one task, or one place of the program, may fill: what a task or the Server causes must not push
//! everything else out of `agent.log` and its numbered files.

use std::collections::HashMap;
use std::time::Instant;

/// How many bytes may be written at once: 160 such floods fill the log.
const BURST: f64 = 256.0 * 1024.0;
/// How many of them come back in a second: 64 KiB an hour.
const REFILL: f64 = 64.0 * 1024.0 / 3600.0;
/// How many must be back before lines are written again.
const RESUME: f64 = BURST / 4.0;
/// How many shares are remembered.
const REMEMBERED: usize = 4096;

/// The shares of the log.
#[derive(Debug, Default)]
pub struct Shares(HashMap<String, Share>);

#[derive(Debug)]
struct Share {
    left: f64,
    at: Instant,
    /// How many lines are being left out.
    left_out: u64,
}

/// What happens to a line.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is written, after so many lines that weren't.
    Write {
        left_out: u64,
    },
    /// It is the first that isn't written.
    FirstLeftOut,
    LeftOut,
}

impl Shares {
    /// Takes a line of so many bytes from the share with this name.
    pub fn take(&mut self, name: &str, bytes: usize, now: Instant) -> Verdict {
        if self.0.len() >= REMEMBERED && !self.0.contains_key(name) {
            self.0.retain(|_, share| share.refilled(now) < BURST);
            if self.0.len() >= REMEMBERED {
                self.0.clear();
            }
        }
        let share = self.0.entry(name.to_owned()).or_insert(Share { left: BURST, at: now, left_out: 0 });
        (share.left, share.at) = (share.refilled(now), now);
        let needed = if share.left_out > 0 { RESUME } else { bytes as f64 };
        if share.left < needed {
            share.left_out += 1;
            return if share.left_out == 1 { Verdict::FirstLeftOut } else { Verdict::LeftOut };
        }
        share.left -= bytes as f64;
        Verdict::Write { left_out: std::mem::take(&mut share.left_out) }
    }
}

impl Share {
    fn refilled(&self, now: Instant) -> f64 {
        (self.left + now.saturating_duration_since(self.at).as_secs_f64() * REFILL).min(BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::{BURST, REMEMBERED, Shares, Verdict};
    use std::time::{Duration, Instant};

    #[test]
    fn a_flood_of_one_name_leaves_the_others_alone() {
        let now = Instant::now();
        let mut shares = Shares::default();
        let written = (0..1000).filter(|_| shares.take("a", 1024, now) == Verdict::Write { left_out: 0 }).count();
        assert_eq!(written, BURST as usize / 1024);
        assert_eq!(shares.take("a", 1024, now), Verdict::LeftOut);
        assert_eq!(shares.take("b", 1024, now), Verdict::Write { left_out: 0 });
    }

    #[test]
    fn lines_are_written_again_after_an_hour_and_say_what_is_missing() {
        let start = Instant::now();
        let mut shares = Shares::default();
        while shares.take("a", 2048, start) != Verdict::FirstLeftOut {}
        assert_eq!(shares.take("a", 10, start + Duration::from_secs(1800)), Verdict::LeftOut);
        assert_eq!(shares.take("a", 10, start + Duration::from_secs(3601)), Verdict::Write { left_out: 2 });
        // Within a day of floods, a name writes a bounded number of bytes.
        let day: usize = (3602..90_000)
            .filter(|second| {
                matches!(shares.take("a", 2048, start + Duration::from_secs(*second)), Verdict::Write { .. })
            })
            .count();
        assert!(day * 2048 < 2_000_000, "{day} lines");
    }

    #[test]
    fn a_bounded_number_of_names_is_remembered() {
        let now = Instant::now();
        let mut shares = Shares::default();
        for number in 0..3 * REMEMBERED {
            shares.take(&number.to_string(), 10, now);
            assert!(shares.0.len() <= REMEMBERED);
        }
    }
}
