//! Archives that an earlier run has written, when the configuration is another one.

use super::give_up_outdated;
use crate::config::{Config, Credentials, Secret};
use crate::data_dir::DataDir;
use crate::ledger::Ledger;
use crate::os::files::make_dirs;
use crate::os::trust::make_folder;
use crate::server::Client;
use crate::server::protocol::Task;
use crate::task::outputs::{OutputFile, Skipped};
use crate::task::record::{Member, Packed, Record, Store, TaskKey};
use crate::task::results::Results;
use crate::task::upload::Upload;
use crate::task::{Job, KnownIds, TaskClient, TaskHandle, UploadEvent, WorkerCommand, Workspace};
use crossbeam_channel::{Receiver, unbounded};
use serde_json::json;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::thread;

/// The address of a Server that has one file of this agent's, of this name and of one byte.
fn listing_server(name: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = listener.local_addr().expect("listen");
    let serve = move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("accept");
            let mut request = BufReader::new(stream.try_clone().expect("accept")).lines();
            while request.next().is_some_and(|line| !line.expect("read").is_empty()) {}
            let file = json!({"id": "f", "filename": name, "size_bytes": 1, "created_by": "agent", "created_at": "?"});
            let body = json!({"files": [file]}).to_string();
            let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}", body.len());
            write!(stream, "{head}\r\nContent-Type: application/json\r\n\r\n{body}").expect("answer");
        }
    };
    thread::Builder::new().spawn(serve).expect("start a thread");
    format!("http://{address}")
}

/// A task with an archive that holds `a` and `copy`. `is_in_doubt`: its upload has begun.
fn task_with_archive(dir: &Path, is_in_doubt: bool, commands: Receiver<WorkerCommand>) -> TaskHandle {
    let (data_dir, key) = (DataDir::new(dir), TaskKey::from_id("t").expect("a key"));
    let record = Record::from_offer(Task { id: "t".to_owned(), ..Task::default() }, "s", "u");
    let files = Store::open(&data_dir).expect("open").create(&key, &record).expect("create");
    make_dirs(&files.archives_dir()).expect("make a folder");
    fs::write(files.archives_dir().join("results.zip"), "z").expect("write a file");
    let members = ["a", "copy"].map(|file| Member { file: file.to_owned(), size: 1 }).into();
    let archive = "results.zip".to_owned();
    let begin = UploadEvent::Begin { file: archive.clone(), size: 1, at: None, attempt: None };
    let mut events =
        vec![UploadEvent::Before(KnownIds::default()), UploadEvent::Packed(Packed { archive, size: 1, members })];
    events.extend(is_in_doubt.then_some(begin));
    files.append_uploads(&events).expect("append");
    let job = Job { files, record, commands, is_worker_wanted: Arc::default() };
    TaskHandle::new(job, Workspace::new(&data_dir, &key), None)
}

/// Looks at the archive of a task whose results are `a` and, as the copy of its answer, this one.
fn looked_at(copy: Option<&str>, is_in_doubt: bool, on_server: &'static str, check: impl FnOnce(&mut Upload<'_>)) {
    let dir = tempfile::tempdir().expect("make a folder");
    let (_sender, commands) = unbounded();
    let mut task = task_with_archive(dir.path(), is_in_doubt, commands);
    let text = format!("[server]\nbase_url='{}'\n", listing_server(on_server));
    let config = Config::parse(&dir.path().join("config.toml"), &text).expect("parse");
    let credentials = Credentials { service_id: "s".to_owned(), api_key: Secret::new("k") };
    let client = Client::new(&config.server, credentials, Arc::default());
    let folder = make_folder(&DataDir::new(dir.path())).expect("make a folder");
    let ledger = Ledger::new(&folder, Secret::new(""), Arc::default());
    fs::write(dir.path().join("a"), "1").expect("write a file");
    let found = |name: &str| OutputFile::copied(dir.path(), "a".as_ref(), name).expect("open it");
    let results = Results { files: vec![found("a")], copy: copy.map(found), ..Results::default() };
    let mut upload = Upload::open(TaskClient::new(&client, &ledger, 0), &mut task).expect("open");
    give_up_outdated(&mut upload, &results).expect("look at the archives");
    check(&mut upload);
}

fn is_on_disk(upload: &Upload<'_>) -> bool {
    upload.task.files.archives_dir().join("results.zip").exists()
}

#[test]
fn an_archive_with_a_file_that_stays_here_now_is_not_sent() {
    for is_in_doubt in [false, true] {
        looked_at(None, is_in_doubt, "other", |upload| {
            assert!(upload.open_archives().is_empty() && !upload.takes_archives() && !is_on_disk(upload));
            assert!(upload.left_out().0.is_empty(), "nothing is missing for that");
        });
    }
    looked_at(Some("copy"), false, "other", |upload| {
        assert!(upload.open_archives().len() == 1 && upload.takes_archives() && is_on_disk(upload));
        upload.clear_archives();
        assert!(!is_on_disk(upload));
    });
}

#[test]
fn what_is_in_an_archive_that_has_arrived_does_not_stay_here() {
    looked_at(None, true, "results.zip", |upload| {
        assert!(upload.open_archives().is_empty() && upload.takes_archives() && upload.archived().contains("copy"));
        let mut skipped = Skipped::default();
        skipped.skip("copy".to_owned(), "excluded");
        skipped.skip_deliverable("other".to_owned(), "too large");
        upload.note_skipped(skipped).unwrap();
        let left_out: Vec<&str> = upload.left_out().0.iter().map(|left| left.file.as_str()).collect();
        assert_eq!(left_out, ["other"]);
    });
}
