//! A log of all requests, for tests that check an agent's calls and their times.

use super::http::{Head, Headers};
use super::multipart::percent_decoded;
use serde_json::Value;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Mutex;
use std::time::Instant;

/// A request and its answer.
#[derive(Clone, Debug)]
pub struct Request {
    /// When its head had arrived.
    pub at: Instant,
    pub method: String,
    /// As sent, with the prefix.
    pub path: String,
    pub headers: Headers,
    /// A JSON body; `null` for everything else.
    pub body: Value,
    /// The number of bytes of the body.
    pub size: u64,
    /// The task that the body, the form, the path or the file in the path names.
    pub task_id: Option<String>,
    /// The name under which a file is uploaded, or was stored that is downloaded.
    pub filename: Option<String>,
    /// The status of the answer, recorded just before it is written; `None` without an answer.
    pub status: Option<u16>,
    /// When the answer was written completely. The client may have it a moment earlier.
    pub answered: Option<Instant>,
    /// The faults that were applied.
    pub faults: Vec<&'static str>,
}

impl Request {
    /// Starts the record of a request whose head has arrived.
    pub fn new(head: &Head) -> Self {
        Self {
            at: Instant::now(),
            method: head.method.clone(),
            path: head.target.clone(),
            headers: head.headers.clone(),
            body: Value::Null,
            size: 0,
            task_id: None,
            filename: None,
            status: None,
            answered: None,
            faults: Vec::new(),
        }
    }

    /// True when a segment of the path is this word: `poll`, `accept`, `upload`, `download`, …
    pub fn is(&self, call: &str) -> bool {
        self.path.split('/').any(|segment| segment == call)
    }

    /// The decoded segments of the path.
    pub fn segments(&self) -> Vec<String> {
        let path = self.path.split('?').next().unwrap_or_default();
        let segments = path.split('/').filter(|segment| !segment.is_empty());
        segments.map(percent_decoded).collect()
    }

    /// True when it was sent to do something about this task.
    pub fn about(&self, task_id: &str) -> bool {
        self.task_id.as_deref() == Some(task_id)
    }
}

impl fmt::Display for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{} {}", self.method, self.path)?;
        if !self.body.is_null() {
            let text = self.body.to_string();
            match text.char_indices().nth(300) {
                Some((end, _)) => write!(formatter, " {}…", &text[..end])?,
                None => write!(formatter, " {text}")?,
            }
        } else if self.size > 0 {
            write!(formatter, " ({} bytes)", self.size)?;
        }
        if let Some(filename) = &self.filename {
            write!(formatter, " {filename:?}")?;
        }
        match self.status {
            Some(status) => write!(formatter, " → {status}")?,
            None => formatter.write_str(" → no answer")?,
        }
        if let Some(answered) = self.answered {
            let took = answered.saturating_duration_since(self.at);
            write!(formatter, " in {} ms", took.as_millis())?;
        }
        for fault in &self.faults {
            write!(formatter, " [{fault}]")?;
        }
        Ok(())
    }
}

struct Kept {
    requests: VecDeque<Request>,
    /// The number of dropped requests.
    forgotten: usize,
}

/// The requests in the order of their arrival. The oldest are dropped when there are too many.
pub struct RequestLog {
    kept: Mutex<Kept>,
    limit: usize,
}

impl RequestLog {
    pub fn new(limit: usize) -> Self {
        let kept = Kept { requests: VecDeque::new(), forgotten: 0 };
        Self { kept: Mutex::new(kept), limit }
    }

    /// Adds a request and returns its number.
    pub fn add(&self, request: Request) -> usize {
        let mut kept = self.kept.lock().expect("no thread panics with this lock");
        kept.requests.push_back(request);
        if kept.requests.len() > self.limit {
            kept.requests.pop_front();
            kept.forgotten += 1;
        }
        kept.forgotten + kept.requests.len() - 1
    }

    /// Replaces the record of a request.
    pub fn update(&self, number: usize, request: &Request) {
        let mut kept = self.kept.lock().expect("no thread panics with this lock");
        let place = number.checked_sub(kept.forgotten);
        if let Some(entry) = place.and_then(|place| kept.requests.get_mut(place)) {
            *entry = request.clone();
        }
    }

    pub fn all(&self) -> Vec<Request> {
        let kept = self.kept.lock().expect("no thread panics with this lock");
        kept.requests.iter().cloned().collect()
    }
}
