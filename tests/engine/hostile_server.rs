//! The agent doesn't trust the Server: hostile ids, names, texts and answers stay in the task's own folders, reach no
//! command line and break no log line, and the agent continues.

use crate::support::agent::{Agent, Running};
use crate::support::docker;
use crate::support::secs;
use crate::support::server::{Control, FakeServer, Fault, Match, Response, Status, TaskSpec};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;

fn agent(server: &FakeServer) -> Agent {
    Agent::builder(server).with_engine().capacity(4).build()
}

/// Fails the test unless the agent still completes a task.
fn expect_work(server: &FakeServer, running: &mut Running) {
    let id = server.submit(TaskSpec::script("echo fine > output/fine"));
    // The request budget may delay a transfer by up to a minute.
    server.wait_for(&id, Status::Completed, secs(150));
    assert_eq!(server.output(&id, "output/fine").bytes, b"fine\n");
    assert!(running.is_running());
}

/// Waits for this number of further polls.
fn wait_polls(server: &FakeServer, count: usize) {
    let polls = |server: &Control| server.requests_to("poll").len();
    let before = polls(server);
    server.wait_until("polls", secs(40), |server| polls(server) >= before + count);
}

/// Fails the test unless every line starts with a time and contains no control character.
fn expect_plain_lines(log: &str) {
    for line in log.lines() {
        assert!(line.starts_with("20") && line.get(10..11) == Some("T"), "a line without a time: {line:?}");
        let hidden = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        assert!(!line.contains(hidden), "{line:?}");
    }
}

/// The names in a folder.
pub fn names(dir: impl AsRef<std::path::Path>) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).expect("list a folder");
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name")).collect()
}

#[test]
fn hostile_task_ids_stay_in_their_own_folders() {
    let server = FakeServer::start();
    let agent = agent(&server);
    let mut running = agent.start();
    wait_polls(&server, 1);
    let before = names(agent.dir());
    let ids = [
        "../escaped",
        "../../../../tmp/escaped",
        "/tmp/escaped",
        "..",
        "a\0b",
        "-v",
        "--privileged",
        "NUL",
        "com1.txt",
        "t. ",
        "$(touch escaped)`id`;x",
        "line\r\nERROR forged",
        "\u{202e}gnp\u{1b}[2J",
        "ü/名",
        "a,target=/etc",
    ];
    for id in ids {
        server.submit(TaskSpec::script("echo $TASK_ID > output/r").id(id));
    }
    for id in ids {
        let task = server.wait_for(id, Status::Completed, secs(60));
        assert_eq!(task.output["files"], json!(["output/r"]), "{id:?}");
    }
    assert_eq!(names(agent.dir()), before, "no file was made beside the data_dir");
    let keys = names(agent.data_dir().join("tasks"));
    assert_eq!((keys.len(), &names(agent.data_dir().join("workspaces"))), (ids.len(), &keys));
    for key in &keys {
        assert!(key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte)), "{key}");
    }
    expect_plain_lines(&running.log());
    expect_work(&server, &mut running);
}

#[test]
fn a_file_with_a_very_long_name_blocks_no_task() {
    let server = FakeServer::start();
    let agent = agent(&server);
    let mut running = agent.start();
    let name = format!("{}.csv", "测".repeat(171));
    let id = server.submit(TaskSpec::script("cat input/测*.csv > output/r").input(name, "1,2\n"));
    server.wait_for(&id, Status::Completed, secs(60));
    assert_eq!(server.output(&id, "output/r").bytes, b"1,2\n");
    expect_work(&server, &mut running);
}

#[test]
fn an_offer_without_an_id_is_logged_once() {
    let server = FakeServer::start();
    let agent = agent(&server);
    let mut running = agent.start();
    wait_polls(&server, 1);
    let long = format!("../{}", "y".repeat(5_000_000));
    let offers = [
        json!(7),
        json!("task"),
        json!([]),
        json!({"task_prompt": "p"}),
        json!({"id": 5, "task_prompt": "p"}),
        json!({"id": "", "task_prompt": "p"}),
        json!({"id": long, "task_prompt": "p"}),
    ];
    for (number, offer) in offers.into_iter().enumerate() {
        let id = format!("offer-{number}");
        server.submit_raw(&id, offer);
        wait_polls(&server, 2);
        let said = running.log().matches("is not a valid task").count();
        wait_polls(&server, 2);
        assert_eq!(running.log().matches("is not a valid task").count(), said, "it is logged once");
        server.cancel(&id);
    }
    assert_eq!(server.requests_to("accept").len(), 0, "{}", server.report());
    assert!(running.log().contains("a task's id of 5000003 bytes") && running.log().len() < 20_000);
    expect_plain_lines(&running.log());
    expect_work(&server, &mut running);
}

/// Until an agent has accepted it, the Server offers no task behind it.
#[test]
fn an_offer_that_can_not_be_done_fails_with_the_reason() {
    let server = FakeServer::start();
    let agent = agent(&server);
    let mut running = agent.start();
    let file = |size: Value| json!([{"id": "f", "filename": "n", "size_bytes": size}]);
    let (wide, escaped) = ("x".repeat(129), "/ü'".repeat(1000));
    let offers = [
        json!({"id": "a", "task_prompt": {"deep": [[[]]]}}),
        json!({"id": "b", "task_prompt": "p", "input_files": {"a": 1}}),
        json!({"id": "c", "task_prompt": "p", "input_files": [{"id": "f"}]}),
        json!({"id": "d", "task_prompt": "p", "input_files": file(json!(-1))}),
        json!({"id": "e", "task_prompt": "p", "input_files": file(json!("many"))}),
        json!({"id": "f", "task_prompt": "p", "session_id": "s".repeat(513)}),
        json!({"id": "g", "task_prompt": "p".repeat(9 << 20)}),
        json!({"id": wide, "task_prompt": "p"}),
        json!({"id": escaped, "task_prompt": "p"}),
    ];
    for offer in offers {
        let id = offer["id"].as_str().expect("an id").to_owned();
        server.submit_raw(&id, offer);
        let task = server.wait_for(&id, Status::Failed, secs(60));
        let message = task.error_message.expect("a reason");
        assert!(message.contains("the Server's offer is not a valid task: "), "{message}");
        assert_eq!((task.accepted_count, task.completed_count), (1, 1));
    }
    assert!(!running.log().contains("blocks every task"), "{}", running.log());
    expect_plain_lines(&running.log());
    expect_work(&server, &mut running);
}

#[test]
fn invalid_and_oversized_answers_fail_only_their_call() {
    let server = FakeServer::start();
    let agent = agent(&server);
    let mut running = agent.start();
    wait_polls(&server, 1);
    let json = |body: Vec<u8>| Fault::Answer(Response::new(200, "application/json", body));
    let nested = [b"{\"a\":".repeat(100_000), b"1".to_vec(), b"}".repeat(100_000)].concat();
    let long = [b"{\"has_task\":false,\"x\":\"".to_vec(), vec![b'x'; 20 << 20], b"\"}".to_vec()].concat();
    let garbage = [b"".to_vec(), b"null".to_vec(), b"[1]".to_vec(), b"\xff\xfe".to_vec(), nested];
    for body in garbage.into_iter().chain([long.clone()]) {
        let fault = server.fault(Match::path("poll").times(1), json(body));
        server.wait_until("such an answer", secs(40), |server| server.fault_hits(fault) == 1);
        // A successful poll resets the pauses between retries.
        wait_polls(&server, 1);
    }
    let fault = server.fault(Match::path("heartbeat").times(1), json(long));
    server.wait_until("a heartbeat", secs(40), |server| server.fault_hits(fault) == 1);
    assert!(peak_mib(&running) < 40, "the agent buffers a bounded part of an answer");
    expect_plain_lines(&running.log());
    expect_work(&server, &mut running);
}

#[test]
fn hostile_input_names_stay_in_the_input_folder() {
    let server = FakeServer::start();
    let agent = agent(&server);
    let mut running = agent.start();
    wait_polls(&server, 1);
    let before = names(agent.dir());
    let hostile = [
        "../../escaped",
        "/tmp/escaped",
        "",
        ".",
        "..",
        "a\0b",
        "-rf",
        "two\r\nlines",
        "\u{202e}gnp.exe",
        "NUL",
        "con.txt",
        "C:\\x",
        "`id`$(id)",
        "same",
        "SAME",
        "input/../../../x",
    ];
    let long = format!("{}.csv", "l".repeat(508));
    let all = hostile.iter().copied().chain([long.as_str()]);
    let script = "ls input | wc -l > output/count; cat input/* > output/all; cp task.json output/told";
    let spec = all
        .clone()
        .enumerate()
        .fold(TaskSpec::script(script), |spec, (number, name)| spec.input(name, format!("<{number}>")));
    let id = server.submit(spec);
    let task = server.wait_for(&id, Status::Completed, secs(60));
    // `run.sh` is an input, too.
    let count = all.count() + 1;
    assert_eq!(server.output(&id, "output/count").text().trim(), count.to_string());
    let text = server.output(&id, "output/all").text().to_owned();
    assert!((0..count - 1).all(|number| text.contains(&format!("<{number}>"))), "{text}");
    let told: Value = serde_json::from_slice(&server.output(&id, "output/told").bytes).expect("task.json");
    let paths: BTreeSet<&str> =
        told["input_files"].as_array().expect("files").iter().filter_map(|file| file["local_path"].as_str()).collect();
    assert_eq!(paths.len(), count, "each input has its own path");
    assert!(paths.iter().all(|path| path.starts_with("input/") && path.matches('/').count() == 1), "{paths:?}");
    assert_eq!(names(agent.dir()), before);
    assert_eq!(task.output["files"].as_array().map(Vec::len), Some(3));
    expect_plain_lines(&running.log());
    expect_work(&server, &mut running);
}

#[test]
fn hostile_texts_reach_task_json_and_no_command_line() {
    let server = FakeServer::start();
    let agent = agent(&server);
    let mut running = agent.start();
    let hostile = "$(touch /workspace/pwned)`id`'\"\\\n--privileged\r\n\u{1b}[31m\0\u{202e}";
    let prompt = format!("{hostile}{}", "p".repeat(1_000_000));
    let id = "texts";
    // The script is an input file, so it must be on the Server before the offer.
    let spec = TaskSpec::script("cp task.json output/told").id("template");
    server.pause_offering(true);
    let template = server.submit(spec);
    let script = server.files(&template)[0].clone();
    let file = server.add_file(id, "run.sh", script.bytes);
    let offer = json!({
        "id": id, "task_prompt": prompt, "output_prompt": hostile, "session_id": hostile,
        "input_files": [{"id": file, "filename": "run.sh", "mime_type": hostile, "size_bytes": script_len(&server, id)}],
    });
    server.cancel(&template);
    server.submit_raw(id, offer);
    server.pause_offering(false);
    server.wait_for(id, Status::Completed, secs(60));
    let told: Value = serde_json::from_slice(&server.output(id, "output/told").bytes).expect("task.json");
    let texts = ["task_prompt", "output_prompt", "session_id"].map(|key| told[key].as_str().expect("a text"));
    assert_eq!(texts, [prompt.as_str(), hostile, hostile]);
    assert_eq!(told["input_files"][0]["mime_type"], hostile);
    let command = fs::read_to_string(agent.task_file(id, "command.sh")).expect("read the command");
    assert!(!command.contains("pwned") && !agent.workspace(id).join("pwned").exists());
    expect_plain_lines(&running.log());
    expect_work(&server, &mut running);
}

fn script_len(server: &FakeServer, id: &str) -> usize {
    server.files(id)[0].bytes.len()
}

#[test]
fn a_task_with_ten_thousand_inputs_can_be_cancelled() {
    let server = FakeServer::start();
    let agent = agent(&server);
    let mut running = agent.start();
    let spec = (0..9_999).fold(TaskSpec::script("true"), |spec, _| spec.input("same name.csv", "x"));
    let id = server.submit(spec);
    server.wait_until("some downloads", secs(60), |server| server.requests_to("download").len() > 30);
    server.cancel(&id);
    server.wait_for(&id, Status::Cancelled, secs(30));
    assert!(peak_mib(&running) < 64, "the agent keeps few copies of an offer");
    docker::assert_no_containers(&id);
    expect_work(&server, &mut running);
}

/// What was fetched may be a page of a login, so the file is fetched again and again. Its task never runs without it.
#[test]
fn a_task_with_an_input_of_another_size_does_not_run() {
    for announced in [5, 50] {
        let server = FakeServer::start();
        let agent = agent(&server);
        let mut running = agent.start();
        let id = server.submit(TaskSpec::script("touch output/ran").input("a", "0123456789").announced_size(announced));
        running.wait_log(&format!("the announced {announced} bytes"), secs(60));
        // It holds no slot meanwhile.
        let other = server.submit(TaskSpec::script("echo other"));
        assert_eq!(server.wait_for(&other, Status::Completed, secs(60)).stdout(), "other\n");
        assert_eq!(server.task(&id).status, Status::Running);
        assert!(server.requests_to("upload").is_empty());
        docker::assert_no_containers(&id);
        server.cancel(&id);
        server.wait_for(&id, Status::Cancelled, secs(60));
    }
}

/// The agent's peak memory so far, in MiB.
pub fn peak_mib(running: &Running) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", running.pid())).expect("read the process's status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line VmHWM");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of KiB") >> 10
}
