//! The actions of people on the Server: services, tokens, tasks and their files.

use super::super::task::{Status, StoredFile, Task, TaskSpec};
use super::{Service, State, Token, now};
use serde_json::{Value, json};

impl State {
    /// Adds a service with a key, as if it had registered.
    pub fn add_service(&mut self, id: Option<&str>) -> Service {
        let serial = self.next_serial();
        let service = Service {
            id: id.map_or_else(|| format!("svc-{}-{serial}", self.prefix), str::to_owned),
            name: "测试服务 test service".to_owned(),
            api_key: format!("ak_{}_{serial}", self.prefix),
            status: "offline".to_owned(),
            last_heartbeat: None,
            reported: Value::Null,
            hollow: false,
        };
        if self.first_service.is_empty() {
            self.first_service.clone_from(&service.id);
        }
        self.services.retain(|other| other.id != service.id);
        self.services.push(service.clone());
        service
    }

    /// Makes a token for one registration, of a new or of an existing service.
    pub fn add_token(&mut self, token: &str, service_id: Option<&str>) {
        let service_id = service_id.map(str::to_owned);
        self.tokens.insert(token.to_owned(), Token { service_id });
    }

    pub fn submit(&mut self, spec: TaskSpec) -> String {
        let serial = self.next_serial();
        let id = spec.id.unwrap_or_else(|| format!("{}-{serial:04}", self.prefix));
        let files: Vec<Value> = spec
            .inputs
            .into_iter()
            .map(|input| {
                let file = self.store(&id, &input.filename, input.bytes, None, "client");
                json!({
                    "id": file.id,
                    "filename": file.filename,
                    "mime_type": file.mime_type,
                    "size_bytes": input.size_bytes,
                    "checksum": null,
                })
            })
            .collect();
        let mut offer = json!({
            "id": id,
            "task_prompt": spec.prompt,
            "input_files": files,
            "priority": 5,
            "created_at": now(),
        });
        // A nullable field is null in every other task, and absent in the rest.
        for (key, value) in [("output_prompt", spec.output_prompt), ("session_id", spec.session_id)] {
            match value {
                None if serial % 2 == 0 => {}
                value => offer[key] = json!(value),
            }
        }
        self.submit_raw(&id, offer, spec.service_id)
    }

    /// Queues an offer with this content.
    pub fn submit_raw(&mut self, id: &str, offer: Value, service_id: Option<String>) -> String {
        let service_id = service_id.unwrap_or_else(|| self.first_service.clone());
        let mut task = Task {
            id: id.to_owned(),
            service_id,
            status: Status::Pending,
            offer,
            output: Value::Null,
            error_message: None,
            file_ids: Vec::new(),
            retry_count: 0,
            accepted_count: 0,
            completed_count: 0,
            history: Vec::new(),
        };
        task.become_(Status::Pending);
        self.tasks.push(task);
        id.to_owned()
    }

    /// A person cancels: a waiting task ends at once, a running one when an agent confirms (point 3).
    pub fn cancel(&mut self, id: &str) {
        if let Some(task) = self.tasks.iter_mut().find(|task| task.id == id) {
            match task.status {
                Status::Pending => task.become_(Status::Cancelled),
                Status::Running => task.become_(Status::Cancelling),
                _ => {}
            }
        }
    }

    /// An operator puts an older state of the Server's database back: the task waits again, and its files are kept.
    pub fn forget_end(&mut self, id: &str) {
        if let Some(task) = self.tasks.iter_mut().find(|task| task.id == id) {
            assert!(task.status.is_final(), "{task:#?}");
            task.output = Value::Null;
            task.error_message = None;
            task.file_ids.clear();
            task.become_(Status::Pending);
        }
    }

    pub fn store(
        &mut self,
        task_id: &str,
        filename: &str,
        bytes: Vec<u8>,
        mime_type: Option<String>,
        created_by: &'static str,
    ) -> StoredFile {
        let serial = self.next_serial();
        let file = StoredFile {
            id: format!("file-{}-{serial}", self.prefix),
            task_id: task_id.to_owned(),
            filename: filename.to_owned(),
            bytes,
            mime_type: mime_type.unwrap_or_else(|| "application/octet-stream".to_owned()),
            created_by,
            created_at: now(),
        };
        self.files.push(file.clone());
        file
    }
}
