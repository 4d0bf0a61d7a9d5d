//! `reload` and SIGHUP: the running agent reads its configuration file again.

use crate::starts::agent;
use crate::support::agent::Agent;
use crate::support::docker::wait_until;
use crate::support::secs;
use crate::support::server::{Control, FakeServer, Status, TaskSpec};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::process::Command;

/// Replaces a part of the configuration file.
fn change(agent: &Agent, from: &str, to: &str) {
    let text = agent.config_text();
    assert!(text.contains(from), "no {from:?} in {text}");
    agent.write("config.toml", text.replacen(from, to, 1));
}

fn capacity(server: &Control) -> Value {
    server.heartbeats().pop().map(|beat| beat.body["capacity"].clone()).unwrap_or_default()
}

#[test]
fn a_reload_changes_what_can_change_and_names_the_rest() {
    let server = FakeServer::start();
    let agent = agent(&server, "");
    let mut running = agent.start();
    server.wait_until("a heartbeat", secs(20), |server| capacity(server) == json!(3));
    change(&agent, "capacity = 3", "capacity = 5\ntimeout_minutes = 7");
    change(&agent, "[server]", "[server]\nmax_requests_per_minute = 99");
    agent.run(&["status"]).expect_stdout("`agent-core reload` applies it");
    let done = agent.run(&["reload", "--log-level", "debug"]);
    done.expect_code(0).expect_stdout(&format!("The agent (pid {}) has read ", running.pid()));
    done.expect_stdout(
        "\nChanged, for tasks that begin from now on: executor.capacity, executor.timeout_minutes.\n\
         Only a restart changes these, which stay as they were: server.max_requests_per_minute.\n\
         The log level is `debug` until the next start.\n",
    );
    server.wait_until("the new capacity in a heartbeat", secs(20), |server| capacity(server) == json!(5));
    assert!(!agent.run(&["status"]).stdout.contains("has changed since"), "the note is gone");
    let tasks: Vec<String> = (0..5).map(|_| server.submit(TaskSpec::new("x"))).collect();
    tasks.iter().for_each(|id| drop(server.wait_for(id, Status::Completed, secs(60))));
    running.wait_log("DEBUG", secs(20));
}

#[test]
fn a_file_with_mistakes_changes_nothing() {
    let server = FakeServer::start();
    let agent = agent(&server, "");
    let mut running = agent.start();
    server.wait_until("a heartbeat", secs(20), |server| capacity(server) == json!(3));
    change(&agent, "capacity = 3", "capacity = \"5\"");
    let refused = agent.run(&["reload"]);
    refused.expect_code(2).expect_stderr("`executor.capacity` must be");
    refused.expect_stderr("Nothing has changed: the running agent goes on as before.");
    running.signal(Signal::SIGHUP);
    running.wait_log("the configuration file can't be used; the agent goes on as before: ", secs(20));
    let task = server.submit(TaskSpec::new("x"));
    server.wait_for(&task, Status::Completed, secs(60));
    assert_eq!(capacity(&server), json!(3));
}

#[test]
fn a_hang_up_signal_has_the_file_read_again() {
    let server = FakeServer::start();
    let agent = agent(&server, "");
    agent.run(&["run-detached"]).expect_code(0);
    change(&agent, "capacity = 3", "capacity = 4");
    let status: Value = serde_json::from_str(&agent.run(&["status", "--json"]).stdout).expect("one object");
    let pid = status["pid"].to_string();
    let sent = Command::new("kill").args(["-HUP", &pid]).status().expect("start `kill`");
    assert!(sent.success(), "kill -HUP {pid}");
    server.wait_until("the new capacity in a heartbeat", secs(20), |server| capacity(server) == json!(4));
    wait_until("the line in the log", secs(20), || agent.agent_log().contains("configuration read again: Changed"));
    agent.run(&["stop"]).expect_code(0);
}

#[test]
fn a_reload_without_an_agent_says_so() {
    let server = FakeServer::start();
    let agent = agent(&server, "");
    agent.run(&["reload"]).expect_code(1).expect_stderr("no agent runs on");
}
