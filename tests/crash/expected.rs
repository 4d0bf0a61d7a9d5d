//! The expected end of a case, and the checks for it.

use crate::scene::{DATA, Scene, TEXT};
use crate::support::docker;
use crate::support::ledger;
use crate::support::secs;
use crate::support::server::{Status, Task};
use serde_json::{Value, json};
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

/// The expected end of a case.
#[derive(Clone, Debug)]
pub struct Expected {
    pub status: Status,
    /// How often the container may have started.
    pub begun: RangeInclusive<usize>,
    pub message: Message,
    /// The names of the expected results on the Server; `None` if any are allowed.
    pub files: Option<&'static [&'static str]>,
    /// Whether the report must contain the container's whole output.
    pub printed: bool,
    /// How many reports take effect; 0 if the task ends without the agent.
    pub reports: usize,
}

/// The expected `error_message`.
#[derive(Clone, Copy, Debug)]
pub enum Message {
    None,
    Exactly(&'static str),
    Begins(&'static str),
    Contains(&'static str),
}

/// The standard error of the failing task.
pub const BROKEN: &str = "it broke";
const REMOVED: &str = "removed behind the agent's back";
const BOTH: &[&str] = &["output/copy.bin", "output/text.txt"];

impl Expected {
    pub fn success() -> Self {
        Self {
            status: Status::Completed,
            begun: 1..=1,
            message: Message::None,
            files: Some(BOTH),
            printed: true,
            reports: 1,
        }
    }

    pub fn failure() -> Self {
        Self { status: Status::Failed, message: Message::Exactly(BROKEN), ..Self::success() }
    }

    pub fn noted() -> Self {
        Self { files: Some(&["failure.md", "output/copy.bin", "output/text.txt"]), ..Self::failure() }
    }

    pub fn archived() -> Self {
        Self { files: Some(&["results.zip"]), ..Self::success() }
    }

    pub fn cancelled() -> Self {
        Self { status: Status::Cancelled, files: Some(&[]), printed: false, ..Self::success() }
    }

    pub fn timed_out() -> Self {
        Self {
            status: Status::Failed,
            message: Message::Begins("timed out after 1 minute ("),
            files: Some(&["output/text.txt"]),
            printed: false,
            ..Self::success()
        }
    }

    /// The container was removed before its outcome was known. Its files are delivered.
    pub fn lost() -> Self {
        Self { status: Status::Failed, message: Message::Contains(REMOVED), printed: false, ..Self::success() }
    }
}

/// Fails the test unless the case ended as expected. The agent must have ended.
pub fn check(scene: &Scene, expected: &Expected) {
    let server = &scene.server;
    let task = server.task(&scene.task);
    assert_eq!(task.status, expected.status, "the task's status");
    let finals = task.history.iter().filter(|(_, status)| status.is_final()).count();
    assert_eq!(finals, 1, "final statuses in {:?}", task.history);
    assert_eq!(task.completed_count as usize, expected.reports, "reports that took effect");
    // An agent can't know that a task was cancelled before its `accept` arrived.
    for report in server.requests_to("complete").iter().filter(|_| expected.reports > 0) {
        assert_eq!(report.body["status"], expected.status.as_str(), "every report says the same: {report}");
    }
    let begun = scene.begun();
    assert!(expected.begun.contains(&begun), "the container started {begun} times, expected {:?}", expected.begun);
    if expected.reports > 0 {
        check_report(&task, expected);
    }
    if let Some(names) = expected.files {
        check_files(scene, &task, names, expected);
    }
    check_ledger(scene, expected);
    check_remains(scene);
}

fn check_report(task: &Task, expected: &Expected) {
    let message = task.error_message.as_deref();
    let fits = match expected.message {
        Message::None => message.is_none(),
        Message::Exactly(text) => message == Some(text),
        Message::Begins(text) => message.is_some_and(|message| message.starts_with(text)),
        Message::Contains(text) => message.is_some_and(|message| message.contains(text)),
    };
    assert!(fits, "the error message is {message:?}, expected {:?}", expected.message);
    if expected.printed {
        assert_eq!(task.stdout(), "begun\nended\n", "the container's output, once");
        let code = i32::from(expected.status == Status::Failed) * 3;
        assert_eq!(task.output["exit_code"], code, "the exit status");
    }
}

fn check_files(scene: &Scene, task: &Task, names: &[&str], expected: &Expected) {
    let files = scene.server.outputs(&scene.task);
    let found: Vec<&str> = files.iter().map(|file| file.filename.as_str()).collect();
    assert_eq!(found, names, "the results on the Server");
    for file in &files {
        let is_expected = match file.filename.rsplit_once('.') {
            Some((_, "bin")) => file.bytes == DATA,
            Some((_, "md")) => file.text().contains(BROKEN),
            Some((_, "zip")) => has_both(&file.bytes),
            _ => file.bytes == TEXT,
        };
        assert!(is_expected, "the bytes of {file:?}");
    }
    if expected.reports > 0 {
        let mut ids: Vec<String> = files.iter().map(|file| file.id.clone()).collect();
        let mut named = task.file_ids.clone();
        ids.sort();
        named.sort();
        assert_eq!(named, ids, "the files that the report names");
        let mut told: Vec<Value> = task.output["files"].as_array().cloned().unwrap_or_default();
        told.sort_by_key(Value::to_string);
        assert_eq!(json!(told), json!(names), "the names in the output");
        let left_out = task.output["left_out"].as_array().map_or(0, Vec::len);
        assert_eq!(left_out, 0, "left out: {}", task.output);
    }
}

/// Whether an archive has the two outputs, which are stored in it.
fn has_both(archive: &[u8]) -> bool {
    let has = |part: &[u8]| archive.windows(part.len()).any(|window| window == part);
    has(DATA) && has(TEXT)
}

/// The ledger must have the inputs, every file on the Server, every upload and report that was started, and the task's
/// end.
fn check_ledger(scene: &Scene, expected: &Expected) {
    let data_dir = scene.agent.data_dir();
    ledger::expect_what_left(&data_dir, &scene.server, &scene.task);
    if scene.begun() > 0 {
        ledger::expect_what_came(&data_dir, &scene.server, &scene.task);
    }
    if phase(&data_dir, &scene.task).is_some() {
        let ends = ledger::lines(&data_dir).into_iter().filter(|line| line["kind"] == "task");
        let ends: Vec<Value> = ends.map(|line| line["status"].clone()).collect();
        assert!(!ends.is_empty(), "the ledger has no end of the task");
        // The agent doesn't know of a cancellation before its `accept` arrived; it records the container's outcome.
        let known = expected.reports == 0 || ends.iter().all(|end| *end == expected.status.as_str());
        assert!(known, "ends of the task: {ends:?}");
    }
}

/// No container, process or half-written file may be left, and the record must be settled.
fn check_remains(scene: &Scene) {
    docker::assert_no_containers(&scene.task);
    let agent = &scene.agent;
    let what = "the end of all processes of the agent";
    docker::wait_until(what, secs(20), || agent.processes().is_empty());
    check_data_dir(&agent.data_dir(), &[&scene.task]);
}

/// Fails the test unless the `data_dir` has settled records of these tasks only, and no half-written file.
pub fn check_data_dir(data_dir: &Path, tasks: &[&str]) {
    for entry in walkdir::WalkDir::new(data_dir).into_iter().flatten() {
        let name = entry.file_name().to_string_lossy();
        let half = [".tmp", ".part", ".head", ".tail"].iter().any(|end| name.ends_with(end));
        assert!(!half, "a half-written file: {}", entry.path().display());
    }
    for entry in fs::read_dir(data_dir.join("tasks")).expect("list the records").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        assert!(tasks.contains(&name.as_str()), "a record of an unknown task: {name}");
        let parts = fs::read_dir(entry.path()).expect("list a record's files").flatten();
        let parts: Vec<String> = parts.map(|part| part.file_name().to_string_lossy().into_owned()).collect();
        let known = [
            "record.json",
            "offer.json",
            "offer.digest",
            "uploads.jsonl",
            "fetched.json",
            "stdout.log",
            "stderr.log",
            "command.sh",
            "cid",
        ];
        assert!(parts.iter().all(|part| known.contains(&part.as_str())), "files beside the record: {parts:?}");
        assert_eq!(phase(data_dir, &name).as_deref(), Some("settled"), "the phase of the record of `{name}`");
    }
}

/// The phase that a task's record is in, if there is one.
pub fn phase(data_dir: &Path, task: &str) -> Option<String> {
    let text = fs::read(data_dir.join("tasks").join(task).join("record.json")).ok()?;
    let record: Value = serde_json::from_slice(&text).expect("a record is JSON at any time");
    record["phase"].as_str().map(str::to_owned)
}
