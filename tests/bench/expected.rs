//! What a quick run expects. Only comparisons within one run and counts are here, which hardly depend on the machine.

use crate::figure::Figure;

/// Row, figure, and the value of [`Figure::compared`]; less is better.
const EXPECTED: &[(&str, &str, f64)] = &[
    ("makespan", "time", 1.34),
    ("requests", "with an input and an output", 5.0),
    ("requests", "without", 3.0),
    ("gigabyte", "download", 1.2),
    ("gigabyte", "upload", 1.2),
    ("queue-5k", "time of a task, late beside early", 1.0),
    ("queue-5k", "memory, late beside early", 1.0),
];
/// A figure is far from what is expected beyond this factor.
const FAR: f64 = 2.0;

/// How a figure compares with what is expected, which it carries.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    AsExpected,
    Worse(f64),
    /// The expectation has become too weak to show a fault.
    Better(f64),
}

/// Judges a figure of a row. One of which nothing is expected is as expected.
pub fn judge(row: &str, figure: &Figure) -> Verdict {
    let usual = EXPECTED.iter().find(|(of, what, _)| *of == row && *what == figure.what).map(|(_, _, usual)| *usual);
    let now = figure.compared();
    match usual {
        Some(usual) if now > usual * FAR => Verdict::Worse(usual),
        Some(usual) if now < usual / FAR => Verdict::Better(usual),
        _ => Verdict::AsExpected,
    }
}

#[cfg(test)]
mod tests {
    use super::{Verdict, judge};
    use crate::figure::{Figure, Unit};

    #[test]
    fn only_a_ratio_beyond_twice_the_expected_is_a_fault() {
        let figure = |agent: f64| Figure::new("time", Unit::Seconds, vec![agent]).ratio("bare docker", vec![10.0]);
        assert_eq!(judge("makespan", &figure(26.0)), Verdict::AsExpected);
        assert_eq!(judge("makespan", &figure(27.0)), Verdict::Worse(1.34));
        assert_eq!(judge("makespan", &figure(6.0)), Verdict::Better(1.34));
        assert_eq!(judge("idle", &figure(1000.0)), Verdict::AsExpected);
    }
}
