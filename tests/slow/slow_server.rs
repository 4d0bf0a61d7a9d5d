//! A Server that answers slowly, or stops in the middle of a transfer.

use crate::support::agent::Running;
use crate::support::secs;
use crate::support::server::{Control, FakeServer, Fault, Match, Request, Status, TaskSpec};
use crate::support::tally;
use std::time::Duration;

/// The time between the two requests of this call for this file.
fn pause(server: &Control, call: &str, filename: &str) -> Duration {
    let mut requests = server.requests_to(call);
    requests.retain(|request| request.filename.as_deref() == Some(filename));
    let [first, second] = requests.as_slice() else { panic!("two requests: {requests:#?}") };
    second.at - first.at
}

fn expect_heartbeats_apart(server: &Control, limit: Duration) {
    let gap = server.longest_heartbeat_gap();
    println!("longest time between two heartbeats: {gap:.1?}");
    assert!(gap < limit, "the longest time between two heartbeats was {gap:?}");
}

/// The warnings about this file.
fn lines_about(running: &Running, filename: &str) -> Vec<String> {
    let log = running.log();
    log.lines().filter(|line| line.contains(filename) && line.contains(" WARN ")).map(str::to_owned).collect()
}

#[test]
fn heartbeats_stay_within_30_s_when_answers_are_9_s_late() {
    let server = FakeServer::start();
    for call in ["heartbeat", "poll", "accept"] {
        server.fault(Match::path(call), Fault::Late(secs(9)));
    }
    let ids: Vec<String> = (0..4).map(|_| server.submit(TaskSpec::script("echo done > output/r.txt"))).collect();
    let agent = tally::agent(&server).capacity(2).build();
    let _running = agent.start();
    for id in &ids {
        let task = server.wait_for(id, Status::Completed, secs(180));
        assert_eq!((task.accepted_count, task.completed_count), (1, 1));
    }
    expect_heartbeats_apart(&server, secs(30));
    assert!(server.heartbeats().len() >= 4, "the tasks took over a minute: {} heartbeats", server.heartbeats().len());
}

#[test]
fn a_task_completes_when_every_response_is_8_seconds_late() {
    let server = FakeServer::start();
    server.fault(Match::any(), Fault::Delay(secs(8)));
    let agent = tally::agent(&server).build();
    let id = server.submit(tally::waiting_task("cp input/run.sh output/copy"));
    tally::release(&agent, &id);
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Completed, secs(110));
    expect_heartbeats_apart(&server, secs(30));
    assert_eq!((tally::times_begun(&agent, &id), task.accepted_count, task.completed_count), (1, 1, 1));
    assert_eq!(task.retry_count, 0, "the Server requeued the task");
    let script = server.files(&id).remove(0);
    assert_eq!(server.output(&id, "output/copy").bytes, script.bytes);
    // No call was repeated because of the delay.
    for call in ["accept", "download", "list", "upload", "complete"] {
        assert_eq!(server.requests_to(call).len(), 1, "{call}");
    }
    let late = |request: &Request| request.answered.is_some_and(|at| at - request.at < secs(8));
    assert!(!server.requests().iter().any(late), "a response came early");
}

#[test]
fn a_stalled_download_is_retried_after_45_seconds() {
    let server = FakeServer::start();
    let stall = server.fault(Match::path("download").file("large.bin").times(1), Fault::StallAnswer(300_000));
    let agent = tally::agent(&server).build();
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|number| (number % 251) as u8).collect();
    let id = server.submit(tally::waiting_task("cp input/large.bin output/").input("large.bin", bytes.clone()));
    tally::release(&agent, &id);
    let running = agent.start();
    let task = server.wait_for(&id, Status::Completed, secs(110));
    assert_eq!(server.fault_hits(stall), 1);
    assert!(server.output(&id, "output/large.bin").bytes == bytes, "the right bytes");
    let pause = pause(&server, "download", "large.bin");
    assert!((secs(44)..secs(60)).contains(&pause), "tried again after {pause:?}");
    expect_heartbeats_apart(&server, secs(28));
    assert_eq!((tally::times_begun(&agent, &id), task.completed_count), (1, 1));
    let said = lines_about(&running, "large.bin");
    assert_eq!(said.len(), 1, "{}", running.log());
    assert!(said[0].contains("after 300000 bytes: timeout") && said[0].contains("trying again in"), "{}", said[0]);
}

#[test]
fn an_unanswered_upload_is_retried_after_45_seconds() {
    let server = FakeServer::start();
    let fault = server.fault(Match::path("upload").times(1), Fault::NeverAnswer);
    let agent = tally::agent(&server).build();
    let id = server.submit(tally::waiting_task("echo result > output/result"));
    tally::release(&agent, &id);
    let running = agent.start();
    // Another task runs meanwhile.
    server.wait_until("the upload", secs(60), |server| server.fault_hits(fault) == 1);
    let other = server.submit(TaskSpec::new("copy the inputs"));
    server.wait_for(&other, Status::Completed, secs(40));
    assert_eq!(server.task(&id).status, Status::Running);
    let task = server.wait_for(&id, Status::Completed, secs(110));
    let output = server.output(&id, "output/result");
    assert_eq!(output.text(), "result\n");
    assert_eq!(task.file_ids, [output.id]);
    let pause = pause(&server, "upload", "output/result");
    assert!((secs(45)..secs(65)).contains(&pause), "tried again after {pause:?}");
    expect_heartbeats_apart(&server, secs(28));
    assert_eq!((tally::times_begun(&agent, &id), task.completed_count), (1, 1));
    let said = lines_about(&running, "output/result");
    assert_eq!(said.len(), 1, "{}", running.log());
    assert!(said[0].contains("no answer in time") && said[0].contains("going on in "), "{}", said[0]);
}
