//! What the operator is shown of a task names that task, in every command, and can be pasted into a shell.

use crate::support::agent::Agent;
use crate::support::server::FakeServer;
use serde_json::{Value, json};
use std::process::Command;

/// An agent that keeps an undelivered result of each of these tasks, whose output is its id.
fn keeping(server: &FakeServer, tasks: &[(&str, &str)]) -> Agent {
    let agent = Agent::builder(server).without_engine().build();
    for (key, id) in tasks {
        let record = json!({
            "task": {"id": id, "task_prompt": "p"}, "service_id": "svc-other", "base_url": server.url(),
            "phase": "exited", "offered_at": "2026-01-01T00:00:00Z",
        });
        agent.write(&format!("data/tasks/{key}/record.json"), record.to_string());
        agent.write(&format!("data/tasks/{key}/stdout.log"), format!("output of {id}\n"));
    }
    agent
}

#[test]
fn a_name_that_is_another_tasks_id_is_refused() {
    let server = FakeServer::start();
    let agent = keeping(&server, &[("_a_20b", "a b"), ("__5fa_5f20b", "_a_20b"), ("__5fa__20b", "_a b")]);
    agent.run(&["logs", "a b"]).expect_code(0).expect_stdout("output of a b\n");
    let refused = "'_a_20b' is the name or the id of 2 tasks; give the one that you mean: ";
    for command in [&["logs", "_a_20b"][..], &["discard", "_a_20b", "--yes"]] {
        let done = agent.run(command);
        done.expect_code(1).expect_stderr(refused).expect_stderr("key:_a_20b").expect_stderr("key:__5fa_5f20b");
    }
    agent.run(&["logs", "key:_a_20b"]).expect_code(0).expect_stdout("output of a b\n");
    agent.run(&["logs", "key:__5fa_5f20b"]).expect_code(0).expect_stdout("output of _a_20b\n");
    agent.run(&["logs", "__5fa_5f20b"]).expect_code(0).expect_stdout("output of _a_20b\n");
}

#[test]
fn tasks_with_one_id_are_told_apart() {
    let server = FakeServer::start();
    let agent = keeping(&server, &[("t-1", "t-1"), ("__r2-t-1", "t-1")]);
    agent.write("data/tasks/__r2-t-1/stdout.log", "the second\n");
    agent.run(&["logs", "t-1"]).expect_code(1).expect_stderr("key:__r2-t-1 or key:t-1");
    agent.run(&["logs", "key:t-1"]).expect_code(0).expect_stdout("output of t-1\n");
    agent.run(&["logs", "__r2-t-1"]).expect_code(0).expect_stdout("the second\n");
    agent.run(&["discard", "__r2-t-1", "--yes"]).expect_code(0);
    assert_eq!(agent.record("t-1")["phase"], "exited");
    let listed = agent.run(&["tasks"]);
    listed.expect_code(0).expect_stdout("\nt-1 ").expect_stdout("\n__r2-t-1 ").expect_stdout(" (id 't-1')");
    let line: Value = serde_json::from_str(&agent.run(&["ledger", "--json"]).stdout).expect("one line");
    assert_eq!((&line["task"], &line["key"]), (&json!("t-1"), &json!("__r2-t-1")));
    agent.run(&["ledger", "--task", "key:__r2-t-1"]).expect_code(0).expect_stdout("  __r2-t-1  ");
    assert_eq!(agent.run(&["ledger", "--task", "key:t-1"]).stdout, "");
}

#[test]
fn shown_ids_run_nothing_in_a_shell() {
    let server = FakeServer::start();
    let tasks = [
        ("_--yes", "--yes"),
        ("__24_28touch_20ran_29", "$(touch ran)"),
        ("__27_3btouch_20ran_3b_27", "';touch ran;'"),
        ("__60touch_20ran_60", "`touch ran`"),
        ("_t-9_3a_20settled_2c_209_20files_20sent", "t-9: settled, 9 files sent"),
    ];
    let agent = keeping(&server, &tasks);
    for command in ["status", "tasks"] {
        let shown = agent.run(&[command]).stdout;
        for (key, _) in tasks {
            let is_about = |line: &&str| line.starts_with(&format!("{key} ")) || line.contains(&format!(" {key} "));
            let line = shown.lines().find(is_about);
            let line = line.unwrap_or_else(|| panic!("no line of `{key}` in {shown}"));
            let quoted = line.split_once("(id ").expect("the id").1.rsplit_once(')').expect("its end").0;
            let dir = tempfile::tempdir().expect("make a folder");
            let line = format!(": {key} {quoted}");
            let ran = Command::new("sh").args(["-c", &line]).current_dir(dir.path()).status().expect("run it");
            assert!(ran.success() && !dir.path().join("ran").exists(), "{line}");
        }
        assert!(!shown.contains("Task t-9"), "{shown}");
    }
    agent.run(&["discard", "_--yes", "--yes"]).expect_code(0).expect_stdout("task _--yes failed");
    agent.run(&["ledger"]).expect_code(0).expect_stdout("  _--yes ");
}

#[test]
fn the_begin_of_a_name_is_enough_where_it_is_the_only_one() {
    let server = FakeServer::start();
    let names = ["3ff20e1c-aaaa", "3ff20e1c-bbbb", "3ff2"].map(|name| (name, name));
    let agent = keeping(&server, &names);
    for begin in ["3ff20e1c-b", "key:3ff20e1c-b"] {
        agent.run(&["logs", begin]).expect_code(0).expect_stdout("output of 3ff20e1c-bbbb\n");
    }
    agent.run(&["logs", "3ff2"]).expect_code(0).expect_stdout("output of 3ff2\n");
    agent.run(&["show", "3ff20e1c-a"]).expect_code(0).expect_stdout("Task 3ff20e1c-aaaa\n");
    let candidates = "the names of 2 tasks begin with '3ff20': 3ff20e1c-aaaa, 3ff20e1c-bbbb; give more of it";
    for command in [&["logs", "3ff20"][..], &["show", "3ff20"], &["discard", "3ff20", "--yes"]] {
        agent.run(command).expect_code(1).expect_stderr(candidates);
    }
    agent.run(&["logs", ""]).expect_code(1).expect_stderr("no task '' is kept");
    // A task of another name may begin as one does that is no longer here: its result was discarded without a question.
    let refused = agent.run(&["discard", "3ff20e1c-b", "--yes"]);
    refused.expect_code(1).expect_stderr("no task is named '3ff20e1c-b'; if you mean `3ff20e1c-bbbb`, give the whole");
    agent.run(&["discard", "3ff20e1c-bbbb", "--yes"]).expect_code(0).expect_stdout("task 3ff20e1c-bbbb failed");
    agent.run(&["ledger", "--task", "3ff20"]).expect_code(0).expect_stdout("  3ff20e1c-bbbb  ");
}

#[test]
fn logs_shows_one_stream_or_the_last_lines() {
    let server = FakeServer::start();
    let agent = keeping(&server, &[("t", "t")]);
    agent.write("data/tasks/t/stdout.log", "out 1\nout 2\n");
    agent.write("data/tasks/t/stderr.log", "err 1\nerr 2\n");
    let show = |arguments: &[&str]| {
        let done = agent.run(&[&["logs", "t"], arguments].concat());
        done.expect_code(0);
        (done.stdout, done.stderr)
    };
    let pair = |out: &str, err: &str| (out.to_owned(), err.to_owned());
    assert_eq!(show(&[]), pair("out 1\nout 2\n", "err 1\nerr 2\n"));
    assert_eq!(show(&["--stderr"]), pair("", "err 1\nerr 2\n"));
    assert_eq!(show(&["--stdout", "--tail", "1"]), pair("out 2\n", ""));
    agent.run(&["logs", "t", "--stdout", "--stderr"]).expect_code(2);
}
