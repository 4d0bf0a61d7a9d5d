//! The Server's tasks and files, and the description of a new task.

use serde_json::{Value, json};
use std::fmt;
use std::time::Instant;

/// The status of a task. `Cancelling` means that no agent has confirmed the cancellation yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Pending,
    Running,
    Cancelling,
    Completed,
    Failed,
    Cancelled,
}

impl Status {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Cancelling => "cancelling",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// True if the status can't change any more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A snapshot of a task on the Server.
#[derive(Clone, Debug)]
pub struct Task {
    pub id: String,
    pub service_id: String,
    pub status: Status,
    /// The `task` object of a poll's answer.
    pub offer: Value,
    /// The `output` of the report, with the Server's `file_ids`; `null` before the report.
    pub output: Value,
    pub error_message: Option<String>,
    /// The ids that `complete` named.
    pub file_ids: Vec<String>,
    pub retry_count: u32,
    /// How often `accept` took effect.
    pub accepted_count: u32,
    /// How often `complete` took effect; more than once if the task was requeued in between.
    pub completed_count: u32,
    /// All statuses with the time at which each began.
    pub history: Vec<(Instant, Status)>,
}

impl Task {
    /// Sets the status and records the time.
    pub fn become_(&mut self, status: Status) {
        self.status = status;
        self.history.push((Instant::now(), status));
    }

    /// The `stdout` in the report; empty if it has none.
    pub fn stdout(&self) -> &str {
        self.output["stdout"].as_str().unwrap_or_default()
    }

    /// When the task last came into `status`.
    pub fn since(&self, status: Status) -> Option<Instant> {
        let mut changes = self.history.iter().rev();
        changes.find(|(_, is)| *is == status).map(|(at, _)| *at)
    }
}

/// A file that a person or an agent uploaded.
#[derive(Clone)]
pub struct StoredFile {
    pub id: String,
    pub task_id: String,
    pub filename: String,
    pub bytes: Vec<u8>,
    pub mime_type: String,
    /// `agent` or `client`.
    pub created_by: &'static str,
    pub created_at: String,
}

impl StoredFile {
    /// The bytes as text; fails the test if they are not UTF-8.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap_or_else(|_| panic!("`{}` is not UTF-8", self.filename))
    }

    /// The entry of the list call.
    pub fn listed(&self) -> Value {
        json!({
            "id": self.id,
            "task_id": self.task_id,
            "filename": self.filename,
            "mime_type": self.mime_type,
            "size_bytes": self.bytes.len(),
            "created_by": self.created_by,
            "created_at": self.created_at,
            "storage_backend": "local",
        })
    }
}

impl fmt::Debug for StoredFile {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let size = self.bytes.len();
        write!(formatter, "{} {:?} ({size} bytes, by {})", self.id, self.filename, self.created_by)
    }
}

/// An input file of a task to be submitted.
#[derive(Clone, Debug)]
pub struct Input {
    pub filename: String,
    pub bytes: Vec<u8>,
    /// The size in the offer: the number of bytes unless a test sets another.
    pub size_bytes: u64,
}

/// A task to be submitted.
#[derive(Clone, Debug, Default)]
pub struct TaskSpec {
    pub id: Option<String>,
    pub service_id: Option<String>,
    pub prompt: String,
    pub output_prompt: Option<String>,
    pub session_id: Option<String>,
    pub inputs: Vec<Input>,
}

impl TaskSpec {
    /// A task with this prompt and nothing else.
    pub fn new(prompt: impl Into<String>) -> Self {
        Self { prompt: prompt.into(), ..Self::default() }
    }

    /// A task for the test image, which runs `input/run.sh` with `sh`.
    pub fn script(text: impl AsRef<str>) -> Self {
        Self::new("run the script").input("run.sh", text.as_ref().as_bytes())
    }

    /// Sets the id; without it the Server makes one from its prefix and a number.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Submits the task to this service instead of the first.
    #[must_use]
    pub fn service(mut self, service_id: impl Into<String>) -> Self {
        self.service_id = Some(service_id.into());
        self
    }

    #[must_use]
    pub fn output_prompt(mut self, text: impl Into<String>) -> Self {
        self.output_prompt = Some(text.into());
        self
    }

    #[must_use]
    pub fn session(mut self, id: impl Into<String>) -> Self {
        self.session_id = Some(id.into());
        self
    }

    /// Adds an input file.
    #[must_use]
    pub fn input(mut self, filename: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        self.inputs.push(Input { filename: filename.into(), size_bytes: bytes.len() as u64, bytes });
        self
    }

    /// Makes the offer announce another size for the input added last.
    #[must_use]
    pub fn announced_size(mut self, size_bytes: u64) -> Self {
        let input = self.inputs.last_mut().expect("add an input first");
        input.size_bytes = size_bytes;
        self
    }
}
