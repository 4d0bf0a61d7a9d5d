//! The data_dir of an agent that has run already isn't there, as with a disk that isn't mounted.

use crate::support::agent::{Agent, Finished};
use crate::support::secs;
use crate::support::server::FakeServer;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

/// Starts the agent and ends it.
fn run_once(agent: &Agent, server: &FakeServer) {
    let before = server.heartbeats().len();
    let mut running = agent.start();
    server.wait_until("a heartbeat", secs(20), |server| server.heartbeats().len() > before);
    assert!(running.terminate(secs(20)).success(), "{}", running.log());
}

/// Every command that would make a data_dir refuses, and returns what `run` says.
fn expect_refusals(agent: &Agent, why: &str) -> String {
    let all = |done: &Finished| format!("{}{}", done.stdout, done.stderr);
    for arguments in [&["run-detached"][..], &["stop", "--abort"], &["try", "--prompt", "p"], &["check"], &["run"]] {
        let done = agent.run(arguments);
        done.expect_code(1);
        assert!(all(&done).contains(why) && all(&done).contains("mount the disk"), "{arguments:?}: {}", all(&done));
    }
    for arguments in [&["tasks"][..], &["ledger"], &["logs", "t1"], &["discard", "t1"]] {
        agent.run(arguments).expect_code(1).expect_stderr(why);
    }
    agent.run(&["run"]).stderr
}

#[test]
fn an_unmounted_data_dir_is_not_made_anew() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    run_once(&agent, &server);
    let id = fs::read(agent.data_dir().join("instance_id")).unwrap();
    fs::rename(agent.data_dir(), agent.path("away")).unwrap();
    let heartbeats = server.heartbeats().len();
    expect_refusals(&agent, "which this agent has used, isn't there");
    agent.run(&["status"]).expect_code(3).expect_stderr("which this agent has used, isn't there");
    assert!(!agent.data_dir().exists());
    // The place at which the disk is mounted.
    fs::create_dir(agent.data_dir()).unwrap();
    let said = expect_refusals(&agent, "which this agent has used, is empty");
    assert_eq!(fs::read_dir(agent.data_dir()).unwrap().count(), 0);
    assert_eq!(server.heartbeats().len(), heartbeats);
    // The disk is back.
    fs::remove_dir(agent.data_dir()).unwrap();
    fs::rename(agent.path("away"), agent.data_dir()).unwrap();
    run_once(&agent, &server);
    assert_eq!(fs::read(agent.data_dir().join("instance_id")).unwrap(), id);
    // A person begins with an empty one.
    fs::remove_dir_all(agent.data_dir()).unwrap();
    let (_, command) = said.split_once("of the old one, run `").expect("a command");
    let (command, _) = command.split_once('`').expect("the command's end");
    assert!(Command::new("sh").args(["-c", command]).status().unwrap().success());
    run_once(&agent, &server);
    assert_ne!(fs::read(agent.data_dir().join("instance_id")).unwrap(), id);
}

#[test]
fn a_first_start_and_a_moved_data_dir_need_no_question() {
    let server = FakeServer::start();
    server.add_token("rt_1");
    server.add_token("rt_2");
    let agent = Agent::builder(&server).without_engine().unregistered().build();
    agent.run(&["register", "--token", "rt_1"]).expect_code(0);
    run_once(&agent, &server);
    // Moved.
    fs::rename(agent.data_dir(), agent.path("moved")).unwrap();
    agent.change_config("[paths]\ndata_dir = './moved'");
    run_once(&agent, &server);
    // Registered for another service, without the work of the earlier one.
    fs::remove_dir_all(agent.path("moved")).unwrap();
    agent.run(&["run"]).expect_code(1).expect_stderr("isn't there");
    agent.run(&["register", "--replace", "--token", "rt_2"]).expect_code(0);
    run_once(&agent, &server);
    // A new configuration with the old registration.
    let configured = agent.config_text();
    fs::remove_dir_all(agent.path("moved")).unwrap();
    agent.run(&["unregister", "--force"]).expect_code(0);
    agent.write("config.toml", configured);
    run_once(&agent, &server);
}

#[test]
fn a_folder_of_the_data_dir_on_an_unmounted_disk_is_named() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    run_once(&agent, &server);
    for name in ["workspaces", "tasks"] {
        let place = agent.data_dir().join(name);
        let _ = fs::remove_dir_all(&place);
        symlink("/nonexistent/disk", &place).unwrap();
        expect_refusals(&agent, &format!("`{name}` in it leads to a place that isn't there"));
        fs::remove_file(&place).unwrap();
        fs::create_dir(&place).unwrap();
    }
}
