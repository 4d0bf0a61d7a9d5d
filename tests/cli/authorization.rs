//! A Server that refuses the agent's key.

use crate::support::agent::Agent;
use crate::support::secs;
use crate::support::server::{FakeServer, Fault, Match, Response};
use serde_json::json;

#[test]
fn a_revoked_key_is_logged_once_and_retried_every_30_seconds() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    let mut running = agent.start();
    server.wait_until("the first polls", secs(20), |server| server.requests_to("poll").len() >= 2);
    let (service_id, _) = server.service();
    server.revoke_key(&service_id);
    running.wait_log("register again with `agent-core --config", secs(30));
    let refused = |server: &FakeServer| {
        let mut requests = server.requests();
        requests.retain(|request| request.status == Some(401));
        requests
    };
    server.wait_until("another try", secs(60), |_| refused(&server).len() >= 4);
    let tries = refused(&server);
    let gap = tries[3].at - tries[2].at;
    assert!((secs(30)..secs(60)).contains(&gap), "{gap:?}");
    let log = running.log();
    let said: Vec<&str> = log.lines().filter(|line| line.contains("answered 401")).collect();
    // A registration abandons the work of the old one, so it is asked for after the third refusal only.
    let [first, then] = said[..] else { panic!("not exactly two lines: {log}") };
    assert!(first.contains("Unauthorized: API Key") && !first.contains("register again"), "{first}");
    assert!(then.contains("register again with `agent-core --config"), "{then}");
    assert!(running.is_running());
}

#[test]
fn no_poll_is_sent_with_a_key_that_was_never_valid() {
    let server = FakeServer::start();
    let (service_id, _) = server.service();
    let agent = Agent::builder(&server).without_engine().service(&service_id, "ak_wrong").build();
    let mut running = agent.start();
    running.wait_log("register again with `agent-core --config", secs(20));
    running.wait_log("no new task is accepted", secs(20));
    // The agent sends a second heartbeat when the engine's state is known, and makes no other call.
    server.wait_until("two heartbeats", secs(20), |server| server.requests().len() >= 2);
    let requests = server.requests();
    assert!(requests.iter().all(|request| request.is("heartbeat")), "{requests:#?}");
    assert_eq!(running.log().matches("answered 401").count(), 2, "{}", running.log());
}

#[test]
fn a_login_before_the_server_does_not_ask_for_a_new_registration() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    let login = json!({"error": "Unauthorized"});
    for answer in [Fault::html(401), Fault::Answer(Response::json(401, &login)), Fault::gateway(403)] {
        let fault = server.fault(Match::any(), answer);
        let running = agent.start();
        server.wait_until("heartbeats", secs(40), |server| server.fault_hits(fault) >= 4);
        assert!(!running.log().contains("register again"), "{}", running.log());
        let done = agent.run(&["check"]);
        done.expect_code(1).expect_stdout("is not the Server's API");
        assert!(!done.stdout.contains("register again"), "{}", done.stdout);
        server.remove_fault(fault);
    }
}
