//! `status`, `tasks`, `logs` and `discard` with running tasks and undelivered results.

use crate::support::agent::{Agent, Running};
use crate::support::docker::{self, container_name};
use crate::support::secs;
use crate::support::server::{FakeServer, Fault, Match, Status, TaskSpec};
use crate::support::tally;
use crate::support::terminal::Terminal;
use serde_json::Value;
use std::time::Instant;

fn status(agent: &Agent, code: i32) -> Value {
    let status = agent.run(&["status", "--json"]);
    status.expect_code(code);
    serde_json::from_str(&status.stdout).expect("one JSON object")
}

fn tasks(agent: &Agent, arguments: &[&str]) -> Vec<Value> {
    let done = agent.run(&[&["tasks", "--json"], arguments].concat());
    done.expect_code(0);
    done.stdout.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

#[test]
fn a_running_task_is_shown_with_its_container_and_its_output() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    let mut running = agent.start();
    let id = server.submit(tally::waiting_task("echo late >&2; exit 3"));
    tally::wait_begun(&agent, &id);
    let shown = status(&agent, 0);
    assert_eq!((&shown["running"], &shown["pid"]), (&true.into(), &running.pid().into()));
    assert_eq!(
        (&shown["server"], &shown["engine"], &shown["accepting"]),
        (&"reached".into(), &"ready".into(), &true.into())
    );
    assert_eq!((&shown["slots_taken"], &shown["undelivered"]), (&1.into(), &0.into()));
    let task = &shown["tasks"][0];
    assert_eq!((&task["id"], &task["phase"]), (&id.as_str().into(), &"prepared".into()));
    assert_eq!(task["container"], container_name(&id));
    assert!(task["since"].is_string() && task["outcome"].is_null(), "{task}");
    let (_, api_key) = server.service();
    assert!(!shown.to_string().contains(&api_key));
    let lines = agent.run(&["status"]);
    lines
        .expect_stdout(&format!("Task {id}: running for "))
        .expect_stdout(&format!(", container {}", container_name(&id)));
    lines.expect_stdout("Load: 1 of 2 slots, 0 undelivered\n").expect_stdout("Docker engine: answers\n");

    agent.run(&["discard", &id, "--yes"]).expect_code(1).expect_stderr("hasn't ended");
    assert_eq!(agent.run(&["logs", &id]).stdout, "begun\n");
    let mut follower = agent.invoke(&["logs", "-f", &id]).start();
    docker::wait_until("the first line", secs(20), || follower.stdout() == "begun\n");
    // Following continues while no agent runs.
    running.kill9();
    tally::release(&agent, &id);
    assert!(follower.wait_exit(secs(20)).success());
    assert_eq!(follower.stdout(), "begun\nreleased\n");
    assert!(follower.log().contains("late\n"), "{}", follower.log());
    assert_eq!(status(&agent, 3)["tasks"][0]["phase"], "prepared");

    let _running = agent.start();
    server.wait_for(&id, Status::Failed, secs(30));
    tally::wait_phase(&agent, &id, "settled");
    let all = tasks(&agent, &[]);
    assert_eq!(all.len(), 1);
    assert_eq!(
        (&all[0]["phase"], &all[0]["outcome"], &all[0]["exit_code"]),
        (&"settled".into(), &"failed".into(), &3.into())
    );
    assert!(all[0]["workspace"].is_string() && all[0]["container"].is_null(), "{}", all[0]);
    assert!(tasks(&agent, &["--undelivered"]).is_empty());
    let logs = agent.run(&["logs", "--follow", &id]);
    logs.expect_code(0);
    assert_eq!((logs.stdout.as_str(), logs.stderr.as_str()), ("begun\nreleased\n", "late\n"));
    agent.run(&["tasks"]).expect_code(0).expect_stdout(&format!("\n{id}  "));
    agent.run(&["logs", "nothing"]).expect_code(1).expect_stderr("no task 'nothing' is kept");
}

/// An agent with a result that the Server refuses.
fn undelivered(server: &FakeServer) -> (Agent, Running, String) {
    let agent = tally::agent(server).build();
    server.fault(Match::path("upload"), Fault::status(503));
    let running = agent.start();
    let id = server.submit(tally::waiting_task("echo secret > output/result"));
    tally::wait_begun(&agent, &id);
    tally::release(&agent, &id);
    tally::wait_phase(&agent, &id, "exited");
    assert_eq!(status(&agent, 0)["undelivered"], 1);
    assert_eq!(tasks(&agent, &["--undelivered"])[0]["id"], id.as_str());
    (agent, running, id)
}

/// The same with a stopped agent and a working Server.
fn left_undelivered(server: &FakeServer) -> (Agent, String) {
    let (agent, mut running, id) = undelivered(server);
    running.terminate(secs(20));
    server.clear_faults();
    (agent, id)
}

/// Checks the Server and the ledger after a discard.
fn assert_discarded(server: &FakeServer, agent: &Agent, id: &str) {
    let task = server.task(id);
    assert_eq!((task.status, task.completed_count), (Status::Failed, 1));
    assert_eq!(task.error_message.as_deref(), Some("the result was discarded by the operator"));
    assert_eq!(task.stdout(), "", "the output is part of the discarded result");
    assert!(server.outputs(id).is_empty());
    assert!(agent.workspace(id).join("output/result").exists());
    let ledger = agent.run(&["ledger", "--task", id]).stdout;
    assert!(ledger.contains("discarded by the operator"), "{ledger}");
    assert_eq!(agent.record(id)["phase"], "settled");
    docker::assert_no_containers(id);
}

fn notes(agent: &Agent) -> usize {
    std::fs::read_dir(agent.data_dir().join("discard")).map_or(0, Iterator::count)
}

#[test]
fn a_running_agent_discards_a_result_on_request() {
    let server = FakeServer::start();
    let (agent, _running, id) = undelivered(&server);
    let discarded = agent.run(&["discard", &id, "--yes"]);
    discarded.expect_code(0).expect_stdout(&format!("the Server knows that task {id} failed"));
    assert_discarded(&server, &agent, &id);
    docker::wait_until("the discard request to be removed", secs(20), || notes(&agent) == 0);
    server.clear_faults();
    let next = server.submit(tally::waiting_task(""));
    tally::release(&agent, &next);
    server.wait_for(&next, Status::Completed, secs(60));
    assert!(server.outputs(&id).is_empty());
}

#[test]
fn a_discard_interrupts_a_running_upload() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    server.fault(Match::path("upload"), Fault::NeverAnswer);
    let _running = agent.start();
    let id = server.submit(tally::waiting_task("echo secret > output/result"));
    tally::wait_begun(&agent, &id);
    tally::release(&agent, &id);
    docker::wait_until("an upload to begin", secs(30), || {
        let uploads = agent.data_dir().join("tasks").join(&id).join("uploads.jsonl");
        std::fs::read_to_string(uploads).is_ok_and(|lines| lines.contains("\"begin\""))
    });
    let begun = Instant::now();
    agent.run(&["discard", &id, "--yes"]).expect_code(0).expect_stdout("the Server knows");
    assert!(begun.elapsed() < secs(30), "the command waited for the upload: {:?}", begun.elapsed());
    let ledger = agent.run(&["ledger", "--json", "--task", &id]).stdout;
    assert!(ledger.contains("the result was discarded before it was known"), "{ledger}");
    assert_eq!(server.task(&id).completed_count, 1);
}

#[test]
fn a_leftover_discard_request_is_served_by_the_next_start() {
    let server = FakeServer::start();
    let (agent, id) = left_undelivered(&server);
    // The agent was killed before it served the request.
    agent.write(&format!("data/discard/{id}"), "");
    agent.write("data/discard/nothing", "");
    let _running = agent.start();
    server.wait_for(&id, Status::Failed, secs(30));
    tally::wait_phase(&agent, &id, "settled");
    assert_discarded(&server, &agent, &id);
    docker::wait_until("the discard requests to be removed", secs(20), || notes(&agent) == 0);
}

#[test]
fn a_result_of_another_registration_can_be_discarded() {
    let server = FakeServer::start();
    let (agent, id) = left_undelivered(&server);
    let (service, key) = server.add_service();
    agent.change_config(&format!("[agent]\nservice_id = '{service}'\napi_key = '{key}'"));
    let _running = agent.start();
    let discarded = agent.run(&["discard", &id, "--yes"]);
    discarded.expect_code(0).expect_stdout("failed: the task belongs to another registration");
    assert_eq!(agent.record(&id)["phase"], "settled");
    assert!(server.outputs(&id).is_empty());
    assert_eq!(notes(&agent), 0);
}

#[test]
fn a_discarded_result_is_reported_as_failed_and_never_sent() {
    let server = FakeServer::start();
    let (agent, id) = left_undelivered(&server);
    let asked = agent.invoke(&["discard", &id]).stdin("").run();
    asked.expect_code(2).expect_stderr("--yes");
    let discarded = agent.run(&["discard", &id, "--yes"]);
    discarded.expect_code(0).expect_stdout(&format!("the Server knows that task {id} failed"));
    // The next start removes the container.
    let mut running = agent.start();
    running.wait_log("tasks are accepted", secs(20));
    assert_discarded(&server, &agent, &id);
    running.terminate(secs(20));
    agent.run(&["discard", &id, "--yes"]).expect_code(1).expect_stderr("is settled");
    // A further start doesn't send the result either.
    let mut running = agent.start();
    running.wait_log("tasks are accepted", secs(20));
    let next = server.submit(tally::waiting_task(""));
    tally::release(&agent, &next);
    server.wait_for(&next, Status::Completed, secs(60));
    assert!(server.outputs(&id).is_empty());
    assert_eq!(server.task(&id).completed_count, 1);
}

#[test]
fn a_result_can_be_discarded_while_the_server_is_down() {
    let server = FakeServer::start();
    let (agent, id) = left_undelivered(&server);
    server.stop_listening();
    let discarded = agent.run(&["discard", &id, "--yes"]);
    discarded.expect_code(0).expect_stdout("the Server doesn't know that task ");
    assert_eq!(agent.record(&id)["phase"], "settled");
    server.resume();
    assert!(tasks(&agent, &["--undelivered"]).is_empty());
}

/// Damages the list of a task's uploads for good.
fn damage_uploads(agent: &Agent, id: &str) {
    agent.write(&format!("data/tasks/{id}/uploads.jsonl"), "{\"event\":\n");
}

#[test]
fn a_result_with_a_damaged_list_of_uploads_is_discarded() {
    let server = FakeServer::start();
    let (agent, id) = left_undelivered(&server);
    damage_uploads(&agent, &id);
    agent.run(&["discard", &id, "--yes"]).expect_code(0);
    let task = server.wait_for(&id, Status::Failed, secs(20));
    assert_eq!(task.error_message.as_deref(), Some("the result was discarded by the operator"));
    agent.run(&["ledger"]).expect_stdout("its uploads.jsonl can't be read");
}

#[test]
fn a_task_with_a_damaged_list_of_uploads_is_cancelled() {
    let server = FakeServer::start();
    let (agent, id) = left_undelivered(&server);
    damage_uploads(&agent, &id);
    server.clear_faults();
    let mut running = agent.start();
    running.wait_log("uploads.jsonl", secs(20));
    server.cancel(&id);
    server.wait_for(&id, Status::Cancelled, secs(20));
    tally::wait_phase(&agent, &id, "settled");
}

#[test]
fn following_logs_ends_when_no_agent_runs() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    let mut running = agent.start();
    let id = server.submit(tally::waiting_task(""));
    tally::wait_begun(&agent, &id);
    running.kill9();
    docker::docker(&["rm", "--force", &container_name(&id)]);
    let logs = agent.run(&["logs", "--follow", &id]);
    logs.expect_code(0).expect_stderr("no agent is running that would continue the task");
    assert_eq!(logs.stdout, "begun\n", "the stored output is shown");
}

#[test]
fn the_reason_for_a_waiting_result_is_shown() {
    let server = FakeServer::start();
    let (agent, _running, id) = undelivered(&server);
    docker::wait_until("the reason in `status`", secs(20), || {
        let lines = agent.run(&["status"]).stdout;
        lines.contains(&format!("Task {id}: waiting to be sent for ")) && lines.contains("; held up: ")
    });
    let held_up = tasks(&agent, &["--undelivered"])[0]["held_up_by"].clone();
    assert!(held_up.as_str().is_some_and(|why| why.contains("503")), "{held_up}");
    assert_eq!(status(&agent, 0)["tasks"][0]["held_up_by"], held_up);
}

#[test]
fn a_terminal_gets_a_tasks_output_with_escapes_unless_raw() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let mut running = agent.start();
    let print = "printf 'a\\033]0;t\\007\\302\\2332J\\n'; printf 'b\\033[2J\\n' >&2";
    let live = server.submit(TaskSpec::script(format!("{print}; sleep 300")));
    let done = server.submit(TaskSpec::script(print));
    server.wait_for(&done, Status::Completed, secs(60));
    docker::wait_until("the output of the other", secs(30), || agent.run(&["logs", &live]).stdout.contains('a'));
    let at_terminal = |arguments: &[&str]| {
        let (terminal, program) = Terminal::open();
        agent.invoke(arguments).terminal(program).run();
        terminal.whole_text()
    };
    let raw = "a\u{1b}]0;t\u{7}\u{9b}2J\n";
    for id in [&live, &done] {
        let shown = at_terminal(&["logs", id]);
        assert!(shown.contains("a\\u{1b}]0;t\\u{7}\\u{9b}2J\r\n") && !shown.contains('\u{1b}'), "{shown:?}");
        assert!(at_terminal(&["logs", "--raw", id]).contains(raw.trim_end()));
        assert_eq!(agent.run(&["logs", id]).stdout, raw, "a pipe gets it as it is");
    }
    server.cancel(&live);
    server.wait_for(&live, Status::Cancelled, secs(30));
    running.terminate(secs(20));
    let shown = at_terminal(&["try", "--replay", &done]);
    assert!(!shown.replace("\u{1b}[K", "").contains('\u{1b}'), "{shown:?}");
}
