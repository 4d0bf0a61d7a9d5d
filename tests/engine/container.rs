//! The container: its properties while it runs, and its removal.

use crate::support::agent::Agent;
use crate::support::docker::{container_name, containers_with_label, docker, wait_container_state, wait_until};
use crate::support::secs;
use crate::support::server::{FakeServer, Status, TaskSpec};
use serde_json::{Value, json};
use std::fs;

const UNTIL_GO: &str = "until [ -e /workspace/go ]; do sleep 0.1; done";

#[test]
fn a_container_has_its_name_labels_mounts_and_log_limits() {
    let server = FakeServer::start();
    // Commas and quotes have a meaning in docker's syntax for mounts.
    let mounts = "[[paths.mounts]]\nhost = './shared, \"data\"'\ncontainer = '/shared'\nreadonly = true";
    let agent = Agent::builder(&server).with_engine().folder_name("an agent's").config(mounts).build();
    let id = server.submit(TaskSpec::script(UNTIL_GO));
    let _running = agent.start();
    wait_container_state(&id, "running", secs(60));

    let inspected: Value = serde_json::from_str(&docker(&["inspect", &container_name(&id)])).unwrap();
    let [container] = &inspected.as_array().unwrap()[..] else { panic!("not exactly one container") };
    assert_eq!(container["Name"], json!(format!("/open-aaas-task-{id}")));
    assert_eq!(container["Id"], json!(fs::read_to_string(agent.task_file(&id, "cid")).unwrap()));
    let labels = &container["Config"]["Labels"];
    let labels = ["task", "service", "instance"].map(|name| &labels[format!("open-aaas.{name}")]);
    assert_eq!(labels, [&json!(id), &json!(server.service().0), &json!(agent.instance().unwrap())]);

    let mounts = container["Mounts"].as_array().unwrap().iter();
    let mut mounts: Vec<_> = mounts
        .map(|mount| ["Type", "Source", "Destination", "RW"].map(|key| mount[key].clone()))
        .map(Value::from_iter)
        .collect();
    mounts.sort_by_key(|mount| mount[2].to_string());
    let expected = [
        json!(["bind", agent.path("shared, \"data\""), "/shared", false]),
        json!(["bind", agent.workspace(&id), "/workspace", true]),
    ];
    assert_eq!(mounts, expected);

    let host = &container["HostConfig"];
    assert_eq!(host["LogConfig"], json!({"Type": "json-file", "Config": {"max-size": "5m", "max-file": "2"}}));
    // The stopped container must exist until its outcome is recorded.
    assert_eq!((&host["AutoRemove"], &host["RestartPolicy"]["Name"]), (&json!(false), &json!("no")));
    assert_eq!((&host["Privileged"], &host["Memory"]), (&json!(false), &json!(0)));
    let config = &container["Config"];
    assert_eq!((&config["Image"], &config["WorkingDir"]), (&json!("agent-core-test:1"), &json!("/workspace")));
    let env = config["Env"].as_array().unwrap();
    for variable in [format!("TASK_ID={id}"), "TIMEOUT=0".to_owned()] {
        assert!(env.contains(&json!(variable)), "{variable} is not in {env:?}");
    }
    let (_, api_key) = server.service();
    assert!(!inspected.to_string().contains(&api_key), "the container doesn't contain the api_key");

    fs::write(agent.workspace(&id).join("go"), "").unwrap();
    server.wait_for(&id, Status::Completed, secs(60));
}

#[test]
fn a_container_is_removed_before_its_task_is_settled() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let scripts = ["echo fine", "echo broken >&2; exit 3"];
    let ids = scripts.map(|script| server.submit(TaskSpec::script(format!("{UNTIL_GO}; {script}"))));
    let mut running = agent.start();
    for id in &ids {
        wait_container_state(id, "running", secs(60));
    }
    let label = format!("open-aaas.instance={}", agent.instance().unwrap());
    assert_eq!(containers_with_label(&label).len(), 2);
    for (id, status) in ids.iter().zip([Status::Completed, Status::Failed]) {
        fs::write(agent.workspace(id).join("go"), "").unwrap();
        server.wait_for(id, status, secs(60));
        running.wait_log(&format!("task {id}: settled as {status}"), secs(20));
    }
    wait_until("the containers to be removed", secs(20), || containers_with_label(&label).is_empty());
    assert!(running.terminate(secs(20)).success());
    for (id, (status, code)) in ids.iter().zip([("completed", 0), ("failed", 3)]) {
        let record = agent.record(id);
        assert_eq!(record["phase"], "settled");
        assert_eq!((&record["ending"]["status"], &record["ending"]["exit_code"]), (&json!(status), &json!(code)));
        assert!(record["settled_at"].is_string(), "{record}");
    }
}

#[test]
fn a_container_of_an_earlier_task_is_not_taken_for_the_tasks() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().config("[executor]\ndocker = './docker'").build();
    let client = |first: &str| agent.write_script("docker", &format!("#!/bin/sh\n{first}\nexec docker \"$@\"\n"));
    client("");
    server.pause_offering(true);
    let mut running = agent.start();
    running.wait_log("tasks are accepted", secs(30));
    let id = server.submit(TaskSpec::script("echo new"));
    let label = format!("open-aaas.instance={}", agent.instance().unwrap());
    let name = container_name(&id);
    // The old container appears right before the task's own `docker run`: no earlier look of the agent removes it.
    client(&format!(
        "if [ \"$1\" = run ] && mkdir '{}' 2>/dev/null; then docker run --name {name} --label {label} \
         --label open-aaas.offered=2026-01-01T00:00:00Z --entrypoint echo agent-core-test:1 old >/dev/null; fi",
        agent.path("made").display(),
    ));
    server.pause_offering(false);
    assert_eq!(server.wait_for(&id, Status::Completed, secs(60)).stdout(), "new\n");
    running.wait_log("removed the container that an earlier task of this name has left", secs(20));
    wait_until("the containers to be removed", secs(20), || containers_with_label(&label).is_empty());
}

/// A machine that is busy may be late with the events of one task, but not of all.
#[test]
fn a_task_that_ends_well_costs_one_docker_call() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let calls = agent.path("calls");
    agent.write_script("docker", &format!("#!/bin/sh\necho \"$1 $2\" >> '{}'\nexec docker \"$@\"\n", calls.display()));
    agent.change_config("[executor]\ndocker = './docker'");
    let _running = agent.start();
    let asked = || fs::read_to_string(&calls).unwrap_or_default().matches("inspect --type").count();
    let costs_more = |_: &i32| {
        let (before, id) = (asked(), server.submit(TaskSpec::script("echo result > /workspace/output/result")));
        let task = server.wait_for(&id, Status::Completed, secs(60));
        assert_eq!((&task.output["exit_code"], server.output(&id, "output/result").text()), (&json!(0), "result\n"));
        asked() > before
    };
    let tasks = (0..20).take_while(costs_more).count();
    assert!(tasks < 20, "each task is inspected");
}
