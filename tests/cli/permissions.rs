//! Files with secrets are made unreadable for other users of the machine.

use crate::folder::{mode, set_mode};
use crate::support::agent::{Agent, Running};
use crate::support::secs;
use crate::support::server::FakeServer;
use std::fs;

/// Starts the agent and waits until it is up.
fn up(server: &FakeServer, agent: &Agent) -> Running {
    let before = server.heartbeats().len();
    let running = agent.start();
    server.wait_until("a heartbeat", secs(10), |server| server.heartbeats().len() > before);
    running
}

#[test]
fn an_open_configuration_file_is_closed_and_logged_once() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    for (open, closed) in [(0o644, 0o600), (0o660, 0o600), (0o602, 0o600), (0o440, 0o400)] {
        set_mode(&agent.config_path(), open);
        let mut running = up(&server, &agent);
        assert_eq!(mode(&agent.config_path()), closed);
        let line = format!(
            "the configuration file with the key `{}` was open to other users (mode {open:o})",
            agent.config_path().display()
        );
        assert_eq!(running.log().matches(&line).count(), 1, "{}", running.log());
        assert!(running.terminate(secs(10)).success());
        let mut running = up(&server, &agent);
        assert!(!running.log().contains("open to other users"), "{}", running.log());
        assert!(running.terminate(secs(10)).success());
    }
}

#[test]
fn an_open_data_dir_is_closed_and_logged_once() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    set_mode(&agent.config_path(), 0o600);
    let mut running = up(&server, &agent);
    assert_eq!(mode(&agent.data_dir()), 0o700);
    assert!(!running.log().contains("open to other users"), "a new data_dir is private from the start");
    assert!(running.terminate(secs(10)).success());
    set_mode(&agent.data_dir(), 0o755);
    let mut running = up(&server, &agent);
    assert_eq!(mode(&agent.data_dir()), 0o700);
    assert_eq!(running.log().matches("was open to other users (mode 755)").count(), 1);
    assert!(running.terminate(secs(10)).success());
}

#[test]
fn a_shared_folder_is_refused_as_data_dir() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    agent.write("data/somebody/elses", "hi");
    set_mode(&agent.data_dir(), 0o1777);
    for arguments in [&["run"][..], &["run-detached"]] {
        let refused = agent.run(arguments);
        refused
            .expect_code(1)
            .expect_stderr("holds `somebody`, which is no agent's")
            .expect_stderr("agent-core`, or run");
        assert_eq!(mode(&agent.data_dir()), 0o1777);
    }
    agent.run(&["check"]).expect_code(1).expect_stdout("✗ data_dir_rights");
    // A folder that its owner has closed may hold other files.
    set_mode(&agent.data_dir(), 0o700);
    let _running = up(&server, &agent);
}

#[test]
fn a_file_in_place_of_the_data_dir_is_left_unchanged() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    let file = agent.write("data", "mine");
    set_mode(&file, 0o644);
    agent.run(&["run"]).expect_code(1).expect_stderr("`paths.data_dir` must be a folder");
    assert_eq!((mode(&file), fs::read_to_string(&file).unwrap().as_str()), (0o644, "mine"));
}
