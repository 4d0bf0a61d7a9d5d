//! The table and the JSON of what was measured.

use crate::figure::{Comparison, Figure, median, range};
use crate::machine::Machine;
use crate::rows::Row;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// A row with its figures.
pub struct Measured<'r> {
    pub row: &'r Row,
    pub figures: Vec<Figure>,
}

/// The rows as a Markdown table. A value is the median of its repeats; their range is in brackets.
pub fn table(measured: &[Measured]) -> String {
    let mut text =
        String::from("| row | figure | agent-core | beside it | compared | to reach |\n|---|---|---|---|---|---|\n");
    for Measured { row, figures } in measured {
        for figure in figures {
            let beside = figure
                .beside
                .as_ref()
                .map_or_else(String::new, |beside| format!("{}: {}", beside.what, figure.show_values(&beside.values)));
            let note = match figure.note.is_empty() {
                true => String::new(),
                false => format!("; {}", figure.note),
            };
            let _ = writeln!(
                text,
                "| `{}` | {}{note} | {} | {beside} | {} | {} |",
                row.name,
                figure.what,
                figure.show_values(&figure.values),
                figure.show_compared(),
                figure.goal
            );
        }
    }
    let _ = write!(text, "\nnoise of bare docker in this run: {}\n", noise(measured));
    text
}

/// How far the repeats of bare docker lie apart: what a difference between two runs has to exceed.
fn noise(measured: &[Measured]) -> String {
    let figures = measured.iter().flat_map(|one| one.figures.iter().map(|figure| (one.row.name, figure)));
    let spreads = figures.filter_map(|(row, figure)| {
        let beside = figure.beside.as_ref().filter(|beside| beside.what == "bare docker" && beside.values.len() > 1)?;
        let (least, most) = range(&beside.values);
        Some(format!("{row} {:.0} %", (most - least) / median(&beside.values) * 100.0))
    });
    let spreads: Vec<String> = spreads.collect();
    match spreads.is_empty() {
        true => "not measured".to_owned(),
        false => format!("{} (range divided by median)", spreads.join(", ")),
    }
}

/// Everything that was measured, with every repeat.
pub fn json(measured: &[Measured], machine: &Machine, quick: bool) -> String {
    let rows: Vec<Value> = measured
        .iter()
        .map(|Measured { row, figures }| {
            let figures: Vec<Value> = figures.iter().map(figure).collect();
            json!({"row": row.name, "about": row.about, "figures": figures})
        })
        .collect();
    let whole = json!({"machine": machine.json(), "quick": quick, "rows": rows});
    serde_json::to_string_pretty(&whole).expect("JSON of strings and numbers") + "\n"
}

fn figure(figure: &Figure) -> Value {
    let beside = figure.beside.as_ref().map(|beside| {
        let comparison = match beside.comparison {
            Comparison::Ratio => "ratio",
            Comparison::Difference => "difference",
        };
        json!({"what": beside.what, "values": beside.values, "comparison": comparison})
    });
    json!({
        "what": figure.what,
        "unit": format!("{:?}", figure.unit),
        "values": figure.values,
        "median": median(&figure.values),
        "beside": beside,
        "compared": figure.compared(),
        "goal": figure.goal,
        "note": figure.note,
    })
}

#[cfg(test)]
mod tests {
    use super::{Measured, table};
    use crate::figure::{Figure, Unit};
    use crate::rows::ROWS;

    #[test]
    fn the_table_has_medians_ranges_and_the_noise_of_bare_docker() {
        let figure = Figure::new("time", Unit::Seconds, vec![4.0, 2.0, 3.0]).goal("≤ 1.10 ×");
        let figure = figure.ratio("bare docker", vec![2.0, 2.2, 1.8]);
        let text = table(&[Measured { row: &ROWS[0], figures: vec![figure] }]);
        let line = "| `makespan` | time | 3.00 s (2.00–4.00) | bare docker: 2.00 s (1.80–2.20) | 1.50 × | ≤ 1.10 × |";
        assert!(text.contains(line), "{text}");
        assert!(text.contains("in this run: makespan 20 % (range divided by median)"), "{text}");
    }
}
