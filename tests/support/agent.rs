//! The real program in its own folder: its configuration, its runs, and its end.
//!
//! Dropping the last handle removes everything that a run left, also containers. If the test has failed, a report of
//! the runs is printed first.

mod config;
mod folder;
mod invocation;
mod processes;

pub use invocation::{Finished, Invocation, Running};

use super::docker;
use super::server::{Control, FakeServer};
use folder::Folder;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
#[cfg(unix)]
use std::process::{Command, Stdio};
use std::sync::Arc;

/// Commands that read the configuration and the data_dir.
pub const COMMANDS: [&[&str]; 10] = [
    &["run"],
    &["run-detached"],
    &["try", "--prompt", "p"],
    &["check"],
    &["status"],
    &["stop"],
    &["stop", "--abort"],
    &["discard", "--yes", "t"],
    &["logs", "t"],
    &["register", "--token", "rt_x"],
];

/// The settings of an agent before its folder is made.
pub struct Builder {
    server: Control,
    parent: PathBuf,
    folder_name: String,
    config: Config,
    environment: BTreeMap<String, String>,
}

enum Config {
    /// The configuration of a registered agent, with TOML fragments merged into it.
    Usual {
        credentials: Option<(String, String)>,
        fragments: Vec<String>,
    },
    Verbatim(String),
    Absent,
}

/// An agent's folder, in which its program can be run several times.
#[derive(Clone)]
pub struct Agent {
    folder: Arc<Folder>,
}

impl Agent {
    /// An agent that is registered with this server under its first service and polls every second.
    pub fn builder(server: &FakeServer) -> Builder {
        Builder {
            server: server.control(),
            parent: super::temporary_folder(),
            folder_name: "agent".to_owned(),
            config: Config::Usual { credentials: Some(server.service()), fragments: Vec::new() },
            environment: BTreeMap::new(),
        }
    }

    /// The folder in which the program runs and in which its `config.toml` lies.
    pub fn dir(&self) -> &Path {
        &self.folder.dir
    }

    /// A path inside that folder.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.dir().join(relative)
    }

    /// The folder of the usual configuration's `data_dir`.
    pub fn data_dir(&self) -> PathBuf {
        self.path("data")
    }

    /// `HOME` of the program.
    pub fn home(&self) -> PathBuf {
        self.folder.home()
    }

    pub fn config_path(&self) -> PathBuf {
        self.path("config.toml")
    }

    /// The configuration file as it is now.
    pub fn config_text(&self) -> String {
        let path = self.config_path();
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Merges a TOML fragment into the configuration file, for the next start.
    pub fn change_config(&self, fragment: &str) {
        let text = config::laid_over(&self.config_text(), fragment);
        fs::write(self.config_path(), text).expect("write config.toml");
    }

    /// Writes a file into the folder and returns its path.
    pub fn write(&self, relative: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(relative);
        let parent = path.parent().expect("a file has a folder");
        fs::create_dir_all(parent).expect("make a folder");
        fs::write(&path, bytes).expect("write a file");
        path
    }

    /// Writes a file that can be executed and returns its path.
    ///
    /// Another process writes it: a child of another test's thread that had it open for writing would keep it from being
    /// executed.
    #[cfg(unix)]
    pub fn write_script(&self, relative: &str, text: &str) -> PathBuf {
        use std::io::Write as _;
        let path = self.path(relative);
        fs::create_dir_all(path.parent().expect("a file has a folder")).expect("make a folder");
        let mut install = Command::new("install");
        install.args(["-m", "755", "/dev/stdin"]).arg(&path).stdin(Stdio::piped());
        let mut install = install.spawn().expect("run `install`");
        let mut input = install.stdin.take().expect("a pipe");
        input.write_all(text.as_bytes()).expect("write the script");
        drop(input);
        assert!(install.wait().expect("wait for `install`").success());
        path
    }

    /// The program with these arguments, to be varied and then run or started.
    pub fn invoke(&self, arguments: &[&str]) -> Invocation {
        Invocation::new(Arc::clone(&self.folder), arguments)
    }

    /// Runs the program with these arguments to its end.
    pub fn run(&self, arguments: &[&str]) -> Finished {
        self.invoke(arguments).run()
    }

    /// Starts `agent-core run`.
    pub fn start(&self) -> Running {
        self.invoke(&["run"]).start()
    }

    /// The log of a detached agent, `agent.log` in the data folder; empty without that file.
    pub fn agent_log(&self) -> String {
        let bytes = fs::read(self.data_dir().join("agent.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The folder that the task's container sees as `/workspace`.
    pub fn workspace(&self, task_id: &str) -> PathBuf {
        self.data_dir().join("workspaces").join(task_id)
    }

    /// A file beside the task's record, such as `stdout.log`.
    pub fn task_file(&self, task_id: &str, name: &str) -> PathBuf {
        self.data_dir().join("tasks").join(task_id).join(name)
    }

    /// The task's record as it lies on the disk.
    pub fn record(&self, task_id: &str) -> Value {
        let path = self.task_file(task_id, "record.json");
        let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The value of the instance label on this agent's containers, once it has one.
    pub fn instance(&self) -> Option<String> {
        self.folder.instance()
    }

    /// The ids of the running processes of this agent: its runs, and the processes that they started.
    #[cfg(unix)]
    pub fn processes(&self) -> Vec<u32> {
        self.folder.processes()
    }

    /// What a failing test prints.
    pub fn report(&self) -> String {
        self.folder.report()
    }
}

impl Builder {
    /// For tests that start containers: makes the test image, and fails without an engine.
    #[must_use]
    pub fn with_engine(self) -> Self {
        docker::test_image();
        self
    }

    /// For tests without an engine: this agent reaches none.
    #[must_use]
    pub fn without_engine(self) -> Self {
        self.env("DOCKER_HOST", "unix:///nonexistent.sock")
    }

    /// Merges a TOML fragment into the configuration; its keys replace those of the same name.
    #[must_use]
    pub fn config(mut self, fragment: &str) -> Self {
        match &mut self.config {
            Config::Usual { fragments, .. } => fragments.push(fragment.to_owned()),
            _ => panic!("a fragment needs the usual configuration"),
        }
        self
    }

    #[must_use]
    pub fn capacity(self, capacity: usize) -> Self {
        self.config(&format!("[executor]\ncapacity = {capacity}"))
    }

    /// Uses this service instead of the server's first.
    #[must_use]
    pub fn service(mut self, service_id: &str, api_key: &str) -> Self {
        if let Config::Usual { credentials, .. } = &mut self.config {
            *credentials = Some((service_id.to_owned(), api_key.to_owned()));
        }
        self
    }

    /// Leaves `service_id` and `api_key` out.
    #[must_use]
    pub fn unregistered(mut self) -> Self {
        if let Config::Usual { credentials, .. } = &mut self.config {
            *credentials = None;
        }
        self
    }

    /// Uses this text as the configuration file.
    #[must_use]
    pub fn config_verbatim(mut self, text: &str) -> Self {
        self.config = Config::Verbatim(text.to_owned());
        self
    }

    /// Writes no configuration file.
    #[must_use]
    pub fn without_config(mut self) -> Self {
        self.config = Config::Absent;
        self
    }

    /// Sets the name of the folder, such as one with a blank.
    #[must_use]
    pub fn folder_name(mut self, name: &str) -> Self {
        self.folder_name = name.to_owned();
        self
    }

    /// Sets the parent of the folder, such as one that another user can enter.
    #[must_use]
    pub fn folder_in(mut self, parent: &Path) -> Self {
        self.parent = parent.to_owned();
        self
    }

    /// Sets a variable for every run. Only variables that the program and docker need are inherited.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.insert(name.to_owned(), value.into());
        self
    }

    /// Makes the folder and writes the configuration.
    pub fn build(self) -> Agent {
        let folder = Folder::new(self.server.clone(), &self.parent, &self.folder_name, self.environment);
        let text = match self.config {
            Config::Usual { credentials, fragments } => {
                let text = config::usual(&self.server.url(), credentials.as_ref());
                let lay = |text: String, fragment: &String| config::laid_over(&text, fragment);
                Some(fragments.iter().fold(text, lay))
            }
            Config::Verbatim(text) => Some(text),
            Config::Absent => None,
        };
        let agent = Agent { folder: Arc::new(folder) };
        if let Some(text) = text {
            agent.write("config.toml", text);
        }
        agent
    }
}
