//! SIGINT and SIGTERM: the agent ends in time, logs the tasks that remain, and does not disturb containers.

use crate::support::agent::{Agent, Running};
use crate::support::docker;
use crate::support::secs;
use crate::support::server::{Control, FakeServer, Fault, Match, Moment, Request, Status};
use crate::support::tally;
use nix::sys::signal::Signal;
use serde_json::json;
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

/// How long `stop` waits before it kills the agent (README, "Stop service").
const IN_TIME: Duration = Duration::from_secs(5);
const GOES_ON: &str = "1 running container(s) go on; the next start follows them to their end";

/// An agent with a running container.
fn begun(server: &FakeServer) -> (Agent, Running, String) {
    let agent = tally::agent(server).build();
    let running = agent.start();
    let id = server.submit(tally::waiting_task(""));
    tally::wait_begun(&agent, &id);
    (agent, running, id)
}

/// Sends a signal and expects the exit status 0 in time.
fn expect_to_leave(running: &mut Running, signal: Signal) {
    let sent = Instant::now();
    running.signal(signal);
    let status = running.wait_exit(secs(20));
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(sent.elapsed() < IN_TIME, "elapsed: {:?}", sent.elapsed());
}

fn expect_running(id: &str) {
    assert_eq!(docker::container_state(&docker::container_name(id)).as_deref(), Some("running"));
}

/// Starts the agent again and expects that the container ran undisturbed to its end.
fn expect_undisturbed(server: &FakeServer, agent: &Agent, id: &str) {
    expect_running(id);
    tally::release(agent, id);
    let _running = agent.start();
    tally::wait_done_once(server, agent, id);
}

fn leaves_a_running_container(signal: Signal) {
    let server = FakeServer::start();
    let (agent, mut running, id) = begun(&server);
    expect_to_leave(&mut running, signal);
    assert!(running.log().contains(GOES_ON), "{}", running.log());
    let requests = server.requests();
    let last = requests.last().expect("requests");
    assert!(last.is("heartbeat") && last.status == Some(200), "the last request: {last}");
    assert_eq!(last.body, json!({"status": "offline", "current_load": 1, "capacity": 2, "available_capacity": 0}));
    assert_eq!(server.task(&id).status, Status::Running);
    expect_undisturbed(&server, &agent, &id);
}

#[test]
fn a_container_keeps_running_after_sigterm() {
    leaves_a_running_container(Signal::SIGTERM);
}

#[test]
fn a_container_keeps_running_after_sigint() {
    leaves_a_running_container(Signal::SIGINT);
}

#[test]
fn an_idle_agent_ends_at_once() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    let mut running = agent.start();
    running.wait_log("tasks are accepted", secs(20));
    let sent = Instant::now();
    expect_to_leave(&mut running, Signal::SIGTERM);
    assert!(sent.elapsed() < secs(3), "elapsed: {:?}", sent.elapsed());
    assert!(!running.log().contains("go on"), "no task remains: {}", running.log());
    assert_eq!(server.heartbeats().last().expect("heartbeats").body["status"], "offline");
}

#[test]
fn ctrl_c_in_a_terminal_does_not_reach_the_container() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    let mut running = agent.invoke(&["run"]).own_group().start();
    let id = server.submit(tally::waiting_task(""));
    tally::wait_begun(&agent, &id);
    running.signal_group(Signal::SIGINT);
    assert_eq!(running.wait_exit(secs(20)).code(), Some(0));
    expect_undisturbed(&server, &agent, &id);
}

#[test]
fn docker_clients_end_with_the_agent() {
    let server = FakeServer::start();
    let (agent, mut running, id) = begun(&server);
    assert!(agent.processes().len() > 1, "the agent and a docker client");
    expect_to_leave(&mut running, Signal::SIGTERM);
    expect_no_process(&agent);
    // The same holds for the client that follows a container.
    let mut running = agent.start();
    running.wait_log("following the running container", secs(20));
    expect_to_leave(&mut running, Signal::SIGTERM);
    expect_no_process(&agent);
    expect_undisturbed(&server, &agent, &id);
}

/// A short docker call may end a moment later; a client that follows a container must be killed.
fn expect_no_process(agent: &Agent) {
    docker::wait_until("the docker clients to end", secs(20), || agent.processes().is_empty());
}

#[test]
fn an_unanswered_poll_does_not_delay_the_end() {
    let server = FakeServer::start();
    let (agent, mut running, id) = begun(&server);
    server.fault(Match::path("poll"), Fault::NeverAnswer);
    wait_unanswered(&server, "poll");
    expect_to_leave(&mut running, Signal::SIGTERM);
    assert!(running.log().contains(GOES_ON), "{}", running.log());
    assert_eq!(server.heartbeats().last().expect("heartbeats").body["status"], "offline");
    server.clear_faults();
    expect_undisturbed(&server, &agent, &id);
}

#[test]
fn an_unanswered_heartbeat_does_not_delay_the_end() {
    let server = FakeServer::start();
    let (agent, mut running, id) = begun(&server);
    running.kill9();
    // The first call of a new start is a heartbeat.
    server.fault(Match::path("heartbeat"), Fault::NeverAnswer);
    let mut running = agent.start();
    running.wait_log("following the running container", secs(20));
    wait_unanswered(&server, "heartbeat");
    expect_to_leave(&mut running, Signal::SIGTERM);
    assert!(running.log().contains(GOES_ON), "{}", running.log());
    server.clear_faults();
    expect_undisturbed(&server, &agent, &id);
}

#[test]
fn a_silent_server_does_not_delay_the_end() {
    let server = FakeServer::start();
    let (agent, mut running, id) = begun(&server);
    server.fault(Match::any(), Fault::NeverAnswer);
    wait_unanswered(&server, "poll");
    expect_to_leave(&mut running, Signal::SIGINT);
    assert!(running.log().contains(GOES_ON), "{}", running.log());
    server.clear_faults();
    expect_undisturbed(&server, &agent, &id);
}

fn wait_unanswered(server: &Control, call: &str) {
    let waits = |request: &Request| request.status.is_none() && !request.faults.is_empty();
    server.wait_until(&format!("an unanswered {call}"), secs(20), |server| server.requests_to(call).iter().any(waits));
}

#[test]
fn a_second_signal_ends_the_agent_at_once() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    let mut running = agent.start();
    // After the first signal the agent waits for the running delivery.
    server.fault(Match::path("upload"), Fault::NeverAnswer);
    let id = server.submit(tally::waiting_task("echo result > output/result.txt"));
    tally::release(&agent, &id);
    wait_unanswered(&server, "upload");
    running.signal(Signal::SIGTERM);
    running.wait_log("shutting down", secs(20));
    let second = Instant::now();
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait_exit(secs(20)).code(), Some(130));
    assert!(second.elapsed() < secs(3), "elapsed: {:?}", second.elapsed());
    server.clear_faults();
    let _running = agent.start();
    tally::wait_done_once(&server, &agent, &id);
    assert_eq!(server.output(&id, "output/result.txt").bytes, b"result\n");
}

#[test]
fn the_agent_waits_for_a_container_that_is_about_to_end() {
    let server = FakeServer::start();
    let (agent, mut running, id) = begun(&server);
    running.signal(Signal::SIGTERM);
    running.wait_log("shutting down", secs(20));
    let asked = Instant::now();
    tally::release(&agent, &id);
    assert_eq!(running.wait_exit(secs(20)).code(), Some(0));
    // On a busy machine the engine may need longer than the agent waits.
    let waited = asked.elapsed();
    let is_reported = server.task(&id).status == Status::Completed;
    assert!(is_reported || waited > secs(3), "the agent ended after {waited:?} without the report");
    assert_eq!(running.log().contains("go on") || running.log().contains("not delivered"), !is_reported);
    let _running = (!is_reported).then(|| agent.start());
    tally::wait_done_once(&server, &agent, &id);
}

#[test]
fn a_delivery_in_progress_is_finished_before_the_end() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    let mut running = agent.start();
    let (go_on, word) = mpsc::channel();
    let word = Mutex::new(word);
    // The upload takes effect while the agent is ending, or when the test has failed.
    let wait = move |_: &Request| word.lock().expect("one upload").recv().unwrap_or_default();
    server.fault(Match::path("upload"), Fault::call(Moment::Arrived, wait));
    let id = server.submit(tally::waiting_task("echo result > output/result.txt"));
    tally::release(&agent, &id);
    server.wait_until("an upload", secs(30), |server| !server.requests_to("upload").is_empty());
    running.signal(Signal::SIGTERM);
    running.wait_log("shutting down", secs(20));
    go_on.send(()).expect("the upload waits");
    assert_eq!(running.wait_exit(secs(20)).code(), Some(0));
    tally::wait_done_once(&server, &agent, &id);
    assert_eq!(server.output(&id, "output/result.txt").bytes, b"result\n");
    assert!(!running.log().contains("not delivered"), "{}", running.log());
    assert_eq!(server.requests().last().expect("requests").body["status"], "offline");
}

#[test]
fn a_hanging_delivery_is_left_to_the_next_start() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    let mut running = agent.start();
    let hangs = server.fault(Match::path("upload"), Fault::NeverAnswer);
    let id = server.submit(tally::waiting_task("echo result > output/result.txt"));
    tally::release(&agent, &id);
    wait_unanswered(&server, "upload");
    expect_to_leave(&mut running, Signal::SIGTERM);
    let said = "1 result(s) are not delivered yet; the next start delivers them";
    assert!(running.log().contains(said), "{}", running.log());
    server.remove_fault(hangs);
    let _running = agent.start();
    tally::wait_done_once(&server, &agent, &id);
    assert_eq!(server.output(&id, "output/result.txt").bytes, b"result\n");
}
