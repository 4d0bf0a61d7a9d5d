//! The Server gives the id of a task that is kept here to another task: neither gets what is the other's.

use crate::support::agent::{Agent, Running};
use crate::support::docker;
use crate::support::secs;
use crate::support::server::{FakeServer, Fault, Match, Status, TaskSpec};
use crate::support::tally;
use serde_json::{Value, json};
use std::fs;

const SECRET: &str = "cat /tally/secret; cp /tally/secret output/secret.txt";

/// An agent with a task whose container waits, and whose result is a secret.
fn begun(server: &FakeServer) -> (Agent, Running, String) {
    let agent = tally::agent(server).capacity(2).build();
    agent.write("tally/secret", "the first user's secret\n");
    let running = agent.start();
    let id = server.submit(tally::waiting_task(SECRET));
    tally::wait_begun(&agent, &id);
    (agent, running, id)
}

/// The task of another user, which the Server gives the id.
fn submit_second(server: &FakeServer, id: &str) {
    server.submit_anew(TaskSpec::script("echo second; echo 2 > output/second.txt"), id);
}

/// Fails the test unless the second task has what it wrote, and nothing else.
fn expect_second(server: &FakeServer, id: &str) {
    let task = server.wait_for(id, Status::Completed, secs(60));
    assert_eq!((task.stdout(), &task.output["files"]), ("second\n", &json!(["output/second.txt"])));
    assert_eq!(server.outputs(id).len(), 1, "{}", server.report());
    assert_eq!(server.output(id, "output/second.txt").bytes, b"2\n");
}

/// Fails the test unless the result of the first task's one run is delivered.
fn expect_first(server: &FakeServer, agent: &Agent, id: &str) {
    let task = server.wait_for(id, Status::Completed, secs(60));
    assert_eq!((tally::times_begun(agent, id), task.completed_count), (1, 1));
    assert_eq!(server.output(id, "output/secret.txt").text(), "the first user's secret\n");
}

fn tasks(agent: &Agent) -> Vec<Value> {
    let listed = agent.run(&["tasks", "--json"]);
    listed.expect_code(0).stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn a_reused_id_gets_no_result_of_the_task_before() {
    let server = FakeServer::start();
    let (agent, mut running, id) = begun(&server);
    tally::release(&agent, &id);
    server.wait_for(&id, Status::Completed, secs(60));
    tally::wait_phase(&agent, &id, "settled");
    submit_second(&server, &id);
    expect_second(&server, &id);
    let second = format!("__r2-{id}");
    tally::wait_phase(&agent, &second, "settled");
    assert_eq!(tasks(&agent).iter().filter(|task| task["id"] == *id).count(), 2);
    assert!(agent.workspace(&id).join("output/secret.txt").exists(), "the first task's result is kept");
    // Each is found again when the Server offers it again, also after a restart.
    running.terminate(secs(20));
    let _running = agent.start();
    server.forget_end(&id);
    expect_second(&server, &id);
    assert_eq!(fs::read_dir(agent.data_dir().join("tasks")).expect("list it").count(), 2);
    docker::assert_no_containers(&second);
}

#[test]
fn a_task_whose_id_is_another_tasks_now_stays_here() {
    let server = FakeServer::start();
    let (agent, mut running, id) = begun(&server);
    submit_second(&server, &id);
    running.wait_log(&format!("task {id}: the Server has given its id to another task"), secs(20));
    expect_second(&server, &id);
    tally::release(&agent, &id);
    tally::wait_phase(&agent, &id, "settled");
    expect_second(&server, &id);
    assert_eq!(server.task(&id).completed_count, 1);
    let record = agent.record(&id);
    assert_eq!(record["ending"]["error_message"], "the Server has given the task's id to another task");
    assert_eq!(
        fs::read(agent.workspace(&id).join("output/secret.txt")).expect("its result"),
        b"the first user's secret\n"
    );
    docker::assert_no_containers(&id);
}

#[test]
fn a_result_that_waits_is_not_sent_under_a_reused_id() {
    let server = FakeServer::start();
    let (agent, mut running, id) = begun(&server);
    server.fault(Match::path("upload"), Fault::status(503));
    tally::release(&agent, &id);
    running.wait_log("container exited with 0", secs(20));
    let first = (server.task(&id), server.files(&id));
    submit_second(&server, &id);
    running.wait_log(&format!("task {id}: settled without a report"), secs(20));
    server.clear_faults();
    expect_second(&server, &id);
    agent.run(&["tasks"]).expect_code(0).expect_stdout("failed");
    server.restore(first.0, first.1);
    expect_first(&server, &agent, &id);
}

#[test]
fn a_running_task_that_gets_its_id_back_is_delivered() {
    let server = FakeServer::start();
    let (agent, mut running, id) = begun(&server);
    let first = (server.task(&id), server.files(&id));
    submit_second(&server, &id);
    expect_second(&server, &id);
    server.restore(first.0, first.1);
    running.wait_log(&format!("task {id}: the Server has given the id back to this task"), secs(20));
    tally::release(&agent, &id);
    expect_first(&server, &agent, &id);
    docker::assert_no_containers(&id);
}

#[test]
fn a_kept_task_of_another_service_blocks_no_task_with_its_id() {
    let server = FakeServer::start();
    let (agent, mut running, id) = begun(&server);
    tally::release(&agent, &id);
    server.wait_for(&id, Status::Completed, secs(60));
    tally::wait_phase(&agent, &id, "settled");
    running.terminate(secs(20));
    let (service, key) = server.add_service();
    agent.change_config(&format!("[agent]\nservice_id = '{service}'\napi_key = '{key}'"));
    let _running = agent.start();
    server.submit_anew(TaskSpec::script("echo second; echo 2 > output/second.txt").service(&service), &id);
    expect_second(&server, &id);
}
