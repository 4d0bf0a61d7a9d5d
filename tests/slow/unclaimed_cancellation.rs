//! A cancellation of a task that this agent doesn't have: another agent of the service may have it, or none.
//!
//! The agent reports such a task as cancelled when the Server has asked for it during one minute.

use crate::support::agent::Agent;
use crate::support::docker::wait_until;
use crate::support::ledger;
use crate::support::secs;
use crate::support::server::{Control, FakeServer, Fault, FaultId, Match, Status, TaskSpec};
use crate::support::tally;
use crate::support::twin::Twin;
use std::time::{Duration, Instant};

/// A task that a twin has accepted and that is then cancelled; the agent learns of it in a poll.
fn cancelled_task_of(twin: &Twin, server: &FakeServer) -> String {
    server.wait_until("a poll", secs(20), |server| !server.requests_to("poll").is_empty());
    let id = server.submit(TaskSpec::new("the twin's"));
    assert_eq!(twin.accept(&id), 200);
    server.cancel(&id);
    id
}

/// The time since the task was cancelled.
fn asked_for(server: &Control, id: &str) -> Duration {
    server.task(id).since(Status::Cancelling).expect("the task was cancelled").elapsed()
}

#[test]
fn an_unclaimed_cancellation_is_reported_after_a_minute() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    let mut running = agent.start();
    let id = cancelled_task_of(&Twin::new(&server), &server);
    let task = server.wait_for(&id, Status::Cancelled, secs(75));
    let asked = task.since(Status::Cancelling).expect("the task was cancelled");
    let took = task.since(Status::Cancelled).expect("the task has ended") - asked;
    assert!((secs(58)..secs(75)).contains(&took), "reported after {took:?}");
    assert_eq!((task.accepted_count, task.completed_count), (1, 1));
    assert_eq!(task.file_ids.len(), 0);
    let reported =
        format!("the task '{id}', which isn't here, is reported as cancelled: after a minute no agent had stopped");
    running.wait_log(&reported, secs(20));
    let told = || ledger::of_kind(&agent.data_dir(), &id, "report");
    wait_until("the report's line in the ledger", secs(20), || !told().is_empty());
    let told = told();
    assert_eq!((told.len(), &told[0]["outcome"], &told[0]["status"]), (1, &"sent".into(), &"cancelled".into()));
}

/// The `accept` that would tell whose the task is may fail for ever, and the Server offers nothing until then.
#[test]
fn a_cancelled_task_whose_accept_fails_for_ever_is_reported() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).capacity(1).build();
    let id = server.submit(tally::waiting_task("true"));
    server.fault(Match::path("accept").times(1), Fault::AnswerLost);
    server.fault(Match::path("accept").task(&id), Fault::status(500));
    let _running = agent.start();
    server.wait_for(&id, Status::Running, secs(30));
    server.cancel(&id);
    let next = server.submit(TaskSpec::script("true"));
    server.wait_for(&id, Status::Cancelled, secs(90));
    server.wait_for(&next, Status::Completed, secs(30));
    assert_eq!((tally::times_begun(&agent, &id), server.task(&id).accepted_count), (0, 1));
}

#[test]
fn a_cancellation_reported_by_a_twin_is_not_reported_again() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    let _running = agent.start();
    let twin = Twin::new(&server);
    let id = cancelled_task_of(&twin, &server);
    server.wait_until("20 s", secs(30), |server| asked_for(server, &id) >= secs(20));
    assert_eq!(server.task(&id).status, Status::Cancelling);
    assert_eq!(twin.complete(&id, "cancelled"), 200);
    server.wait_until("more than a minute", secs(60), |server| asked_for(server, &id) >= secs(68));
    assert_eq!(server.requests_to("complete").len(), 1, "the twin's");
    assert_eq!(server.task(&id).completed_count, 1);
}

#[test]
fn the_minute_starts_again_after_a_failed_poll() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    let _running = agent.start();
    let id = cancelled_task_of(&Twin::new(&server), &server);
    server.wait_until("8 s", secs(20), |server| asked_for(server, &id) >= secs(8));
    let unheard: FaultId = server.fault(Match::path("poll").times(1), Fault::status(500));
    server.wait_until("a poll that fails", secs(20), |server| server.fault_hits(unheard) == 1);
    let failed = Instant::now();
    let task = server.wait_for(&id, Status::Cancelled, secs(80));
    let took = task.since(Status::Cancelled).expect("the task has ended") - failed;
    assert!((secs(58)..secs(70)).contains(&took), "reported {took:?} after the failure");
    assert_eq!(task.completed_count, 1);
}

#[test]
fn the_minute_starts_again_after_a_refused_key() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    let _running = agent.start();
    let id = cancelled_task_of(&Twin::new(&server), &server);
    server.wait_until("8 s", secs(20), |server| asked_for(server, &id) >= secs(8));
    let refused: FaultId = server.fault(Match::path("poll").times(1), Fault::status(401));
    server.wait_until("a poll that is refused", secs(20), |server| server.fault_hits(refused) == 1);
    let failed = Instant::now();
    let task = server.wait_for(&id, Status::Cancelled, secs(120));
    let took = task.since(Status::Cancelled).expect("the task has ended") - failed;
    // One refusal doesn't stop the polls. Without it, the report would have come after 52 s.
    assert!((secs(56)..secs(80)).contains(&took), "reported {took:?} after the refusal");
    assert_eq!(task.completed_count, 1);
}
