//! What the figures were measured on.

use crate::support;
use crate::support::docker::docker_if_there;
use serde_json::{Value, json};
use std::fmt;
use std::fs;
use std::process::Command;
use std::thread;

/// The machine, and the versions of what runs on it.
pub struct Machine(Vec<(&'static str, String)>);

impl Machine {
    pub fn read() -> Self {
        let cores = thread::available_parallelism().map_or(0, usize::from);
        let processor = line_of("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned());
        let memory = line_of("/proc/meminfo", "MemTotal").unwrap_or_default();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let version = |format: &str| docker_if_there(&["version", "--format", format]);
        Self(vec![
            ("date", output("date", &["+%Y-%m-%d"])),
            ("processor", format!("{cores} × {processor}")),
            ("memory", memory),
            ("kernel", output("uname", &["-r"])),
            ("load", load.split(' ').take(3).collect::<Vec<_>>().join(" ")),
            ("docker", version("client {{.Client.Version}}, engine {{.Server.Version}}")),
            ("engine", docker_if_there(&["info", "--format", "{{.Driver}}, cgroup v{{.CgroupVersion}}"])),
            ("agent", output(&support::program(), &["--version"])),
            ("commit", output("git", &["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"])),
            ("rust", output("rustc", &["--version"])),
        ])
    }

    pub fn json(&self) -> Value {
        self.0.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect()
    }

    /// Processor and docker's versions.
    pub fn short(&self) -> String {
        let value = |key: &str| self.0.iter().find(|(name, _)| *name == key).map_or("", |(_, value)| value.as_str());
        format!("{}; docker {}", value("processor"), value("docker"))
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(|(key, value)| format!("{key}: {value}")).collect();
        formatter.write_str(&lines.join("\n"))
    }
}

/// The value of the first line with this name in a file of `/proc`.
fn line_of(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}

/// The standard output of a program; "unknown" where it can't be had.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success());
    output.map_or_else(|| "unknown".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
