//! The ledger lists every transfer to and from this machine, despite crashes and faults of the Server.

use crate::support::agent::Agent;
use crate::support::docker::wait_until;
use crate::support::ledger::{expect_what_left, files, lines, of_kind};
use crate::support::secs;
use crate::support::server::{FakeServer, Fault, Match, Moment, Options, Response, Status, TaskSpec};
use crate::support::tally;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::slice;

/// The values of these keys, line by line.
fn only(lines: &[Value], keys: &[&str]) -> Vec<Value> {
    lines.iter().map(|line| keys.iter().map(|key| line[key].clone()).collect()).collect()
}

#[test]
fn the_ledger_lists_all_transfers_reports_and_left_out_files() {
    let server = FakeServer::start_with(Options { max_upload_bytes: 100_000, ..Options::default() });
    let agent = Agent::builder(&server).with_engine().build();
    let script = "cd /workspace/output
        echo words
        echo trouble >&2
        cat ../input/data.bin > copy
        echo 22 > two
        head -c 200000 /dev/zero > too-large
        ln -s /etc/passwd link
        exit 3";
    let before = Timestamp::now();
    let id = server.submit(TaskSpec::script(script).input("data.bin", vec![7; 5000]));
    let _running = agent.start();
    // The refused file is sent once more, after two minutes.
    server.wait_for(&id, Status::Failed, secs(240));
    tally::wait_phase(&agent, &id, "settled");

    let data_dir = agent.data_dir();
    expect_what_left(&data_dir, &server, &id);
    let facts = ["file", "bytes", "file_id"];
    let (mut came, mut went) = (Vec::new(), Vec::new());
    for file in server.files(&id) {
        let list = if file.created_by == "client" { &mut came } else { &mut went };
        list.push(json!([file.filename, file.bytes.len(), file.id]));
    }
    assert_eq!((came.len(), went.len()), (2, 2));
    assert_eq!(only(&files(&data_dir, &id, "in", "received"), &facts), came);
    assert_eq!(only(&files(&data_dir, &id, "out", "sent"), &facts), went);

    // The bytes of a refused file have left this machine.
    let refused = files(&data_dir, &id, "out", "refused");
    assert_eq!(only(&refused, &["file", "attempt"]), [1, 2].map(|attempt| json!(["output/too-large", attempt])));
    for refused in &refused {
        let bytes = refused["bytes"].as_u64().unwrap();
        assert!((100_000..=200_000).contains(&bytes), "{bytes}");
        assert!(refused["reason"].as_str().unwrap().contains("400"), "{refused}");
    }
    let stayed = files(&data_dir, &id, "out", "left_out");
    assert_eq!(only(&stayed, &["file"]), [json!(["output/link"]), json!(["output/too-large"])]);
    assert_eq!(stayed[0]["reason"], "a symbolic link");

    let [report] = &of_kind(&data_dir, &id, "report")[..] else { panic!("one report") };
    let body = &server.requests_to("complete")[0];
    let facts = ["outcome", "status", "bytes", "stdout_bytes", "stderr_bytes", "error_bytes"];
    assert_eq!(only(slice::from_ref(report), &facts), [json!(["sent", "failed", body.size, 6, 8, 7])]);
    let [end] = &of_kind(&data_dir, &id, "task")[..] else { panic!("one end") };
    let facts = ["status", "exit_code", "files_sent", "files_left_out", "stdout_bytes", "stderr_bytes", "error_bytes"];
    assert_eq!(only(slice::from_ref(end), &facts), [json!(["failed", 3, 2, 2, 6, 8, 7])]);
    assert_eq!(end["duration_secs"], body.body["output"]["duration_secs"]);

    let all = lines(&data_dir);
    assert_eq!(all.last(), Some(end));
    for line in &all {
        assert_eq!((&line["server"], &line["service_id"]), (&json!(server.url()), &json!(server.service().0)));
        let time: Timestamp = line["time"].as_str().unwrap().parse().unwrap();
        assert!((before.as_millisecond()..=Timestamp::now().as_millisecond()).contains(&time.as_millisecond()));
    }
    let ledger = data_dir.join("ledger.jsonl");
    assert_eq!(fs::metadata(&ledger).unwrap().permissions().mode() & 0o7777, 0o600);

    // The command shows the same while the agent runs.
    let shown = agent.run(&["ledger", "--json", "--task", &id]);
    shown.expect_code(0);
    assert_eq!((shown.stdout, shown.stderr), (fs::read_to_string(&ledger).unwrap(), String::new()));
    let table = agent.run(&["ledger"]);
    table.expect_code(0).expect_stdout("`output/link`: a symbolic link\n").expect_stdout("  refused  ");
    table.expect_stdout("end of the task: exit status 3, ").expect_stdout(" s, 2 file(s) sent, 2 left out\n");
}

#[test]
fn the_ledger_hides_an_api_key_that_the_server_repeats() {
    let server = FakeServer::start();
    let (_, key) = server.service();
    let words = json!({"error": "Bad", "message": format!("headers were x-api-key: {key}")});
    server.fault(Match::path("upload"), Fault::Answer(Response::json(400, &words)));
    let agent = Agent::builder(&server).with_engine().build();
    let id = server.submit(TaskSpec::script("echo 1 > output/one"));
    let _running = agent.start();
    server.wait_for(&id, Status::Completed, secs(240));
    tally::wait_phase(&agent, &id, "settled");
    let refused = files(&agent.data_dir(), &id, "out", "refused");
    assert_eq!(refused.len(), 2);
    assert!(refused[0]["reason"].as_str().unwrap().contains("x-api-key: [api_key]"), "{refused:?}");
    expect_what_left(&agent.data_dir(), &server, &id);
}

/// Runs a task with one result under this fault, and returns the ledger's lines about it.
fn with_trouble(which: Match, fault: Fault) -> Vec<Value> {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    server.fault(which, fault);
    let id = server.submit(TaskSpec::script("head -c 300000 /dev/zero > output/zeros"));
    let _running = agent.start();
    server.wait_for(&id, Status::Completed, secs(60));
    tally::wait_phase(&agent, &id, "settled");
    expect_what_left(&agent.data_dir(), &server, &id);
    let mut told = lines(&agent.data_dir());
    told.retain(|line| line["direction"] == "out" || line["kind"] == "task");
    told
}

#[test]
fn the_ledger_lists_each_upload_attempt() {
    let facts = ["kind", "outcome", "attempt", "bytes"];
    let sent = |attempt: u64| json!(["file", "sent", attempt, 300_000]);
    let told = with_trouble(Match::path("upload").nth(1), Fault::status(503));
    assert_eq!(only(&told, &facts)[..2], [json!(["file", "refused", 1, 300_000]), sent(2)]);
    // A part of the file was sent, and the upload failed.
    let told = with_trouble(Match::path("upload").nth(1), Fault::CutBody(1000));
    assert_eq!(only(&told, &facts)[1..2], [sent(2)]);
    assert_eq!((&told[0]["outcome"], &told[0]["attempt"]), (&json!("failed"), &json!(1)));
    assert!((1..=300_000).contains(&told[0]["bytes"].as_u64().unwrap()), "{}", told[0]);
    // The file arrived, and only the answer was lost.
    let told = with_trouble(Match::path("upload").nth(1), Fault::AnswerLost);
    assert_eq!(only(&told, &facts)[..1], [sent(1)]);
    assert_eq!(told[0]["reason"], "it had arrived although its answer was lost");
}

#[test]
fn the_ledger_lists_each_report() {
    let told = with_trouble(Match::path("complete").nth(1), Fault::AnswerLost);
    let facts = ["kind", "outcome", "status"];
    let report = |outcome: &str| json!(["report", outcome, "completed"]);
    let end = json!(["task", null, "completed"]);
    // With the second and the third report the agent finds out whether the first took effect, and with the last, which
    // has nothing but the status, whether it is for what they say that they are refused.
    let refused = report("refused");
    assert_eq!(only(&told[1..], &facts), [report("unknown"), refused.clone(), refused.clone(), refused, end.clone()]);
    assert_eq!(told[5]["reason"], "had ended on the Server already, by a report whose answer was lost");
    let told = with_trouble(Match::path("complete").nth(1), Fault::too_large_for_the_proxy());
    assert_eq!(only(&told[1..], &facts), [report("refused"), report("sent"), end]);
    assert!(told[1]["bytes"].as_u64() > told[2]["bytes"].as_u64(), "{told:?}");
}

#[test]
fn the_ledger_lists_a_failed_download() {
    let server = FakeServer::start();
    server.fault(Match::path("download").file("bad"), Fault::status(404));
    let agent = Agent::builder(&server).with_engine().build();
    let id = server.submit(TaskSpec::script("echo never").input("bad", b"1"));
    let _running = agent.start();
    server.wait_for(&id, Status::Failed, secs(240));
    tally::wait_phase(&agent, &id, "settled");
    let data_dir = agent.data_dir();
    assert_eq!(only(&files(&data_dir, &id, "in", "received"), &["file"]), [json!(["run.sh"])]);
    let refused = files(&data_dir, &id, "in", "refused");
    assert_eq!(only(&refused, &["file", "bytes"]), [json!(["bad", null])]);
    assert!(refused[0]["reason"].as_str().unwrap().contains("404"), "{refused:?}");
    let end = of_kind(&data_dir, &id, "task");
    assert_eq!(only(&end, &["status", "exit_code"]), [json!(["failed", null])]);
}

#[test]
fn the_ledger_is_complete_after_a_cancel_during_delivery() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let stalled = server.fault(Match::path("upload").nth(2), Fault::StallBody(100_000));
    let id = server.submit(TaskSpec::script("for i in 1 2 3; do head -c 30000000 /dev/zero > output/$i; done"));
    let _running = agent.start();
    server.wait_until("the second upload", secs(60), |server| server.fault_hits(stalled) > 0);
    server.cancel(&id);
    server.wait_for(&id, Status::Cancelled, secs(60));
    tally::wait_phase(&agent, &id, "settled");
    let data_dir = agent.data_dir();
    expect_what_left(&data_dir, &server, &id);
    assert_eq!(only(&files(&data_dir, &id, "out", "sent"), &["file"]), [json!(["output/3"])]);
    let [unknown] = &files(&data_dir, &id, "out", "unknown")[..] else { panic!("one file of unknown outcome") };
    let bytes = unknown["bytes"].as_u64().unwrap();
    assert!(unknown["file"] == "output/2" && (100_000..30_000_000).contains(&bytes), "{unknown}");
    let stayed = files(&data_dir, &id, "out", "left_out");
    let expected = ["output/2", "output/1"].map(|name| json!([name, "the task was cancelled"]));
    assert_eq!(only(&stayed, &["file", "reason"]), expected);
}

/// Kills the agent at this moment of the second of two uploads, starts it again, and returns the lines about that
/// file.
fn killed_at(moment: Moment, besides: Option<Fault>) -> Vec<Value> {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    let mut running = agent.start();
    let which = Match::path("upload").nth(2);
    server.fault(which.clone(), Fault::call(moment, running.killer()));
    if let Some(fault) = besides {
        server.fault(which, fault);
    }
    let id = server.submit(tally::waiting_task("echo B > output/b; head -c 200000 /dev/zero > output/a"));
    tally::release(&agent, &id);
    running.wait_exit(secs(30));
    let _running = agent.start();
    tally::wait_done_once(&server, &agent, &id);
    tally::wait_phase(&agent, &id, "settled");
    expect_what_left(&agent.data_dir(), &server, &id);
    let mut told = of_kind(&agent.data_dir(), &id, "file");
    told.retain(|line| line["file"] == "output/a");
    told
}

#[test]
fn an_upload_cut_by_a_kill_is_in_the_ledger_after_a_restart() {
    let facts = ["outcome", "attempt", "bytes"];
    let (lost, sent) = (json!(["unknown", 1, 200_000]), |attempt: u64| json!(["sent", attempt, 200_000]));
    for (moment, besides) in [(Moment::Begun, Fault::CutBody(1000)), (Moment::Arrived, Fault::Reset)] {
        let told = killed_at(moment, Some(besides));
        assert_eq!(only(&told, &facts), [lost.clone(), sent(2)]);
        let times = ["began", "time"].map(|key| told[0][key].as_str().unwrap().parse::<Timestamp>().unwrap());
        assert!(times[0] < times[1], "{}", told[0]);
    }
    let told = killed_at(Moment::Effected, None);
    assert_eq!(only(&told, &facts), [lost, sent(1)]);
}

#[test]
fn a_former_services_unfinished_upload_is_listed_once() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    let mut running = agent.start();
    server.fault(Match::path("upload"), Fault::call(Moment::Effected, running.killer()));
    let id = server.submit(tally::waiting_task("echo A > output/a"));
    tally::release(&agent, &id);
    running.wait_exit(secs(30));
    let (service, key) = server.add_service();
    agent.change_config(&format!("[agent]\nservice_id = '{service}'\napi_key = '{key}'"));
    for _ in 0..2 {
        let mut running = agent.start();
        running.wait_log("tasks are accepted", secs(20));
        assert!(running.terminate(secs(20)).success());
        let told = files(&agent.data_dir(), &id, "out", "unknown");
        let facts = ["file", "bytes", "attempt", "service_id"];
        assert_eq!(only(&told, &facts), [json!(["output/a", 2, 1, server.service().0])]);
    }
}

#[test]
fn a_full_ledger_file_is_numbered_and_all_files_are_shown() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let old = |number: usize| {
        format!(
            "{{\"time\":\"2026-01-01T00:00:00.000Z\",\"task\":\"old\",\"kind\":\"file\",\"direction\":\"out\",\
             \"outcome\":\"sent\",\"file\":\"output/{number:06}\",\"bytes\":1,\"server\":\"http://h\",\"service_id\":\"s\"}}\n"
        )
    };
    let text: String = (0..70_000).map(old).collect();
    assert!(text.len() > 10 << 20, "{}", text.len());
    agent.write("data/ledger.jsonl", &text);
    let id = server.submit(TaskSpec::script("echo 1 > output/one"));
    let _running = agent.start();
    server.wait_for(&id, Status::Completed, secs(60));
    tally::wait_phase(&agent, &id, "settled");
    assert_eq!(fs::read_to_string(agent.path("data/ledger.jsonl.1")).unwrap(), text);
    let young = fs::read_to_string(agent.path("data/ledger.jsonl")).unwrap();
    assert!(young.len() < 10_000 && young.contains("output/one"), "{young}");
    let shown = agent.run(&["ledger", "--json"]);
    assert!(shown.stdout == text + &young, "{} bytes are shown", shown.stdout.len());
    let table = agent.run(&["ledger", "--since", "2026-01-01T00:00:00.001Z"]);
    table.expect_stdout("`output/one`, id ");
    assert!(!table.stdout.contains("old"), "{}", table.stdout);
}

#[test]
fn no_task_is_settled_while_the_ledger_can_not_be_written() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    // A folder in place of the ledger makes writing fail.
    fs::create_dir_all(agent.path("data/ledger.jsonl")).unwrap();
    let id = server.submit(TaskSpec::new("no input").id(format!("{}-1", server.task_prefix())));
    let mut running = agent.start();
    running.wait_log("the ledger can't be written", secs(60));
    assert_eq!((server.task(&id).status, agent.record(&id)["phase"].as_str()), (Status::Running, Some("exited")));
    assert_eq!(server.outputs(&id).len(), 1, "the agent sends no second file while a line is missing");
    fs::remove_dir(agent.path("data/ledger.jsonl")).unwrap();
    server.wait_for(&id, Status::Completed, secs(120));
    wait_until("the task's line", secs(20), || of_kind(&agent.data_dir(), &id, "task").len() == 1);
    expect_what_left(&agent.data_dir(), &server, &id);
}

/// Thousands of empty input files with long names would push the past out of the ledger.
#[test]
fn input_files_after_the_first_hundred_have_one_line() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().config("[server]\nmax_requests_per_minute = 0").build();
    let script = TaskSpec::script("ls input | wc -l > output/count");
    let id = server.submit((0..130).fold(script, |spec, number| spec.input(format!("{number}\u{1}"), "12")));
    let _running = agent.start();
    server.wait_for(&id, Status::Completed, secs(60));
    tally::wait_phase(&agent, &id, "settled");
    assert_eq!(server.output(&id, "output/count").text().trim(), "131");
    let received = files(&agent.data_dir(), &id, "in", "received");
    let (named, unnamed): (Vec<_>, Vec<_>) = received.iter().partition(|line| line["file"].is_string());
    assert_eq!((named.len(), unnamed.len()), (100, 1));
    // `run.sh` is the first input.
    assert_eq!((&unnamed[0]["count"], &unnamed[0]["bytes"]), (&json!(31), &json!(62)));
    agent.run(&["ledger"]).expect_code(0).expect_stdout("31 more file(s)");
    expect_what_left(&agent.data_dir(), &server, &id);
}
