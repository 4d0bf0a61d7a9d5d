//! Commands whose output is closed early still do their work.

use crate::support::agent::{Agent, Finished};
use crate::support::secs;
use crate::support::server::FakeServer;

/// Runs a command whose standard output is not read, and returns the command's own exit status.
fn unread(agent: &Agent, arguments: &[&str]) -> Finished {
    let into_nothing = ["bash", "-c", r#""$0" "$@" | true; exit "${PIPESTATUS[0]}""#];
    agent.invoke(arguments).through(&into_nothing).run()
}

#[test]
fn commands_succeed_when_their_output_is_closed() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    for _ in 0..5 {
        for (arguments, code) in [
            (&["status"][..], 3),
            (&["status", "--json"], 3),
            (&["tasks"], 0),
            (&["ledger"], 0),
            (&["man"], 0),
            (&["completions", "bash"], 0),
        ] {
            let done = unread(&agent, arguments);
            done.expect_code(code);
            assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
        }
    }
}

#[test]
fn commands_do_their_work_when_their_output_is_closed() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    let mut running = agent.start();
    server.wait_until("a heartbeat", secs(20), |server| !server.heartbeats().is_empty());
    unread(&agent, &["stop", "--abort"]).expect_code(0);
    assert!(running.wait_exit(secs(20)).success());
    server.add_token("rt_good");
    unread(&agent, &["register", "--replace", "--token", "rt_good"]).expect_code(0);
    let service = server.services().pop().expect("a service");
    assert!(agent.config_text().contains(&service.api_key));
    unread(&agent, &["run-detached"]).expect_code(0);
    agent.run(&["stop"]).expect_code(0).expect_stdout("Stopped");
}
