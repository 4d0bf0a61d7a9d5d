//! The setup of a test: a Server, an agent with the image, and a model.

use crate::image::{ByHand, executor_image};
use crate::model::{KEY, Model, Say, Style};
use crate::support::agent::{Agent, Running};
use crate::support::secs;
use crate::support::server::{FakeServer, Status, Task, TaskSpec};

/// Settings without retries and with a short timeout for a silent model.
const SETTINGS: &str = r#"{"defaultProvider": "scripted", "defaultModel": "m", "retry": {"enabled": false},
    "httpIdleTimeoutMs": 2000}"#;

/// The settings of a test.
pub struct Setup {
    pub model: Model,
    config: String,
    settings: String,
    key: String,
}

/// The running parts of a test.
pub struct Scene {
    pub server: FakeServer,
    pub model: Model,
    pub agent: Agent,
    pub running: Running,
}

impl Setup {
    /// An agent whose model answers with `turns`, in the style of OpenAI.
    pub fn new(turns: Vec<Say>) -> Self {
        Self::with_model(Model::start(Style::OpenAi, turns, None))
    }

    pub fn with_model(model: Model) -> Self {
        Self { model, config: String::new(), settings: SETTINGS.to_owned(), key: KEY.to_owned() }
    }

    /// Merges a TOML fragment into the agent's configuration.
    pub fn config(self, fragment: &str) -> Self {
        Self { config: fragment.to_owned(), ..self }
    }

    /// Another `settings.json` for pi.
    pub fn settings(self, text: &str) -> Self {
        Self { settings: text.to_owned(), ..self }
    }

    /// Another key in the container's environment.
    pub fn key(self, key: &str) -> Self {
        Self { key: key.to_owned(), ..self }
    }

    /// Creates the agent without starting it.
    pub fn build(self, server: &FakeServer) -> (Agent, Model) {
        let usual = format!(
            "[executor]\nimage = '{}'\nnetwork = 'host'\n[executor.env]\nLLM_API_KEY = '{}'\n\
             [[paths.mounts]]\nhost = './pi-agent'\ncontainer = '/etc/pi-agent'\nreadonly = true",
            executor_image(),
            self.key
        );
        let agent = Agent::builder(server).with_engine().config(&usual).config(&self.config).build();
        agent.write("pi-agent/models.json", self.model.models_json());
        agent.write("pi-agent/settings.json", &self.settings);
        (agent, self.model)
    }

    /// Starts the agent.
    pub fn start(self) -> Scene {
        let server = FakeServer::start();
        let (agent, model) = self.build(&server);
        let running = agent.start();
        Scene { server, model, agent, running }
    }
}

impl Scene {
    /// Submits a task and waits until it is completed.
    pub fn completed(&self, spec: TaskSpec) -> Task {
        let id = self.server.submit(spec);
        self.server.wait_for(&id, Status::Completed, secs(60))
    }

    /// Submits a task and waits until it has failed.
    pub fn failed(&self, spec: TaskSpec) -> Task {
        let id = self.server.submit(spec);
        self.server.wait_for(&id, Status::Failed, secs(90))
    }

    /// The text of a result.
    pub fn output(&self, task: &Task, name: &str) -> String {
        self.server.output(&task.id, name).text().to_owned()
    }
}

/// The error message of a task.
pub fn reason(task: &Task) -> &str {
    task.error_message.as_deref().unwrap_or_default()
}

/// A container without agent-core, for short time limits and unusual workspaces.
pub fn by_hand(model: &Model) -> ByHand {
    let by_hand = ByHand::new(Some(r#"{"task_id": "t", "task_prompt": "Work."}"#));
    let key = format!("LLM_API_KEY={KEY}");
    by_hand
        .file("pi-agent/models.json", &model.models_json())
        .file("pi-agent/settings.json", r#"{"defaultProvider": "scripted", "defaultModel": "m"}"#)
        .configured()
        .with(&["--network", "host", "-e", &key])
}
