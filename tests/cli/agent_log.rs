//! `agent.log` of a detached agent: the agent rotates it without losing a line.

use crate::support::agent::Agent;
use crate::support::docker::wait_until;
use crate::support::secs;
use crate::support::server::FakeServer;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

/// At this size the agent starts a new file.
const LARGE: usize = 10_000_000;

fn log_file(agent: &Agent, number: u32) -> PathBuf {
    agent.data_dir().join(if number == 0 { "agent.log".to_owned() } else { format!("agent.log.{number}") })
}

/// Numbered lines with a total size of `bytes`.
fn lines(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes);
    for number in 0.. {
        let line = format!("line {number} of an earlier run\n");
        if text.len() + line.len() > bytes {
            break;
        }
        text.push_str(&line);
    }
    let missing = bytes - text.len();
    if missing > 0 {
        text.push_str(&"-".repeat(missing - 1));
        text.push('\n');
    }
    text
}

#[test]
fn a_large_log_is_rotated_and_no_line_is_lost() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    // An earlier agent has made the data folder.
    agent.run(&["run-detached"]).expect_code(0);
    agent.run(&["stop"]).expect_code(0);
    let before = lines(LARGE - 150);
    fs::write(log_file(&agent, 0), &before).expect("write a log");
    for number in 1..=3 {
        fs::write(log_file(&agent, number), format!("older {number}\n")).expect("write an older log");
    }
    agent.run(&["run-detached"]).expect_code(0).expect_stdout("its log is");
    wait_until("the first lines", secs(20), || agent.agent_log().contains("no new task is accepted"));
    let older = |number| fs::read_to_string(log_file(&agent, number)).expect("an older log");
    let (youngest, now) = (older(1), agent.agent_log());
    assert!(youngest.len() <= LARGE && youngest.starts_with(&before), "{} bytes", youngest.len());
    assert_eq!([older(2), older(3)], ["older 1\n", "older 2\n"]);
    assert!(!log_file(&agent, 4).exists());
    let whole = format!("{youngest}{now}");
    let new = whole.strip_prefix(&before).expect("the log starts with the old lines");
    let first = new.lines().position(|line| line.contains(" agent-core 0.")).expect("the line of the start");
    let closed = new.lines().position(|line| line.contains("no new task is accepted")).expect("a later line");
    assert!(first < closed && new.ends_with('\n'), "{new}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let pid = fs::read_to_string(agent.data_dir().join("agent.pid")).expect("the pidfile");
        for stream in [1, 2] {
            let file = fs::read_link(format!("/proc/{}/fd/{stream}", pid.trim())).expect("a stream");
            assert_eq!(file, log_file(&agent, 0), "a panic's message goes to the new file");
        }
        assert_eq!(fs::metadata(log_file(&agent, 0)).expect("the log").permissions().mode() & 0o777, 0o600);
    }
    agent.run(&["stop"]).expect_code(0);
    assert!(agent.agent_log().ends_with("stopped\n"), "{}", agent.agent_log());
}

#[test]
fn a_log_that_can_not_be_rotated_keeps_growing() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    // A folder that isn't empty can't be replaced by a file.
    fs::create_dir_all(log_file(&agent, 3).join("in the way")).expect("make a folder");
    fs::write(log_file(&agent, 2), "older\n").expect("write an older log");
    let before = lines(LARGE - 50);
    fs::write(log_file(&agent, 0), &before).expect("write a log");
    agent.run(&["run-detached"]).expect_code(0);
    wait_until("the first lines", secs(20), || agent.agent_log().contains("no new task is accepted"));
    agent.run(&["stop"]).expect_code(0);
    let log = agent.agent_log();
    let new = log.strip_prefix(&before).expect("the log starts with the old lines");
    assert_eq!(new.matches("can't be rotated and grows on").count(), 1, "{new}");
    assert!(new.ends_with("stopped\n"), "{new}");
}

#[test]
fn json_format_writes_one_object_per_line() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    agent.run(&["--log-format", "json", "run-detached"]).expect_code(0);
    wait_until("the first lines", secs(20), || agent.agent_log().contains("no new task is accepted"));
    agent.run(&["stop"]).expect_code(0);
    let log = agent.agent_log();
    for line in log.lines().filter(|line| !line.starts_with("nohup:")) {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line:?}"));
        assert!(["info", "warn"].contains(&line["level"].as_str().expect("a level")), "{line}");
        let time: jiff::Timestamp = line["time"].as_str().expect("a time").parse().expect("a time with its zone");
        assert!(time <= jiff::Timestamp::now());
        assert!(line["message"].as_str().is_some_and(|message| !message.is_empty()), "{line}");
    }
    agent.run(&["--log-format", "xml", "run-detached"]).expect_code(2).expect_stderr("human, json");
}

#[test]
fn run_detached_reports_the_first_heartbeats_outcome() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    agent.run(&["run-detached"]).expect_code(0).expect_stdout("The Server accepted the agent's heartbeat.");
    assert!(!server.heartbeats().is_empty(), "the heartbeat was sent before the command returned");
    agent.run(&["stop"]).expect_code(0);
    server.stop_listening();
    let away = agent.run(&["run-detached"]);
    away.expect_code(0)
        .expect_stdout("The agent runs in the background")
        .expect_stderr("The Server can't be used yet: ");
    agent.run(&["status"]).expect_code(0);
    agent.run(&["stop"]).expect_code(0);
}

#[test]
fn logs_without_a_task_shows_the_agents_own_log() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    agent.run(&["logs"]).expect_code(1).expect_stderr("agent.log`: `run-detached` makes it");
    agent.write("data/agent.log", "one\ntwo\nthree\n");
    assert_eq!(agent.run(&["logs"]).stdout, "one\ntwo\nthree\n");
    assert_eq!(agent.run(&["logs", "--tail", "2"]).stdout, "two\nthree\n");
    let mut follower = agent.invoke(&["logs", "-f", "--tail", "1"]).start();
    wait_until("the last line", secs(20), || follower.stdout() == "three\n");
    // The agent numbers the file and begins a new one.
    let log = agent.path("data/agent.log");
    fs::rename(&log, agent.path("data/agent.log.1")).expect("rename it");
    agent.write("data/agent.log", "four\n");
    wait_until("the line of the next file", secs(20), || follower.stdout() == "three\nfour\n");
    assert!(follower.is_running());
    follower.kill9();
    agent.run(&["logs", "--stdout"]).expect_code(2);
}
