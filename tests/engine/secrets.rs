//! The api_key is sent to the Server in headers, and appears in no other place.

use crate::support::agent::Agent;
use crate::support::docker;
use crate::support::secs;
use crate::support::server::{FakeServer, Fault, Match, Response, Status};
use crate::support::tally;
use serde_json::json;
use std::fs;

/// The command lines of all processes.
fn command_lines() -> String {
    let processes = fs::read_dir("/proc").expect("list processes").flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ") + "\n").collect()
}

/// The files below the agent's folder that contain this text.
fn files_with(agent: &Agent, text: &str) -> Vec<String> {
    let files = walkdir::WalkDir::new(agent.dir()).into_iter().flatten().filter(|entry| entry.file_type().is_file());
    let with = files.filter(|file| {
        let bytes = fs::read(file.path()).unwrap_or_default();
        bytes.windows(text.len()).any(|part| part == text.as_bytes())
    });
    with.map(|file| file.path().strip_prefix(agent.dir()).expect("below").display().to_string()).collect()
}

#[test]
fn the_api_key_is_only_in_its_file_and_in_headers() {
    let server = FakeServer::start();
    let key = server.service().1;
    let agent = tally::agent(&server).env("RUST_LOG", "trace").build();
    let mut running = agent.start();
    // The Server repeats the key in its error messages.
    for call in ["poll", "heartbeat", "accept", "download", "list", "upload", "complete"] {
        let shown = json!({"error": "Trouble", "message": format!("Bearer {key} is in trouble")});
        server.fault(Match::path(call).times(1), Fault::Answer(Response::json(500, &shown)));
    }
    let id = server.submit(tally::waiting_task("env > output/env; cat /proc/1/cmdline > output/cmdline; exit 3"));
    tally::wait_begun(&agent, &id);
    let seen = [
        ("a command line", command_lines()),
        ("the container", docker::docker(&["inspect", &docker::container_name(&id)])),
        ("status", agent.run(&["status"]).stdout),
    ];
    tally::release(&agent, &id);
    let task = server.wait_for(&id, Status::Failed, secs(90));
    tally::wait_phase(&agent, &id, "settled");
    for (what, text) in seen {
        assert!(!text.contains(&key), "{what}: {text}");
    }
    assert!(running.log().contains("is in trouble"), "the Server's words are shown");
    assert!(!running.log().contains(&key), "the log");
    assert!(!format!("{task:?}").contains(&key), "{task:?}");
    for file in server.outputs(&id) {
        assert!(!file.text().contains(&key), "{}", file.filename);
    }
    assert_eq!(files_with(&agent, &key), ["config.toml"]);
    assert!(running.terminate(secs(20)).success());
}

#[test]
fn a_task_that_contains_the_api_key_is_not_begun_and_not_shown() {
    let server = FakeServer::start();
    let key = server.service().1;
    let agent = tally::agent(&server).env("RUST_LOG", "trace").build();
    let mut running = agent.start();
    let file = |id: &str, name: &str| json!([{"id": id, "filename": name, "size_bytes": 1}]);
    let offers = [
        json!({"id": key, "task_prompt": "p"}),
        json!({"id": format!("task-{key}"), "task_prompt": "p"}),
        json!({"id": format!("{key}{}", "x".repeat(600)), "task_prompt": "p"}),
        json!({"id": "prompt", "task_prompt": format!("use {key}")}),
        json!({"id": "session", "task_prompt": "p", "session_id": key}),
        json!({"id": "file-id", "task_prompt": "p", "input_files": file(&key, "a")}),
        json!({"id": "file-name", "task_prompt": "p", "input_files": file("f", &key)}),
    ];
    for offer in offers {
        let id = offer["id"].as_str().expect("an id").to_owned();
        if !id.contains(&key) {
            server.submit_raw(&id, offer);
            let task = server.wait_for(&id, Status::Failed, secs(60));
            assert!(task.error_message.is_some_and(|why| why.contains("contains the api_key")));
            continue;
        }
        let polls = server.requests_to("poll").len();
        server.submit_raw(&id, offer);
        server.wait_until("polls", secs(40), |server| server.requests_to("poll").len() > polls + 2);
        assert_eq!(server.requests_to("accept").len(), 0, "{}", server.report());
        server.cancel(&id);
    }
    running.wait_log("the Server offers a task that contains the api_key", secs(20));
    let status = agent.run(&["status"]).stdout;
    assert!(!running.log().contains(&key) && !status.contains(&key), "{}", running.log());
    assert_eq!(files_with(&agent, &key), ["config.toml"]);
    let id = server.submit(tally::waiting_task("echo 1 > output/one"));
    tally::release(&agent, &id);
    server.wait_for(&id, Status::Completed, secs(60));
}
