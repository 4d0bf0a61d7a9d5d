//! Results that wait: a slow upload keeps no report and no cancellation waiting, and an outage that is known makes no work.

use crate::support::agent::{Agent, Running};
use crate::support::docker;
use crate::support::secs;
use crate::support::server::{Control, FakeServer, Fault, Match, Status, TaskSpec};
use crate::support::tally;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The calls about a task that are no accept.
fn calls_about(server: &Control, id: &str) -> usize {
    server.requests().iter().filter(|request| request.about(id) && !request.is("accept")).count()
}

#[test]
fn a_cancellation_waits_for_no_upload_of_another_task() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().capacity(1).build();
    let [slow, other] =
        [1, 2].map(|number| server.submit(TaskSpec::script(format!("echo {number} > output/{number}"))));
    let stalls = Arc::<AtomicBool>::default();
    let has_begun = Arc::clone(&stalls);
    let stalled = Match::path("upload").task(&slow).when(move |_| has_begun.load(Ordering::SeqCst));
    let stalled = server.fault(stalled, Fault::NeverAnswer);
    server.fault(Match::path("upload"), Fault::status(503));
    let _running = agent.start();
    for id in [&slow, &other] {
        server.wait_until("an upload", secs(40), |server| {
            server.requests_to("upload").iter().any(|request| request.about(id))
        });
    }
    stalls.store(true, Ordering::SeqCst);
    server.wait_until("the stalled upload", secs(30), |server| server.fault_hits(stalled) == 1);
    docker::wait_until("both in `status`", secs(20), || {
        let lines = agent.run(&["status"]).stdout;
        let is = |id: &str, what: &str| lines.contains(&format!("Task {id}: {what} for "));
        is(&slow, "sending its results") && is(&other, "waiting to be sent")
    });
    server.cancel(&other);
    server.wait_for(&other, Status::Cancelled, secs(20));
    assert_eq!(server.fault_hits(stalled), 1, "the stalled upload went on meanwhile");
}

/// A task that has ended while no heartbeat is acknowledged, although every other call would succeed.
fn ended_without_heartbeats(server: &FakeServer) -> (Agent, Running, String) {
    let (agent, mut running, id) = tally::begun(server);
    server.fault(Match::path("heartbeat"), Fault::status(503));
    running.wait_log("; trying again", secs(40));
    tally::release(&agent, &id);
    tally::wait_phase(&agent, &id, "exited");
    (agent, running, id)
}

#[test]
fn nothing_is_sent_before_a_heartbeat_is_acknowledged() {
    let server = FakeServer::start();
    let (agent, running, id) = ended_without_heartbeats(&server);
    let before = calls_about(&server, &id);
    docker::wait_until("the reason in `status`", secs(20), || {
        let lines = agent.run(&["status"]).stdout;
        lines.contains(&format!("Task {id}: waiting to be sent for "))
            && lines.contains("acknowledge this agent's heart")
    });
    drop(running);
    let _again = agent.start();
    let beats = server.requests_to("heartbeat").len();
    server.wait_until("heartbeats", secs(30), |server| server.requests_to("heartbeat").len() >= beats + 3);
    assert_eq!(calls_about(&server, &id), before, "{}", server.report());
    let acknowledged = server.heartbeats().len();
    server.clear_faults();
    server.wait_until("a heartbeat", secs(20), |server| server.heartbeats().len() > acknowledged);
    server.wait_for(&id, Status::Completed, secs(60));
    assert_eq!(server.output(&id, "output/result.txt").bytes, b"result\n");
}
