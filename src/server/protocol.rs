//! The bodies that go over the wire, and nothing else. What the Server sends is read leniently: unknown fields are
//! ignored, and a nullable field may be `null` or absent. The rest of this page is `agent-core man protocol`.
#![doc = include_str!("../manual/protocol.md")]

use jiff::Timestamp;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::limits::ShortText;

/// Body of `register`.
#[derive(Debug, Serialize)]
pub struct RegisterRequest<'a> {
    /// The one-time token, `rt_…`.
    pub registration_token: &'a str,
    /// How many tasks the agent runs at once.
    pub capacity: usize,
}

/// Answer of `register`: the only time that the Server shows the key.
#[derive(Deserialize)]
pub struct Registration {
    /// The service that the agent works for from now on.
    pub service_id: String,
    /// The name that the Server has for the service.
    pub name: Option<String>,
    /// The secret that every later call carries.
    pub api_key: String,
}

/// The agent's status in a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentStatus {
    /// Ready for tasks.
    Online,
    /// Alive, and accepts no task now.
    Busy,
    /// About to end.
    Offline,
}

/// How many slots are in use; part of heartbeats and polls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Tasks that use a slot.
    pub current: usize,
    /// All slots.
    pub capacity: usize,
    /// Slots that a new task could use now.
    pub available: usize,
}

/// Body of `heartbeat`.
#[derive(Debug, Serialize)]
pub struct HeartbeatRequest {
    pub status: AgentStatus,
    pub current_load: usize,
    /// The Server refuses a load above the capacity (PROTOCOL 8).
    pub capacity: usize,
    pub available_capacity: usize,
}

/// Body of `poll`.
#[derive(Debug, Serialize)]
pub struct PollRequest {
    pub current_load: usize,
    pub available_capacity: usize,
}

/// A task, in an offer and in its record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The Server's id of the task: outside text.
    pub id: String,
    /// What the task asks for.
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

impl Task {
    /// All texts of the Server in it.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let optional = [&self.output_prompt, &self.session_id].into_iter().flatten();
        let files =
            self.input_files.iter().flat_map(|file| [&file.id, &file.filename].into_iter().chain(&file.mime_type));
        [&self.id, &self.task_prompt].into_iter().chain(optional).chain(files).map(String::as_str)
    }

    /// The announced bytes of all input files.
    pub fn input_size(&self) -> u64 {
        self.input_files.iter().map(|file| file.size_bytes).fold(0, u64::saturating_add)
    }
}

/// A file that the Server holds for a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputFile {
    /// The Server's id of the file: outside text.
    pub id: String,
    /// The name that the submitter gave it: outside text.
    pub filename: String,
    /// Its type, as the submitter set it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// Its length in bytes; a download of another length is refused.
    pub size_bytes: u64,
}

/// Body of `accept`.
#[derive(Debug, Serialize)]
pub struct AcceptRequest<'a> {
    pub task_id: &'a str,
}

/// Answer of `upload`.
#[derive(Debug, Deserialize)]
pub struct Uploaded {
    /// The Server's id of the new file.
    pub file_id: ShortText,
}

/// A file in the answer of `list`.
#[derive(Debug, Clone, Deserialize)]
pub struct ListedFile {
    /// The Server's id of the file.
    pub id: ShortText,
    /// The name under which it was uploaded.
    #[serde(default, deserialize_with = "or_default")]
    pub filename: String,
    #[serde(default, deserialize_with = "or_default")]
    pub size_bytes: u64,
    /// `agent` or `client`.
    #[serde(default, deserialize_with = "or_default")]
    pub created_by: String,
    /// When the Server got it, by its own clock. `None` if that isn't said in the form of RFC 3339, with a zone.
    #[serde(default, deserialize_with = "time_or_none")]
    pub created_at: Option<Timestamp>,
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinalStatus {
    /// The container exited with 0.
    Completed,
    /// The container exited with another status, or never started.
    Failed,
    /// The submitter cancelled the task.
    Cancelled,
}

impl FinalStatus {
    /// The word on the wire.
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
    pub task_id: &'a str,
    pub status: FinalStatus,
    /// What the Server shows to the submitter beside the files.
    pub output: Output,
    /// Why the task failed.
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

/// A report and its body as it is sent.
#[derive(Debug)]
pub struct EncodedReport<'a> {
    pub request: CompleteRequest<'a>,
    pub body: Vec<u8>,
}

/// The body of a request.
pub fn to_json(body: &impl Serialize) -> Vec<u8> {
    // Only maps whose keys aren't text have no JSON form, and none of these types holds one.
    serde_json::to_vec(body).unwrap_or_default()
}

/// The `output` object of `complete`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Output {
    /// The delivered files: paths relative to the workspace, as they were uploaded.
    pub files: Vec<String>,
    /// The end of the container's standard output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdout: Option<String>,
    /// The end of the container's standard error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stderr: Option<String>,
    /// The container's exit status, if it started.
    pub exit_code: Option<i32>,
    /// Seconds between the container's start and its exit.
    pub duration_secs: f64,
    /// Files that were not delivered, and why; the first 100 of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// How many were not delivered, if `left_out` names fewer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out_count: Option<u64>,
}

/// A file of the task that was not delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Its path relative to the workspace.
    pub file: String,
    /// Why it was not delivered.
    pub reason: String,
}

/// The body of a refusal.
#[derive(Debug, Default)]
pub struct ErrorBody {
    /// A short code and a sentence, often in Chinese, as far as they are there. They are shown, and nothing depends on
    /// what they say.
    pub words: Vec<String>,
    /// Whether it has the form of the Server's refusals, `{"error":"Code","message":"text"}`.
    pub is_the_servers: bool,
}

impl ErrorBody {
    /// Reads a body of bounded length. Gateways and frameworks answer in JSON, too: with one of the two words, with the
    /// words of the status as the code, or with the status as a number beside them.
    pub fn read(body: &[u8]) -> Self {
        let Ok(Value::Object(body)) = serde_json::from_slice(body) else { return Self::default() };
        let text = |key: &str| body.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let (code, message) = (text("error"), text("message"));
        let is_code = code.is_some_and(|code| !code.contains(char::is_whitespace));
        let repeats_status = ["status", "statusCode", "status_code"].iter().any(|key| body.contains_key(*key));
        Self {
            words: [code, message].into_iter().flatten().map(str::to_owned).collect(),
            is_the_servers: is_code && message.is_some() && !repeats_status,
        }
    }
}

/// A time as text, or `None` for anything else: a list isn't unusable for that.
fn time_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Time {
        Text(String),
        Other(IgnoredAny),
    }
    Ok(match Time::deserialize(deserializer)? {
        Time::Text(text) => text.parse().ok(),
        Time::Other(_) => None,
    })
}

pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
