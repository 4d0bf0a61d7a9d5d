//! Heartbeats: the first call of an agent, then one every 20 s.

use crate::support::agent::Agent;
use crate::support::secs;
use crate::support::server::{Control, FakeServer, Fault, Match, Response};
use serde_json::json;
use std::time::Duration;

/// The agent repeats heartbeat and poll when it knows the engine's state; the second heartbeat is the first of them.
fn wait_for_the_engines_report(server: &Control) {
    server.wait_until("a second heartbeat", secs(20), |server| server.heartbeats().len() >= 2);
}

#[test]
fn the_first_poll_waits_for_the_first_heartbeats_answer() {
    let server = FakeServer::start();
    server.fault(Match::path("heartbeat").nth(1), Fault::Late(Duration::from_millis(700)));
    let agent = Agent::builder(&server).without_engine().build();
    let _running = agent.start();
    server.wait_until("a poll", secs(20), |server| !server.requests_to("poll").is_empty());
    let requests = server.requests();
    assert!(requests[0].is("heartbeat"), "{}", requests[0]);
    // The agent may have the answer a moment before the fake Server records it.
    let waited = server.requests_to("poll")[0].at - requests[0].at;
    assert!(waited >= Duration::from_millis(700), "{waited:?}");
}

#[test]
fn heartbeats_are_sent_every_20_seconds_without_an_engine() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    let running = agent.start();
    wait_for_the_engines_report(&server);
    server.wait_until("a third heartbeat", secs(40), |server| server.heartbeats().len() >= 3);
    let beats = server.heartbeats();
    let gap = beats[2].at - beats[1].at;
    // The second request may travel for a moment less than the first.
    assert!((secs(19)..secs(30)).contains(&gap), "{gap:?}");
    // The agent checked the engine every 10 s meanwhile.
    let log = running.log();
    let said: Vec<&str> = log.lines().filter(|line| line.contains("no new task is accepted")).collect();
    assert_eq!(said.len(), 1, "{log}");
    assert!(said[0].contains(" WARN ") && said[0].contains("unix:///nonexistent.sock"), "{}", said[0]);
}

#[test]
fn an_agent_without_an_engine_reports_busy_and_no_capacity() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().capacity(3).build();
    let _running = agent.start();
    wait_for_the_engines_report(&server);
    let body = json!({"status": "busy", "current_load": 0, "capacity": 3, "available_capacity": 0});
    for beat in server.heartbeats() {
        assert_eq!(beat.body, body);
    }
    let (service_id, _) = server.service();
    assert_eq!(server.service_state(&service_id).status, "busy");
}

#[test]
fn no_task_is_accepted_without_an_engine() {
    let server = FakeServer::start();
    let id = server.submit(crate::support::server::TaskSpec::new("wait"));
    let agent = Agent::builder(&server).without_engine().build();
    let _running = agent.start();
    wait_for_the_engines_report(&server);
    let polls = server.requests_to("poll").len();
    server.wait_until("two more polls", secs(20), |server| server.requests_to("poll").len() >= polls + 2);
    assert_eq!(server.requests_to("accept").len(), 0);
    assert_eq!(server.task(&id).accepted_count, 0);
}

#[cfg(unix)]
#[test]
fn the_last_heartbeat_reports_offline() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().capacity(3).build();
    let mut running = agent.start();
    wait_for_the_engines_report(&server);
    let ended = running.terminate(secs(20));
    assert_eq!(ended.code(), Some(0));
    let last = server.requests().pop().expect("a request");
    assert!(last.is("heartbeat"), "{last}");
    let body = json!({"status": "offline", "current_load": 0, "capacity": 3, "available_capacity": 0});
    assert_eq!(last.body, body);
}

#[test]
fn a_heartbeat_that_the_server_does_not_acknowledge_is_sent_again() {
    let server = FakeServer::start();
    let page = Response::json(200, &json!({"status": "login required"}));
    server.fault(Match::path("heartbeat").times(1), Fault::Answer(page));
    let agent = Agent::builder(&server).without_engine().build();
    let mut running = agent.start();
    running.wait_log("without `\"acknowledged\":true`", secs(20));
    server.wait_until("a poll", secs(20), |server| !server.requests_to("poll").is_empty());
    assert!(server.requests_to("heartbeat").len() >= 2, "{}", server.report());
}
