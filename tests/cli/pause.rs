//! `pause` and `resume`: no new task is accepted meanwhile, over restarts too.

use crate::starts::agent;
use crate::support::docker::wait_until;
use crate::support::secs;
use crate::support::server::{FakeServer, Fault, Match, Status, TaskSpec};
use serde_json::Value;

#[test]
fn a_paused_agent_takes_no_task_over_restarts() {
    let server = FakeServer::start();
    let agent = agent(&server, "");
    let done = agent.invoke(&["pause", "--for", "2h", "--note", "a new disk"]).env("SUDO_USER", "anna").run();
    done.expect_code(0).expect_stdout("Paused. No agent runs now; one that is started accepts no new task, until 20");
    agent.run(&["status"]).expect_code(3).expect_stdout("\nPaused: by anna since 20").expect_stdout(": a new disk\n");
    let task = server.submit(TaskSpec::new("x"));
    for _ in 0..2 {
        let mut running = agent.start();
        running.wait_log("paused by anna since 20", secs(20));
        running.wait_log("engine, mounts and disk are in order", secs(20));
        let polls = server.requests_to("poll").len();
        server.wait_until("two polls", secs(20), |server| server.requests_to("poll").len() >= polls + 2);
        agent.run(&["status"]).expect_code(0).expect_stdout("\nAccepting tasks: no: paused by anna since 20");
        let beat = server.heartbeats().pop().expect("a heartbeat");
        assert_eq!((&beat.body["status"], &beat.body["available_capacity"]), (&"busy".into(), &0.into()));
        running.terminate(secs(20));
    }
    assert!(server.requests_to("accept").is_empty());
    let mut running = agent.start();
    running.wait_log("paused by anna", secs(20));
    agent.run(&["resume"]).expect_code(0).expect_stdout("The pause is over. The agent accepts tasks again.");
    server.wait_for(&task, Status::Completed, secs(60));
    running.wait_log("resumed", secs(20));
    agent.run(&["resume"]).expect_code(0).expect_stdout("The agent wasn't paused.");
}

#[test]
fn a_pause_ends_by_itself() {
    let server = FakeServer::start();
    let agent = agent(&server, "");
    let over = "{\"since\": \"2026-01-01T00:00:00Z\", \"until\": \"2026-01-01T02:00:00Z\"}";
    agent.write("data/paused", over);
    let task = server.submit(TaskSpec::new("x"));
    let mut running = agent.start();
    server.wait_for(&task, Status::Completed, secs(60));
    running.terminate(secs(20));
    assert!(!running.log().contains("paused"), "{}", running.log());
    assert!(agent.data_dir().join("paused").exists(), "the agent might remove a new one that it hasn't read");
    agent.run(&["resume"]).expect_code(0).expect_stdout("The agent wasn't paused.");
    assert!(!agent.data_dir().join("paused").exists(), "`resume` tidies up");
}

#[test]
fn resume_takes_a_drain_back() {
    let server = FakeServer::start();
    let agent = agent(&server, "");
    let fault = server.fault(Match::path("complete"), Fault::status(503));
    let mut running = agent.start();
    let first = server.submit(TaskSpec::new("x"));
    let phase = |id: &str| agent.record(id)["phase"].clone();
    wait_until("the end of the first task", secs(60), || {
        agent.task_file(&first, "record.json").exists() && phase(&first) == "uploaded"
    });
    let mut drain = agent.invoke(&["stop", "--drain"]).start();
    running.wait_log("draining: no new task is accepted", secs(20));
    agent.run(&["resume"]).expect_code(0).expect_stdout("The drain was taken back. The agent accepts tasks again.");
    running.wait_log("the drain was taken back", secs(20));
    assert_eq!(drain.wait_exit(secs(60)).code(), Some(1), "{}", drain.log());
    assert!(drain.log().contains("the drain was taken back: the agent"), "{}", drain.log());
    server.remove_fault(fault);
    let second = server.submit(TaskSpec::new("x"));
    server.wait_for(&second, Status::Completed, secs(60));
    let status: Value = serde_json::from_str(&agent.run(&["status", "--json"]).stdout).expect("one object");
    assert_eq!(status["paused"], Value::Null);
}

#[test]
fn a_length_that_can_not_be_read_pauses_nothing() {
    let server = FakeServer::start();
    let agent = agent(&server, "");
    agent.run(&["pause", "--for", "2 hours"]).expect_code(2).expect_stderr("give a length such as 30min, 2h, 1d or 1w");
    assert!(!agent.data_dir().exists());
}
