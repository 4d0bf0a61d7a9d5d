//! No file that a command makes is ever open to other users, not even for a moment and not with any umask.

use crate::folder::{mode, set_mode};
use crate::support::agent::{Agent, Finished};
use crate::support::secs;
use crate::support::server::FakeServer;
use crate::support::watcher::Watcher;
use std::path::Path;

/// The words that start a program with an umask.
fn with_umask(umask: &str) -> [String; 4] {
    ["sh", "-c", &format!(r#"umask {umask}; exec "$@""#), "sh"].map(str::to_owned)
}

/// Runs the program with this umask.
fn run(agent: &Agent, umask: &str, arguments: &[&str]) -> Finished {
    let wrapper = with_umask(umask);
    agent.invoke(arguments).through(&wrapper.each_ref().map(String::as_str)).run()
}

/// A probe of `check` is seen by a container, which may run as any user.
fn is_for_containers(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str().to_string_lossy().starts_with(".check-"))
}

#[test]
fn files_of_every_command_are_private_from_their_creation() {
    let server = FakeServer::start();
    let (service, _) = server.service();
    let agent = Agent::builder(&server).without_engine().build();
    set_mode(&agent.config_path(), 0o600);
    let usual = agent.config_text();
    let watcher = Watcher::start(agent.dir(), is_for_containers);
    let new = agent.path("new.toml");
    let new_path = new.to_string_lossy().into_owned();
    for arguments in [&["init"][..], &["init", "--force"]] {
        run(&agent, "0", &[&["--config", &new_path], arguments].concat()).expect_code(0);
    }
    // The window was short: several registrations make it likely to be seen.
    for number in 0..5 {
        let token = format!("rt_{number}");
        server.add_token_for(&token, &service);
        run(&agent, "0", &["register", "--replace", "--token", &token]).expect_code(0);
    }
    run(&agent, "0", &["check"]).expect_code(1);
    let wrapper = with_umask("0");
    let mut running = agent.invoke(&["run"]).through(&wrapper.each_ref().map(String::as_str)).start();
    server.wait_until("a heartbeat", secs(20), |server| !server.heartbeats().is_empty());
    run(&agent, "0", &["stop", "--drain"]).expect_code(0);
    running.wait_exit(secs(20));
    run(&agent, "0", &["run-detached"]).expect_code(0);
    run(&agent, "0", &["status"]).expect_code(0);
    run(&agent, "0", &["stop"]).expect_code(0);
    run(&agent, "0", &["stop", "--abort"]).expect_code(0);
    run(&agent, "0", &["ledger"]);
    watcher.finish();
    assert!(agent.config_text().len() >= usual.len());
}

#[test]
fn an_umask_that_takes_the_owners_rights_has_no_effect() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    set_mode(&agent.config_path(), 0o600);
    run(&agent, "0777", &["run-detached"]).expect_code(0);
    run(&agent, "0777", &["stop"]).expect_code(0);
    assert_eq!((mode(&agent.data_dir()), mode(&agent.data_dir().join("agent.log"))), (0o700, 0o600));
    run(&agent, "0777", &["--config", &agent.path("new.toml").to_string_lossy(), "init"]).expect_code(0);
    assert_eq!(mode(&agent.path("new.toml")), 0o600);
}

#[test]
fn manual_pages_follow_the_umask() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    let pages = agent.path("man/man1");
    for (umask, folder, file) in [("022", 0o755, 0o644), ("077", 0o755, 0o600)] {
        run(&agent, umask, &["man", "--out", &pages.to_string_lossy()]).expect_code(0);
        assert_eq!((mode(&pages), mode(&pages.join("agent-core.1"))), (folder, file));
    }
}
