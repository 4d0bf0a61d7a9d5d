//! The program as a file, and how long it takes to build.

use crate::figure::{Figure, Unit};
use crate::run::Options;
use crate::support;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Size, crates, and a clean release build.
pub fn binary_row(options: &Options) -> Vec<Figure> {
    let size = fs::metadata(support::program()).expect("look at the program").len();
    let mut figures = vec![
        Figure::new("size", Unit::MegaBytes, vec![size as f64 / 1e6]).goal("≤ 4.5 MB"),
        Figure::new("crates in the tree", Unit::Count, vec![crates() as f64]).goal("≤ 90"),
    ];
    if !options.quick {
        let folder = tempfile::tempdir().expect("make a folder");
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--quiet", "--release", "--locked", "--bin", "agent-core"]);
        figures.push(Figure::new("clean release build", Unit::Seconds, vec![timed(cargo, folder.path())]));
    }
    figures
}

/// The whole demo with a build of its own, and again with everything built.
pub fn demo_row(_options: &Options) -> Vec<Figure> {
    let folder = tempfile::tempdir().expect("make a folder");
    let [whole, built] = [(); 2].map(|()| timed(Command::new("scripts/demo"), folder.path()));
    vec![
        Figure::new("first run", Unit::Seconds, vec![whole])
            .goal("≤ 60 s")
            .note(format!("of which {:.0} s the build", whole - built)),
        Figure::new("second run", Unit::Seconds, vec![built]),
    ]
}

/// Runs a command that builds into this folder, and returns its seconds.
fn timed(mut command: Command, target: &Path) -> f64 {
    command.current_dir(ROOT).env("CARGO_TARGET_DIR", target).stdin(Stdio::null()).stdout(Stdio::null());
    let began = Instant::now();
    let status = command.status().expect("run a command");
    assert!(status.success(), "{command:?}: {status}");
    began.elapsed().as_secs_f64()
}

/// The number of crates that the program is built of, itself not counted.
fn crates() -> usize {
    let mut cargo = Command::new("cargo");
    cargo.args(["tree", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}"]).current_dir(ROOT);
    let output = cargo.output().expect("run cargo tree");
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let names: BTreeSet<&str> = text.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    names.iter().filter(|name| !name.is_empty() && !name.starts_with("agent-core ")).count()
}
