//! An engine that can't be reached: no task is accepted, fails or is forgotten (P8).

use crate::support::agent::{Agent, Running};
use crate::support::secs;
use crate::support::server::{Control, FakeServer, Status};
use crate::support::tally;

/// Starts the agent without an engine.
fn start_without_engine(agent: &Agent) -> Running {
    agent.invoke(&["run"]).env("DOCKER_HOST", "unix:///nonexistent.sock").start()
}

#[test]
fn no_task_is_accepted_and_busy_is_reported_without_an_engine() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    let id = server.submit(tally::waiting_task(""));
    tally::release(&agent, &id);
    let mut running = start_without_engine(&agent);
    // The first two heartbeats come at the start, the third 20 s later.
    server.wait_until("three heartbeats", secs(40), |server| server.heartbeats().len() >= 3);
    for heartbeat in server.heartbeats() {
        assert_eq!(
            heartbeat.body,
            serde_json::json!({"status": "busy", "current_load": 0, "capacity": 2, "available_capacity": 0})
        );
    }
    assert!(server.longest_heartbeat_gap() < secs(30), "{:?}", server.longest_heartbeat_gap());
    let mut polls = server.requests_to("poll");
    polls.retain(|poll| poll.status == Some(200));
    assert!(polls.len() >= 10, "the agent polls for cancellations: {} polls", polls.len());
    assert!(polls.iter().all(|poll| poll.body["available_capacity"] == 0), "{}", server.report());
    assert_eq!(server.requests_to("accept").len(), 0);
    assert_eq!(server.task(&id).status, Status::Pending);
    let log = running.log();
    let said: Vec<&str> = log.lines().filter(|line| line.contains("no new task is accepted")).collect();
    assert_eq!(said.len(), 1, "three checks of the engine cause one line: {said:?}");
    assert!(said[0].contains("the Docker engine can't be reached") && said[0].contains("nonexistent.sock"), "{said:?}");

    assert_eq!(running.terminate(secs(20)).code(), Some(0));
    let _running = agent.start();
    tally::wait_done_once(&server, &agent, &id);
}

#[test]
fn a_running_task_waits_for_an_unreachable_engine() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    let mut running = agent.start();
    let id = server.submit(tally::waiting_task(""));
    tally::wait_begun(&agent, &id);
    running.kill9();

    let before = server.requests_to("poll").len();
    let mut running = start_without_engine(&agent);
    running.wait_log("waiting for the engine", secs(20));
    let polls = |server: &Control| server.requests_to("poll").len() - before;
    server.wait_until("three polls", secs(20), |server| polls(server) >= 3);
    assert_eq!(server.task(&id).status, Status::Running, "the task hasn't failed");
    assert_eq!(running.log().matches("waiting for the engine: ").count(), 1);
    assert_eq!(running.terminate(secs(20)).code(), Some(0));
    assert!(running.log().contains("1 running container(s) go on"), "{}", running.log());

    let _running = agent.start();
    tally::release(&agent, &id);
    tally::wait_done_once(&server, &agent, &id);
}

#[test]
fn a_result_is_delivered_without_an_engine() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    let mut running = agent.start();
    let id = server.submit(tally::waiting_task(tally::RESULT));
    tally::wait_begun(&agent, &id);
    // The container has exited and its result isn't delivered.
    server.stop_listening();
    tally::release(&agent, &id);
    tally::wait_phase(&agent, &id, "exited");
    running.kill9();
    server.resume();

    let mut running = start_without_engine(&agent);
    let task = server.wait_for(&id, Status::Completed, secs(60));
    assert_eq!(task.stdout(), "begun\nreleased\n");
    // The agent removes the container when an engine is there.
    running.kill9();
    let _running = agent.start();
    tally::wait_done_once(&server, &agent, &id);
}

/// At the head of the queue the task would block all tasks behind it (P8).
#[test]
fn a_requeued_own_task_is_accepted_without_an_engine() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    let mut running = agent.start();
    let id = server.submit(tally::waiting_task(""));
    tally::wait_begun(&agent, &id);
    running.kill9();
    let mut running = start_without_engine(&agent);
    running.wait_log("waiting for the engine", secs(20));
    running.wait_log("no new task is accepted", secs(20));
    let new = server.submit(tally::waiting_task(""));
    server.time_out(&server.service().0);
    server.wait_until("the task to be accepted again", secs(20), |server| server.task(&id).accepted_count == 2);
    assert_eq!(server.task(&new).accepted_count, 0);
    assert_eq!(running.terminate(secs(20)).code(), Some(0));

    let _running = agent.start();
    for task in [&id, &new] {
        tally::release(&agent, task);
        tally::wait_done_once(&server, &agent, task);
    }
}
