//! The report of a task's end.

use crate::support::agent::Agent;
use crate::support::secs;
use crate::support::server::{Control, FakeServer, Fault, Match, Moment, Options, Request, Status, TaskSpec};
use crate::support::tally;
use crate::support::twin::Twin;
use serde_json::{Value, json};
use std::thread;
use std::time::{Duration, Instant};

/// The output of `seq 1 20000`, which is more than a report contains.
fn long_output() -> String {
    let output: String = (1..=20_000).map(|number| format!("{number}\n")).collect();
    assert!(output.len() > 100_000);
    output
}

fn last_64_kib(text: &str) -> &str {
    &text[text.len() - 64 * 1024..]
}

fn reports(server: &FakeServer) -> Vec<Request> {
    server.requests_to("complete")
}

#[test]
fn the_report_holds_files_output_exit_status_and_duration() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let id = server.submit(TaskSpec::script("echo out; echo err >&2; sleep 1; echo 1 > /workspace/output/x"));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Completed, secs(60));

    let [report] = &reports(&server)[..] else { panic!("not exactly one report") };
    let mut body = report.body.clone();
    let duration = body["output"]["duration_secs"].take().as_f64().unwrap();
    let expected = json!({
        "task_id": id,
        "status": "completed",
        "output": {"files": ["output/x"], "stdout": "out\n", "stderr": "err\n", "exit_code": 0, "duration_secs": null},
        "file_ids": [server.output(&id, "output/x").id],
    });
    assert_eq!(body, expected);
    let whole = task.since(Status::Completed).unwrap() - task.since(Status::Running).unwrap();
    assert!(duration > 0.5 && duration < whole.as_secs_f64(), "{duration} s of {whole:?}");
}

#[test]
fn output_is_reported_when_there_are_no_files() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let id = server.submit(TaskSpec::script("printf 'only wörds, and \\377 which is none\\n'"));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Completed, secs(60));
    assert_eq!((&task.output["files"], task.stdout()), (&json!([]), "only wörds, and \u{fffd} which is none\n"));
    assert_eq!(server.requests_to("upload").len(), 0);
}

#[test]
fn a_task_that_empties_its_workspace_is_completed() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    // The script also removes the folders that the agent made.
    let id = server.submit(TaskSpec::script("rm -r /workspace/*"));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Completed, secs(60));
    let expected = json!({"files": [], "stdout": "", "stderr": "", "exit_code": 0, "file_ids": []});
    let mut output = task.output;
    assert!(output.as_object_mut().unwrap().remove("duration_secs").is_some_and(|secs| secs.is_f64()));
    assert_eq!(output, expected);
}

#[test]
fn the_report_has_the_last_64_kib_of_a_long_output() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let id = server.submit(TaskSpec::script("seq 1 20000; seq 1 20000 >&2"));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Completed, secs(60));
    let whole = long_output();
    assert!(task.stdout() == last_64_kib(&whole), "stdout has {} bytes", task.stdout().len());
    assert!(task.output["stderr"] == last_64_kib(&whole), "stderr differs");
    for log in ["stdout.log", "stderr.log"] {
        assert!(std::fs::read_to_string(agent.task_file(&id, log)).unwrap() == whole, "{log}");
    }
}

#[test]
fn a_report_too_large_for_a_proxy_is_shortened() {
    let options = Options { proxy_body_limit: Some(32 * 1024), ..Options::default() };
    let server = FakeServer::start_with(options);
    let agent = Agent::builder(&server).with_engine().build();
    let id = server.submit(TaskSpec::script("seq 1 20000; echo 1 > /workspace/output/x"));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Completed, secs(60));
    // The files and the exit status are in the shortened report.
    assert_eq!(task.output["files"], json!(["output/x"]));
    assert_eq!(task.file_ids, [server.output(&id, "output/x").id]);
    assert_eq!(task.output["exit_code"], json!(0));
    let statuses: Vec<_> = reports(&server).iter().map(|report| report.status.unwrap()).collect();
    let (last, refused) = statuses.split_last().unwrap();
    assert_eq!(*last, 200);
    assert!(!refused.is_empty() && refused.iter().all(|status| *status == 413), "{statuses:?}");
}

#[test]
fn each_413_is_answered_with_a_smaller_report() {
    let server = FakeServer::start();
    let refusal = server.fault(Match::path("complete").times(2), Fault::status(413));
    let agent = Agent::builder(&server).with_engine().build();
    let id = server.submit(TaskSpec::script("seq 1 20000; ln -s nowhere /workspace/output/link; exit 3"));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Failed, secs(60));
    assert_eq!(server.fault_hits(refusal), 2);
    let sizes: Vec<u64> = reports(&server).iter().map(|report| report.size).collect();
    assert_eq!(sizes.len(), 3, "{sizes:?}");
    assert!(sizes.windows(2).all(|pair| pair[0] > pair[1]), "{sizes:?}");
    // The shortened report still has the error message.
    let message = task.error_message.unwrap();
    assert!(message.ends_with("19999\n20000"), "{message}");
    assert_eq!(task.output["exit_code"], json!(3));
    assert_eq!(task.output["stdout"], Value::Null);
}

/// Two refusals with a refused `accept` between them look like the task's end. Each of them is wrong here: the task is
/// pending, then a twin's, then pending again. If the intake thread accepted it now, no worker would have it.
#[test]
fn a_task_requeued_twice_during_its_report_ends() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    let _running = agent.start();
    let id = server.submit(tally::waiting_task(""));
    let requeue = |control: Control| move |_: &Request| control.time_out(&control.service().0);
    let reports = |number| Match::path("complete").nth(number);
    server.fault(reports(1), Fault::call(Moment::Arrived, requeue(server.control())));
    let (twin, taken) = (Twin::new(&server.control()), id.clone());
    let take = move |_: &Request| assert_eq!(twin.accept(&taken), 200);
    server.fault(Match::path("accept").nth(2), Fault::call(Moment::Arrived, take));
    server.fault(reports(2), Fault::call(Moment::Arrived, requeue(server.control())));
    let (control, refused) = (server.control(), id.clone());
    let wait = move |_: &Request| {
        let deadline = Instant::now() + secs(4);
        while control.task(&refused).status != Status::Running && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
    };
    server.fault(reports(2), Fault::call(Moment::Effected, wait));
    tally::release(&agent, &id);
    tally::wait_done_once(&server, &agent, &id);
    tally::wait_phase(&agent, &id, "settled");
    assert_eq!(server.task(&id).retry_count, 2);
}
