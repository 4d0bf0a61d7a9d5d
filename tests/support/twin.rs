//! Another agent with the same credentials, whose calls the test makes.

use super::server::Control;
use serde_json::{Value, json};
use std::time::Duration;

/// The time limit of a call.
const DEADLINE: Duration = Duration::from_secs(20);

/// An agent that sends no heartbeats.
pub struct Twin {
    agent: ureq::Agent,
    url: String,
    service_id: String,
    api_key: String,
}

impl Twin {
    /// A twin of the agents of the Server's first service.
    pub fn new(server: &Control) -> Self {
        let config = ureq::Agent::config_builder()
            .proxy(None)
            .timeout_global(Some(DEADLINE))
            .http_status_as_error(false)
            .build();
        let (service_id, api_key) = server.service();
        Self { agent: config.into(), url: server.url(), service_id, api_key }
    }

    /// Accepts a task and returns the answer's status.
    pub fn accept(&self, task_id: &str) -> u16 {
        self.post("accept", &json!({"task_id": task_id}))
    }

    /// Reports a task's end and returns the answer's status.
    pub fn complete(&self, task_id: &str, status: &str) -> u16 {
        self.post("complete", &json!({"task_id": task_id, "status": status, "output": {}, "file_ids": []}))
    }

    /// Polls and returns the answer's status.
    pub fn poll(&self) -> u16 {
        self.post("poll", &json!({"current_load": 0, "available_capacity": 0}))
    }

    fn post(&self, call: &str, body: &Value) -> u16 {
        let url = format!("{}/api/v1/agent/{}/{call}", self.url, self.service_id);
        let request = self
            .agent
            .post(url)
            .header("X-Service-ID", &self.service_id)
            .header("X-API-Key", &self.api_key)
            .header("Authorization", format!("Bearer {}", self.api_key))
            .header("Content-Type", "application/json");
        let answer = request.send(body.to_string()).unwrap_or_else(|error| panic!("{call} of the twin: {error}"));
        answer.status().as_u16()
    }
}
