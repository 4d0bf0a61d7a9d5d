//! A Server that refuses the agent's key.

use crate::support::agent::Agent;
use crate::support::secs;
use crate::support::server::FakeServer;

#[test]
fn a_revoked_key_is_logged_once_and_retried_every_30_seconds() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    let mut running = agent.start();
    server.wait_until("the first polls", secs(10), |server| server.requests_to("poll").len() >= 2);
    let (service_id, _) = server.service();
    server.revoke_key(&service_id);
    running.wait_log("answered 401", secs(10));
    let refused = |server: &FakeServer| {
        let mut requests = server.requests();
        requests.retain(|request| request.status == Some(401));
        requests
    };
    server.wait_until("another try", secs(45), |_| refused(&server).len() >= 2);
    let tries = refused(&server);
    let gap = tries[1].at - tries[0].at;
    assert!((secs(30)..secs(40)).contains(&gap), "{gap:?}");
    let log = running.log();
    let said: Vec<&str> = log.lines().filter(|line| line.contains("answered 401")).collect();
    assert_eq!(said.len(), 1, "{log}");
    assert!(
        said[0].contains("Unauthorized: API Key") && said[0].contains("register again with `agent-core --config"),
        "{}",
        said[0]
    );
    assert!(running.is_running());
}

#[test]
fn no_poll_is_sent_with_a_key_that_was_never_valid() {
    let server = FakeServer::start();
    let (service_id, _) = server.service();
    let agent = Agent::builder(&server).without_engine().service(&service_id, "ak_wrong").build();
    let mut running = agent.start();
    running.wait_log("register again with `agent-core --config", secs(10));
    running.wait_log("no new task is accepted", secs(10));
    // The agent sends a second heartbeat when the engine's state is known, and makes no other call.
    server.wait_until("two heartbeats", secs(10), |server| server.requests().len() >= 2);
    let requests = server.requests();
    assert!(requests.iter().all(|request| request.is("heartbeat")), "{requests:#?}");
    assert_eq!(running.log().matches("answered 401").count(), 1, "{}", running.log());
}
