//! A container that leaves a hundred thousand files: the time and memory that the agent needs to scan them.

use crate::support::agent::{Agent, Running};
use crate::support::secs;
use crate::support::server::{FakeServer, Status, TaskSpec};
use crate::support::tally;
use serde_json::json;
use std::fs;
use std::time::Duration;

const FILES: usize = 100_000;
/// The limits of the scan.
const LIMIT: Duration = Duration::from_secs(10);
const LIMIT_KIB: u64 = 16 * 1024;

/// Creates the files in one folder; every tenth file is in its own folder.
fn script() -> String {
    format!(
        "i=0; while [ $i -lt {FILES} ]; do
            case $i in *0) mkdir d$i; : > d$i/f;; *) : > f$i;; esac
            i=$((i+1))
        done
        echo result > output/r"
    )
}

#[test]
fn a_scan_of_100000_files_takes_little_time_and_memory() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().config("[outputs]\nmax_files = 1").build();
    let running = agent.start();
    server.wait_until("polls", secs(30), |server| server.requests_to("poll").len() >= 2);
    let before = peak_kib(&running);
    let id = server.submit(TaskSpec::script(script()));
    let task = server.wait_for(&id, Status::Completed, secs(300));
    tally::wait_phase(&agent, &id, "settled");
    let record = agent.record(&id);
    let ended: jiff::Timestamp = record["ending"]["at"].as_str().and_then(|at| at.parse().ok()).expect("a time");
    let settled: jiff::Timestamp = record["settled_at"].as_str().and_then(|at| at.parse().ok()).expect("a time");
    // This includes the delivery of one file and the report.
    let took = Duration::try_from(settled.duration_since(ended)).expect("a duration");
    let grown = peak_kib(&running) - before;
    println!("{FILES} files: {took:.2?} from the container's end to the end of the task, {grown} KiB more at the peak");
    assert_eq!(task.output["files"], json!(["output/r"]));
    assert_eq!(task.output["left_out_count"], json!(FILES));
    assert!(took < LIMIT && grown < LIMIT_KIB, "{took:?}, {grown} KiB");
}

/// The agent's peak memory so far.
fn peak_kib(running: &Running) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", running.pid())).expect("read the process's status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line VmHWM");
    line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
}
