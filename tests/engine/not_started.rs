//! Containers that can't be started: the task fails with the reason, and the agent continues.

use crate::support::agent::Agent;
use crate::support::docker::{assert_no_containers, docker, docker_if_there, test_image, wait_until};
use crate::support::secs;
use crate::support::server::{FakeServer, Request, Status, TaskSpec};
use serde_json::json;
use std::time::Instant;

/// A unique name for the test image. Dropping the value removes it.
struct Tag(String);

impl Drop for Tag {
    fn drop(&mut self) {
        docker_if_there(&["image", "rm", &self.0]);
    }
}

#[test]
fn a_missing_image_fails_one_task_and_stops_accepting() {
    let server = FakeServer::start();
    // No registry listens at that address, so docker fails at once.
    let image = Tag(format!("localhost:1/agent-core-{}:1", server.task_prefix()));
    let agent = Agent::builder(&server).with_engine().config(&format!("[executor]\nimage = '{}'", image.0)).build();
    let first = server.submit(TaskSpec::script("echo hi"));
    let mut running = agent.start();
    let task = server.wait_for(&first, Status::Failed, secs(60));
    running.wait_log("isn't on this machine; docker tries to pull it with the first task", secs(20));
    let message = task.error_message.unwrap();
    for part in [
        format!("Unable to find image '{}' locally", image.0),
        "connection refused".to_owned(),
        format!("docker build -t {} ", image.0),
    ] {
        assert!(message.contains(&part), "{part:?} is not in: {message}");
    }
    assert_eq!((&task.output["exit_code"], &task.output["files"]), (&json!(null), &json!([])));
    let (service, _) = server.service();
    let is_busy = || server.service_state(&service).status == "busy";
    wait_until("the Server to show that no task is taken", secs(30), is_busy);

    let second = server.submit(TaskSpec::script("echo hi"));
    let submitted = Instant::now();
    let is_answered = |poll: &&Request| poll.at > submitted && poll.status.is_some();
    let polls = || server.requests_to("poll").iter().filter(is_answered).count();
    wait_until("polls without the image", secs(30), || polls() >= 4);
    assert!(running.is_running());
    assert_eq!(server.task(&second).accepted_count, 0);

    docker(&["tag", test_image(), &image.0]);
    assert_eq!(server.wait_for(&second, Status::Completed, secs(60)).stdout(), "hi\n");
}

#[test]
fn a_missing_entrypoint_fails_the_task_with_dockers_message() {
    let server = FakeServer::start();
    let config = "[executor]\nexecutor_type = 'custom'\ncustom_entrypoint = ['/no/such/program', 'x']";
    let agent = Agent::builder(&server).with_engine().config(config).build();
    let _running = agent.start();
    // The failure is the task's own, so the next task is accepted.
    for _ in 0..2 {
        let id = server.submit(TaskSpec::new("x"));
        let task = server.wait_for(&id, Status::Failed, secs(60));
        let message = task.error_message.unwrap();
        assert!(message.contains("/no/such/program") && message.contains("no such file"), "{message}");
        assert!(!message.contains("docker build"), "the image is there: {message}");
        assert_eq!((&task.output["exit_code"], task.completed_count), (&json!(null), 1));
        assert_no_containers(&id);
    }
}
