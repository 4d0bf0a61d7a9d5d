//! The agent's ledger on the disk, compared with the Server's state.

use super::server::{Control, Request};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// All lines of all files, the oldest first. Fails the test if a line is damaged, except one that is being written.
pub fn lines(data_dir: &Path) -> Vec<Value> {
    let numbered = (1..=20).rev().map(|number| format!("ledger.jsonl.{number}"));
    let files =
        numbered.chain(["ledger.jsonl".to_owned()]).filter_map(|name| fs::read_to_string(data_dir.join(name)).ok());
    let text: String = files.collect();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?}: {error}"))).collect()
}

/// The lines of one kind about a task: `file`, `report` or `task`.
pub fn of_kind(data_dir: &Path, task: &str, kind: &str) -> Vec<Value> {
    let mut lines = lines(data_dir);
    lines.retain(|line| line["task"] == task && line["kind"] == kind);
    lines
}

/// The lines about files of a task with this direction and outcome.
pub fn files(data_dir: &Path, task: &str, direction: &str, outcome: &str) -> Vec<Value> {
    let mut lines = of_kind(data_dir, task, "file");
    lines.retain(|line| line["direction"] == direction && line["outcome"] == outcome);
    lines
}

/// Fails the test unless the ledger has every file that the Server received of a task, with name, length and id, and at
/// least one line for every upload and every report that was started.
pub fn expect_what_left(data_dir: &Path, server: &Control, task: &str) {
    let told = lines(data_dir);
    for line in &told {
        assert!(!line.to_string().contains(&server.service().1), "the key is in the ledger: {line}");
    }
    let sent = files(data_dir, task, "out", "sent");
    for file in server.outputs(task) {
        let is_it = |line: &&Value| line["file_id"] == file.id.as_str();
        let line = sent.iter().find(is_it).unwrap_or_else(|| panic!("{file:?} is not in the ledger: {told:#?}"));
        assert_eq!((&line["file"], &line["bytes"]), (&file.filename.as_str().into(), &file.bytes.len().into()));
    }
    let attempts = of_kind(data_dir, task, "file").into_iter().filter(|line| line["direction"] == "out");
    let attempts: BTreeSet<(String, u64)> =
        attempts.filter_map(|line| Some((line["file"].as_str()?.to_owned(), line["attempt"].as_u64()?))).collect();
    let all = |call: &str| server.requests_to(call);
    // A request that was cut early doesn't contain its task.
    let uploads = all("upload").into_iter().filter(|request| request.task_id.as_deref().is_none_or(|id| id == task));
    let uploads: Vec<Request> = uploads.collect();
    assert!(attempts.len() >= uploads.len(), "{} uploads were begun, told are {told:#?}", uploads.len());
    let reports = of_kind(data_dir, task, "report");
    let begun = all("complete").into_iter().filter(|request| request.about(task)).count();
    assert!(reports.len() >= begun, "{begun} reports were begun, told are {told:#?}");
    let arrived: u32 = server.tasks().iter().filter(|one| one.id == task).map(|one| one.completed_count).sum();
    let may_have = reports.iter().filter(|line| line["outcome"] == "sent" || line["outcome"] == "unknown").count();
    assert!(may_have >= arrived as usize, "{arrived} reports arrived, told are {told:#?}");
}

/// Fails the test unless the ledger has every input file of a task.
pub fn expect_what_came(data_dir: &Path, server: &Control, task: &str) {
    let received = files(data_dir, task, "in", "received");
    for file in server.files(task).into_iter().filter(|file| file.created_by == "client") {
        let facts = |line: &Value| (line["file"].clone(), line["bytes"].clone(), line["file_id"].clone());
        let expected = (file.filename.as_str().into(), file.bytes.len().into(), file.id.as_str().into());
        assert!(received.iter().any(|line| facts(line) == expected), "{file:?} is not in the ledger: {received:#?}");
    }
}
