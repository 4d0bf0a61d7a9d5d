//! Inputs and results keep their bytes and their names.

use crate::support::agent::Agent;
use crate::support::docker::{assert_no_containers, wait_container_state};
use crate::support::secs;
use crate::support::server::{FakeServer, Status, TaskSpec};
use crate::support::tally;
use serde_json::json;
use std::fs;

/// Pseudo-random bytes, the same in each run (xorshift).
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn inputs_and_outputs_keep_their_bytes_and_names() {
    let table = "列,größe\n1,\r\n\0and no line break at the end".as_bytes();
    let noise = noise(1 << 20);
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let script = "set -e
        cd /workspace
        (cd input; printf '%s\\n' *) > output/inputs
        mkdir -p 'output/ebene 1/二'
        cp 'input/数据 ü.csv' 'output/ebene 1/二/結果 ü.csv'
        cp input/noise.bin output/noise.bin
        : > output/empty
        cp input/noise.bin beside";
    let task = TaskSpec::script(script).input("数据 ü.csv", table).input("noise.bin", noise.clone());
    let id = server.submit(task);
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Completed, secs(60));

    let outputs = server.outputs(&id);
    let arrived: Vec<_> = outputs.iter().map(|file| (file.filename.as_str(), file.bytes.as_slice())).collect();
    let expected: [(&str, &[u8]); 5] = [
        ("beside", &noise),
        ("output/ebene 1/二/結果 ü.csv", table),
        ("output/empty", b""),
        ("output/inputs", "noise.bin\nrun.sh\n数据 ü.csv\n".as_bytes()),
        ("output/noise.bin", &noise),
    ];
    assert_eq!(arrived.iter().map(|(name, _)| *name).collect::<Vec<_>>(), expected.map(|(name, _)| name));
    for ((name, bytes), (_, expected)) in arrived.iter().zip(expected) {
        assert!(*bytes == expected, "`{name}` has other bytes: {} in place of {}", bytes.len(), expected.len());
    }
    assert_eq!(server.requests_to("upload").len(), 5, "each file is sent once");
    // The report has the same files, by name and by id, in the order of their uploads.
    let mut sent = expected.map(|(name, _)| name);
    sent[2..].reverse();
    assert_eq!(task.output["files"], json!(sent));
    let by_id: Vec<_> = task.file_ids.iter().map(|file| server.file(file).unwrap().filename).collect();
    assert_eq!(by_id, sent);
    assert_eq!(task.output.get("left_out"), None);
}

#[test]
fn uploads_have_the_media_type_of_their_file_name() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let id = server.submit(TaskSpec::script("cd /workspace/output; echo 1 > a.csv; echo '{}' > b.json; echo 1 > c"));
    let _running = agent.start();
    server.wait_for(&id, Status::Completed, secs(60));
    let outputs = server.outputs(&id);
    let types: Vec<_> = outputs.iter().map(|file| (file.filename.as_str(), file.mime_type.as_str())).collect();
    let expected = [
        ("output/a.csv", "text/csv; charset=utf-8"),
        ("output/b.json", "application/json"),
        ("output/c", "application/octet-stream"),
    ];
    assert_eq!(types, expected);
}

#[test]
fn names_unsafe_in_headers_arrive_percent_encoded() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let script = r#"cd /workspace/output; echo 1 > 'a "b"\c.txt'; echo 2 > "$(printf 'two\r\nlines')""#;
    let id = server.submit(TaskSpec::script(script));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Completed, secs(60));
    let names = ["output/a %22b%22%5Cc.txt", "output/two%0D%0Alines"];
    assert_eq!(task.output["files"], json!([names[1], names[0]]));
    assert_eq!(names.map(|name| server.output(&id, name).bytes), [b"1\n", b"2\n"]);
}

/// The folder of the workspaces may be a disk that isn't mounted after a restart of the machine.
#[test]
fn results_wait_for_a_workspace_that_is_not_there() {
    let server = FakeServer::start();
    let (agent, mut running, id) = tally::begun(&server);
    assert!(running.terminate(secs(20)).success());
    tally::release(&agent, &id);
    wait_container_state(&id, "exited", secs(20));
    let (workspace, elsewhere) = (agent.workspace(&id), agent.path("elsewhere"));
    fs::rename(&workspace, &elsewhere).expect("move the workspace");
    let mut running = agent.start();
    running.wait_log("isn't there; mount its disk", secs(30));
    assert_eq!(server.task(&id).status, Status::Running);
    fs::rename(&elsewhere, &workspace).expect("move the workspace back");
    let task = server.wait_for(&id, Status::Completed, secs(90));
    assert_eq!(server.output(&id, "output/result.txt").text(), "result\n");
    assert_eq!((tally::times_begun(&agent, &id), task.completed_count), (1, 1));
    assert_no_containers(&id);
}
