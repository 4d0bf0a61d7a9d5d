//! What an agent without tasks asks of its engine.

use crate::support::docker;
use crate::support::secs;
use crate::support::server::{FakeServer, Status, TaskSpec};
use crate::support::tally;
use std::fs;
use std::thread;

#[test]
fn an_idle_agent_asks_its_engine_once_a_minute_and_for_a_task() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    let calls = agent.path("calls");
    let script = format!("#!/bin/sh\necho \"$1\" >> '{}'\nexec docker \"$@\"\n", calls.display());
    let client = agent.write_script("docker", &script);
    agent.change_config(&format!("[executor]\ndocker = {:?}", client.to_string_lossy()));
    let mut running = agent.start();
    running.wait_log("tasks are accepted", secs(20));
    let count = |verb: &str| {
        let text = fs::read_to_string(&calls).unwrap_or_default();
        text.lines().filter(|line| *line == verb).count()
    };
    let before = count("version");
    thread::sleep(secs(75));
    let idle = count("version") - before;
    assert!((1..=2).contains(&idle), "{idle} looks at the engine in 75 s");
    // The engine may have gone since: a task is accepted after another look.
    docker::wait_until("the last look to be old", secs(60), || {
        let text = fs::metadata(&calls).and_then(|meta| meta.modified()).expect("the calls");
        text.elapsed().is_ok_and(|age| age > secs(20))
    });
    let before = count("version");
    let id = server.submit(TaskSpec::script("echo done"));
    server.wait_for(&id, Status::Completed, secs(30));
    assert!(count("version") > before, "no look before the task");
    docker::assert_no_containers(&id);
}
