//! Points in time on the command line: `--since` and `--until`.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan, Zoned};

use super::failure::Failure;

/// The forms that are understood, for help texts and errors.
const FORMS: &str = "give a day (2026-11-01, today, yesterday), a month (2026-11), a time ago (30min, 12h, 7d, 2w), a local \
                     time (\"2026-11-01 08:00\"), or a time with its zone (2026-11-01T12:00:00+01:00)";

/// From when to when.
#[derive(Debug, Clone, Copy, Default)]
pub struct TimeRange {
    since: Option<Timestamp>,
    /// The first point that is too late.
    until: Option<Timestamp>,
}

impl TimeRange {
    /// The range between two texts of the command line. A day or month belongs to it as a whole.
    pub fn parse(since: Option<&str>, until: Option<&str>) -> Result<Self, Failure> {
        let now = Zoned::now();
        let parse = |option: &str, text: &str| {
            parse(text, &now).ok_or_else(|| Failure::usage(format!("`{text}` is no value for `{option}`: {FORMS}")))
        };
        let since = since.map(|text| parse("--since", text)).transpose()?.map(|(begin, _)| begin);
        let until = until.map(|text| parse("--until", text)).transpose()?.map(|(_, end)| end);
        Ok(Self { since, until })
    }

    pub fn has(self, time: Timestamp) -> bool {
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time < until)
    }
}

/// The begin and the end of what a text names; a point in time is its own end.
fn parse(text: &str, now: &Zoned) -> Option<(Timestamp, Timestamp)> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some((time, time));
    }
    if let Some(time) = ago(text, now.timestamp()) {
        return Some((time, time));
    }
    let zone = now.time_zone();
    for form in ["%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"] {
        if let Ok(time) = DateTime::strptime(form, text) {
            let time = time.to_zoned(zone.clone()).ok()?.timestamp();
            return Some((time, time));
        }
    }
    let (day, length) = match text {
        "today" => (now.date(), 1.day()),
        "yesterday" => (now.date().yesterday().ok()?, 1.day()),
        _ => match Date::strptime("%Y-%m-%d", text) {
            Ok(day) => (day, 1.day()),
            Err(_) => (Date::strptime("%Y-%m-%d", format!("{text}-01")).ok().filter(|_| text.len() == 7)?, 1.month()),
        },
    };
    let midnight = |day: Date| Some(day.to_zoned(TimeZone::clone(zone)).ok()?.timestamp());
    Some((midnight(day)?, midnight(day.checked_add(length).ok()?)?))
}

/// `7d`: so long before now.
fn ago(text: &str, now: Timestamp) -> Option<Timestamp> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let number: i64 = text[..unit].parse().ok()?;
    let seconds = match &text[unit..] {
        "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return None,
    };
    now.checked_sub(SignedDuration::from_secs(number.checked_mul(seconds)?)).ok()
}

#[cfg(test)]
mod tests {
    use super::parse;
    use jiff::Zoned;

    fn range(text: &str) -> Option<(String, String)> {
        let now: Zoned = "2026-12-01T09:30:00+01:00[+01:00]".parse().unwrap();
        parse(text, &now).map(|(begin, end)| (begin.to_string(), end.to_string()))
    }

    fn point(time: &str) -> Option<(String, String)> {
        Some((time.to_owned(), time.to_owned()))
    }

    #[test]
    fn times_are_points_and_days_and_months_are_spans() {
        assert_eq!(range("2026-11-01T12:00:00+01:00"), point("2026-11-01T11:00:00Z"));
        assert_eq!(range("2026-11-30 08:00"), point("2026-11-30T07:00:00Z"));
        assert_eq!(range("2026-11-30T08:00:05"), point("2026-11-30T07:00:05Z"));
        for (text, begin, end) in [
            ("2026-11-30", "2026-11-29T23:00:00Z", "2026-11-30T23:00:00Z"),
            ("yesterday", "2026-11-29T23:00:00Z", "2026-11-30T23:00:00Z"),
            ("today", "2026-11-30T23:00:00Z", "2026-12-01T23:00:00Z"),
            ("2026-11", "2026-10-31T23:00:00Z", "2026-11-30T23:00:00Z"),
        ] {
            assert_eq!(range(text), Some((begin.to_owned(), end.to_owned())), "{text}");
        }
    }

    #[test]
    fn a_time_ago_counts_from_now() {
        assert_eq!(range("7d"), point("2026-11-24T08:30:00Z"));
        assert_eq!(range("1w"), range("7d"));
        assert_eq!((range("12h"), range("30min")), (point("2026-11-30T20:30:00Z"), point("2026-12-01T08:00:00Z")));
    }

    #[test]
    fn other_texts_are_no_time() {
        let huge = "9".repeat(30) + "d";
        for wrong in
            ["", "d", "7", "7m", "-7d", "soon", "2026-13-01", "2026-02-30", "01.11.2026", "2026-11-01 x", &huge]
        {
            assert_eq!(range(wrong), None, "{wrong}");
        }
    }
}
