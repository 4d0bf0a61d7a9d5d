//! What `check` found: said line by line for a person, or at the end as JSON.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Map, Value, json};

use crate::command::output::print_line;
use crate::config::Problem;
use crate::text::escape;

/// What is looked at, in the order in which it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// The configuration file as a whole.
    Config,
    /// Who may read it.
    ConfigRights,
    /// Whether the data_dir can be used.
    DataDir,
    /// Who may look into it.
    DataDirRights,
    /// Room on its disk.
    Disk,
    /// The mounts' host paths.
    Mounts,
    /// The docker client.
    Docker,
    /// The engine.
    Engine,
    /// The executor image.
    Image,
    /// What runs in it.
    Program,
    /// Whether containers would see the data_dir.
    EngineDataDir,
    /// Whether they would see the mounts.
    EngineMounts,
    /// The proxy on the way to the Server.
    Proxy,
    /// The Server's name.
    Dns,
    /// A connection to it.
    Tcp,
    /// Its certificate.
    Tls,
    /// Whether it is the Server that answers.
    Server,
    /// Whether it takes our key.
    Credentials,
    /// Its clock and ours.
    Clock,
}

impl Check {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::Config,
        Self::ConfigRights,
        Self::DataDir,
        Self::DataDirRights,
        Self::Disk,
        Self::Mounts,
        Self::Docker,
        Self::Engine,
        Self::Image,
        Self::Program,
        Self::EngineDataDir,
        Self::EngineMounts,
        Self::Proxy,
        Self::Dns,
        Self::Tcp,
        Self::Tls,
        Self::Server,
        Self::Credentials,
        Self::Clock,
    ];

    /// Its name in JSON, which stays what it is.
    pub fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::ConfigRights => "config_rights",
            Self::DataDir => "data_dir",
            Self::DataDirRights => "data_dir_rights",
            Self::Disk => "disk",
            Self::Mounts => "mounts",
            Self::Docker => "docker",
            Self::Engine => "engine",
            Self::Image => "image",
            Self::Program => "program",
            Self::EngineDataDir => "engine_data_dir",
            Self::EngineMounts => "engine_mounts",
            Self::Proxy => "proxy",
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Server => "server",
            Self::Credentials => "credentials",
            Self::Clock => "clock",
        }
    }
}

/// What came of one.
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

/// How a report is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Lines, each as soon as it is known.
    Lines,
    /// One JSON object at the end.
    Json,
}

/// Everything that was found so far.
pub struct Report {
    form: Form,
    findings: Vec<Finding>,
    leaving: Arc<AtomicBool>,
}

impl Report {
    /// Nothing yet. With `leaving`, no more is begun.
    pub fn new(form: Form, leaving: Arc<AtomicBool>) -> Self {
        Self { form, findings: Vec::new(), leaving }
    }

    /// Whether somebody wants this to end.
    pub fn is_left(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// It is as it should be.
    pub fn pass(&mut self, check: Check, detail: impl Into<String>) {
        self.add(Finding { check, verdict: Verdict::Passed, detail: detail.into(), place: None });
    }

    /// It isn't, and this would mend it.
    pub fn fail(&mut self, check: Check, detail: impl Into<String>, remedy: impl Into<String>) {
        let verdict = Verdict::Failed { remedy: remedy.into() };
        self.add(Finding { check, verdict, detail: detail.into(), place: None });
    }

    /// It wasn't tried, or doesn't matter here.
    pub fn skip(&mut self, check: Check, why: impl Into<String>) {
        self.add(Finding { check, verdict: Verdict::Skipped, detail: why.into(), place: None });
    }

    /// Something is wrong in the configuration file.
    pub fn fail_config(&mut self, problem: &Problem) {
        let remedy = "change that in the file".to_owned();
        let finding = Finding {
            check: Check::Config,
            verdict: Verdict::Failed { remedy },
            detail: problem.to_string(),
            place: problem.place,
        };
        self.add(finding);
    }

    /// All those of which nothing is known yet were not tried.
    pub fn skip_rest(&mut self, why: &str) {
        for check in Check::ALL {
            if !self.is_known(check) {
                self.skip(check, why);
            }
        }
    }

    /// Whether something was found out about this one.
    pub fn is_known(&self, check: Check) -> bool {
        self.findings.iter().any(|finding| finding.check == check)
    }

    /// Whether this one is known to be as it should be.
    pub fn has_passed(&self, check: Check) -> bool {
        let mut of_it = self.findings.iter().filter(|finding| finding.check == check).peekable();
        of_it.peek().is_some() && of_it.all(|finding| finding.verdict == Verdict::Passed)
    }

    /// Says the sum of it. Returns whether nothing has failed.
    pub fn close(self) -> bool {
        let count =
            |is_meant: fn(&Verdict) -> bool| self.findings.iter().filter(|finding| is_meant(&finding.verdict)).count();
        let passed = count(|verdict| *verdict == Verdict::Passed);
        let skipped = count(|verdict| *verdict == Verdict::Skipped);
        let failed = self.findings.len() - passed - skipped;
        match self.form {
            Form::Lines => print_line(format_args!("{passed} passed, {failed} failed, {skipped} not tried")),
            Form::Json => {
                let checks: Vec<Value> = self.findings.iter().map(as_json).collect();
                let version = env!("CARGO_PKG_VERSION");
                let whole = json!({"ok": failed == 0, "version": version, "checks": checks});
                print_line(format_args!("{whole:#}"));
            }
        }
        failed == 0
    }

    fn add(&mut self, finding: Finding) {
        if self.form == Form::Lines {
            let mark = match finding.verdict {
                Verdict::Passed => "✓",
                Verdict::Failed { .. } => "✗",
                Verdict::Skipped => "·",
            };
            print_line(format_args!("{mark} {:<16} {}", finding.check.name(), escape(&finding.detail)));
            if let Verdict::Failed { remedy } = &finding.verdict {
                print_line(format_args!("  {:<16} → {}", "", escape(remedy)));
            }
        }
        self.findings.push(finding);
    }
}

fn as_json(finding: &Finding) -> Value {
    let (status, remedy) = match &finding.verdict {
        Verdict::Passed => ("passed", None),
        Verdict::Failed { remedy } => ("failed", Some(remedy)),
        Verdict::Skipped => ("skipped", None),
    };
    let mut object = Map::new();
    object.insert("name".to_owned(), json!(finding.check.name()));
    object.insert("status".to_owned(), json!(status));
    object.insert("detail".to_owned(), json!(finding.detail));
    object.insert("remedy".to_owned(), json!(remedy));
    if let Some((line, column)) = finding.place {
        object.insert("line".to_owned(), json!(line));
        object.insert("column".to_owned(), json!(column));
    }
    Value::Object(object)
}
