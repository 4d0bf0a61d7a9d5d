//! `status`: the lines of README's "Check Status", and whether the agent runs.

use crate::folder::names_in;
use crate::support::agent::Agent;
use crate::support::secs;
use crate::support::server::FakeServer;

/// The seed README's lines for this agent, and ours below them.
fn lines(agent: &Agent, server: &FakeServer, registration: [&str; 2], running: &str) -> String {
    let [registered, service_id] = registration;
    format!(
        "OpenAaaS Agent Status\n\
         ====================\n\
         Config file: {}\n\
         Data directory: {}\n\
         Server URL: {}\n\
         Poll interval: 1 seconds\n\
         Registration status: {registered}\n\
         Service ID: {service_id}\n\
         Agent name: test-agent\n\
         Executor configuration:\n\
         Image: lab/executor:7\n\
         Capacity: 3\n\
         Timeout: 90 minutes\n\
         {running}\n",
        agent.config_path().display(),
        agent.data_dir().display(),
        server.url(),
    )
}

const EXECUTOR: &str = "[executor]\nimage = \"lab/executor:7\"\ncapacity = 3\ntimeout_minutes = 90";

#[test]
fn an_agent_that_does_not_run() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().config(EXECUTOR).build();
    let status = agent.run(&["status"]);
    status.expect_code(3);
    let (service_id, _) = server.service();
    assert_eq!(status.stdout, lines(&agent, &server, ["Registered", &service_id], "Running: no"));
    assert_eq!(status.stderr, "");
}

#[test]
fn an_agent_that_runs() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().config(EXECUTOR).build();
    let running = agent.start();
    server.wait_until("a heartbeat", secs(10), |server| !server.heartbeats().is_empty());
    let status = agent.run(&["status"]);
    status.expect_code(0);
    let (service_id, _) = server.service();
    let pid = format!("Running: yes, pid {}", running.pid());
    assert_eq!(status.stdout, lines(&agent, &server, ["Registered", &service_id], &pid));
}

#[test]
fn an_agent_that_is_not_registered() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().unregistered().config(EXECUTOR).build();
    let status = agent.run(&["status"]);
    status.expect_code(3);
    assert_eq!(status.stdout, lines(&agent, &server, ["Not registered", "-"], "Running: no"));
}

#[test]
fn it_changes_nothing_and_asks_nobody() {
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
fn the_key_is_not_shown() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    let status = agent.invoke(&["status"]).env("RUST_LOG", "trace").run();
    let (_, api_key) = server.service();
    assert!(!status.stdout.contains(&api_key) && !status.stderr.contains(&api_key), "{status:?}");
}
