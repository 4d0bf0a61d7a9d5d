//! Numbers and times in texts for people.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A time in the zone of this machine, to the second: `2026-11-01T09:30:00+01:00`.
#[derive(Debug, Clone, Copy)]
pub struct Local(pub Timestamp);

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.to_zoned(TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S%:z").fmt(f)
    }
}

/// A number of bytes in decimal units (1 kB is 1000 bytes), with three digits at least: `731 B`, `12.3 MB`.
#[derive(Debug, Clone, Copy)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
        if self.0 < 1000 {
            return write!(f, "{} B", self.0);
        }
        let mut number = self.0 as f64 / 1000.0;
        let mut unit = 0;
        // A number that would be rounded to 1000 belongs to the next unit.
        while number >= 999.5 && unit + 1 < UNITS.len() {
            number /= 1000.0;
            unit += 1;
        }
        let digits = if number < 9.995 { 2 } else { usize::from(number < 99.95) };
        write!(f, "{number:.digits$} {}", UNITS[unit])
    }
}

/// A span of time in the two largest of its units: `0.8 s`, `71 s`, `12 min 5 s`, `3 h 20 min`, `2 d 4 h`.
#[derive(Debug, Clone, Copy)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0..10 => write!(f, "{:.1} s", self.0.as_secs_f64()),
            10..120 => write!(f, "{seconds} s"),
            120..7200 => write!(f, "{} min {} s", seconds / 60, seconds % 60),
            7200..172_800 => write!(f, "{} h {} min", seconds / 3600, seconds % 3600 / 60),
            _ => write!(f, "{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
        }
    }
}

/// A number of minutes: `1 minute`, `5 minutes`.
#[derive(Debug, Clone, Copy)]
pub struct Minutes(pub u64);

impl fmt::Display for Minutes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} minute{}", self.0, if self.0 == 1 { "" } else { "s" })
    }
}

/// A number of files: `1 file`, `5 files`. `kind` is a word before it, such as `input`.
#[derive(Debug, Clone, Copy)]
pub struct Files<'k>(pub usize, pub &'k str);

impl fmt::Display for Files<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let space = if self.1.is_empty() { "" } else { " " };
        write!(f, "{}{space}{} file{}", self.0, self.1, if self.0 == 1 { "" } else { "s" })
    }
}

#[cfg(test)]
mod tests {
    use super::{Bytes, Span};
    use std::time::Duration;

    #[test]
    fn bytes_are_shown_with_three_digits_and_a_unit() {
        let shown = |bytes| Bytes(bytes).to_string();
        assert_eq!([0, 999, 1000, 12_345].map(shown), ["0 B", "999 B", "1.00 kB", "12.3 kB"]);
        assert_eq!([99_960, 999_499, 999_500, 50 << 20].map(shown), ["100 kB", "999 kB", "1.00 MB", "52.4 MB"]);
        assert_eq!(shown(u64::MAX), "18.4 EB");
    }

    #[test]
    fn durations_are_shown_in_at_most_two_units() {
        let shown = |millis| Span(Duration::from_millis(millis)).to_string();
        assert_eq!([0, 840, 71_900, 119_999].map(shown), ["0.0 s", "0.8 s", "71 s", "119 s"]);
        assert_eq!([125_000, 12_000_000, 190_000_000].map(shown), ["2 min 5 s", "3 h 20 min", "2 d 4 h"]);
    }
}
