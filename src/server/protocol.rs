//! The bodies that go over the wire, and nothing else. What the Server sends is read leniently: unknown fields are
//! ignored, and a nullable field may be `null` or absent. The rest of this page is `agent-core man protocol`.
#![doc = include_str!("../manual/protocol.md")]

use serde::{Deserialize, Deserializer, Serialize};

/// Body of `register`.
#[derive(Debug, Serialize)]
pub struct RegisterRequest<'a> {
    /// The one-time token, `rt_…`.
    pub registration_token: &'a str,
    /// How many tasks the agent works on at once.
    pub capacity: usize,
}

/// What `register` answers: the only time that the key is shown.
#[derive(Deserialize)]
pub struct Registration {
    /// The service that the agent works for from now on.
    pub service_id: String,
    /// The name that the Server has for the service.
    #[serde(default)]
    pub name: Option<String>,
    /// The secret that every later call carries.
    pub api_key: String,
}

/// What a heartbeat says of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentStatus {
    /// Ready for tasks.
    Online,
    /// Alive, and takes no task now.
    Busy,
    /// ProbeLabel to leave.
    Offline,
}

/// How much of the agent is taken; part of heartbeats and polls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Tasks that take a slot.
    pub current: usize,
    /// Slots in all.
    pub capacity: usize,
    /// Slots that a new task could take now.
    pub available: usize,
}

/// Body of `heartbeat`.
#[derive(Debug, Serialize)]
pub struct HeartbeatRequest {
    /// What the Server shows for the agent.
    pub status: AgentStatus,
    /// Tasks that take a slot.
    pub current_load: usize,
    /// Slots in all; the Server refuses a load above it (PROTOCOL 8).
    pub capacity: usize,
    /// Slots that a new task could take now.
    pub available_capacity: usize,
}

/// Body of `poll`.
#[derive(Debug, Serialize)]
pub struct PollRequest {
    /// Tasks that take a slot.
    pub current_load: usize,
    /// Slots that a new task could take now.
    pub available_capacity: usize,
}

/// What `poll` answers. The fields are independent of each other on the wire.
#[derive(Debug, Default, Deserialize)]
pub struct PollAnswer {
    /// Whether `task` is meant.
    #[serde(default, deserialize_with = "or_default")]
    pub has_task: bool,
    /// The oldest pending task; it isn't reserved for us (PROTOCOL 1).
    ///
    /// It is read apart from the rest: an offer of the wrong shape must not hide a cancellation beside it.
    #[serde(default)]
    pub task: Option<serde_json::Value>,
    /// Whether `cancel_task_id` is meant.
    #[serde(default, deserialize_with = "or_default")]
    pub should_cancel: bool,
    /// A task of the service, perhaps a twin's, that is to be stopped (PROTOCOL 2).
    #[serde(default)]
    pub cancel_task_id: Option<String>,
}

/// A task as it is offered, and as it lies in the record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The Server's id of the task: outside text.
    pub id: String,
    /// What is to be done.
    #[serde(default, deserialize_with = "or_default")]
    pub task_prompt: String,
    /// How the result should look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_prompt: Option<String>,
    /// The conversation that the task belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// The files that the task works on.
    #[serde(default, deserialize_with = "or_default")]
    pub input_files: Vec<InputFile>,
}

/// A file that the Server holds for a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputFile {
    /// The Server's id of the file: outside text.
    pub id: String,
    /// The name that the submitter gave it: outside text.
    pub filename: String,
    /// Its type, as the submitter said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// Its length in bytes; a download of another length is refused.
    pub size_bytes: u64,
}

/// Body of `accept`.
#[derive(Debug, Serialize)]
pub struct AcceptRequest<'a> {
    /// The task that we take.
    pub task_id: &'a str,
}

/// What an upload answers.
#[derive(Debug, Deserialize)]
pub struct Uploaded {
    /// The Server's id of the new file.
    pub file_id: String,
}

/// What `list` answers.
#[derive(Debug, Deserialize)]
pub struct FileList {
    /// Every finished file of the task, inputs too.
    #[serde(default, deserialize_with = "or_default")]
    pub files: Vec<ListedFile>,
}

/// A file in [`FileList`].
#[derive(Debug, Clone, Deserialize)]
pub struct ListedFile {
    /// The Server's id of the file.
    pub id: String,
    /// The name under which it was uploaded.
    #[serde(default, deserialize_with = "or_default")]
    pub filename: String,
    /// Its length in bytes.
    #[serde(default, deserialize_with = "or_default")]
    pub size_bytes: u64,
    /// `agent` or `client`.
    #[serde(default, deserialize_with = "or_default")]
    pub created_by: String,
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinalStatus {
    /// The container exited with 0.
    Completed,
    /// It didn't, or never started.
    Failed,
    /// The submitter asked for the end.
    Cancelled,
}

impl FinalStatus {
    /// The word on the wire, for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Body of `complete`.
#[derive(Debug, Serialize)]
pub struct CompleteRequest<'a> {
    /// The task that ended.
    pub task_id: &'a str,
    /// How.
    pub status: FinalStatus,
    /// What the submitter sees beside the files.
    pub output: Output,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<&'a str>,
    /// The ids of the uploaded files.
    pub file_ids: Vec<String>,
}

impl<'a> CompleteRequest<'a> {
    /// Writes the report as JSON, once: the bytes that the ledger counts are the bytes that are sent.
    pub fn encode(self) -> EncodedReport<'a> {
        let body = to_json(&self);
        EncodedReport { request: self, body }
    }
}

/// A report with its body as it is sent.
#[derive(Debug)]
pub struct EncodedReport<'a> {
    /// The content.
    pub request: CompleteRequest<'a>,
    /// Its JSON.
    pub body: Vec<u8>,
}

/// The body of a request.
pub fn to_json(body: &impl Serialize) -> Vec<u8> {
    // Only maps whose keys aren't text have no JSON form, and none of these types holds one.
    serde_json::to_vec(body).unwrap_or_default()
}

/// The `output` object of `complete`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Output {
    /// The delivered files: paths relative to the workspace, as they were uploaded.
    pub files: Vec<String>,
    /// The end of the container's standard output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdout: Option<String>,
    /// The end of the container's standard error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stderr: Option<String>,
    /// The container's exit status, where there was one.
    pub exit_code: Option<i32>,
    /// Seconds between the container's start and its exit.
    pub duration_secs: f64,
    /// Files that were not delivered, and why; the first 100 of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// How many were not delivered, where that is more than `left_out` names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out_count: Option<u64>,
}

/// A file that the task wrote and that wasn't delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Its path relative to the workspace.
    pub file: String,
    /// Why it stays here.
    pub reason: String,
}

/// What the Server says when it refuses: `{"error":"Code","message":"text"}`.
#[derive(Debug, Default, Deserialize)]
pub struct ErrorBody {
    /// A short code.
    #[serde(default)]
    pub error: Option<String>,
    /// A sentence, often in Chinese; shown, never interpreted.
    #[serde(default)]
    pub message: Option<String>,
}

fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::{PollAnswer, Task};

    #[test]
    fn null_absent_and_unknown_fields_are_accepted() {
        let answer: PollAnswer = serde_json::from_str(
            r#"{"has_task":true,"should_cancel":null,"cancel_task_id":null,"server_time":1,
                "task":{"id":"t1","task_prompt":"do","output_prompt":null,"input_files":null,"priority":3}}"#,
        )
        .unwrap();
        let task: Task = serde_json::from_value(answer.task.unwrap()).unwrap();
        assert_eq!((task.id.as_str(), task.task_prompt.as_str(), task.input_files.len()), ("t1", "do", 0));
        assert!(!answer.should_cancel);
    }

    #[test]
    fn a_task_without_an_id_is_refused() {
        assert!(serde_json::from_str::<Task>(r#"{"task_prompt":"x"}"#).is_err());
    }
}
