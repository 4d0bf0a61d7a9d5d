//! Polls: their interval and their body.

use crate::support::agent::Agent;
use crate::support::secs;
use crate::support::server::{EmptyPoll, FakeServer, Options, Request};
use serde_json::json;
use std::time::Duration;

/// At least `count` polls after the engine's state was known; the poll at that moment is out of turn.
fn regular_polls(server: &FakeServer, count: usize) -> Vec<Request> {
    let mut polls = Vec::new();
    server.wait_until("polls", secs(30), |server| {
        let beats = server.heartbeats();
        polls = server.requests_to("poll");
        polls.retain(|poll| beats.get(1).is_some_and(|beat| poll.at > beat.at) && poll.answered.is_some());
        polls.len() >= count
    });
    polls
}

fn assert_interval(polls: &[Request], interval: Duration) {
    let gaps: Vec<Duration> = polls.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    let shortest = *gaps.iter().min().expect("two polls");
    assert!(shortest >= interval - Duration::from_millis(20), "the interval is {interval:?}: {gaps:?}");
    // On a busy machine any of them may be late.
    assert!(shortest < interval + Duration::from_millis(1800), "the interval is {interval:?}: {gaps:?}");
}

#[test]
fn polls_keep_an_interval_of_one_second() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    let _running = agent.start();
    assert_interval(&regular_polls(&server, 4), secs(1));
}

#[test]
fn polls_keep_an_interval_of_three_seconds() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().config("[server]\npoll_interval_secs = 3").build();
    let _running = agent.start();
    assert_interval(&regular_polls(&server, 2), secs(3));
}

#[test]
fn polls_report_the_load() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    let _running = agent.start();
    for poll in regular_polls(&server, 1) {
        assert_eq!(poll.body, json!({"current_load": 0, "available_capacity": 0}));
    }
}

#[test]
fn a_poll_answered_with_204_means_no_task() {
    let server = FakeServer::start_with(Options { empty_poll: EmptyPoll::NoContent, ..Options::default() });
    let agent = Agent::builder(&server).without_engine().build();
    let running = agent.start();
    let polls = regular_polls(&server, 3);
    assert!(polls.iter().all(|poll| poll.status == Some(204)), "{polls:?}");
    assert_interval(&polls, secs(1));
    assert!(!running.log().contains("poll:"), "{}", running.log());
}
