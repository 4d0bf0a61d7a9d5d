//! The log: times, levels, and no secrets.

use crate::support::agent::Agent;
use crate::support::secs;
use crate::support::server::{FakeServer, Fault, Match, Response};
use jiff::Timestamp;
use std::fs;

/// Splits a line of the log into time, level and text.
fn parts(line: &str) -> (&str, &str, &str) {
    let (time, rest) = line.split_once(' ').unwrap_or_else(|| panic!("no time in {line:?}"));
    let (level, text) = rest.split_once(' ').unwrap_or_else(|| panic!("no level in {line:?}"));
    (time, level, text.trim_start())
}

#[test]
fn every_line_has_a_time_with_its_zone_and_a_level() {
    let server = FakeServer::start();
    // POSIX writes a zone east of Greenwich with a minus.
    let agent = Agent::builder(&server).without_engine().env("TZ", "<+0530>-5:30").build();
    let before = Timestamp::now();
    let mut running = agent.start();
    running.wait_log("no new task is accepted", secs(20));
    running.kill9();
    let log = running.log();
    assert!(log.lines().count() >= 2, "{log}");
    for line in log.lines() {
        let (time, level, text) = parts(line);
        assert!(time.ends_with("+05:30"), "{line}");
        let at: Timestamp = time.parse().unwrap_or_else(|error| panic!("{error} in {line:?}"));
        // The log's time is cut to milliseconds.
        assert!((before.as_millisecond()..=Timestamp::now().as_millisecond()).contains(&at.as_millisecond()), "{line}");
        assert!(["INFO", "WARN", "ERROR"].contains(&level), "{line}");
        assert!(!text.is_empty(), "{line}");
    }
}

#[test]
fn rust_log_sets_the_level() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().env("RUST_LOG", "warn").build();
    let mut running = agent.start();
    running.wait_log("no new task is accepted", secs(20));
    running.kill9();
    let log = running.log();
    assert!(log.lines().all(|line| parts(line).1 == "WARN"), "{log}");
}

#[test]
fn no_log_level_shows_the_api_key() {
    let server = FakeServer::start();
    let (_, api_key) = server.service();
    let elsewhere = Response::new(307, "text/plain", "").header("location", "http://127.0.0.1:9/");
    server.fault(Match::path("poll").nth(2), Fault::Answer(elsewhere));
    server.fault(Match::path("poll").nth(3), Fault::status(401));
    let agent = Agent::builder(&server).without_engine().env("RUST_LOG", "trace,ureq=trace,rustls=trace").build();
    let mut running = agent.start();
    running.wait_log("answered 401", secs(20));
    running.wait_log("a redirect", secs(20));
    #[cfg(unix)]
    running.terminate(secs(20));
    running.kill9();
    let log = running.log();
    assert!(!log.contains(&api_key), "{log}");
    let files = walkdir::WalkDir::new(agent.data_dir()).into_iter().map(|entry| entry.expect("look around"));
    for file in files.filter(|entry| entry.file_type().is_file()) {
        let bytes = fs::read(file.path()).expect("read a file of the data_dir");
        assert!(!String::from_utf8_lossy(&bytes).contains(&api_key), "{}", file.path().display());
    }
}

/// Text from the Server can't add a log line or change a terminal's colour.
#[test]
fn an_event_is_logged_on_one_line() {
    let server = FakeServer::start();
    let body =
        serde_json::json!({"error": "Bad", "message": "a\n2026-01-01T00:00:00.000+00:00 INFO  forged\u{1b}[31m"});
    server.fault(Match::path("poll").times(1), Fault::Answer(Response::json(400, &body)));
    let agent = Agent::builder(&server).without_engine().build();
    let mut running = agent.start();
    running.wait_log("forged", secs(20));
    running.kill9();
    let log = running.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("forged")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert_eq!(parts(lines[0]).1, "WARN", "{log}");
    assert!(lines[0].contains("Bad: a\\n2026"), "{log}");
    assert!(!log.contains('\u{1b}'), "{log}");
}

#[test]
fn json_format_also_applies_to_the_final_error() {
    let agent = Agent::builder(&FakeServer::start()).without_engine().unregistered().build();
    let done = agent.run(&["--log-format", "json", "run"]);
    done.expect_code(1);
    let line: serde_json::Value = serde_json::from_str(&done.stderr).expect("one JSON object");
    assert_eq!(line["level"], "error");
    assert!(line["message"].as_str().is_some_and(|text| text.starts_with("not registered")), "{line}");
}

/// A time zone file for eight hours east of Greenwich (RFC 9636).
fn zone_file() -> Vec<u8> {
    let mut block = b"TZif2".to_vec();
    block.extend([0; 15]);
    for count in [0u32, 0, 0, 0, 1, 4] {
        block.extend(count.to_be_bytes());
    }
    block.extend(28_800i32.to_be_bytes());
    block.extend([0, 0]);
    block.extend(b"TST\0");
    [&block[..], &block[..], b"\nTST-8\n"].concat()
}

#[test]
fn tz_may_name_a_zone_file() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().unregistered().build();
    let zones = agent.write("zones/Test/Zone", zone_file());
    let zones = zones.ancestors().nth(2).expect("the folder of zones").to_string_lossy().into_owned();
    let done = agent.invoke(&["run"]).env("TZ", "Test/Zone").env("TZDIR", zones).env("RUST_LOG", "nonsense").run();
    let (time, level, text) = parts(&done.stderr);
    assert!(time.ends_with("+08:00"), "{}", done.stderr);
    assert_eq!((level, &text[..9]), ("WARN", "RUST_LOG:"), "{}", done.stderr);
}
