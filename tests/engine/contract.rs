//! The container contract (PROTOCOL, "The container contract"), seen from a container.

use crate::support::agent::Agent;
use crate::support::secs;
use crate::support::server::{FakeServer, Status, TaskSpec};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

#[test]
fn task_json_contains_the_whole_offer() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let script = "cp /workspace/task.json /workspace/output/seen.json";
    let mut spec = TaskSpec::script(script).input("数据.csv", "1,2").output_prompt("as a \"table\"").session("s-1");
    spec.prompt = "Zähle\n«alles» 数".to_owned();
    let id = server.submit(spec);
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Completed, secs(60));
    let inputs = task.offer["input_files"].as_array().unwrap();
    let input = |file: &Value, local_path: &str| {
        json!({"id": file["id"], "filename": file["filename"], "mime_type": "application/octet-stream",
               "size_bytes": file["size_bytes"], "local_path": local_path})
    };
    let expected = json!({
        "task_id": id,
        "task_prompt": "Zähle\n«alles» 数",
        "prompt": "Zähle\n«alles» 数",
        "output_prompt": "as a \"table\"",
        "session_id": "s-1",
        "input_files": [input(&inputs[0], "input/run.sh"), input(&inputs[1], "input/数据.csv")],
    });
    let seen: Value = serde_json::from_slice(&server.output(&id, "output/seen.json").bytes).unwrap();
    assert_eq!(seen, expected);
    assert_eq!(server.outputs(&id).len(), 1, "task.json and the inputs are no results");
}

#[test]
fn task_json_omits_fields_that_the_offer_lacks() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    // In one offer the optional fields are null, in the other they are absent.
    let ids = ["a", "b"].map(|_| server.submit(TaskSpec::new("x")));
    let _running = agent.start();
    for id in ids {
        server.wait_for(&id, Status::Completed, secs(60));
        let copied = server.output(&id, "output/result.txt");
        let (_, seen) = copied.text().split_once('\n').unwrap();
        let seen: Value = serde_json::from_str(seen).unwrap();
        assert_eq!(seen, json!({"task_id": id, "task_prompt": "x", "prompt": "x", "input_files": []}));
    }
}

#[test]
fn inputs_that_differ_only_in_case_get_different_names() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let script = "cd /workspace; cp task.json output/seen.json; ls input > output/names; cp input/*.csv output/";
    let task = TaskSpec::script(script).input("Data.csv", "first").input("data.csv", "second").input("DATA.csv", "3");
    let id = server.submit(task);
    let _running = agent.start();
    server.wait_for(&id, Status::Completed, secs(60));
    let names = server.output(&id, "output/names");
    let mut names: Vec<_> = names.text().lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["DATA-3.csv", "Data.csv", "data-2.csv", "run.sh"]);
    let seen: Value = serde_json::from_slice(&server.output(&id, "output/seen.json").bytes).unwrap();
    for (place, name, local_path, content) in [
        (1, "Data.csv", "Data.csv", "first"),
        (2, "data.csv", "data-2.csv", "second"),
        (3, "DATA.csv", "DATA-3.csv", "3"),
    ] {
        let entry = &seen["input_files"][place];
        assert_eq!((&entry["filename"], &entry["local_path"]), (&json!(name), &json!(format!("input/{local_path}"))));
        assert_eq!(server.output(&id, &format!("output/{local_path}")).text(), content);
    }
}

#[test]
fn the_container_starts_in_the_workspace_with_its_variables() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let id = server.submit(TaskSpec::script("printf '%s|' \"$TASK_ID\" \"$TIMEOUT\" \"$PWD\" $(ls output | wc -l)"));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Completed, secs(60));
    assert_eq!(task.stdout(), format!("{id}|0|/workspace|0|"));
}

#[test]
fn another_user_can_read_and_write_the_whole_workspace() {
    let server = FakeServer::start();
    let as_nobody = r#"[executor]
        executor_type = "custom"
        custom_entrypoint = ["/bin/su", "-s", "/bin/sh", "nobody"]
        custom_args = ["-c", "exec sh /workspace/input/run.sh"]"#;
    let agent = Agent::builder(&server).with_engine().config(as_nobody).build();
    let script = "set -e
        cd /workspace
        id -u
        cat task.json > output/seen.json
        cat input/data.csv > top
        echo more >> input/data.csv
        echo x > input/new
        mkdir made output/made
        cp input/data.csv output/made/data.csv
        rm -r made";
    let id = server.submit(TaskSpec::script(script).input("data.csv", "1\n"));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Completed, secs(60));
    assert_eq!(task.stdout(), "65534\n");
    assert_eq!(task.output["files"], json!(["top", "output/made/data.csv", "output/seen.json"]));
    assert_eq!(server.output(&id, "output/made/data.csv").text(), "1\nmore\n");
    // Every user may write to the workspace; the private data_dir around it keeps other users out.
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(agent.workspace(&id)), mode(agent.data_dir())), (0o777, 0o700));
}
