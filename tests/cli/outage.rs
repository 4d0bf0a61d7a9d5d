//! A Server that stops answering and returns, or answers something else than JSON for a while.

use crate::support::agent::Agent;
use crate::support::secs;
use crate::support::server::{Control, FakeServer, Fault, Match};
use std::time::Instant;

fn wait_for_more_polls(server: &Control, count: usize) {
    let before = server.requests_to("poll").len();
    server.wait_until("more polls", secs(20), |server| {
        let polls = server.requests_to("poll");
        polls.iter().skip(before).filter(|poll| poll.status == Some(200)).count() >= count
    });
}

#[test]
fn heartbeats_are_retried_every_5_seconds_and_polls_resume() {
    let server = FakeServer::start();
    let fault = server.fault(Match::any(), Fault::Reset);
    let agent = Agent::builder(&server).without_engine().build();
    let mut running = agent.start();
    // The first two heartbeats come at the start and when the engine's state is known.
    server.wait_until("heartbeats", secs(30), |server| server.fault_hits(fault) >= 3);
    let tries = server.requests();
    assert!(tries.iter().all(|request| request.is("heartbeat")), "{tries:#?}");
    server.remove_fault(fault);
    running.wait_log("the Server answers again", secs(20));
    wait_for_more_polls(&server, 1);
    let back = server.heartbeats()[0].at;
    for gap in [tries[2].at - tries[1].at, back - tries[2].at] {
        assert!((secs(5)..secs(15)).contains(&gap), "{gap:?}");
    }
    let resumed = server.requests_to("poll")[0].at - back;
    assert!(resumed < secs(15), "polled {resumed:?} after the heartbeat");
    let log = running.log();
    let said = log.lines().filter(|line| line.contains("; trying again")).count();
    assert_eq!(said, 1, "a repeated error is logged once:\n{log}");
}

#[test]
fn polls_resume_soon_after_refused_connections() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    let mut running = agent.start();
    wait_for_more_polls(&server, 2);
    server.stop_listening();
    running.wait_log("the Server can't be reached", secs(20));
    let before = server.requests().len();
    server.resume();
    let back = Instant::now();
    server.wait_until("a poll", secs(20), |server| server.requests().iter().skip(before).any(|one| one.is("poll")));
    let resumed = back.elapsed();
    assert!(resumed < secs(18), "polls resumed {resumed:?} after the Server was back");
    // The heartbeat reached the Server, and the next outage starts with short pauses again.
    running.wait_log("the Server answers again", secs(20));
}

#[test]
fn polling_continues_after_a_proxys_error_page() {
    let server = FakeServer::start();
    server.fault(Match::path("poll").skip(1).times(1), Fault::html(502));
    let agent = Agent::builder(&server).without_engine().build();
    let mut running = agent.start();
    running.wait_log("the Server answered 502: Bad Gateway, without the Server", secs(20));
    wait_for_more_polls(&server, 1);
    assert!(!running.log().contains("<html>"), "{}", running.log());
}

#[test]
fn polling_continues_after_a_page_instead_of_json() {
    let server = FakeServer::start();
    server.fault(Match::path("poll").skip(1).times(1), Fault::html(200));
    let agent = Agent::builder(&server).without_engine().build();
    let mut running = agent.start();
    running.wait_log("HTML instead of JSON", secs(20));
    wait_for_more_polls(&server, 1);
    assert!(!running.log().contains("<html>"), "{}", running.log());
}

#[test]
fn an_html_page_does_not_acknowledge_a_heartbeat() {
    let server = FakeServer::start();
    let fault = server.fault(Match::path("heartbeat"), Fault::html(200));
    let agent = Agent::builder(&server).without_engine().build();
    let mut running = agent.start();
    running.wait_log("HTML instead of JSON", secs(20));
    server.wait_until("heartbeats", secs(20), |server| server.fault_hits(fault) >= 2);
    // After an acknowledged heartbeat the agent would have polled before the second heartbeat.
    assert_eq!(server.requests_to("poll").len(), 0);
    assert!(running.is_running());
}

#[test]
fn polling_continues_after_truncated_answers() {
    let server = FakeServer::start();
    let cut = server.fault(Match::path("poll").nth(2), Fault::Truncated);
    let lost = server.fault(Match::path("poll").nth(2), Fault::AnswerLost);
    let agent = Agent::builder(&server).without_engine().build();
    let mut running = agent.start();
    running.wait_log("no usable answer from the Server", secs(20));
    server.wait_until("both", secs(20), |server| server.fault_hits(cut) + server.fault_hits(lost) == 2);
    wait_for_more_polls(&server, 1);
}
