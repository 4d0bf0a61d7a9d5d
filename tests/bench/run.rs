//! The command: measures the rows that are asked for, one after the other, and reports them.

use crate::expected::{self, Verdict};
use crate::figure::Figure;
use crate::machine::Machine;
use crate::report::{self, Measured};
use crate::rows::{self, Row};
use crate::{chart, support};
use clap::Parser;
use clap::builder::PossibleValuesParser;
use std::error::Error;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

#[derive(Parser)]
#[command(name = "bench", about = "Measures what agent-core costs, beside bare docker doing the same work")]
pub struct Options {
    /// Smaller numbers and the quick rows only; fails when a figure is far from what is expected
    #[arg(long)]
    pub quick: bool,
    /// Measure this row only; may be given more than once
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(rows::names()))]
    pub only: Vec<String>,
    /// Also write all figures, with every single measurement, into this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Instead of the rows, measure the makespan of 1 to 200 tasks, and draw it into this file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

impl Options {
    /// The first value in a full run, the second in a quick one.
    pub fn size<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

pub fn main() -> ExitCode {
    match measure(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether every row could be measured and, in a quick run, none is far from what is expected.
fn measure(options: &Options) -> Result<bool, Box<dyn Error>> {
    support::docker::test_image();
    let machine = Machine::read();
    println!("{machine}\n");
    if let Some(path) = &options.svg {
        return write(path, &chart::draw(&chart::measure(options), &machine)).map(|()| true);
    }
    let chosen = |row: &&Row| match options.only.is_empty() {
        true => row.quick || !options.quick,
        false => options.only.iter().any(|name| name == row.name),
    };
    let mut measured = Vec::new();
    let mut well = true;
    for row in rows::ROWS.iter().filter(chosen) {
        let began = Instant::now();
        // What disturbed one measurement is rarely there for a second.
        let again = || options.quick.then(|| figures(row, options)).flatten();
        let Some(mut figures) = figures(row, options).or_else(again) else {
            well = false;
            continue;
        };
        if options.quick && complaints(row, &figures).iter().any(|(far, _)| *far) {
            eprintln!("bench: {}: far from what is expected; measured once more", row.name);
            figures = figures_or_first(row, options, figures);
        }
        eprintln!("bench: {} took {:.0} s", row.name, began.elapsed().as_secs_f64());
        measured.push(Measured { row, figures });
    }
    println!("\n{}", report::table(&measured));
    if let Some(path) = &options.json {
        write(path, &report::json(&measured, &machine, options.quick))?;
    }
    if options.quick {
        for (far, text) in measured.iter().flat_map(|one| complaints(one.row, &one.figures)) {
            well &= !far;
            println!("bench: {text}");
        }
    }
    Ok(well)
}

fn write(path: &Path, text: &str) -> Result<(), Box<dyn Error>> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    println!("bench: wrote {}", path.display());
    Ok(())
}

/// Measures a row; `None` where that failed, which has been printed.
fn figures(row: &Row, options: &Options) -> Option<Vec<Figure>> {
    eprintln!("bench: {} ...", row.name);
    let measured = catch_unwind(AssertUnwindSafe(|| (row.measure)(options)));
    if measured.is_err() {
        eprintln!("bench: {} could not be measured", row.name);
    }
    measured.ok()
}

fn figures_or_first(row: &Row, options: &Options, first: Vec<Figure>) -> Vec<Figure> {
    let is_far = |figures: &[Figure]| complaints(row, figures).iter().any(|(far, _)| *far);
    figures(row, options).filter(|second| !is_far(second)).unwrap_or(first)
}

/// What is to be said of a row in a quick run; `true` where it makes the run fail.
fn complaints(row: &Row, figures: &[Figure]) -> Vec<(bool, String)> {
    let judged = figures.iter().map(|figure| (figure, expected::judge(row.name, figure)));
    judged
        .filter_map(|(figure, verdict)| {
            let now = figure.compared();
            let of = format!("{}, {}: {now:.2}", row.name, figure.what);
            match verdict {
                Verdict::AsExpected => None,
                Verdict::Worse(usual) => Some((true, format!("{of} is more than twice the expected {usual}"))),
                Verdict::Better(usual) => {
                    Some((false, format!("{of} is less than half of the expected {usual}, which can be lowered")))
                }
            }
        })
        .collect()
}
