//! The content of a line of the ledger. The keys are documented in manual/ledger.md, "The keys of a line".

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};

use crate::server::protocol::FinalStatus;

/// The longest name of a result that is written whole, in bytes as the line has it; paths are shorter in practice. A
/// control character is six bytes there.
const NAME_MAX: usize = 1024;
/// The same for reasons and for ids that the Server made.
const WORDS_MAX: usize = 512;
/// The same for the name and the id of an input file. The Server, which made them, can have thousands written.
const INPUT_MAX: usize = 256;
/// The shortest text that is removed as a secret; a shorter one may be a part of any word.
const SECRET_MIN: usize = 8;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// When the event was known, in UTC with milliseconds, so that the texts sort as the times do.
    #[serde(serialize_with = "in_milliseconds")]
    pub time: Timestamp,
    /// The Server's id of the task.
    pub task: String,
    /// The task's name on this machine, where it isn't the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The event.
    #[serde(flatten)]
    pub entry: Entry,
    /// The Server's address.
    pub server: String,
    /// The service that accepted the task.
    pub service_id: String,
}

/// The event of a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Entry {
    /// A file was received or sent, or is left out.
    File(Transfer),
    /// A report of a task's end was sent.
    Report(Report),
    /// A task is settled. This is its last line, unless the Server offers it again.
    Task(Settled),
}

/// The direction of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// To this machine.
    In,
    /// From this machine.
    Out,
}

/// The result of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The file is on this machine.
    Received,
    /// The Server has the file or report.
    Sent,
    /// The Server, or a proxy before it, refused the call. The bytes may have left this machine.
    Refused,
    /// The call failed. Some or all bytes may have left this machine.
    Failed,
    /// There was no answer: the file or report may have arrived.
    Unknown,
    /// The file stays on this machine.
    LeftOut,
    /// A copy of the file is in an archive, whose own lines say what became of it.
    Packed,
    /// The file was removed from this machine, and the Server never got it.
    Removed,
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
            Self::Packed => "packed",
            Self::Removed => "removed",
        }
    }
}

/// One attempt to transfer a file, or a file that isn't transferred.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    pub direction: Direction,
    pub outcome: Outcome,
    /// The file's name: on the Server for a result, the submitter's for an input file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// How many files the line is about, where it names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// How many bytes were transferred; for a result whose arrival isn't certain, the most that can have been sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The Server's id of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_id: Option<String>,
    /// The number of the attempt to send this file, from 1. Lines with the same number are about the same bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u64>,
    /// When the attempt began, if the agent stopped before its end.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "maybe_in_milliseconds")]
    pub began: Option<Timestamp>,
    /// The name on the Server of the archive that the file is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<String>,
    /// The cause of the outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Transfer {
    /// A transfer of a file, without further facts.
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
            archive: None,
            reason: None,
        }
    }

    /// Input files on this machine, by their number and size only.
    pub fn received_unnamed(count: u64, bytes: u64) -> Self {
        Self { file: None, count: Some(count), bytes: Some(bytes), ..Self::new(Direction::In, Outcome::Received, "") }
    }

    /// Left out files, by their number only.
    pub fn unnamed(count: u64) -> Self {
        Self { file: None, count: Some(count), ..Self::new(Direction::Out, Outcome::LeftOut, "") }
    }
}

/// How many bytes of a task's output and of its error message a report contains.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextSizes {
    pub stdout_bytes: u64,
    pub stderr_bytes: u64,
    pub error_bytes: u64,
}

/// One report that was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Always [`Direction::Out`].
    pub direction: Direction,
    pub outcome: Outcome,
    /// The reported end of the task.
    pub status: FinalStatus,
    /// The length of its body.
    pub bytes: u64,
    /// The task's own text in it.
    #[serde(flatten)]
    pub text_sizes: TextSizes,
    /// The cause of the outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A task's end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settled {
    pub status: FinalStatus,
    /// The container's exit status, where there was one.
    pub exit_code: Option<i32>,
    /// Seconds between the container's start and its exit.
    pub duration_secs: f64,
    /// How many of its files the Server has.
    pub files_sent: u64,
    /// How many of its files stay here.
    pub files_left_out: u64,
    /// The task's own text in the report that the Server accepted.
    #[serde(flatten)]
    pub text_sizes: TextSizes,
    /// A remark on the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The Server and the service of a task.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// The Server's address.
    pub server: &'a str,
    /// The service.
    pub service_id: &'a str,
}

impl Line {
    /// A line with the current time.
    pub fn new(task: &str, peer: Peer<'_>, entry: Entry) -> Self {
        let (server, service_id) = (peer.server.to_owned(), peer.service_id.to_owned());
        Self { time: Timestamp::now(), task: task.to_owned(), key: None, entry, server, service_id }
    }

    /// The same line of a task with this name on this machine.
    pub fn named(self, key: &str) -> Self {
        let key = (key != self.task).then(|| key.to_owned());
        Self { key, ..self }
    }

    /// Limits the length of texts from outside and removes the secret from them.
    pub(super) fn sanitize(mut self, secret: &str) -> Self {
        let clean = |text: &mut String, max| {
            if secret.len() >= SECRET_MIN && text.contains(secret) {
                *text = text.replace(secret, "[api_key]");
            }
            if let Some(end) = end_within(text, max) {
                text.truncate(end);
                text.push('…');
            }
        };
        clean(&mut self.task, WORDS_MAX);
        match &mut self.entry {
            Entry::File(transfer) => {
                let (name_max, id_max) = match transfer.direction {
                    Direction::In => (INPUT_MAX, INPUT_MAX),
                    Direction::Out => (NAME_MAX, WORDS_MAX),
                };
                transfer.file.iter_mut().for_each(|text| clean(text, name_max));
                transfer.file_id.iter_mut().for_each(|text| clean(text, id_max));
                transfer.reason.iter_mut().for_each(|text| clean(text, WORDS_MAX));
            }
            Entry::Report(report) => report.reason.iter_mut().for_each(|text| clean(text, WORDS_MAX)),
            Entry::Task(settled) => settled.reason.iter_mut().for_each(|text| clean(text, WORDS_MAX)),
        }
        self
    }
}

/// Where a text has to end so that its JSON form has at most `max` bytes, if that is longer.
fn end_within(text: &str, max: usize) -> Option<usize> {
    let mut written = 0;
    let end = text.char_indices().find(|(_, char)| {
        written += match char {
            '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
            '\0'..'\u{20}' => 6,
            other => other.len_utf8(),
        };
        written > max
    });
    end.map(|(end, _)| end)
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
    use super::{Direction, Entry, Line, Outcome, Peer, Report, Settled, TextSizes, Transfer};
    use crate::server::protocol::FinalStatus;
    use jiff::Timestamp;
    use serde_json::{Value, json};

    fn line(entry: Entry) -> Line {
        let peer = Peer { server: "http://h:1/p", service_id: "svc" };
        Line { time: Timestamp::from_millisecond(1_793_500_000_500).unwrap(), ..Line::new("t1", peer, entry) }
    }

    fn written(line: &Line) -> Value {
        serde_json::from_str(&serde_json::to_string(line).unwrap()).unwrap()
    }

    #[test]
    fn lines_have_the_documented_keys() {
        let text_sizes = TextSizes { stdout_bytes: 1, stderr_bytes: 2, error_bytes: 3 };
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
            text_sizes,
            reason: None,
        };
        let settled = Settled {
            status: FinalStatus::Completed,
            exit_code: Some(0),
            duration_secs: 1.5,
            files_sent: 4,
            files_left_out: 5,
            text_sizes,
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
                Entry::File(Transfer {
                    bytes: Some(7),
                    archive: Some("results.zip".to_owned()),
                    ..Transfer::new(Direction::Out, Outcome::Packed, "a/b")
                }),
                json!({"time": time, "task": "t1", "kind": "file", "direction": "out", "outcome": "packed",
                    "file": "a/b", "bytes": 7, "archive": "results.zip", "server": "http://h:1/p",
                    "service_id": "svc"}),
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
        let Entry::File(transfer) = line(Entry::File(transfer)).sanitize("ak_0123456789").entry else {
            panic!("a file")
        };
        let (file, reason) = (transfer.file.unwrap(), transfer.reason.unwrap());
        assert_eq!((file.chars().count(), file.ends_with("é…")), (513, true));
        assert!(reason.starts_with("the Server says: [api_key], é") && reason.len() < 520, "{reason}");
    }

    #[test]
    fn the_longest_line_is_bounded_as_it_is_written() {
        for (direction, max) in [(Direction::Out, 3500), (Direction::In, 2500)] {
            for text in ["\u{1}", "\"", "\\", "\n", "\u{1f980}", "x"] {
                let text = text.repeat(5000);
                let transfer = Transfer {
                    file_id: Some(text.clone()),
                    reason: Some(text.clone()),
                    ..Transfer::new(direction, Outcome::Refused, &text)
                };
                let line = Line { task: text.clone(), ..line(Entry::File(transfer)) };
                let length = serde_json::to_string(&line.sanitize("")).unwrap().len();
                assert!(length < max, "{length} bytes of {:?}", &text[..1]);
            }
        }
    }
}
