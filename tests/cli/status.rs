//! `status`: its lines (README, "Check status"), and whether the agent runs.

use crate::folder::names_in;
use crate::support::agent::Agent;
use crate::support::docker::wait_until;
use crate::support::secs;
use crate::support::server::FakeServer;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

/// The configuration's lines for this agent, followed by those of the running agent.
fn lines(agent: &Agent, server: &FakeServer, registration: [&str; 2], running: &str) -> String {
    let [registered, service_id] = registration;
    format!(
        "OpenAaaS Agent Status\n\
         ====================\n\
         Config file: {}\n\
         Data directory: {}\n\
         Server URL: {}\n\
         Poll interval: 1 seconds\n\n\
         Registration status: {registered}\n\
         Service ID: {service_id}\n\
         Agent name: test-agent\n\n\
         Executor configuration:\n  \
         Image: lab/executor:7\n  \
         Capacity: 3\n  \
         Timeout: 90 minutes\n\n\
         {running}\n",
        agent.config_path().display(),
        agent.data_dir().display(),
        server.url(),
    )
}

const EXECUTOR: &str = "[executor]\nimage = \"lab/executor:7\"\ncapacity = 3\ntimeout_minutes = 90";

#[test]
fn status_of_a_stopped_agent_has_the_documented_lines() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().config(EXECUTOR).build();
    let status = agent.run(&["status"]);
    status.expect_code(3);
    let (service_id, _) = server.service();
    assert_eq!(status.stdout, lines(&agent, &server, ["Registered", &service_id], "Running: no"));
    assert_eq!(status.stderr, "");
}

#[test]
fn status_of_a_running_agent_shows_its_live_state() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().config(EXECUTOR).build();
    let mut running = agent.start();
    running.wait_log("no new task is accepted", secs(20));
    server.wait_until("two heartbeats", secs(20), |server| server.heartbeats().len() >= 2);
    let status = agent.run(&["status"]);
    status.expect_code(0);
    let (service_id, _) = server.service();
    let told: Value = serde_json::from_slice(&fs::read(agent.data_dir().join("status.json")).unwrap()).unwrap();
    let local = |key: &str| {
        let at: Timestamp = told[key].as_str().unwrap().parse().unwrap();
        at.to_zoned(TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    };
    let why = told["not_accepting"].as_str().unwrap();
    assert!(why.contains("the Docker engine can't be reached"), "{why}");
    assert!(why.contains("asked at `unix:///nonexistent.sock`, which DOCKER_HOST names"), "{why}");
    let uptime = status.stdout.lines().find_map(|line| line.strip_prefix("Uptime: ")).expect("a line about that");
    assert!(uptime.ends_with(" s"), "{uptime}");
    let below = format!(
        "Running: yes, pid {}, since {}\nVersion: {}\nUptime: {uptime}\nServer: reached\nLast heartbeat: {}\nDocker engine: doesn't answer\n\
         Accepting tasks: no: {why}\n\nLoad: 0 of 3 slots, 0 undelivered",
        running.pid(),
        local("started_at"),
        env!("CARGO_PKG_VERSION"),
        local("last_heartbeat_at"),
    );
    assert_eq!(status.stdout, lines(&agent, &server, ["Registered", &service_id], &below));
}

#[test]
fn status_reports_a_revoked_key() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    let mut running = agent.start();
    server.wait_until("a heartbeat", secs(20), |server| !server.heartbeats().is_empty());
    let (service_id, _) = server.service();
    server.revoke_key(&service_id);
    running.wait_log("answered 401", secs(30));
    let mut shown = String::new();
    wait_until("`status` to say so", secs(30), || {
        shown = agent.run(&["status"]).stdout;
        shown.contains("\nServer: unauthorized: the Server answered 401")
            && shown.contains("register again with `agent-core --config")
    });
    assert!(shown.contains("\nLast heartbeat: 20"), "{shown}");
}

#[test]
fn status_shows_a_stopped_agents_last_heartbeat_and_error() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    agent.start().kill9();
    let stale = json!({
        "pid": 1, "started_at": "2026-01-01T00:00:00Z", "last_heartbeat_at": "2026-01-01T00:00:00Z",
        "last_error": {"at": "2026-01-01T00:00:00Z", "message": "no\u{1b} route"}, "not_accepting": "no",
    });
    agent.write("data/status.json", stale.to_string());
    let status = agent.invoke(&["status"]).env("TZ", "UTC").run();
    status.expect_code(3);
    let expected = "Running: no\nLast heartbeat: 2026-01-01T00:00:00+00:00\n\
                    Last error: 2026-01-01T00:00:00+00:00: no\\u{1b} route\n";
    assert!(status.stdout.ends_with(expected), "{}", status.stdout);
}

#[test]
fn status_json_is_complete_despite_damaged_files() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().config(EXECUTOR).build();
    agent.write("data/status.json", "{");
    agent.write("data/tasks/broken/record.json", "[]");
    let status = agent.run(&["status", "--json"]);
    status.expect_code(3);
    let shown: Value = serde_json::from_str(&status.stdout).expect("one JSON object");
    assert_eq!((&shown["running"], &shown["pid"], &shown["accepting"]), (&json!(false), &json!(null), &json!(null)));
    assert_eq!((&shown["server"], &shown["engine"]), (&json!("unknown"), &json!("unknown")));
    assert_eq!((&shown["capacity"], &shown["timeout_minutes"]), (&json!(3), &json!(90)));
    assert_eq!(shown["damaged_records"], json!([agent.data_dir().join("tasks/broken")]));
    agent.run(&["status"]).expect_code(3).expect_stdout("Damaged record: ");
    agent.run(&["tasks"]).expect_code(1).expect_stderr("can't be read");
}

#[test]
fn status_shows_an_unregistered_agent() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().unregistered().config(EXECUTOR).build();
    let status = agent.run(&["status"]);
    status.expect_code(3);
    assert_eq!(status.stdout, lines(&agent, &server, ["Not registered", "-"], "Running: no"));
}

#[test]
fn status_changes_no_file_and_makes_no_call() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server)
        .without_engine()
        .config("[[paths.mounts]]\nhost = \"./share\"\ncontainer = \"/shared\"")
        .build();
    let before = agent.config_text();
    agent.run(&["status"]).expect_code(3);
    assert_eq!(names_in(agent.dir()), ["config.toml"]);
    assert_eq!(agent.config_text(), before);
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn status_does_not_show_the_api_key() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    let status = agent.invoke(&["status"]).env("RUST_LOG", "trace").run();
    let (_, api_key) = server.service();
    assert!(!status.stdout.contains(&api_key) && !status.stderr.contains(&api_key), "{status:?}");
}

/// Also where the agent doesn't notice it: `status` judges by the age of the last heartbeat.
#[test]
fn status_does_not_call_a_silent_server_reached() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    let running = agent.start();
    wait_until("the first heartbeat", secs(20), || agent.run(&["status"]).stdout.contains("\nServer: reached\n"));
    let pid = running.pid().to_string();
    let signal = |name: &str| {
        let sent = Command::new("kill").args([name, &pid]).status().expect("start `kill`");
        assert!(sent.success(), "kill {name} {pid}");
    };
    signal("-STOP");
    let file = agent.data_dir().join("status.json");
    let mut state: Value = serde_json::from_slice(&fs::read(&file).expect("status.json")).expect("JSON");
    state["last_heartbeat_at"] = json!((Timestamp::now() - SignedDuration::from_secs(100)).to_string());
    // A thread of the agent may have been replacing the file when the signal came.
    wait_until("the silence to be shown", secs(20), || {
        fs::write(&file, state.to_string()).expect("write status.json");
        agent.run(&["status"]).stdout.contains("\nServer: trouble: no heartbeat was acknowledged for 1")
    });
    signal("-CONT");
}
