//! The findings of `check`: printed line by line for people, or at the end as JSON.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::ValueEnum;
use serde::Serialize;
use serde_json::json;

use crate::command::output::{OutputFormat, print_columns, print_line};
use crate::command::style::{Colour, Style};
use crate::config::{Problem, may_be_secret};
use crate::os::files::read_text;
use crate::text::{escape, escape_json, width};

/// The checks, in the order in which they are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    Config,
    ConfigRights,
    DataDir,
    DataDirRights,
    Disk,
    Mounts,
    /// Whether containers leave processes for the agent.
    Processes,
    Docker,
    Engine,
    Image,
    /// Whether an account of this machine has the uid of containers.
    ContainerUser,
    /// What containers run.
    Program,
    /// Whether containers would see the data_dir.
    EngineDataDir,
    /// Whether containers would see the mounts.
    EngineMounts,
    /// Whether a container starts, and a program in it can use its workspace.
    Start,
    /// Whether the Server's address is the Server's alone.
    Address,
    Proxy,
    Dns,
    Tcp,
    Tls,
    Server,
    Credentials,
    Clock,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Serialize::serialize(self, f)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Passed,
    /// `run` works, but something is worth a change.
    Warned,
    Failed,
    Skipped,
    /// It doesn't matter here.
    #[serde(rename = "skipped")]
    Unneeded,
}

/// A finding, as `--json` prints it.
#[derive(Serialize)]
struct Finding {
    name: Check,
    status: Status,
    detail: String,
    /// What to do where the check has failed.
    remedy: Option<String>,
    /// The place in the configuration file.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
}

impl Finding {
    fn new(name: Check, status: Status, detail: impl Into<String>) -> Self {
        Self { name, status, detail: detail.into(), remedy: None, line: None, column: None }
    }
}

/// The findings so far.
pub struct Report {
    format: OutputFormat,
    style: Style,
    findings: Vec<Finding>,
    interrupted: Arc<AtomicBool>,
}

impl Report {
    /// An empty report. Once `interrupted` is set, no further check is begun.
    pub fn new(format: OutputFormat, interrupted: Arc<AtomicBool>) -> Self {
        Self { format, style: Style::of_stdout(), findings: Vec::new(), interrupted }
    }

    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    pub fn pass(&mut self, check: Check, detail: impl Into<String>) {
        self.add(Finding::new(check, Status::Passed, detail));
    }

    pub fn fail(&mut self, check: Check, detail: impl Into<String>, remedy: impl Into<String>) {
        self.add(Finding { remedy: Some(remedy.into()), ..Finding::new(check, Status::Failed, detail) });
    }

    /// For what doesn't keep `run` from working.
    pub fn warn(&mut self, check: Check, detail: impl Into<String>, remedy: impl Into<String>) {
        self.add(Finding { remedy: Some(remedy.into()), ..Finding::new(check, Status::Warned, detail) });
    }

    /// For a check that doesn't matter here.
    pub fn unneeded(&mut self, check: Check, why: impl Into<String>) {
        self.add(Finding::new(check, Status::Unneeded, why));
    }

    /// For a check that can't be made.
    pub fn skip(&mut self, check: Check, why: impl Into<String>) {
        self.add(Finding::new(check, Status::Skipped, why));
    }

    pub fn fail_config(&mut self, problem: &Problem) {
        let (line, column) = problem.place.unzip();
        let remedy = Some("change that in the file".to_owned());
        self.add(Finding { remedy, line, column, ..Finding::new(Check::Config, Status::Failed, problem.to_string()) });
        if let (OutputFormat::Text, Some((line, column))) = (self.format, problem.place) {
            print_source(&problem.file, line, column);
        }
    }

    pub fn has_failed(&self) -> bool {
        self.findings.iter().any(|finding| finding.status == Status::Failed)
    }

    /// Skips those of the checks that have no finding yet.
    pub fn skip_missing(&mut self, checks: &[Check], why: &str) {
        for &check in checks {
            if !self.findings.iter().any(|finding| finding.name == check) {
                self.skip(check, why);
            }
        }
    }

    pub fn has_passed(&self, check: Check) -> bool {
        let mut findings = self.findings.iter().filter(|finding| finding.name == check).peekable();
        findings.peek().is_some() && findings.all(|finding| matches!(finding.status, Status::Passed | Status::Warned))
    }

    /// Prints the failures once more, the totals, and what to do next, for a person. Returns whether no check has failed.
    pub fn finish(self, next: &str) -> bool {
        let count = |status| self.findings.iter().filter(|finding| finding.status == status).count();
        let [passed, failed, skipped] = [Status::Passed, Status::Failed, Status::Skipped].map(count);
        match self.format {
            OutputFormat::Text => {
                let warned = match count(Status::Warned) {
                    0 => String::new(),
                    warned => format!("{warned} with a warning, "),
                };
                let unneeded = match count(Status::Unneeded) {
                    0 => String::new(),
                    unneeded => format!(", {unneeded} not needed"),
                };
                if failed > 0 && self.findings.len() > failed {
                    print_line("\nFailed:");
                    self.findings
                        .iter()
                        .filter(|finding| finding.status == Status::Failed)
                        .for_each(|it| self.print(it));
                }
                print_line(format_args!("\n{passed} passed, {warned}{failed} failed, {skipped} not tried{unneeded}"));
                print_line(next);
            }
            OutputFormat::Json => {
                let version = env!("CARGO_PKG_VERSION");
                let report = json!({"ok": failed == 0, "version": version, "checks": self.findings});
                print_columns(escape_json(&format!("{report:#}")));
            }
        }
        failed == 0
    }

    fn add(&mut self, finding: Finding) {
        if self.format == OutputFormat::Text {
            self.print(&finding);
        }
        self.findings.push(finding);
    }

    fn print(&self, finding: &Finding) {
        let (mark, colour) = match finding.status {
            Status::Passed => ("✓", Colour::Good),
            Status::Warned => ("!", Colour::Notice),
            Status::Failed => ("✗", Colour::Bad),
            Status::Skipped | Status::Unneeded => ("·", Colour::Faint),
        };
        let mark = self.style.paint(mark, Some(colour));
        print_columns(format_args!("{mark} {:<16} {}", finding.name.to_string(), escape(&finding.detail)));
        // That a mistake in a line has to be corrected needs no words.
        if let Some(remedy) = finding.remedy.as_ref().filter(|_| finding.line.is_none()) {
            print_columns(format_args!("  {:<16} → {}", "", escape(remedy)));
        }
    }
}

/// Prints a line of the configuration file with a sign below the place of a mistake, unless the line may hold a secret.
fn print_source(file: &Path, line: usize, column: usize) {
    /// How much of a line is shown.
    const SHOWN: usize = 100;
    let Ok(text) = read_text(file) else { return };
    let Some(source) = text.lines().nth(line.saturating_sub(1)).filter(|_| !may_be_secret(&text, line)) else { return };
    if column > SHOWN {
        return;
    }
    let shown: String = source.chars().take(SHOWN).map(|c| if c == '\t' { ' ' } else { c }).collect();
    let before: String = shown.chars().take(column.saturating_sub(1)).collect();
    // What is escaped takes more columns.
    if escape(&shown) == shown {
        print_columns(format_args!("{line:>18} | {shown}\n{:>18} | {}^", "", " ".repeat(width(&before))));
    }
}
