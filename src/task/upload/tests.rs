//! A file whose upload had no answer, while the Server's list of files can't be used.

use super::failure::Attempted;
use super::{Upload, UploadEvent};
use crate::config::{Config, Credentials, Secret};
use crate::data_dir::DataDir;
use crate::ledger::{Direction, Ledger, Outcome, Transfer};
use crate::os::trust::make_folder;
use crate::server::protocol::Task;
use crate::server::{Client, ClientError, Failure, Item, Way};
use crate::task::record::{Packed, Record, Store, TaskKey};
use crate::task::{Job, KnownIds, Pause, StepError, TaskClient, TaskHandle, WorkerCommand, Workspace};
use crossbeam_channel::{Receiver, unbounded};
use jiff::Timestamp;
use serde_json::json;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// The address of a Server that closes every connection without an answer.
fn silent_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::Builder::new().spawn(move || listener.incoming().for_each(drop)).unwrap();
    format!("http://{address}")
}

/// The address of a Server whose list of files has one more at each call: this agent's, called `a`, from this time.
fn listing_server(created_at: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = move || {
        for calls in 1.. {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = BufReader::new(stream.try_clone().unwrap()).lines();
            while request.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            let file = |id| json!({"id": id, "filename": "a", "size_bytes": 1, "created_by": "agent", "created_at": created_at});
            let body = json!({"files": (1..=calls).map(|id| file(id.to_string())).collect::<Vec<_>>()}).to_string();
            let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}", body.len());
            write!(stream, "{head}\r\nContent-Type: application/json\r\n\r\n{body}").unwrap();
        }
    };
    thread::Builder::new().spawn(serve).unwrap();
    format!("http://{address}")
}

fn client(dir: &Path, base_url: &str) -> Client {
    let text = format!("[server]\nbase_url='{base_url}'\n");
    let config = Config::parse(&dir.join("config.toml"), &text).unwrap();
    let credentials = Credentials { service_id: "s".to_owned(), api_key: Secret::new("k") };
    Client::new(&config.server, credentials, Arc::default())
}

fn task(data_dir: &DataDir, commands: Receiver<WorkerCommand>) -> TaskHandle {
    let key = TaskKey::from_id("t").unwrap();
    let record = Record::from_offer(Task { id: "t".to_owned(), ..Task::default() }, "s", "u");
    let files = Store::open(data_dir).unwrap().create(&key, &record).unwrap();
    let job = Job { files, record, commands, is_worker_wanted: Arc::default() };
    TaskHandle::new(job, Workspace::new(data_dir, &key), None)
}

#[test]
fn the_ledger_says_that_it_is_unknown_whether_a_file_arrived() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = DataDir::new(dir.path());
    let (_sender, commands) = unbounded();
    let (client, mut task) = (client(dir.path(), &silent_server()), task(&data_dir, commands));
    let ledger = Ledger::new(&make_folder(&data_dir).unwrap(), Secret::new(""), Arc::default());
    // The list has failed for more than ten minutes.
    let now = Instant::now();
    let before = now.checked_sub(Duration::from_secs(700)).unwrap();
    let lost = || ClientError::Lost("reset".to_owned());
    let failure = Failure { error: &lost(), is_unsent: false, began: before };
    client.patience().note_failure(&Item::new(Way::List, "t", "a"), failure, before);
    client.patience().note_heartbeat(now);

    let mut upload = Upload::open(TaskClient::new(&client, &ledger, 0), &mut task).unwrap();
    let begin = UploadEvent::Begin { file: "a".to_owned(), size: 1, at: None, attempt: None };
    upload.note_all(vec![UploadEvent::Before(KnownIds::default()), begin]).unwrap();
    let attempted = Attempted { name: "a", size: 1, is_unsent: false, began: now };
    let transfer = Transfer::new(Direction::Out, Outcome::Unknown, "a");
    let next = upload.handle_failure(attempted, transfer, lost());
    assert!(matches!(next, Err(StepError::Retry { ref why, .. }) if why.starts_with("`a`: ")), "{next:?}");
    let lines = fs::read_to_string(data_dir.ledger(0)).unwrap();
    assert!(lines.lines().count() == 1 && lines.contains("\"unknown\""), "{lines}");
    assert!(upload.uploads.in_doubt.contains_key("a"), "the next try asks first");
}

/// Two calls that found no Server ended the archives of a task, and sent its thousand files one by one.
#[test]
fn an_archive_is_given_up_after_minutes_and_not_for_an_outage() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = DataDir::new(dir.path());
    let (_sender, commands) = unbounded();
    let (client, mut task) = (client(dir.path(), &silent_server()), task(&data_dir, commands));
    let ledger = Ledger::new(&make_folder(&data_dir).unwrap(), Secret::new(""), Arc::default());
    let mut upload = Upload::open(TaskClient::new(&client, &ledger, 0), &mut task).unwrap();
    upload.is_note = true;
    upload.note_packed(Packed { archive: "a".to_owned(), size: 1, members: Vec::new() }).unwrap();
    let mut fail = |name: &'static str, error: ClientError| {
        upload.note(UploadEvent::Begin { file: name.to_owned(), size: 1, at: None, attempt: None }).unwrap();
        let attempted = Attempted { name, size: 1, is_unsent: true, began: Instant::now() };
        let next = upload.handle_failure(attempted, Transfer::new(Direction::Out, Outcome::Unknown, name), error);
        assert!(upload.uploads.unlogged.is_empty(), "the ledger has it");
        match next {
            Err(StepError::Retry { pause: Pause::Due(pause), .. }) => pause.as_secs(),
            Err(_) => 0,
            Ok(()) => u64::MAX,
        }
    };
    for name in ["a", "note.md"] {
        assert_eq!([0; 10].map(|_| fail(name, ClientError::NotSent("no route".to_owned()))), [0; 10], "{name}");
    }
    let lost = || ClientError::Lost("reset".to_owned());
    assert_eq!([0; 6].map(|_| fail("a", lost())), [5, 10, 20, 40, 80, u64::MAX]);
    assert_eq!([0; 2].map(|_| fail("note.md", lost())), [5, u64::MAX]);
    assert_eq!(upload.uploads.refused_archives, ["a"]);
}

/// Without an end it would send the file again after each lost answer: of a time that can't be read, and of one by another
/// clock than the date of the `accept`, as where a proxy writes the dates.
#[test]
fn a_file_that_the_list_gives_no_later_time_is_sent_twice_at_most() {
    for created_at in ["?", "1969-12-31T23:59:59Z"] {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = DataDir::new(dir.path());
        let (_sender, commands) = unbounded();
        let (client, mut task) = (client(dir.path(), &listing_server(created_at)), task(&data_dir, commands));
        let ledger = Ledger::new(&make_folder(&data_dir).unwrap(), Secret::new(""), Arc::default());
        task.record.offered.accepted = Some(Timestamp::UNIX_EPOCH);
        let mut upload = Upload::open(TaskClient::new(&client, &ledger, 0), &mut task).unwrap();
        assert_eq!(upload.has_arrived("a", 2).unwrap(), Some(false), "there is none of this size");
        assert!(upload.uploads.before.is_none());
        assert_eq!(upload.has_arrived("a", 1).unwrap(), None, "it may be an earlier agent's");
        assert_eq!(upload.has_arrived("a", 1).unwrap(), Some(true), "what the list didn't have before is this agent's");
        assert_eq!(upload.uploads.done, [("a".to_owned(), "3".to_owned())]);
    }
}
