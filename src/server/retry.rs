//! Pauses between tries.

use std::time::Duration;

use crate::os::random::random_u64;

/// The first pause.
const SHORTEST: Duration = Duration::from_secs(1);

/// Pauses that double from one second to a minute.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The longest pause: a Server that asks for hours, by mistake or not, doesn't stop the agent for longer.
    pub const LONGEST: Duration = Duration::from_secs(60);

    /// The pause after one more failure. If the Server asks for a longer pause (`Retry-After`), it is that one, but at most
    /// a minute. A quarter of jitter, or up to a second more than was asked for, keeps agents that failed together from
    /// retrying together.
    pub fn next(&mut self, asked: Option<Duration>) -> Duration {
        self.failures = self.failures.saturating_add(1);
        pause(self.failures, asked, random_fraction())
    }
}

fn pause(failures: u32, asked: Option<Duration>, random: f64) -> Duration {
    let doubled = SHORTEST.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1))).min(Backoff::LONGEST);
    match asked {
        // The Server refuses an earlier call. One that asks for no pause at all isn't called without end.
        Some(asked) => asked.min(Backoff::LONGEST).max(doubled) + doubled.min(SHORTEST).mul_f64(random),
        None => doubled.mul_f64(0.75 + 0.25 * random),
    }
}

/// A random number from 0 up to 1.
fn random_fraction() -> f64 {
    f64::from((random_u64() >> 40) as u32) / f64::from(1u32 << 24)
}

#[cfg(test)]
mod tests {
    use super::{pause, random_fraction};
    use std::time::Duration;

    #[test]
    fn pauses_double_up_to_a_minute() {
        let whole: Vec<u64> = (1..=9).map(|n| pause(n, None, 1.0).as_secs()).collect();
        assert_eq!(whole, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(pause(u32::MAX, None, 0.0), Duration::from_secs(45));
    }

    #[test]
    fn retry_after_is_respected_up_to_a_minute() {
        assert_eq!(pause(1, Some(Duration::from_secs(20)), 0.0), Duration::from_secs(20));
        for asked in [60, 86_400, u64::MAX] {
            assert_eq!(pause(1, Some(Duration::from_secs(asked)), 1.0), Duration::from_secs(61));
        }
        let without: Vec<u64> = (1..=8).map(|n| pause(n, Some(Duration::ZERO), 0.0).as_secs()).collect();
        assert_eq!(without, [1, 2, 4, 8, 16, 32, 60, 60], "the Server asks for no pause");
    }

    #[test]
    fn random_fractions_differ_and_stay_below_one() {
        let some: Vec<f64> = (0..100).map(|_| random_fraction()).collect();
        assert!(some.iter().all(|x| (0.0..1.0).contains(x)));
        assert!(some.windows(2).any(|pair| pair[0] != pair[1]));
    }
}
