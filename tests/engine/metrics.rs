//! `metrics.prom` for monitoring.

use crate::support::agent::Agent;
use crate::support::docker::wait_until;
use crate::support::prometheus::{Samples, parse};
use crate::support::secs;
use crate::support::server::{FakeServer, Fault, Match, Status, TaskSpec};
use crate::support::tally;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

fn text(agent: &Agent) -> String {
    fs::read_to_string(agent.data_dir().join("metrics.prom")).unwrap_or_default()
}

fn value(samples: &Samples, series: &str) -> f64 {
    *samples.get(&format!("agent_core_{series}")).unwrap_or_else(|| panic!("no {series} in {samples:#?}"))
}

#[test]
fn a_task_offered_again_is_counted_once_and_keeps_its_time() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let running = agent.start();
    let id = server.submit(TaskSpec::script("true"));
    server.wait_for(&id, Status::Completed, secs(60));
    tally::wait_phase(&agent, &id, "settled");
    let settled_at = || agent.record(&id)["settled_at"].clone();
    let first = settled_at();
    for count in 1..=2 {
        server.forget_end(&id);
        server.wait_for(&id, Status::Completed, secs(60));
        tally::wait_phase(&agent, &id, "settled");
        let said = "offered again although it was settled; reporting the stored result";
        assert_eq!(running.log().matches(said).count(), count, "{}", running.log());
        assert_eq!(settled_at(), first);
    }
    // Another task has the metrics written anew.
    let other = server.submit(TaskSpec::script("true"));
    server.wait_for(&other, Status::Completed, secs(60));
    let counted = "agent_core_task_phase_seconds_count{phase=\"exited\"} 2\n";
    wait_until("both tasks in the file", secs(30), || text(&agent).contains(counted));
    let samples = parse(&text(&agent));
    assert_eq!(value(&samples, "tasks_total{outcome=\"completed\"}"), 2.0);
    assert_eq!(value(&samples, "task_phase_seconds_count{phase=\"uploaded\"}"), 2.0);
}

#[test]
fn metrics_count_tasks_bytes_and_phases() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().capacity(3).build();
    let mut running = agent.start();
    let good = server.submit(TaskSpec::script("cp input/data output/copy").input("data", vec![b'x'; 5000]));
    let bad = server.submit(TaskSpec::script("exit 3"));
    server.wait_for(&good, Status::Completed, secs(60));
    server.wait_for(&bad, Status::Failed, secs(30));
    let settled = "agent_core_task_phase_seconds_count{phase=\"uploaded\"} 2\n";
    wait_until("both tasks in the file", secs(20), || text(&agent).contains(settled));
    let written = text(&agent);
    let samples = parse(&written);
    assert_eq!(value(&samples, "tasks_total{outcome=\"completed\"}"), 1.0);
    assert_eq!(value(&samples, "tasks_total{outcome=\"failed\"}"), 1.0);
    assert_eq!(value(&samples, "tasks_total{outcome=\"cancelled\"}"), 0.0);
    assert_eq!(value(&samples, "capacity"), 3.0);
    assert_eq!((value(&samples, "tasks_running"), value(&samples, "tasks_undelivered")), (0.0, 0.0));
    assert_eq!(value(&samples, "accepting"), 1.0);
    assert!((5000.0..7000.0).contains(&value(&samples, "received_bytes_total")), "{written}");
    assert!((5000.0..9000.0).contains(&value(&samples, "sent_bytes_total")), "{written}");
    assert_eq!(value(&samples, &format!("build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"))), 1.0);
    let now = Timestamp::now().as_second() as f64;
    let heartbeat = value(&samples, "last_heartbeat_timestamp_seconds");
    assert!((now - 60.0..=now + 1.0).contains(&heartbeat), "{heartbeat} at {now}");
    for phase in ["accepted", "prepared", "exited", "uploaded"] {
        assert_eq!(value(&samples, &format!("task_phase_seconds_count{{phase=\"{phase}\"}}")), 2.0);
    }
    assert!(value(&samples, "task_phase_seconds_sum{phase=\"prepared\"}") > 0.0);
    check_with_promtool(&written);
    running.terminate(secs(20));
    let (_, api_key) = server.service();
    assert!(
        !text(&agent).contains(&api_key) && !text(&agent).contains(&good),
        "the metrics have no task ids and no key"
    );
}

/// Checks the text with Prometheus' own tool where it is installed.
fn check_with_promtool(text: &str) {
    let tool = Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let Ok(mut tool) = tool else { return };
    tool.stdin.take().expect("its input").write_all(text.as_bytes()).expect("write to promtool");
    let done = tool.wait_with_output().expect("wait for promtool");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn time_in_a_phase_includes_the_time_before_a_restart() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    let mut running = agent.start();
    let id = server.submit(tally::waiting_task(""));
    tally::wait_begun(&agent, &id);
    running.terminate(secs(20));
    assert_eq!(value(&parse(&text(&agent)), "accepting"), 0.0);
    // The record says that the phase began 50 s earlier.
    let mut record = agent.record(&id);
    let since: Timestamp = record["phase_since"].as_str().and_then(|at| at.parse().ok()).expect("a time");
    record["phase_since"] = json!((since - SignedDuration::from_secs(50)).to_string());
    fs::write(agent.task_file(&id, "record.json"), record.to_string()).expect("write the record");
    let mut running = agent.start();
    running.wait_log("following the running container", secs(20));
    tally::release(&agent, &id);
    tally::wait_done_once(&server, &agent, &id);
    let sum = "task_phase_seconds_sum{phase=\"prepared\"}";
    wait_until("the phase in the file", secs(20), || text(&agent).contains(sum));
    let seconds = value(&parse(&text(&agent)), sum);
    assert!((50.0..120.0).contains(&seconds), "{seconds}");
}

#[test]
fn retried_calls_are_counted() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    server.fault(Match::path("heartbeat").times(2), Fault::status(503));
    let _running = agent.start();
    let retries = || parse(&text(&agent)).get("agent_core_retries_total").copied().unwrap_or_default();
    wait_until("two retries in the file", secs(40), || !text(&agent).is_empty() && retries() == 2.0);
}
