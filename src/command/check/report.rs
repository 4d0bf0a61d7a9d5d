//! The findings of `check`: printed line by line for people, or at the end as JSON.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::ValueEnum;
use serde::Serialize;
use serde_json::json;

use crate::command::output::{OutputFormat, print_columns, print_line};
use crate::config::Problem;
use crate::text::{escape, escape_json};

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
        self.add(Finding::new(check, Status::Passed, detail));
    }

    pub fn fail(&mut self, check: Check, detail: impl Into<String>, remedy: impl Into<String>) {
        self.add(Finding { remedy: Some(remedy.into()), ..Finding::new(check, Status::Failed, detail) });
    }

    /// For what doesn't keep `run` from working.
    pub fn warn(&mut self, check: Check, detail: impl Into<String>, remedy: impl Into<String>) {
        self.add(Finding { remedy: Some(remedy.into()), ..Finding::new(check, Status::Warned, detail) });
    }

    /// For a check that can't be made, or doesn't matter here.
    pub fn skip(&mut self, check: Check, why: impl Into<String>) {
        self.add(Finding::new(check, Status::Skipped, why));
    }

    pub fn fail_config(&mut self, problem: &Problem) {
        let (line, column) = problem.place.unzip();
        let remedy = Some("change that in the file".to_owned());
        self.add(Finding { remedy, line, column, ..Finding::new(Check::Config, Status::Failed, problem.to_string()) });
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

    /// Prints the totals. Returns whether no check has failed.
    pub fn finish(self) -> bool {
        let count = |status| self.findings.iter().filter(|finding| finding.status == status).count();
        let [passed, failed, skipped] = [Status::Passed, Status::Failed, Status::Skipped].map(count);
        match self.format {
            OutputFormat::Text => {
                let warned = match count(Status::Warned) {
                    0 => String::new(),
                    warned => format!("{warned} with a warning, "),
                };
                print_line(format_args!("{passed} passed, {warned}{failed} failed, {skipped} not tried"));
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
            let mark = match finding.status {
                Status::Passed => "✓",
                Status::Warned => "!",
                Status::Failed => "✗",
                Status::Skipped => "·",
            };
            print_columns(format_args!("{mark} {:<16} {}", finding.name.to_string(), escape(&finding.detail)));
            if let Some(remedy) = &finding.remedy {
                print_columns(format_args!("  {:<16} → {}", "", escape(remedy)));
            }
        }
        self.findings.push(finding);
    }
}
