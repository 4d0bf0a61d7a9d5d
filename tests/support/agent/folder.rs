//! An agent's folder: the runs in it, and the cleanup.

use super::processes;
use crate::support::docker;
use crate::support::server::Control;
use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// One start of the program.
pub struct RunRecord {
    pub command: String,
    pub cwd: PathBuf,
    pub stdout: PathBuf,
    pub stderr: PathBuf,
    /// How it ended; `None` while it runs.
    pub status: Option<String>,
}

/// The folder of one agent: `agent/` or the test's own name for it, `home/`, `tmp/`, and `runs/` with the program's
/// output.
pub struct Folder {
    pub dir: PathBuf,
    pub environment: BTreeMap<String, String>,
    server: Control,
    runs: Mutex<Vec<RunRecord>>,
    root: Option<TempDir>,
    root_path: PathBuf,
}

impl Folder {
    pub fn new(server: Control, parent: &Path, name: &str, extra: BTreeMap<String, String>) -> Self {
        fs::create_dir_all(parent).expect("make the folder for temporary files");
        let root = tempfile::Builder::new().prefix("agent-").tempdir_in(parent).expect("make a folder for an agent");
        // The program prints canonical paths; comparisons need the same form.
        let root_path = fs::canonicalize(root.path()).expect("find the agent's folder");
        for part in [name, "home", "tmp", "runs"] {
            fs::create_dir_all(root_path.join(part)).expect("make a part of the agent's folder");
        }
        let mut environment = inherited();
        for (variable, part) in [("HOME", "home"), ("TMPDIR", "tmp")] {
            let path = root_path.join(part).to_string_lossy().into_owned();
            environment.insert(variable.to_owned(), path);
        }
        environment.extend(extra);
        server.enter();
        Self {
            dir: root_path.join(name),
            environment,
            server,
            runs: Mutex::new(Vec::new()),
            root: Some(root),
            root_path,
        }
    }

    pub fn home(&self) -> PathBuf {
        self.root_path.join("home")
    }

    /// Records a start and returns its number and the files for its standard streams.
    pub fn add_run(&self, command: String, cwd: &Path) -> (usize, PathBuf, PathBuf) {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let number = runs.len();
        let file = |stream: &str| self.root_path.join(format!("runs/{number}.{stream}"));
        let (stdout, stderr) = (file("stdout"), file("stderr"));
        runs.push(RunRecord {
            command,
            cwd: cwd.to_owned(),
            stdout: stdout.clone(),
            stderr: stderr.clone(),
            status: None,
        });
        (number, stdout, stderr)
    }

    pub fn end_run(&self, number: usize, status: String) {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs[number].status = Some(status);
    }

    pub fn instance(&self) -> Option<String> {
        let text = fs::read_to_string(self.dir.join("data/instance_id")).ok()?;
        let id = text.trim();
        (!id.is_empty()).then(|| id.to_owned())
    }

    #[cfg(unix)]
    pub fn processes(&self) -> Vec<u32> {
        processes::with_variable("TMPDIR", &self.environment["TMPDIR"])
    }

    pub fn report(&self) -> String {
        let mut text = format!("=== agent in {} ===\n", self.dir.display());
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        for run in runs.iter() {
            let status = run.status.as_deref().unwrap_or("still running");
            let _ = writeln!(text, "command: {}", run.command);
            let _ = writeln!(text, "cwd:     {}", run.cwd.display());
            let _ = writeln!(text, "status:  {status}");
            add_file(&mut text, "stdout", &run.stdout);
            add_file(&mut text, "stderr", &run.stderr);
        }
        add_file(&mut text, "agent.log", &self.dir.join("data/agent.log"));
        let _ = writeln!(text, "--- files");
        let entries = walkdir::WalkDir::new(&self.dir).sort_by_file_name();
        for entry in entries.into_iter().flatten().take(200) {
            let size = entry.metadata().map_or(0, |metadata| metadata.len());
            let path = entry.path().strip_prefix(&self.dir).unwrap_or(entry.path());
            let _ = writeln!(text, "{size:10} {}", path.display());
        }
        if self.instance().is_some() {
            let prefix = docker::container_name(self.server.task_prefix());
            let filter = format!("name={prefix}");
            let _ = writeln!(text, "--- containers");
            text.push_str(&docker::docker_if_there(&["ps", "--all", "--filter", &filter]));
        }
        text
    }

    /// Kills running processes and removes the containers. A docker client outlives a killed agent and may still create
    /// its container, so the processes are killed first.
    fn clean_up(&self, last_user: bool) {
        let killed = processes::kill_all_with_variable("TMPDIR", &self.environment["TMPDIR"]);
        // Trials have containers without a label, named after their folders.
        for trial in fs::read_dir(self.dir.join("data/try")).into_iter().flatten().flatten() {
            docker::remove_containers(&format!("name=open-aaas-try-{}", trial.file_name().to_string_lossy()));
        }
        let Some(instance) = self.instance() else {
            return;
        };
        // The engine finishes the request of a client that was just killed.
        let rounds = if killed > 0 { 3 } else { 1 };
        for round in 0..rounds {
            if round > 0 {
                thread::sleep(Duration::from_millis(100));
            }
            docker::remove_containers(&format!("label=open-aaas.instance={instance}"));
            if last_user {
                let prefix = docker::container_name(self.server.task_prefix());
                docker::remove_containers(&format!("name={prefix}"));
            }
        }
    }

    fn remove(&mut self) {
        let Some(root) = self.root.take() else {
            return;
        };
        // A process that was just killed may still use the folder.
        for _ in 0..20 {
            if fs::remove_dir_all(&self.root_path).is_ok() || !self.root_path.exists() {
                break;
            }
            thread::sleep(Duration::from_millis(50));
        }
        if self.root_path.exists() && self.instance().is_some() {
            // Containers may leave files that this user can't remove.
            let mount = format!("{}:/rest", self.root_path.display());
            let remove = "rm -rf /rest/* /rest/.[!.]*";
            let arguments = ["run", "--rm", "--volume", &mount, "--entrypoint", "/bin/sh"];
            let rest = [docker::TEST_IMAGE, "-c", remove];
            docker::docker_if_there(&[arguments.as_slice(), rest.as_slice()].concat());
        }
        let _ = root.close();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.report());
        }
        let last_user = self.server.leave();
        self.clean_up(last_user);
        self.remove();
    }
}

/// The variables that docker and the system need. Others, such as proxies, are not inherited.
fn inherited() -> BTreeMap<String, String> {
    let names = [
        "PATH",
        "DOCKER_HOST",
        "DOCKER_CONTEXT",
        "DOCKER_CONFIG",
        "DOCKER_CERT_PATH",
        "DOCKER_TLS_VERIFY",
        "XDG_RUNTIME_DIR",
        "SystemRoot",
        "LLVM_PROFILE_FILE",
    ];
    let mut environment = BTreeMap::new();
    for name in names {
        if let Ok(value) = env::var(name) {
            environment.insert(name.to_owned(), value);
        }
    }
    // The program has its own home, but docker's contexts are in the user's.
    if let (false, Ok(home)) = (environment.contains_key("DOCKER_CONFIG"), env::var("HOME")) {
        let path = Path::new(&home).join(".docker");
        if path.is_dir() {
            let path = path.to_string_lossy().into_owned();
            environment.insert("DOCKER_CONFIG".to_owned(), path);
        }
    }
    environment
}

fn add_file(text: &mut String, name: &str, path: &Path) {
    const SHOWN: usize = 40_000;
    let Ok(bytes) = fs::read(path) else {
        return;
    };
    let start = bytes.len().saturating_sub(SHOWN);
    let _ = writeln!(text, "--- {name} ({} bytes)", bytes.len());
    text.push_str(&String::from_utf8_lossy(&bytes[start..]));
    if !text.ends_with('\n') {
        text.push('\n');
    }
}
