//! The log lines about a task at the default level.

use crate::support::agent::Agent;
use crate::support::secs;
use crate::support::server::{FakeServer, Fault, Match, Status, TaskSpec};
use std::time::Duration;

#[test]
fn a_task_is_logged_in_six_lines() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let mut running = agent.start();
    let spec =
        TaskSpec::script("cp input/data output/a; echo 12345 > output/b; sleep 0.2").input("data", vec![b'x'; 12_345]);
    let id = server.submit(spec);
    server.wait_for(&id, Status::Completed, secs(60));
    running.wait_log("settled as", secs(20));
    let log = running.log();
    let about = format!(" task {id}: ");
    let lines: Vec<&str> = log.lines().filter_map(|line| line.split_once(&about)).map(|(_, text)| text).collect();
    let expected = [
        ("accepted, with 2 input files, 12.4 kB", ""),
        ("2 input files downloaded, 12.4 kB in ", " s"),
        ("container open-aaas-task-", "/command.sh"),
        ("container exited with 0 after ", " s, completed"),
        ("2 result files sent, 12.4 kB in ", " s"),
        ("settled as completed with 2 files, ", " s after its offer"),
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, (begins, ends)) in lines.iter().zip(expected) {
        assert!(line.starts_with(begins) && line.ends_with(ends), "{line}");
    }
    let seconds = lines[3].strip_prefix("container exited with 0 after ").and_then(|rest| rest.split_once(' '));
    let seconds: f64 = seconds.expect("a number").0.parse().expect("a number of seconds");
    assert!((0.2..20.0).contains(&seconds), "{seconds}");
}

#[test]
fn a_long_transfer_logs_its_progress() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    // The answer comes in 26 pieces with half a second after each.
    let slowly = Fault::DripAnswer { piece: 1000, pause: Duration::from_millis(500) };
    let id = server.submit(TaskSpec::script("true").input("data", vec![b'x'; 26_000]));
    server.fault(Match::path("download"), slowly);
    let mut running = agent.start();
    running.wait_log(&format!("task {id}: fetching `data`: "), secs(30));
    let log = running.log();
    let (_, shown) = log.split_once("fetching `data`: ").expect("the line");
    let shown = shown.lines().next().expect("a line");
    let (moved, time) = shown.split_once(" of 26.0 kB after 10 s").expect("both sizes and the time");
    assert!(moved.ends_with(" kB") && time.is_empty(), "{shown}");
    let moved: f64 = moved.trim_end_matches(" kB").parse().expect("a number");
    assert!((1.0..26.0).contains(&moved), "{shown}");
    server.wait_for(&id, Status::Completed, secs(60));
}
