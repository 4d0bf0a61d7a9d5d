//! What a line of the ledger says. The keys are documented in manual/ledger.md, "The keys of a line".

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};

use crate::server::protocol::FinalStatus;

/// The longest file name that is written whole, in bytes; more than a path has in practice.
const NAME_MAX: usize = 1024;
/// The same for reasons and for ids that the Server made.
const WORDS_MAX: usize = 512;
/// What is shorter is no secret, and may be a part of any word.
const SECRET_MIN: usize = 8;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// When what it tells was known, in UTC with milliseconds, so that the order of the texts is that of the times.
    #[serde(serialize_with = "in_milliseconds")]
    pub time: Timestamp,
    /// The Server's id of the task.
    pub task: String,
    /// What happened.
    #[serde(flatten)]
    pub entry: Entry,
    /// The Server's address.
    pub server: String,
    /// The service for which the task was taken.
    pub service_id: String,
}

/// What a line tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Entry {
    /// A file came, was sent, or stays here.
    File(Transfer),
    /// A report of a task's end was sent.
    Report(Report),
    /// A task is settled. Its last line, unless the Server offers it again.
    Task(Settled),
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// To this machine.
    In,
    /// Away from it.
    Out,
}

/// What became of a file or a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is here.
    Received,
    /// The Server has it.
    Sent,
    /// The Server, or a proxy before it, said no. What it refused may have left this machine all the same.
    Refused,
    /// It didn't arrive. A part of it, or all, may have left this machine.
    Failed,
    /// There was no answer: it may have arrived.
    Unknown,
    /// It stays on this machine.
    LeftOut,
}

impl Outcome {
    /// The word in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Sent => "sent",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::LeftOut => "left_out",
        }
    }
}

/// One attempt to move a file, or one file that isn't moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Which way.
    pub direction: Direction,
    /// What became of it.
    pub outcome: Outcome,
    /// Its name: on the Server for what goes out, the submitter's for what comes in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// So many files that aren't named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// How many bytes moved; of what went out and didn't arrive for certain, at most so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The Server's id of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_id: Option<String>,
    /// Which attempt to send this file it was, from 1. Lines of the same attempt tell of the same bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u64>,
    /// When an attempt began whose end the agent didn't live to see.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "maybe_in_milliseconds")]
    pub began: Option<Timestamp>,
    /// Why it ended so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Transfer {
    /// A file, and nothing else that is known of it.
    pub fn new(direction: Direction, outcome: Outcome, file: &str) -> Self {
        Self {
            direction,
            outcome,
            file: Some(file.to_owned()),
            count: None,
            bytes: None,
            file_id: None,
            attempt: None,
            began: None,
            reason: None,
        }
    }

    /// So many files that stay here and aren't named.
    pub fn unnamed(count: u64) -> Self {
        Self { file: None, count: Some(count), ..Self::new(Direction::Out, Outcome::LeftOut, "") }
    }
}

/// How many bytes of what a task printed a report carried, and of the message that it failed with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Words {
    /// Of standard output.
    pub stdout_bytes: u64,
    /// Of standard error.
    pub stderr_bytes: u64,
    /// Of the error message.
    pub error_bytes: u64,
}

/// One report that was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Always [`Direction::Out`].
    pub direction: Direction,
    /// What became of it.
    pub outcome: Outcome,
    /// What it says of the task's end.
    pub status: FinalStatus,
    /// Its bytes in all, with the names of the files.
    pub bytes: u64,
    /// What of it are the task's own words.
    #[serde(flatten)]
    pub words: Words,
    /// Why it ended so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A task's end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settled {
    /// How it ended.
    pub status: FinalStatus,
    /// The container's exit status, where there was one.
    pub exit_code: Option<i32>,
    /// Seconds between the container's start and its exit.
    pub duration_secs: f64,
    /// How many files the Server has of it.
    pub files_sent: u64,
    /// How many stay here, named or not.
    pub files_left_out: u64,
    /// What the report that the Server took carried besides.
    #[serde(flatten)]
    pub words: Words,
    /// What else is to be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The other side of a task's transfers.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// The Server's address.
    pub server: &'a str,
    /// The service.
    pub service_id: &'a str,
}

impl Line {
    /// A line about now.
    pub fn now(task: &str, peer: Peer<'_>, entry: Entry) -> Self {
        let (server, service_id) = (peer.server.to_owned(), peer.service_id.to_owned());
        Self { time: Timestamp::now(), task: task.to_owned(), entry, server, service_id }
    }

    /// Cuts what comes from outside to its length, without the secret.
    pub(super) fn tidy(mut self, secret: &str) -> Self {
        let clean = |text: &mut String, max| {
            if secret.len() >= SECRET_MIN && text.contains(secret) {
                *text = text.replace(secret, "[api_key]");
            }
            if text.len() > max {
                let end = (0..=max).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
                text.truncate(end);
                text.push('…');
            }
        };
        clean(&mut self.task, WORDS_MAX);
        match &mut self.entry {
            Entry::File(transfer) => {
                transfer.file.iter_mut().for_each(|text| clean(text, NAME_MAX));
                transfer.file_id.iter_mut().for_each(|text| clean(text, WORDS_MAX));
                transfer.reason.iter_mut().for_each(|text| clean(text, WORDS_MAX));
            }
            Entry::Report(report) => report.reason.iter_mut().for_each(|text| clean(text, WORDS_MAX)),
            Entry::Task(settled) => settled.reason.iter_mut().for_each(|text| clean(text, WORDS_MAX)),
        }
        self
    }
}

fn in_milliseconds<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.3}"))
}

fn maybe_in_milliseconds<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => in_milliseconds(time, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Direction, Entry, Line, Outcome, Peer, Report, Settled, Transfer, Words};
    use crate::server::protocol::FinalStatus;
    use jiff::Timestamp;
    use serde_json::{Value, json};

    fn line(entry: Entry) -> Line {
        let peer = Peer { server: "http://h:1/p", service_id: "svc" };
        Line { time: Timestamp::from_millisecond(1_793_500_000_500).unwrap(), ..Line::now("t1", peer, entry) }
    }

    fn written(line: &Line) -> Value {
        serde_json::from_str(&serde_json::to_string(line).unwrap()).unwrap()
    }

    #[test]
    fn lines_have_the_documented_keys() {
        let words = Words { stdout_bytes: 1, stderr_bytes: 2, error_bytes: 3 };
        let began = Some(Timestamp::from_millisecond(1_793_500_000_000).unwrap());
        let file = Transfer {
            bytes: Some(7),
            file_id: Some("f".to_owned()),
            attempt: Some(2),
            began,
            reason: Some("r".to_owned()),
            ..Transfer::new(Direction::Out, Outcome::Sent, "a/b")
        };
        let report = Report {
            direction: Direction::Out,
            outcome: Outcome::Unknown,
            status: FinalStatus::Failed,
            bytes: 90,
            words,
            reason: None,
        };
        let settled = Settled {
            status: FinalStatus::Completed,
            exit_code: Some(0),
            duration_secs: 1.5,
            files_sent: 4,
            files_left_out: 5,
            words,
            reason: None,
        };
        let time = "2026-11-01T02:26:40.500Z";
        let expected = [
            (
                Entry::File(file),
                json!({"time": time, "task": "t1", "kind": "file", "direction": "out", "outcome": "sent",
                    "file": "a/b", "bytes": 7, "file_id": "f", "attempt": 2, "began": "2026-11-01T02:26:40.000Z",
                    "reason": "r", "server": "http://h:1/p", "service_id": "svc"}),
            ),
            (
                Entry::File(Transfer::unnamed(9)),
                json!({"time": time, "task": "t1", "kind": "file", "direction": "out", "outcome": "left_out",
                    "count": 9, "server": "http://h:1/p", "service_id": "svc"}),
            ),
            (
                Entry::Report(report),
                json!({"time": time, "task": "t1", "kind": "report", "direction": "out", "outcome": "unknown",
                    "status": "failed", "bytes": 90, "stdout_bytes": 1, "stderr_bytes": 2, "error_bytes": 3,
                    "server": "http://h:1/p", "service_id": "svc"}),
            ),
            (
                Entry::Task(settled),
                json!({"time": time, "task": "t1", "kind": "task", "status": "completed", "exit_code": 0,
                    "duration_secs": 1.5, "files_sent": 4, "files_left_out": 5, "stdout_bytes": 1, "stderr_bytes": 2,
                    "error_bytes": 3, "server": "http://h:1/p", "service_id": "svc"}),
            ),
        ];
        for (entry, expected) in expected {
            let line = line(entry);
            assert_eq!(written(&line), expected);
            assert_eq!(serde_json::from_value::<Line>(expected).unwrap(), line);
        }
    }

    #[test]
    fn text_from_outside_is_cut_and_hides_the_api_key() {
        let transfer = Transfer {
            reason: Some("the Server says: ak_0123456789, ".to_owned() + &"é".repeat(600)),
            ..Transfer::new(Direction::Out, Outcome::Refused, &"é".repeat(5000))
        };
        let Entry::File(tidy) = line(Entry::File(transfer)).tidy("ak_0123456789").entry else { panic!("a file") };
        let (file, reason) = (tidy.file.unwrap(), tidy.reason.unwrap());
        assert_eq!((file.chars().count(), file.ends_with("é…")), (513, true));
        assert!(reason.starts_with("the Server says: [api_key], é") && reason.len() < 520, "{reason}");
    }
}
