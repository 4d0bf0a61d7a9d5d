//! A new start of the agent continues the tasks that an earlier one left, at any point.

use crate::support::agent::{Agent, Running};
use crate::support::docker;
use crate::support::secs;
use crate::support::server::{FakeServer, Status, TaskSpec};
use crate::support::tally;

const REMOVED: &str = "the container was removed behind the agent's back; its result is lost";

/// An agent with a task whose container has started.
fn begun(server: &FakeServer, task: TaskSpec) -> (Agent, Running, String) {
    let agent = tally::agent(server).build();
    let running = agent.start();
    let id = server.submit(task);
    tally::wait_begun(&agent, &id);
    (agent, running, id)
}

/// Starts the agent again, waits until it follows the container, and releases the container.
fn follow_to_the_end(server: &FakeServer, agent: &Agent, id: &str) {
    let mut running = agent.start();
    running.wait_log(&format!("following the running container `{}`", docker::container_name(id)), secs(20));
    tally::release(agent, id);
    tally::wait_done_once(server, agent, id);
    assert_eq!(server.output(id, "output/result.txt").bytes, b"result\n");
    assert_eq!(server.outputs(id).len(), 1);
    assert_eq!(server.requests_to("complete").len(), 1);
    assert_eq!(server.task(id).accepted_count, 1);
}

#[test]
fn a_running_container_is_followed_after_sigkill() {
    let server = FakeServer::start();
    let (agent, mut running, id) = begun(&server, tally::waiting_task("echo result > output/result.txt"));
    running.kill9();
    follow_to_the_end(&server, &agent, &id);
}

#[test]
fn a_running_container_is_followed_after_sigterm() {
    let server = FakeServer::start();
    let (agent, mut running, id) = begun(&server, tally::waiting_task("echo result > output/result.txt"));
    assert_eq!(running.terminate(secs(20)).code(), Some(0));
    follow_to_the_end(&server, &agent, &id);
}

#[test]
fn a_container_runs_once_despite_several_kills() {
    let server = FakeServer::start();
    let (agent, mut running, id) = begun(&server, tally::waiting_task("echo result > output/result.txt"));
    for _ in 0..3 {
        running.kill9();
        running = agent.start();
        running.wait_log("following the running container", secs(20));
    }
    running.kill9();
    follow_to_the_end(&server, &agent, &id);
}

#[test]
fn the_docker_client_of_a_killed_agent_is_ended() {
    let server = FakeServer::start();
    let (agent, mut running, id) = begun(&server, tally::waiting_task(""));
    running.wait_log("tasks are accepted", secs(20));
    running.kill9();
    // The client could still create or start a container.
    docker::wait_until("only the docker client to be left", secs(20), || agent.processes().len() == 1);
    let [client] = agent.processes()[..] else { panic!("one client: {:?}", agent.processes()) };
    let mut running = agent.start();
    running.wait_log("following the running container", secs(20));
    assert!(!agent.processes().contains(&client), "{:?} with {client}", agent.processes());
    tally::release(&agent, &id);
    tally::wait_done_once(&server, &agent, &id);
}

#[test]
fn a_container_that_exited_without_an_agent_is_collected() {
    let server = FakeServer::start();
    let rest = "echo partial > output/partial.txt; echo 'it broke' >&2; exit 7";
    let (agent, mut running, id) = begun(&server, tally::waiting_task(rest));
    running.kill9();
    tally::release(&agent, &id);
    docker::wait_container_state(&id, "exited", secs(20));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Failed, secs(30));
    assert_eq!(task.error_message.as_deref(), Some("it broke"));
    assert_eq!(task.output["exit_code"], 7);
    assert_eq!(task.output["stderr"], "it broke\n");
    assert_eq!(task.stdout(), "begun\nreleased\n");
    assert_eq!(server.output(&id, "output/partial.txt").bytes, b"partial\n");
    assert_eq!(tally::times_begun(&agent, &id), 1);
    assert_eq!(task.completed_count, 1);
    docker::assert_no_containers(&id);
}

#[test]
fn a_container_removed_without_an_agent_fails_its_task() {
    let server = FakeServer::start();
    let (agent, mut running, id) = begun(&server, tally::waiting_task(""));
    running.kill9();
    docker::docker(&["rm", "--force", &docker::container_name(&id)]);
    let _running = agent.start();
    expect_failed_as_removed(&server, &agent, &id);
}

#[test]
fn a_container_removed_while_it_is_watched_fails_its_task() {
    let server = FakeServer::start();
    let (agent, _running, id) = begun(&server, tally::waiting_task(""));
    docker::docker(&["rm", "--force", &docker::container_name(&id)]);
    expect_failed_as_removed(&server, &agent, &id);
}

#[test]
fn a_container_removed_while_it_is_followed_fails_its_task() {
    let server = FakeServer::start();
    let (agent, mut running, id) = begun(&server, tally::waiting_task(""));
    running.kill9();
    let mut running = agent.start();
    running.wait_log("following the running container", secs(20));
    docker::docker(&["rm", "--force", &docker::container_name(&id)]);
    expect_failed_as_removed(&server, &agent, &id);
}

/// Runs another task afterwards, which proves that the failed one is not run again.
fn expect_failed_as_removed(server: &FakeServer, agent: &Agent, id: &str) {
    let task = server.wait_for(id, Status::Failed, secs(30));
    assert_eq!(task.error_message.as_deref(), Some(REMOVED));
    assert_eq!(task.output["exit_code"], serde_json::Value::Null);
    let next = server.submit(tally::waiting_task(""));
    tally::release(agent, &next);
    tally::wait_done_once(server, agent, &next);
    assert_eq!(tally::times_begun(agent, id), 1);
    assert_eq!(server.task(id).accepted_count, 1);
    docker::assert_no_containers(id);
}

#[test]
fn containers_over_a_lowered_capacity_are_followed_in_parallel() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).capacity(3).build();
    let ids = [(); 3].map(|()| server.submit(tally::waiting_task("")));
    let mut running = agent.start();
    for id in &ids {
        tally::wait_begun(&agent, id);
    }
    running.kill9();
    let before = server.requests().len();
    agent.change_config("[executor]\ncapacity = 1");
    let waiting = server.submit(tally::waiting_task(""));
    let mut running = agent.start();
    for id in &ids {
        running.wait_log(&format!("following the running container `{}`", docker::container_name(id)), secs(20));
    }
    // Each result is delivered while the containers before it still run.
    for (index, id) in ids.iter().enumerate().rev() {
        assert_eq!(server.task(&waiting).status, Status::Pending, "{} tasks are on one slot", index + 1);
        tally::release(&agent, id);
        tally::wait_done_once(&server, &agent, id);
    }
    tally::release(&agent, &waiting);
    tally::wait_done_once(&server, &agent, &waiting);
    // The Server refuses a load beyond the capacity.
    for request in &server.requests()[before..] {
        if request.is("heartbeat") {
            assert_eq!(request.status, Some(200), "{request}");
        }
    }
}
