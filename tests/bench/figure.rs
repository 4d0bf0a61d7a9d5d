//! A figure: the measurements of the agent, and of what it is compared with.

use std::fmt::Write as _;

/// The unit of a figure's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Seconds,
    Millis,
    MegaBytes,
    MebiBytes,
    Percent,
    Count,
}

impl Unit {
    fn text(self) -> &'static str {
        match self {
            Self::Seconds => " s",
            Self::Millis => " ms",
            Self::MegaBytes => " MB",
            Self::MebiBytes => " MiB",
            Self::Percent => " %",
            Self::Count => "",
        }
    }

    /// A value with this unit.
    pub fn show(self, value: f64) -> String {
        let decimals = match value.abs() {
            _ if self == Self::Count && value.fract() == 0.0 => 0,
            size if size >= 100.0 => 0,
            size if size >= 10.0 => 1,
            _ => 2,
        };
        format!("{value:.decimals$}{}", self.text())
    }
}

/// How the agent's value is compared with what is beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Ratio,
    Difference,
}

/// What the agent is compared with, measured in the same run.
pub struct Beside {
    pub what: &'static str,
    pub values: Vec<f64>,
    pub comparison: Comparison,
}

/// One number of a row. Its values are the repeats, in their order.
pub struct Figure {
    pub what: &'static str,
    pub unit: Unit,
    pub values: Vec<f64>,
    pub beside: Option<Beside>,
    /// What it has to reach; empty where nothing is set.
    pub goal: &'static str,
    /// What else a reader should know, such as the parts of a sum.
    pub note: String,
}

impl Figure {
    pub fn new(what: &'static str, unit: Unit, values: Vec<f64>) -> Self {
        assert!(!values.is_empty(), "nothing was measured of {what}");
        Self { what, unit, values, beside: None, goal: "", note: String::new() }
    }

    /// Compares by division.
    #[must_use]
    pub fn ratio(self, what: &'static str, values: Vec<f64>) -> Self {
        self.compare(Beside { what, values, comparison: Comparison::Ratio })
    }

    /// Compares by subtraction.
    #[must_use]
    pub fn difference(self, what: &'static str, values: Vec<f64>) -> Self {
        self.compare(Beside { what, values, comparison: Comparison::Difference })
    }

    fn compare(mut self, beside: Beside) -> Self {
        assert!(!beside.values.is_empty(), "nothing was measured of {}", beside.what);
        self.beside = Some(beside);
        self
    }

    #[must_use]
    pub fn goal(mut self, goal: &'static str) -> Self {
        self.goal = goal;
        self
    }

    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// The ratio or the difference of the medians; the median itself where nothing is beside it.
    pub fn compared(&self) -> f64 {
        let own = median(&self.values);
        match &self.beside {
            None => own,
            Some(beside) => match beside.comparison {
                Comparison::Ratio => own / median(&beside.values),
                Comparison::Difference => own - median(&beside.values),
            },
        }
    }

    /// The comparison as the table shows it.
    pub fn show_compared(&self) -> String {
        match &self.beside {
            None => String::new(),
            Some(beside) => match beside.comparison {
                Comparison::Ratio => format!("{:.2} ×", self.compared()),
                Comparison::Difference if self.compared() < 0.0 => self.unit.show(self.compared()).replace('-', "−"),
                Comparison::Difference => format!("+{}", self.unit.show(self.compared())),
            },
        }
    }

    /// The median of some repeats and how far they lie apart, as the table shows it.
    pub fn show_values(&self, values: &[f64]) -> String {
        let mut text = self.unit.show(median(values));
        if values.len() > 1 {
            let (least, most) = range(values);
            let _ = write!(text, " ({:.2}–{:.2})", least, most);
        }
        text
    }
}

/// The value in the middle, or the mean of the two there.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// The smallest and the largest value.
pub fn range(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), &one| (least.min(one), most.max(one)))
}

#[cfg(test)]
mod tests {
    use super::{Figure, Unit, median};

    #[test]
    fn medians_of_odd_and_even_numbers_of_values() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn comparisons_are_of_medians_and_show_their_sign() {
        let figure = |agent: [f64; 3]| Figure::new("x", Unit::Millis, agent.to_vec());
        let slower = figure([30.0, 10.0, 20.0]).ratio("bare docker", vec![10.0]);
        assert_eq!((slower.compared(), slower.show_compared().as_str()), (2.0, "2.00 ×"));
        let sooner = figure([1.0, 2.0, 3.0]).difference("bare docker", vec![4.5]);
        assert_eq!(sooner.show_compared(), "−2.50 ms");
        assert_eq!(sooner.show_values(&sooner.values), "2.00 ms (1.00–3.00)");
    }
}
