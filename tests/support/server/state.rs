//! The Server's state machine: services, tasks and files, and what each agent call does to them.
//!
//! No HTTP here: a call takes JSON and returns JSON or a [`Refusal`]. Comments cite PROTOCOL's nine points by number.

mod lease;
mod person;

use super::options::Options;
use super::task::{Status, StoredFile, Task, TaskSpec};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::Instant;

/// The refusal of a call.
#[derive(Debug)]
pub struct Refusal {
    pub status: u16,
    pub code: &'static str,
    pub message: String,
}

impl Refusal {
    pub fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { status, code, message }
    }
}

/// The answer to a call.
pub type Answer = Result<Value, Refusal>;

/// An agent's entry on the Server. Twins share one.
#[derive(Clone, Debug)]
pub struct Service {
    pub id: String,
    pub name: String,
    pub api_key: String,
    /// `online`, `busy` or `offline`.
    pub status: String,
    pub last_heartbeat: Option<Instant>,
    /// The last heartbeat's body.
    pub reported: Value,
    /// Deleted and created again: every call is 500 until an agent registers (point 8).
    pub hollow: bool,
}

/// A registration token that has not been used.
struct Token {
    service_id: Option<String>,
}

/// An upload whose body has not arrived completely.
struct Unfinished {
    serial: u64,
    task_id: String,
}

/// The state of the Server.
pub struct State {
    pub services: Vec<Service>,
    pub tasks: Vec<Task>,
    pub files: Vec<StoredFile>,
    /// False while a test pauses the offers.
    pub offering: bool,
    /// Uploads that were deleted because another one of the same task began (point 7).
    pub spoiled_uploads: usize,
    /// The service of tasks that name none.
    first_service: String,
    tokens: HashMap<String, Token>,
    unfinished: Vec<Unfinished>,
    prefix: String,
    serial: u64,
    max_retries: u32,
    accept_refusal: u16,
}

impl State {
    pub fn new(options: &Options, prefix: &str) -> Self {
        Self {
            services: Vec::new(),
            tasks: Vec::new(),
            files: Vec::new(),
            offering: true,
            spoiled_uploads: 0,
            first_service: String::new(),
            tokens: HashMap::new(),
            unfinished: Vec::new(),
            prefix: prefix.to_owned(),
            serial: 0,
            max_retries: options.max_retries,
            accept_refusal: options.accept_refusal,
        }
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    pub fn register(&mut self, body: &Value) -> Answer {
        let token = text(body, "registration_token")?;
        if number(body, "capacity")? < 1 {
            return Err(Refusal::new(400, "BadRequest", "容量必须大于 0"));
        }
        // Point 9: a token works once.
        let Some(token) = self.tokens.remove(token) else {
            return Err(Refusal::new(404, "NotFound", "注册令牌无效或已被使用"));
        };
        let service = self.add_service(token.service_id.as_deref());
        Ok(json!({
            "service_id": service.id,
            "name": service.name,
            "api_key": service.api_key,
            "status": service.status,
            "created_at": now(),
            "server_version": "0.11.0",
        }))
    }

    pub fn heartbeat(&mut self, sid: &str, body: &Value) -> Answer {
        let status = text(body, "status")?.to_owned();
        if !["online", "busy", "offline"].contains(&status.as_str()) {
            return Err(Refusal::new(400, "BadRequest", "无效的状态"));
        }
        let load = number(body, "current_load")?;
        let capacity = number(body, "capacity")?;
        number(body, "available_capacity")?;
        if capacity <= 0 || load > capacity {
            return Err(Refusal::new(400, "BadRequest", "负载不能超过容量"));
        }
        let service = self.service_mut(sid)?;
        // Point 4: `offline` takes effect at once and changes no task.
        service.status = status;
        service.last_heartbeat = Some(Instant::now());
        service.reported = body.clone();
        Ok(json!({"acknowledged": true, "server_time": now()}))
    }

    pub fn poll(&mut self, sid: &str, body: &Value) -> Answer {
        number(body, "current_load")?;
        number(body, "available_capacity")?;
        let mut own = self.tasks.iter().filter(|task| task.service_id == sid);
        // Point 2: while something is being cancelled nothing is offered.
        let cancelling = own.clone().find(|task| task.status == Status::Cancelling);
        if let Some(task) = cancelling {
            return Ok(json!({
                "has_task": false,
                "task": null,
                "should_cancel": true,
                "cancel_task_id": task.id,
            }));
        }
        // Point 1: the oldest task, in every poll, until an agent accepts it.
        let task = own.find(|task| task.status == Status::Pending && self.offering);
        Ok(json!({
            "has_task": task.is_some(),
            "task": task.map(|task| &task.offer),
            "should_cancel": false,
            "cancel_task_id": null,
            "queue_hint": {"unknown": "fields are to be ignored"},
        }))
    }

    pub fn accept(&mut self, sid: &str, body: &Value) -> Answer {
        let id = text(body, "task_id")?;
        let refusal = Refusal::new(self.accept_refusal, "TaskNotPending", "任务不存在或不是待处理状态");
        let mut tasks = self.tasks.iter_mut();
        let Some(task) = tasks.find(|task| task.id == id && task.service_id == sid) else {
            return Err(refusal);
        };
        if task.status != Status::Pending {
            return Err(refusal);
        }
        task.become_(Status::Running);
        task.accepted_count += 1;
        Ok(json!({"success": true, "task_id": id, "status": "running"}))
    }

    pub fn complete(&mut self, sid: &str, body: &Value) -> Answer {
        let id = text(body, "task_id")?;
        let status = match text(body, "status")? {
            "completed" => Status::Completed,
            "failed" => Status::Failed,
            "cancelled" => Status::Cancelled,
            _ => return Err(Refusal::new(400, "BadRequest", "无效的状态")),
        };
        let file_ids = strings(body, "file_ids")?;
        let output = match &body["output"] {
            Value::Null => json!({}),
            Value::Object(_) => body["output"].clone(),
            _ => return Err(Refusal::new(400, "BadRequest", "output 必须是对象")),
        };
        let known = |file_id: &String| {
            let mut files = self.files.iter();
            files.any(|file| &file.id == file_id && file.task_id == id)
        };
        if !file_ids.iter().all(known) {
            return Err(Refusal::new(400, "BadRequest", "文件不属于该任务"));
        }
        let mut tasks = self.tasks.iter_mut();
        let task = tasks
            .find(|task| task.id == id && task.service_id == sid)
            // Point 5: anything else changes nothing.
            .filter(|task| matches!(task.status, Status::Running | Status::Cancelling))
            .ok_or_else(|| Refusal::new(400, "TaskNotRunning", "任务不在运行中"))?;
        task.output = output;
        task.output["file_ids"] = json!(file_ids);
        task.error_message = body["error_message"].as_str().map(str::to_owned);
        task.file_ids = file_ids;
        task.completed_count += 1;
        task.become_(status);
        Ok(json!({"success": true, "task_id": id, "status": status.as_str()}))
    }

    pub fn list(&self, sid: &str, task_id: &str) -> Answer {
        self.own_task(sid, task_id)?;
        let files = self.files.iter().filter(|file| file.task_id == task_id);
        let files: Vec<Value> = files.map(StoredFile::listed).collect();
        Ok(json!({"total": files.len(), "files": files}))
    }

    pub fn download(&self, sid: &str, file_id: &str) -> Result<StoredFile, Refusal> {
        let file = self.files.iter().find(|file| file.id == file_id);
        let file = file.ok_or_else(|| Refusal::new(404, "NotFound", "文件不存在"))?;
        self.own_task(sid, &file.task_id)?;
        Ok(file.clone())
    }

    /// An upload for this task has begun: unfinished ones of the task are deleted (point 7).
    pub fn begin_upload(&mut self, task_id: &str) -> u64 {
        let before = self.unfinished.len();
        self.unfinished.retain(|upload| upload.task_id != task_id);
        self.spoiled_uploads += before - self.unfinished.len();
        let serial = self.next_serial();
        let task_id = task_id.to_owned();
        self.unfinished.push(Unfinished { serial, task_id });
        serial
    }

    pub fn unfinished_uploads(&self) -> usize {
        self.unfinished.len()
    }

    /// An upload's body has arrived; `name` is its filename. The task may have any state.
    pub fn finish_upload(&mut self, sid: &str, upload: Upload) -> Answer {
        self.own_task(sid, &upload.task_id)?;
        let mut unfinished = self.unfinished.iter();
        let Some(place) = unfinished.position(|other| other.serial == upload.serial) else {
            let message = "上传已被同一任务的另一个上传取代";
            return Err(Refusal::new(500, "InternalError", message));
        };
        self.unfinished.remove(place);
        let task_id = upload.task_id;
        let file = self.store(&task_id, &upload.filename, upload.bytes, upload.mime_type, "agent");
        Ok(json!({
            "file_id": file.id,
            "filename": file.filename,
            "mime_type": file.mime_type,
            "size_bytes": file.bytes.len(),
            "created_at": file.created_at,
            "storage_backend": "local",
        }))
    }

    /// Checks the task's owner: 404 for an unknown task, 403 for one of another service (point 8).
    fn own_task(&self, sid: &str, task_id: &str) -> Result<(), Refusal> {
        match self.tasks.iter().find(|task| task.id == task_id) {
            None => Err(Refusal::new(404, "NotFound", "任务不存在")),
            Some(task) if task.service_id != sid => Err(Refusal::new(403, "Forbidden", "任务属于其他服务")),
            Some(_) => Ok(()),
        }
    }

    pub fn service_mut(&mut self, sid: &str) -> Result<&mut Service, Refusal> {
        let service = self.services.iter_mut().find(|service| service.id == sid);
        service.ok_or_else(|| Refusal::new(404, "NotFound", "服务不存在"))
    }
}

/// An upload that has arrived.
pub struct Upload {
    /// From [`State::begin_upload`].
    pub serial: u64,
    pub task_id: String,
    pub filename: String,
    pub mime_type: Option<String>,
    pub bytes: Vec<u8>,
}

/// The time in the Server's format.
fn now() -> String {
    jiff::Timestamp::now().to_string()
}

fn text<'a>(body: &'a Value, key: &str) -> Result<&'a str, Refusal> {
    let value = body[key].as_str();
    value.ok_or_else(|| Refusal::new(400, "BadRequest", format!("缺少字段 `{key}`（字符串）")))
}

fn number(body: &Value, key: &str) -> Result<i64, Refusal> {
    let value = body[key].as_i64();
    value.ok_or_else(|| Refusal::new(400, "BadRequest", format!("缺少字段 `{key}`（整数）")))
}

fn strings(body: &Value, key: &str) -> Result<Vec<String>, Refusal> {
    let values = body[key].as_array();
    let strings = values.and_then(|values| {
        let strings = values.iter().map(|value| value.as_str().map(str::to_owned));
        strings.collect()
    });
    strings.ok_or_else(|| Refusal::new(400, "BadRequest", format!("缺少字段 `{key}`（字符串数组）")))
}
