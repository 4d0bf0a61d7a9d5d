//! An agent at a Server, with a program for its containers that the row chooses.

use crate::support::agent::{Agent, Builder, Running};
use crate::support::docker::{containers_with_label, wait_until};
use crate::support::secs;
use crate::support::server::{FakeServer, Options, RateLimit, Request, Status, TaskSpec};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Writes one small result.
pub const ONE_OUTPUT: &str = "echo result > output/result";
/// For Servers without a limit: no limit on the agent's side, and an answer to a new task within a second.
pub const UNLIMITED: &str = "[server]\npoll_interval_secs = 1\nmax_requests_per_minute = 0";
/// The interval that an agent has where its configuration names none.
pub const DEFAULT_INTERVAL: &str = "[server]\npoll_interval_secs = 5";

/// A Server and a running agent.
pub struct Site {
    pub agent: Agent,
    pub running: Running,
    pub server: FakeServer,
}

/// A Server that behaves as the real one.
pub fn real_server() -> FakeServer {
    FakeServer::start_with(Options { rate_limit: Some(RateLimit::real()), ..options() })
}

/// The same without its limit of calls.
pub fn unlimited_server() -> FakeServer {
    FakeServer::start_with(options())
}

/// The options of [`unlimited_server`].
pub fn options() -> Options {
    Options { dates: true, ..Options::default() }
}

/// An agent whose containers run this shell script, and need no input for it. They see a folder as `/marks`.
pub fn builder(server: &FakeServer, script: &str, config: &str) -> Builder {
    let script = toml_edit::value(script).to_string();
    let executor = format!(
        "[executor]\nexecutor_type = \"custom\"\ncustom_entrypoint = [\"/bin/sh\", \"-c\", {script}]\n\
         [[paths.mounts]]\nhost = \"./marks\"\ncontainer = \"/marks\""
    );
    Agent::builder(server).with_engine().config(&executor).config(config)
}

impl Site {
    /// Starts the agent and waits until it would accept a task.
    pub fn start(server: FakeServer, builder: Builder) -> Self {
        Self::start_built(server, builder.build())
    }

    /// The same for an agent whose folder has been changed.
    pub fn start_built(server: FakeServer, agent: Agent) -> Self {
        fs::create_dir_all(agent.path("marks")).expect("make the folder for marks");
        let mut running = agent.start();
        running.wait_log("tasks are accepted", secs(60));
        Self { agent, running, server }
    }

    /// The folder that containers see as `/marks`.
    pub fn marks(&self) -> PathBuf {
        self.agent.path("marks")
    }

    /// Runs one task to its end and returns its id: whatever happens for the first time only is over then.
    pub fn warm_up(&self) -> String {
        let id = self.server.submit(TaskSpec::new("warm-up"));
        self.server.wait_for(&id, Status::Completed, secs(60));
        id
    }

    /// Queues tasks while none is offered, so that the agent meets them all at once, and returns their ids.
    pub fn queue(&self, count: usize, spec: impl Fn() -> TaskSpec) -> Vec<String> {
        self.server.pause_offering(true);
        let ids = (0..count).map(|_| self.server.submit(spec())).collect();
        self.server.pause_offering(false);
        ids
    }

    /// Waits until no task of the Server is open; fails at the deadline, or when a task has failed.
    pub fn wait_all(&self, ids: &[String], deadline: Duration) {
        let what = format!("the end of {} tasks", ids.len());
        self.server.wait_until(&what, deadline, |server| server.open_tasks() == 0);
        let tasks = self.server.tasks();
        let failed = tasks.iter().find(|task| task.status != Status::Completed);
        assert!(failed.is_none(), "not completed: {failed:#?}");
    }

    /// From the arrival of the first of these tasks' accepts to that of their last report.
    pub fn makespan(&self, ids: &[String]) -> Duration {
        let requests = about(self.server.requests(), ids);
        last(&requests, "complete") - first(&requests, "accept").at
    }

    /// Waits until all containers of the agent are removed.
    pub fn wait_removed(&self) {
        let label = format!("open-aaas.instance={}", self.agent.instance().unwrap_or_default());
        wait_until("the removal of all containers", secs(60), || containers_with_label(&label).is_empty());
    }

    /// Ends the agent as an operator does.
    pub fn stop(mut self) {
        self.running.terminate(secs(30));
    }
}

/// The requests about one of these tasks.
pub fn about(mut requests: Vec<Request>, ids: &[String]) -> Vec<Request> {
    let ids: std::collections::HashSet<&str> = ids.iter().map(String::as_str).collect();
    requests.retain(|request| request.task_id.as_deref().is_some_and(|id| ids.contains(id)));
    requests
}

/// The first request of this kind.
pub fn first<'r>(requests: &'r [Request], call: &str) -> &'r Request {
    let found = requests.iter().find(|request| request.is(call));
    found.unwrap_or_else(|| panic!("no `{call}` among {} requests", requests.len()))
}

/// When the last request of this kind arrived.
pub fn last(requests: &[Request], call: &str) -> Instant {
    let found = requests.iter().rev().find(|request| request.is(call));
    found.unwrap_or_else(|| panic!("no `{call}` among {} requests", requests.len())).at
}

/// Makes a folder that containers of any user can write to.
pub fn open_folder(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::create_dir_all(path).expect("make a folder");
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("open a folder");
}
