//! What the answers of a hostile Server cost: memory, disk and time are bounded on every call.

use crate::hostile_server::peak_mib;
use crate::support::agent::{Agent, Running};
use crate::support::secs;
use crate::support::server::{FakeServer, Fault, Match, Response, Status, TaskSpec};
use serde_json::json;
use std::fs;
use std::time::{Duration, Instant};

/// A body of nearly this size is read as a whole by the calls that may have large answers.
const LARGE: usize = (8 << 20) - 4096;
/// How much more memory an agent needs at its peak than when it waits, whatever it is sent. With the 7 MiB of a release
/// build the peak is below 40 MB; a debug build waits with twice as much.
const GROWTH_MIB: u64 = 30;

fn agent(server: &FakeServer, capacity: usize) -> Agent {
    Agent::builder(server).with_engine().capacity(capacity).build()
}

fn flood(head: &str, piece: &str, tail: &str) -> Vec<u8> {
    let count = (LARGE - head.len() - tail.len()) / piece.len();
    [head, &piece.repeat(count), tail].concat().into_bytes()
}

/// Bodies that cost much where they are parsed into values.
fn floods() -> Vec<Vec<u8>> {
    let numbered: String = (0..500_000).map(|number| format!("\"k{number:06}\":0,")).collect();
    vec![
        flood(r#"{"x":["#, r#"{"":0},"#, r#"{"":0}]}"#),
        flood(r#"{"x":"#, "[", ""),
        flood("", r#"{"a":"#, ""),
        flood(r#"{"x":""#, "x", "\"}"),
        flood(r#"{"x":""#, "\\u0000", "\"}"),
        flood(r#"{"x":["#, "\"12345678\",", "0]}"),
        flood(r#"{"x":"#, "9", "}"),
        flood(r#"{""#, "\\n", "\":0}"),
        format!("{{{numbered}\"x\":0}}").into_bytes(),
    ]
}

/// Offers, cancellations and lists that fill what the agent reads of them.
fn shaped_floods() -> Vec<Vec<u8>> {
    let offer = |inside: &str| format!(r#"{{"has_task":true,"task":{{"id":"shaped","task_prompt":"p",{inside}"#);
    vec![
        flood(&offer(r#""x":["#), r#"{"":0},"#, "0]}}"),
        flood(&offer(r#""input_files":["#), r#"{"id":"","filename":"","size_bytes":0},"#, "0]}}"),
        // Texts in the place of other types.
        flood("\"", "\x7f", "\""),
        flood(r#"{"has_task":""#, "\x7f", "\"}"),
        flood(r#"{"has_task":true,"task":""#, "\x7f", "\"}"),
        flood(&offer(r#""input_files":""#), "\x7f", "\"}}"),
        flood(&offer(r#""input_files":[""#), "\x7f", "\"]}}"),
        flood(&offer(r#""input_files":[{"id":"f","filename":"n","size_bytes":""#), "\x7f", "\"}]}}"),
        flood(r#"{"has_task":true,"task":{"id":""#, "\\n", "\"}}"),
        flood(r#"{"has_task":true,"task":"#, "[", ""),
        flood(r#"{"should_cancel":true,"cancel_task_id":""#, "\\n", "\"}"),
        flood(r#"{"files":["#, r#"{"id":"1","created_by":"agent"},"#, r#"{"id":"1"}]}"#),
        flood(r#"{"files":[{"id":"1","created_by":""#, "\\n", "\"}]}"),
    ]
}

fn ok(body: Vec<u8>) -> Fault {
    Fault::Answer(Response::new(200, "application/json", body))
}

/// Starts the agent, and returns it with its memory when it has nothing to do.
fn start(agent: &Agent) -> (Running, u64) {
    let mut running = agent.start();
    running.wait_log("tasks are accepted", secs(30));
    let idle = peak_mib(&running);
    (running, idle)
}

fn expect_small(running: &Running, idle: u64) {
    let peak = peak_mib(running);
    assert!(peak < idle + GROWTH_MIB, "{idle} MiB at first, {peak} MiB at the peak");
}

#[test]
fn large_answers_to_polls_and_heartbeats_need_little_memory() {
    let server = FakeServer::start();
    let agent = agent(&server, 8);
    let (mut running, idle) = start(&agent);
    for (number, body) in floods().into_iter().chain(shaped_floods()).enumerate() {
        for call in ["poll", "heartbeat"] {
            // A heartbeat is due at once after one that failed.
            let which = if number % 4 == 0 || call == "poll" { Match::path(call).times(1) } else { continue };
            let fault = server.fault(which, ok(body.clone()));
            server.wait_until("such an answer", secs(60), |server| server.fault_hits(fault) == 1);
        }
        let polls = server.requests_to("poll").len();
        server.wait_until("another poll", secs(60), |server| server.requests_to("poll").len() > polls);
    }
    expect_small(&running, idle);
    assert!(running.is_running());
}

#[test]
fn large_answers_about_tasks_need_little_memory() {
    let server = FakeServer::start();
    let agent = agent(&server, 8);
    let (running, idle) = start(&agent);
    for (number, body) in floods().into_iter().chain(shaped_floods()).enumerate() {
        let script = "for i in 1 2 3; do echo $i > output/$i; done";
        let id = server.submit(TaskSpec::script(script).id(format!("t-{number}-{}", server.task_prefix())));
        for call in ["accept", "download", "list", "upload", "complete"] {
            server.fault(Match::path(call).task(&id).times(1), ok(body.clone()));
        }
    }
    let count = floods().len() + shaped_floods().len();
    // The request budget spreads the calls over three minutes.
    server.wait_until("the ends of all tasks", secs(420), |server| {
        server.tasks().iter().filter(|task| task.status == Status::Completed).count() == count
    });
    expect_small(&running, idle);
}

#[test]
fn an_offer_of_eight_megabytes_needs_little_memory() {
    let server = FakeServer::start();
    let agent = agent(&server, 8);
    let (running, idle) = start(&agent);
    let ids: Vec<String> = (0..6).map(|number| format!("large-{number}-{}", server.task_prefix())).collect();
    for id in &ids {
        let file = server.add_file(id, "run.sh", "wc -c < task.json > output/size; sleep 5");
        let prompt = format!("{}\n\"", "p".repeat(LARGE - 2048));
        let input = json!([{"id": file, "filename": "run.sh", "size_bytes": 40}]);
        server.submit_raw(id, json!({"id": id, "task_prompt": prompt, "input_files": input}));
    }
    for id in &ids {
        server.wait_for(id, Status::Completed, secs(240));
        // The prompt stands in `task.json` twice.
        let size: usize = server.output(id, "output/size").text().trim().parse().expect("a size");
        assert!(size > 2 * (LARGE - 2048), "{size}");
        let record = fs::metadata(agent.task_file(id, "record.json")).expect("a record").len();
        assert!(record < 10_000, "the record of a task that has its workspace has {record} bytes");
    }
    expect_small(&running, idle);
}

#[test]
fn long_ids_of_forty_uploads_are_errors_of_their_calls() {
    let server = FakeServer::start();
    let agent = agent(&server, 8);
    let (running, idle) = start(&agent);
    let long = ok(flood(r#"{"file_id":""#, "x", "\"}"));
    let script = "for i in 1 2 3 4 5; do echo $i > output/$i; done";
    let ids: Vec<String> = (0..8).map(|_| server.submit(TaskSpec::script(script))).collect();
    for (id, number) in ids.iter().flat_map(|id| (1..=5).map(move |number| (id, number))) {
        server.fault(Match::path("upload").task(id).file(&format!("output/{number}")).times(1), long.clone());
    }
    for id in &ids {
        let task = server.wait_for(id, Status::Completed, secs(300));
        assert_eq!(task.output["files"].as_array().map(Vec::len), Some(5), "{}", task.output);
        assert!(fs::metadata(agent.task_file(id, "uploads.jsonl")).expect("uploads").len() < 10_000);
    }
    assert_eq!(server.requests_to("upload").len(), 80);
    expect_small(&running, idle);
}

/// The file has arrived, although the id in the answer can't be used.
#[test]
fn a_file_that_arrived_under_a_long_id_is_found_in_the_list() {
    let server = FakeServer::start();
    let agent = agent(&server, 1);
    let mut running = agent.start();
    server.fault(Match::path("upload").times(1), Fault::AnswerPatched(|body| body["file_id"] = json!("z".repeat(600))));
    let id = server.submit(TaskSpec::script("echo 1 > output/one"));
    server.wait_for(&id, Status::Completed, secs(60));
    running.wait_log("`output/one` had arrived although its answer was lost", secs(20));
    assert_eq!(server.outputs(&id).len(), 1);
}

#[test]
fn an_offer_beyond_the_limits_fails_with_the_reason() {
    let server = FakeServer::start();
    let agent = agent(&server, 1);
    let _running = agent.start();
    let input = |id: &str| json!({"id": id, "filename": "a", "size_bytes": 1});
    let offers = [
        (json!(vec![input("f"); 10_001]), "more than 10000 input files"),
        (json!([input(&"f".repeat(513))]), "a name of 513 bytes"),
    ];
    for (number, (inputs, words)) in offers.into_iter().enumerate() {
        let id = format!("offer-{number}");
        server.submit_raw(&id, json!({"id": id, "task_prompt": "p", "input_files": inputs}));
        let task = server.wait_for(&id, Status::Failed, secs(60));
        assert!(task.error_message.as_deref().is_some_and(|why| why.contains(words)), "{:?}", task.error_message);
    }
}

/// A waiting file could be `sparse`: only its announced size counts.
#[test]
fn a_task_whose_inputs_do_not_fit_on_the_disk_is_not_accepted() {
    let server = FakeServer::start();
    let agent = agent(&server, 2);
    let free = free_bytes(&agent);
    agent.change_config(&format!("[paths]\nmin_free_disk_mb = {}", (free >> 20) - 600));
    let mut running = agent.start();
    let size = 700 << 20;
    let inputs =
        json!([{"id": "f", "filename": "a", "size_bytes": size}, {"id": "g", "filename": "b", "size_bytes": size}]);
    server.submit_raw("too-large", json!({"id": "too-large", "task_prompt": "p", "input_files": inputs}));
    running.wait_log("the offered task `too-large` waits: its input files and texts need 1.47 GB", secs(30));
    let polls = server.requests_to("poll").len();
    server.wait_until("polls", secs(40), |server| server.requests_to("poll").len() > polls + 2);
    assert_eq!(running.log().matches("`too-large` waits").count(), 1);
    assert_eq!(server.requests_to("accept").len(), 0);
    server.cancel("too-large");
    let id = server.submit(TaskSpec::script("echo 1 > output/one"));
    server.wait_for(&id, Status::Completed, secs(60));
}

#[test]
fn a_task_that_no_disk_of_this_size_takes_fails() {
    let server = FakeServer::start();
    let agent = agent(&server, 1);
    let _running = agent.start();
    for (id, size) in [("huge-1", 10_u64.pow(16)), ("huge-2", u64::MAX)] {
        let file = json!({"id": "f", "filename": "a", "size_bytes": size});
        server.submit_raw(id, json!({"id": id, "task_prompt": "p", "input_files": [file.clone(), file]}));
        let task = server.wait_for(id, Status::Failed, secs(60));
        let message = task.error_message.expect("a message");
        assert!(message.contains("more than this machine's disk takes"), "{message}");
    }
    assert_eq!(server.requests_to("download").len(), 0);
}

fn free_bytes(agent: &Agent) -> u64 {
    let output =
        std::process::Command::new("stat").args(["-f", "-c", "%a %S"]).arg(agent.dir()).output().expect("start `stat`");
    let text = String::from_utf8(output.stdout).expect("numbers");
    let numbers: Vec<u64> = text.split_whitespace().map(|number| number.parse().expect("a number")).collect();
    numbers[0] * numbers[1]
}

#[test]
fn an_upload_whose_answer_trickles_frees_its_slot() {
    let server = FakeServer::start();
    let agent = agent(&server, 1);
    let _running = agent.start();
    let slow = server.submit(TaskSpec::script("echo 1 > output/slow"));
    server.fault(Match::path("upload").task(&slow), Fault::DripAnswer { piece: 1, pause: Duration::from_secs(5) });
    let other = server.submit(TaskSpec::script("echo 1 > output/other"));
    server.wait_for(&other, Status::Completed, secs(60));
    // The file had arrived, and the list says so.
    let task = server.wait_for(&slow, Status::Completed, secs(60));
    assert_eq!(task.output["files"], json!(["output/slow"]));
}

#[test]
fn a_pause_that_one_call_asks_for_stops_no_poll() {
    let server = FakeServer::start();
    let agent = agent(&server, 2);
    let mut running = agent.start();
    running.wait_log("tasks are accepted", secs(30));
    let stuck = server.submit(TaskSpec::script("true"));
    server.fault(Match::path("accept").task(&stuck), Fault::status_with_header(503, "Retry-After", "86400"));
    server.wait_until("an accept", secs(30), |server| !server.requests_to("accept").is_empty());
    // The Server, or a person, takes it out of the way.
    server.cancel(&stuck);
    let begun = Instant::now();
    let other = server.submit(TaskSpec::script("echo 1 > output/other"));
    server.wait_for(&other, Status::Completed, secs(45));
    assert!(begun.elapsed() < secs(45));
}

/// After a restart every task is asked for once before a poll, and one that fails is asked for beside the polls.
#[test]
fn a_task_that_can_not_be_reclaimed_keeps_no_cancellation_away() {
    let server = FakeServer::start();
    let agent = agent(&server, 2);
    let mut running = agent.start();
    let ids: Vec<String> = (0..2).map(|_| server.submit(TaskSpec::script("sleep 300"))).collect();
    for id in &ids {
        server.wait_for(id, Status::Running, secs(30));
    }
    running.kill9();
    server.fault(Match::path("accept").task(&ids[0]), Fault::status(500));
    let _again = agent.start();
    server.cancel(&ids[1]);
    server.wait_for(&ids[1], Status::Cancelled, secs(60));
    server.clear_faults();
    server.cancel(&ids[0]);
    server.wait_for(&ids[0], Status::Cancelled, secs(60));
}

/// A list of results that aren't this task's, with the longest ids or with very many.
fn foreign_list(count: usize, id_length: usize) -> Fault {
    let entry = |number| format!(r#"{{"id":"{number:0>id_length$}","created_by":"agent"}}"#);
    let entries: Vec<String> = (0..count).map(entry).collect();
    ok(format!(r#"{{"files":[{}]}}"#, entries.join(",")).into_bytes())
}

#[test]
fn a_list_of_long_ids_does_not_keep_a_result_here() {
    let server = FakeServer::start();
    let agent = agent(&server, 1);
    let _running = agent.start();
    let id = server.submit(TaskSpec::script("echo 1 > output/one"));
    server.fault(Match::path("list").task(&id).times(1), foreign_list(3500, 512));
    // After the failure, the step begins anew with what is written of the list.
    server.fault(Match::path("upload").task(&id).times(1), Fault::status(503));
    let task = server.wait_for(&id, Status::Completed, secs(60));
    assert_eq!(task.output["files"], json!(["output/one"]));
    assert_eq!(server.outputs(&id).len(), 1);
}

#[test]
fn long_lists_of_eight_tasks_need_little_memory() {
    /// How much more memory all the lists take, with what the uploads take beside them.
    const LISTS_MIB: u64 = 12;
    let server = FakeServer::start();
    let agent = agent(&server, 8);
    let (running, idle) = start(&agent);
    let upload = |_| {
        let id = server.submit(TaskSpec::script("echo 1 > output/one"));
        server.fault(Match::path("list").task(&id).times(1), foreign_list(29_000, 7));
        // All tasks have their list at the same time.
        server.fault(Match::path("upload").task(&id), Fault::NeverAnswer)
    };
    let uploads: Vec<_> = (0..8).map(upload).collect();
    server.wait_until("all uploads", secs(40), |server| uploads.iter().all(|upload| server.fault_hits(*upload) > 0));
    let peak = peak_mib(&running);
    assert!(peak < idle + LISTS_MIB, "{idle} MiB at first, {peak} MiB at the peak");
}
