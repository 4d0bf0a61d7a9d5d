//! `discard` asks for confirmation before it discards a result.

use crate::support::agent::Agent;
use crate::support::secs;
use crate::support::server::FakeServer;
use crate::support::terminal::Terminal;
use serde_json::json;

/// An agent with an undelivered result of this service.
fn with_result(server: &FakeServer, service_id: &str) -> Agent {
    let agent = Agent::builder(server).without_engine().build();
    let record = json!({
        "task": {"id": "t-1", "task_prompt": "p"}, "service_id": service_id, "base_url": server.url(),
        "phase": "exited", "offered_at": "2026-01-01T00:00:00Z",
    });
    agent.write("data/tasks/t-1/record.json", record.to_string());
    agent
}

#[test]
fn discard_asks_on_a_terminal_with_no_as_the_default() {
    let server = FakeServer::start();
    let agent = with_result(&server, &server.service().0);
    const QUESTION: &str = "Discard the result of task t-1? The Server gets a report that it failed (yes/no) [no]: ";
    for (answer, code, phase) in [("\n", 1, "exited"), ("maybe\n", 1, "exited"), ("yes\n", 0, "settled")] {
        let (mut person, terminal) = Terminal::open();
        let mut running = agent.invoke(&["discard", "t-1"]).terminal(terminal).start();
        person.answer(QUESTION, answer);
        if answer == "maybe\n" {
            person.answer(&format!("Please answer yes or no.\r\n{QUESTION}"), "n\n");
        }
        assert_eq!(running.wait_exit(secs(20)).code(), Some(code), "{}", person.text());
        assert_eq!(agent.record("t-1")["phase"], phase, "{}", person.text());
    }
}

#[test]
fn discarding_another_registrations_result_makes_no_call() {
    let server = FakeServer::start();
    let agent = with_result(&server, "svc-other");
    let leftovers = ["notes/failure.md", "stdout.copy"].map(|name| agent.write(&format!("data/tasks/t-1/{name}"), "x"));
    let before = server.requests().len();
    let done = agent.run(&["discard", "t-1", "--yes"]);
    done.expect_code(0)
        .expect_stdout("the Server doesn't know that task t-1 failed: the task belongs to another registration");
    assert_eq!(server.requests().len(), before);
    assert_eq!(agent.record("t-1")["phase"], "settled");
    agent.run(&["ledger"]).expect_stdout("discarded by the operator");
    assert!(leftovers.iter().all(|file| !file.exists()), "a settled task needs them no more");
}
