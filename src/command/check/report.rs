//! The findings of `check`: printed line by line for people, or at the end as JSON.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};

use crate::command::output::{OutputFormat, print_line};
use crate::config::Problem;
use crate::text::escape;

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
    Docker,
    Engine,
    Image,
    /// What containers run.
    Program,
    /// Whether containers would see the data_dir.
    EngineDataDir,
    /// Whether containers would see the mounts.
    EngineMounts,
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

#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Passed,
    Failed { remedy: String },
    Skipped,
}

struct Finding {
    check: Check,
    verdict: Verdict,
    detail: String,
    /// Line and column in the configuration file.
    place: Option<(usize, usize)>,
}

/// The findings so far.
pub struct Report {
    format: OutputFormat,
    findings: Vec<Finding>,
    interrupted: Arc<AtomicBool>,
}

impl Report {
    /// An empty report. Once `interrupted` is set, no further check is begun.
    pub fn new(format: OutputFormat, interrupted: Arc<AtomicBool>) -> Self {
        Self { format, findings: Vec::new(), interrupted }
    }

    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    pub fn pass(&mut self, check: Check, detail: impl Into<String>) {
        self.add(Finding { check, verdict: Verdict::Passed, detail: detail.into(), place: None });
    }

    pub fn fail(&mut self, check: Check, detail: impl Into<String>, remedy: impl Into<String>) {
        let verdict = Verdict::Failed { remedy: remedy.into() };
        self.add(Finding { check, verdict, detail: detail.into(), place: None });
    }

    /// For a check that can't be made, or doesn't matter here.
    pub fn skip(&mut self, check: Check, why: impl Into<String>) {
        self.add(Finding { check, verdict: Verdict::Skipped, detail: why.into(), place: None });
    }

    pub fn fail_config(&mut self, problem: &Problem) {
        let verdict = Verdict::Failed { remedy: "change that in the file".to_owned() };
        self.add(Finding { check: Check::Config, verdict, detail: problem.to_string(), place: problem.place });
    }

    /// Skips every check that has no finding yet.
    pub fn skip_rest(&mut self, why: &str) {
        for &check in Check::value_variants() {
            if !self.has_finding(check) {
                self.skip(check, why);
            }
        }
    }

    pub fn has_finding(&self, check: Check) -> bool {
        self.findings.iter().any(|finding| finding.check == check)
    }

    pub fn has_passed(&self, check: Check) -> bool {
        let mut findings = self.findings.iter().filter(|finding| finding.check == check).peekable();
        findings.peek().is_some() && findings.all(|finding| finding.verdict == Verdict::Passed)
    }

    /// Prints the totals. Returns whether no check has failed.
    pub fn finish(self) -> bool {
        let count = |verdict: &Verdict| self.findings.iter().filter(|finding| finding.verdict == *verdict).count();
        let (passed, skipped) = (count(&Verdict::Passed), count(&Verdict::Skipped));
        let failed = self.findings.len() - passed - skipped;
        match self.format {
            OutputFormat::Text => print_line(format_args!("{passed} passed, {failed} failed, {skipped} not tried")),
            OutputFormat::Json => {
                let checks: Vec<Value> = self.findings.iter().map(to_json).collect();
                let version = env!("CARGO_PKG_VERSION");
                let report = json!({"ok": failed == 0, "version": version, "checks": checks});
                print_line(format_args!("{report:#}"));
            }
        }
        failed == 0
    }

    fn add(&mut self, finding: Finding) {
        if self.format == OutputFormat::Text {
            let mark = match finding.verdict {
                Verdict::Passed => "✓",
                Verdict::Failed { .. } => "✗",
                Verdict::Skipped => "·",
            };
            print_line(format_args!("{mark} {:<16} {}", finding.check.to_string(), escape(&finding.detail)));
            if let Verdict::Failed { remedy } = &finding.verdict {
                print_line(format_args!("  {:<16} → {}", "", escape(remedy)));
            }
        }
        self.findings.push(finding);
    }
}

fn to_json(finding: &Finding) -> Value {
    let (status, remedy) = match &finding.verdict {
        Verdict::Passed => ("passed", None),
        Verdict::Failed { remedy } => ("failed", Some(remedy)),
        Verdict::Skipped => ("skipped", None),
    };
    let mut object = json!({"name": finding.check, "status": status, "detail": finding.detail, "remedy": remedy});
    if let Some((line, column)) = finding.place {
        object["line"] = json!(line);
        object["column"] = json!(column);
    }
    object
}
