//! `executor.idle_timeout_minutes`: containers that print nothing for that long. One minute is the shortest limit.

use crate::support::agent::Agent;
use crate::support::docker::assert_no_containers;
use crate::support::secs;
use crate::support::server::{FakeServer, Status, TaskSpec};
use serde_json::json;

#[test]
fn only_the_silent_container_is_stopped() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().config("[executor]\nidle_timeout_minutes = 1").build();
    let silent = server.submit(TaskSpec::script(
        "trap 'echo asked > output/asked; exit 0' TERM
        echo part > output/part
        for step in 1 2 3 4; do echo step $step; sleep 1; done
        while :; do sleep 0.2; done",
    ));
    let printing = server.submit(TaskSpec::script(
        "for step in 1 2 3; do echo step $step >&2; sleep 20; done
        echo step 4
        sleep 6
        echo whole > output/whole",
    ));
    let _running = agent.start();

    let task = server.wait_for(&silent, Status::Failed, secs(120));
    let message = task.error_message.unwrap();
    let (explanation, words) = message.split_once('\n').unwrap();
    assert!(
        explanation.contains("1 minute without any output") && explanation.contains("`executor.idle_timeout_minutes`"),
        "{message}"
    );
    assert_eq!(words, "step 1\nstep 2\nstep 3\nstep 4");
    assert_eq!(task.output["files"], json!(["output/part", "output/asked"]));
    assert_eq!(server.output(&silent, "output/part").text(), "part\n");
    let duration = task.output["duration_secs"].as_f64().unwrap();
    assert!((62.5..78.0).contains(&duration), "the container is stopped one minute after its last output: {duration}");
    assert_eq!(task.completed_count, 1);
    assert_eq!(agent.record(&silent)["stop"], json!({"idle": {"minutes": 1}}));

    let task = server.wait_for(&printing, Status::Completed, secs(60));
    let duration = task.output["duration_secs"].as_f64().unwrap();
    assert!(duration > 65.0, "the container ran for longer than the limit: {duration}");
    assert_eq!(task.stdout(), "step 4\n");
    assert_eq!(server.output(&printing, "output/whole").text(), "whole\n");
    assert_no_containers(server.task_prefix());
}

#[test]
fn a_container_whose_client_falls_silent_is_not_stopped() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().config("[executor]\nidle_timeout_minutes = 1").build();
    let script = "#!/bin/sh\nif [ \"$1\" = run ]; then docker \"$@\" >/dev/null 2>&1; exit; fi\nexec docker \"$@\"\n";
    let script = agent.write_script("silent-docker", script);
    agent.change_config(&format!("[executor]\ndocker = {:?}", script.to_string_lossy()));
    let id = server.submit(TaskSpec::script("for step in 1 2 3 4 5 6 7 8; do echo step $step; sleep 10; done"));
    let running = agent.start();
    let task = server.wait_for(&id, Status::Completed, secs(150));
    let lines: Vec<String> = (1..=8).map(|step| format!("step {step}\n")).collect();
    assert_eq!(task.stdout(), lines.concat());
    assert!(running.log().contains("doesn't show what the container prints; ending the client"), "{}", running.log());
    assert_no_containers(server.task_prefix());
}
