//! One file that fails while all other calls succeed: the agent tries it five times, then reports the task's end
//! without it. A file that the Server refuses for good isn't tried again.
//!
//! The pauses between five tries take more than a minute in all.

use crate::support::agent::Agent;
use crate::support::docker::assert_no_containers;
use crate::support::secs;
use crate::support::server::{FakeServer, Fault, Match, Status, TaskSpec};
use serde_json::json;
use std::fs;

#[test]
fn an_output_is_left_out_after_five_failed_uploads() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let bad = server.fault(Match::path("upload").file("output/b"), Fault::Reset);
    let id = server.submit(TaskSpec::script("for name in a b c; do echo $name > output/$name; done"));
    let mut running = agent.start();
    // Between two tries the task takes no slot.
    server.wait_until("two tries", secs(30), |server| server.fault_hits(bad) >= 2);
    let other = server.submit(TaskSpec::script("echo 1 > output/other"));
    server.wait_for(&other, Status::Completed, secs(30));
    assert_eq!(server.task(&id).status, Status::Running);

    let task = server.wait_for(&id, Status::Completed, secs(150));
    assert_eq!(server.fault_hits(bad), 5);
    assert_eq!(task.output["files"], json!(["output/c", "output/a"]));
    let left_out = &task.output["left_out"][0];
    assert_eq!(left_out["file"], "output/b");
    assert!(left_out["reason"].as_str().is_some_and(|why| why.contains("could not be sent in 5 tries")), "{left_out}");
    running.wait_log("`output/b` is not delivered", secs(5));
    // The operator can fetch the file from the workspace.
    assert_eq!(fs::read(agent.workspace(&id).join("output/b")).expect("read the file in the workspace"), b"b\n");
    assert_no_containers(&id);
}

#[test]
fn five_failed_downloads_of_an_input_fail_the_task() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let bad = server.fault(Match::path("download").file("bad.csv"), Fault::CutAnswer(100));
    let id = server.submit(TaskSpec::script("echo ran").input("good.csv", b"1").input("bad.csv", [b'x'; 1000]));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Failed, secs(90));
    let message = task.error_message.clone().expect("a failed task has a message");
    assert!(message.contains("input file `bad.csv` can't be fetched: 5 tries failed"), "{message}");
    // A try counts only if another call succeeded since; in the first pause, of one second, there may be none.
    assert!((5..=6).contains(&server.fault_hits(bad)), "{} tries", server.fault_hits(bad));
    assert_eq!(task.stdout(), "");
    assert_no_containers(&id);
}

#[test]
fn an_input_missing_on_the_server_fails_the_task_at_once() {
    for status in [403, 404] {
        let server = FakeServer::start();
        let agent = Agent::builder(&server).with_engine().build();
        let bad = server.fault(Match::path("download").file("x"), Fault::status(status));
        let id = server.submit(TaskSpec::script("echo ran").input("x", b"1"));
        let _running = agent.start();
        let message =
            server.wait_for(&id, Status::Failed, secs(30)).error_message.expect("a failed task has a message");
        assert!(message.contains("`x` can't be fetched") && message.contains(&status.to_string()), "{message}");
        assert_eq!(server.fault_hits(bad), 1);
    }
}

#[test]
fn a_refused_output_is_not_sent_again() {
    for status in [400, 403, 404, 413] {
        let server = FakeServer::start();
        let agent = Agent::builder(&server).with_engine().build();
        let bad = server.fault(Match::path("upload").file("output/b"), Fault::status(status));
        let id = server.submit(TaskSpec::script("for name in a b c; do echo $name > output/$name; done; exit 3"));
        let _running = agent.start();
        // The refusal doesn't change the task's outcome.
        let task = server.wait_for(&id, Status::Failed, secs(30));
        assert_eq!((&task.output["exit_code"], server.fault_hits(bad)), (&json!(3), 1));
        assert_eq!(task.output["files"], json!(["output/c", "output/a"]));
        assert_eq!(task.output["left_out"].as_array().map(Vec::len), Some(1));
        let reason = task.output["left_out"][0]["reason"].as_str().unwrap_or_default();
        assert!(reason.contains(&status.to_string()) && reason.contains("服务器故障"), "{reason}");
    }
}
