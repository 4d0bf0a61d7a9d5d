//! Files that fail while all other calls succeed: nothing is given up for what may be over soon, and what the Server
//! refuses in its own words is decided within minutes.

use crate::support::agent::Agent;
use crate::support::docker::{assert_no_containers, wait_until};
use crate::support::secs;
use crate::support::server::{FakeServer, Fault, Match, Request, Status, TaskSpec};
use serde_json::json;
use std::fs;
use std::thread;

#[test]
fn an_output_that_fails_six_times_arrives_when_the_server_takes_it() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let bad = server.fault(Match::path("upload").file("output/b").times(6), Fault::Reset);
    let id = server.submit(TaskSpec::script("for name in a b c; do echo $name > output/$name; done"));
    let running = agent.start();
    // Between two tries the task takes no slot.
    server.wait_until("two tries", secs(30), |server| server.fault_hits(bad) >= 2);
    let other = server.submit(TaskSpec::script("echo 1 > output/other"));
    server.wait_for(&other, Status::Completed, secs(30));
    assert_eq!(server.task(&id).status, Status::Running);

    let task = server.wait_for(&id, Status::Completed, secs(300));
    assert_eq!((&task.output["files"], server.fault_hits(bad)), (&json!(["output/c", "output/b", "output/a"]), 6));
    assert_eq!(server.outputs(&id).len(), 3);
    assert!(!running.log().contains("is not delivered"), "{}", running.log());
    assert_no_containers(&id);
}

#[test]
fn an_input_that_fails_for_a_minute_fails_no_task() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let bad = server.fault(Match::path("download").file("bad.csv").times(7), Fault::CutAnswer(100));
    let id = server.submit(TaskSpec::script("echo ran").input("good.csv", b"1").input("bad.csv", [b'x'; 1000]));
    let _running = agent.start();
    assert_eq!(server.wait_for(&id, Status::Completed, secs(240)).stdout(), "ran\n");
    assert_eq!(server.fault_hits(bad), 7);
}

/// Only uploads fail, as on a full disk of the Server: what waits arrives, and no other task is taken meanwhile.
#[test]
fn no_task_is_accepted_while_no_result_can_be_sent_and_none_is_lost() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().capacity(2).build();
    let full = server.fault(Match::path("upload"), Fault::status(500));
    let [id, next] = ["one", "next"].map(|name| server.submit(TaskSpec::script(format!("echo 1 > output/{name}"))));
    let mut running = agent.start();
    running.wait_log("no new task is accepted: no result can be sent: the Server answered 500", secs(90));
    wait_until("`status` to say so", secs(20), || {
        agent.run(&["status"]).stdout.contains("Accepting tasks: no: no result can be sent")
    });
    let other = server.submit(TaskSpec::script("echo 2 > output/two"));
    thread::sleep(secs(60));
    assert_eq!((server.task(&other).status, server.task(&id).status), (Status::Pending, Status::Running));
    assert!(server.fault_hits(full) >= 5, "{} uploads", server.fault_hits(full));
    server.remove_fault(full);
    for (id, name) in [(&id, "output/one"), (&next, "output/next"), (&other, "output/two")] {
        let task = server.wait_for(id, Status::Completed, secs(120));
        assert_eq!(task.output["files"], json!([name]));
    }
}

/// Only downloads fail: a task without input files needs none.
#[test]
fn a_task_without_inputs_runs_while_no_input_can_be_fetched() {
    let server = FakeServer::start();
    let program =
        "[executor]\nexecutor_type = 'custom'\ncustom_entrypoint = ['/bin/sh', '-c', 'cat input/*; echo ran']";
    let agent = Agent::builder(&server).with_engine().capacity(4).config(program).build();
    let broken = server.fault(Match::path("download"), Fault::html(502));
    let with_input = || TaskSpec::new("with an input file").input("x", b"content, ");
    let waiting = [(); 2].map(|()| server.submit(with_input()));
    let mut running = agent.start();
    running.wait_log("no new task with input files is accepted: no input file can be fetched: ", secs(90));
    let other = server.submit(TaskSpec::new("without one"));
    assert_eq!(server.wait_for(&other, Status::Completed, secs(60)).stdout(), "ran\n");
    let late = server.submit(with_input());
    wait_until("`status` to say so", secs(20), || {
        agent
            .run(&["status"])
            .stdout
            .contains("Accepting tasks: no: none with input files: no input file can be fetched")
    });
    thread::sleep(secs(10));
    assert_eq!(server.task(&late).status, Status::Pending);
    server.remove_fault(broken);
    for id in waiting.iter().chain([&late]) {
        assert_eq!(server.wait_for(id, Status::Completed, secs(120)).stdout(), "content, ran\n");
    }
}

#[test]
fn an_input_missing_on_the_server_fails_the_task_within_minutes() {
    thread::scope(|scope| {
        for status in [403, 404] {
            scope.spawn(move || {
                let server = FakeServer::start();
                let agent = Agent::builder(&server).with_engine().capacity(1).build();
                let bad = server.fault(Match::path("download").file("x"), Fault::status(status));
                let id = server.submit(TaskSpec::script("echo ran").input("x", b"1"));
                let _running = agent.start();
                server.wait_until("a try", secs(30), |server| server.fault_hits(bad) == 1);
                // It takes no slot meanwhile.
                let other = server.submit(TaskSpec::script("echo other"));
                server.wait_for(&other, Status::Completed, secs(60));
                let task = server.wait_for(&id, Status::Failed, secs(240));
                let message = task.error_message.expect("a failed task has a message");
                assert!(message.contains("`x` can't be fetched") && message.contains(&status.to_string()), "{message}");
                assert_eq!(server.fault_hits(bad), 2);
            });
        }
    });
}

#[test]
fn a_refused_output_is_sent_once_more_after_two_minutes() {
    thread::scope(|scope| {
        for status in [400, 403, 404, 413] {
            scope.spawn(move || {
                let server = FakeServer::start();
                let agent = Agent::builder(&server).with_engine().build();
                let bad = server.fault(Match::path("upload").file("output/b"), Fault::status(status));
                let script = "for name in a b c; do echo $name > output/$name; done; exit 3";
                let id = server.submit(TaskSpec::script(script));
                let mut running = agent.start();
                // The others don't wait for it, and the refusal doesn't change the task's outcome.
                server.wait_until("the other files", secs(60), |server| server.outputs(&id).len() == 2);
                let task = server.wait_for(&id, Status::Failed, secs(240));
                assert_eq!((&task.output["exit_code"], server.fault_hits(bad)), (&json!(3), 2));
                assert_eq!(task.output["files"], json!(["output/c", "output/a"]));
                assert_eq!(task.output["left_out"].as_array().map(Vec::len), Some(1));
                let reason = task.output["left_out"][0]["reason"].as_str().unwrap_or_default();
                assert!(reason.contains(&status.to_string()) && reason.contains("服务器故障"), "{reason}");
                running.wait_log("`output/b` is not delivered", secs(20));
                // The operator can fetch the file from the workspace.
                let kept = fs::read(agent.workspace(&id).join("output/b"));
                assert_eq!(kept.expect("read the file in the workspace"), b"b\n");
            });
        }
    });
}

/// A filter before the Server that doesn't like what the task has printed.
#[test]
fn a_report_that_a_filter_refuses_for_long_arrives_with_less_in_it() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let has_output = |request: &Request| request.body["output"]["stdout"].is_string();
    server.fault(Match::path("complete").when(has_output), Fault::html(403));
    let id = server.submit(TaskSpec::script("echo \"' OR 1=1 --\"; echo 1 > output/one"));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Completed, secs(300));
    assert_eq!(task.file_ids, [server.output(&id, "output/one").id]);
    let tries = server.requests_to("complete").len();
    assert!((4..=12).contains(&tries), "{tries} reports");
}
