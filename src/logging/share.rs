//! How much of the log one task, or one place of the program, may fill: what a task or the Server causes must not push
//! everything else out of `agent.log` and its numbered files.

use std::collections::HashMap;
use std::time::Instant;

/// How much one task or place may write: 160 such floods fill the log.
pub const ONE: Size = Size { burst: 256.0 * 1024.0, refill: 64.0 * 1024.0 / 3600.0 };
/// How much the warnings and errors of all tasks together may write: a Server can make any number of tasks.
pub const ALL: Size = Size { burst: 1024.0 * 1024.0, refill: 1024.0 * 1024.0 / 3600.0 };
/// How many shares are remembered: an idle agent's memory must not grow with the number of tasks that it has had.
const REMEMBERED: usize = 512;

/// How large a share is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Size {
    /// How many bytes may be written at once.
    burst: f64,
    /// How many of them come back in a second.
    refill: f64,
}

impl Size {
    /// How many bytes must be back before lines are written again.
    fn resume(self) -> f64 {
        self.burst / 4.0
    }
}

/// The shares of the log.
#[derive(Debug, Default)]
pub struct Shares(HashMap<String, Share>);

#[derive(Debug)]
struct Share {
    size: Size,
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
    pub fn take(&mut self, name: &str, size: Size, bytes: usize, now: Instant) -> Verdict {
        if self.0.len() >= REMEMBERED && !self.0.contains_key(name) {
            self.0.retain(|_, share| share.refilled(now) < share.size.burst);
            if self.0.len() >= REMEMBERED {
                self.0.retain(|_, share| share.size == ALL);
            }
        }
        let share = self.0.entry(name.to_owned()).or_insert(Share { size, left: size.burst, at: now, left_out: 0 });
        (share.left, share.at) = (share.refilled(now), now);
        let needed = if share.left_out > 0 { size.resume() } else { bytes as f64 };
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
        let back = now.saturating_duration_since(self.at).as_secs_f64() * self.size.refill;
        (self.left + back).min(self.size.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::{ALL, ONE, REMEMBERED, Shares, Verdict};
    use std::time::{Duration, Instant};

    #[test]
    fn a_flood_of_one_name_leaves_the_others_alone() {
        let now = Instant::now();
        let mut shares = Shares::default();
        let written = (0..1000).filter(|_| shares.take("a", ONE, 1024, now) == Verdict::Write { left_out: 0 }).count();
        assert_eq!(written, ONE.burst as usize / 1024);
        assert_eq!(shares.take("a", ONE, 1024, now), Verdict::LeftOut);
        assert_eq!(shares.take("b", ONE, 1024, now), Verdict::Write { left_out: 0 });
    }

    #[test]
    fn lines_are_written_again_after_an_hour_and_say_what_is_missing() {
        let start = Instant::now();
        let mut shares = Shares::default();
        while shares.take("a", ONE, 2048, start) != Verdict::FirstLeftOut {}
        assert_eq!(shares.take("a", ONE, 10, start + Duration::from_secs(1800)), Verdict::LeftOut);
        assert_eq!(shares.take("a", ONE, 10, start + Duration::from_secs(3601)), Verdict::Write { left_out: 2 });
        // Within a day of floods, a name writes a bounded number of bytes.
        let day: usize = (3602..90_000)
            .filter(|second| {
                matches!(shares.take("a", ONE, 2048, start + Duration::from_secs(*second)), Verdict::Write { .. })
            })
            .count();
        assert!(day * 2048 < 2_000_000, "{day} lines");
    }

    #[test]
    fn the_share_of_all_outlives_any_number_of_names() {
        let now = Instant::now();
        let mut shares = Shares::default();
        while shares.take("all", ALL, 4096, now) != Verdict::FirstLeftOut {}
        for number in 0..2 * REMEMBERED {
            shares.take(&number.to_string(), ONE, 10, now);
        }
        assert_eq!(shares.take("all", ALL, 10, now), Verdict::LeftOut);
        assert!(matches!(
            shares.take("all", ALL, 10, now + Duration::from_secs(901)),
            Verdict::Write { left_out: 2.. }
        ));
    }

    #[test]
    fn a_bounded_number_of_names_is_remembered() {
        let now = Instant::now();
        let mut shares = Shares::default();
        for number in 0..3 * REMEMBERED {
            shares.take(&number.to_string(), ONE, 10, now);
            assert!(shares.0.len() <= REMEMBERED);
        }
    }
}
