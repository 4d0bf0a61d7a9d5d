//! Something between agent and Server answers in its place: a gateway with its own JSON, a page, a filter. Nothing that
//! it says is the Server's word, and nothing is lost by it.

use crate::support::agent::Agent;
use crate::support::secs;
use crate::support::server::{FakeServer, Fault, Match, Options, Request, Response, Status, TaskSpec};
use crate::support::tally::{self, RESULT, begun};
use serde_json::json;
use std::thread;

fn expect_result_once(server: &FakeServer, agent: &Agent, id: &str) {
    server.wait_for(id, Status::Completed, secs(90));
    let task = tally::wait_done_once(server, agent, id);
    let file = server.output(id, "output/result.txt");
    assert_eq!((&file.bytes[..], &task.file_ids[..]), (&b"result\n"[..], &[file.id.clone()][..]));
}

#[test]
fn a_gateways_json_instead_of_every_answer_loses_no_result() {
    thread::scope(|scope| {
        for status in [400, 403, 404] {
            scope.spawn(move || {
                let server = FakeServer::start();
                let (agent, mut running, id) = begun(&server);
                let fault = server.fault(Match::any(), Fault::gateway(status));
                tally::release(&agent, &id);
                running.wait_log("container exited with 0", secs(20));
                thread::sleep(secs(6));
                server.remove_fault(fault);
                expect_result_once(&server, &agent, &id);
                let log = running.log();
                assert!(!log.contains("is not delivered") && !log.contains("register again"), "{log}");
            });
        }
    });
}

#[test]
fn a_gateways_json_for_files_and_reports_loses_no_result() {
    let server = FakeServer::start();
    let (agent, mut running, id) = begun(&server);
    let faults = ["upload", "complete"].map(|call| server.fault(Match::path(call).times(3), Fault::gateway(404)));
    tally::release(&agent, &id);
    expect_result_once(&server, &agent, &id);
    assert_eq!(faults.map(|fault| server.fault_hits(fault)), [3, 3]);
    running.wait_log("which isn't the form of the Server's answers", secs(20));
}

#[test]
fn what_answers_instead_of_a_download_fails_no_task() {
    let spa = Response::new(200, "text/html", "<html>the page of a single-page application</html>");
    let answers = [Fault::gateway(404), Fault::html(200), Fault::Answer(spa), Fault::html(503), Fault::WrongLength(-1)];
    thread::scope(|scope| {
        for answer in answers {
            scope.spawn(move || {
                let server = FakeServer::start();
                let agent = Agent::builder(&server).with_engine().build();
                let fault = server.fault(Match::path("download").times(4), answer);
                let id = server.submit(TaskSpec::script("cat input/x").input("x", b"content"));
                let _running = agent.start();
                assert_eq!(server.wait_for(&id, Status::Completed, secs(90)).stdout(), "content");
                assert_eq!(server.fault_hits(fault), 4);
            });
        }
    });
}

#[test]
fn an_accept_in_doubt_outlives_what_a_gateway_and_the_server_say() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    let lost = server.fault(Match::path("accept").times(1), Fault::AnswerLost);
    for fault in [Fault::gateway(404), Fault::status(403), Fault::status(404), Fault::gateway(400)] {
        server.fault(Match::path("accept").times(1), fault);
    }
    let id = server.submit(tally::waiting_task(RESULT));
    let _running = agent.start();
    tally::release(&agent, &id);
    expect_result_once(&server, &agent, &id);
    assert_eq!(server.fault_hits(lost), 1);
}

/// A task that is never confirmed must not keep the only slot from others.
#[test]
fn a_task_whose_accept_is_never_confirmed_holds_no_slot_for_ever() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().capacity(1).build();
    let ghost = server.submit(TaskSpec::script("true"));
    let denied = Response::json(200, &json!({"success": false, "error": "Maintenance"}));
    server.fault(Match::path("accept").task(&ghost), Fault::Answer(denied));
    let _running = agent.start();
    server.wait_until("an accept", secs(30), |server| !server.requests_to("accept").is_empty());
    // A person takes it out of the way.
    server.cancel(&ghost);
    let other = server.submit(TaskSpec::script("echo other"));
    assert_eq!(server.wait_for(&other, Status::Completed, secs(90)).stdout(), "other\n");
}

#[test]
fn a_server_that_offers_a_running_task_again_and_again_gets_few_calls() {
    let server = FakeServer::start();
    let (agent, _running, id) = begun(&server);
    let offer = json!({"has_task": true, "task": server.task(&id).offer});
    server.fault(Match::path("poll"), Fault::Answer(Response::json(200, &offer)));
    server.fault(Match::path("accept"), Fault::Answer(Response::json(200, &json!({"success": true, "task_id": id}))));
    let before = server.requests_to("accept").len();
    thread::sleep(secs(8));
    let accepts = server.requests_to("accept").len() - before;
    assert!(accepts <= 2, "{accepts} accepts in 8 s");
    server.clear_faults();
    tally::release(&agent, &id);
    expect_result_once(&server, &agent, &id);
}

#[test]
fn a_zero_byte_in_a_tasks_output_keeps_no_report_here() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let has_zero = |request: &Request| request.body.to_string().contains("\\u0000");
    let refused = server.fault(Match::path("complete").when(has_zero), Fault::status(500));
    let id = server.submit(TaskSpec::script("printf 'a\\0b'; printf 'c\\0d' >&2; exit 3"));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Failed, secs(60));
    assert_eq!((task.stdout(), &task.output["stderr"]), ("a\u{fffd}b", &json!("c\u{fffd}d")));
    assert!(task.error_message.is_some_and(|message| message.contains("c\u{fffd}d")));
    assert_eq!(server.fault_hits(refused), 0);
}

fn has_output(request: &Request) -> bool {
    request.body["output"]["stdout"].is_string()
}

/// The Server's 400 for a report is the same whether the task has ended or the report can't be read.
#[test]
fn a_report_whose_output_the_server_refuses_arrives_without_it() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    server.fault(Match::path("complete").when(has_output), Fault::status(400));
    let id = server.submit(TaskSpec::script("echo refused; echo 1 > output/one"));
    let mut running = agent.start();
    let task = server.wait_for(&id, Status::Completed, secs(150));
    assert_eq!((&task.output["files"], &task.output["stdout"]), (&json!(["output/one"]), &json!(null)));
    assert_eq!(task.file_ids, [server.output(&id, "output/one").id]);
    running.wait_log("the Server took its report only with less in it", secs(20));
}

#[test]
fn a_cancelled_tasks_report_has_no_output_that_could_be_refused() {
    let server = FakeServer::start();
    let (_agent, _running, id) = begun(&server);
    let refused = server.fault(Match::path("complete").when(has_output), Fault::status(500));
    server.cancel(&id);
    server.wait_for(&id, Status::Cancelled, secs(30));
    assert_eq!(server.fault_hits(refused), 0);
}

/// The agent's own record says that nothing of the task was sent yet.
#[test]
fn a_list_that_can_not_be_used_keeps_no_result_here() {
    let server = FakeServer::start();
    let (agent, mut running, id) = begun(&server);
    let odd = json!({"files": [{"id": null, "filename": "x", "size_bytes": -1}]});
    server.fault(Match::path("list"), Fault::Answer(Response::json(200, &odd)));
    tally::release(&agent, &id);
    running.wait_log("list of its files can't be used", secs(240));
    expect_result_once(&server, &agent, &id);
}

/// An empty list makes any file of the same name and size look like one that has just arrived.
#[test]
fn only_a_404_says_that_the_server_has_no_file_of_a_task() {
    thread::scope(|scope| {
        for (status, lists) in [(404, 1), (403, 2), (400, 2)] {
            scope.spawn(move || {
                let server = FakeServer::start();
                let (agent, _running, id) = begun(&server);
                server.fault(Match::path("list").times(1), Fault::status(status));
                tally::release(&agent, &id);
                expect_result_once(&server, &agent, &id);
                assert_eq!(server.requests_to("list").len(), lists, "{status}");
            });
        }
    });
}

#[test]
fn an_early_413_with_a_reset_is_too_large_after_two_tries() {
    let server = FakeServer::start_with(Options::default());
    let agent = Agent::builder(&server).with_engine().build();
    let large = |request: &Request| {
        request
            .headers
            .get("content-length")
            .and_then(|length| length.parse::<u64>().ok())
            .is_some_and(|n| n > 1_000_000)
    };
    let refused = server.fault(Match::path("upload").when(large), Fault::AnswerReset(Response::html(413)));
    let id = server.submit(TaskSpec::script("head -c 30000000 /dev/zero > output/large; echo 1 > output/small"));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Completed, secs(300));
    assert_eq!((&task.output["files"], server.fault_hits(refused)), (&json!(["output/small"]), 2));
    let reason = task.output["left_out"][0]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("413"), "{reason}");
}
