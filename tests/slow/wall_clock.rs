//! The machine's clock is set while a task runs; the task's time limit doesn't change.
//!
//! The agent runs with a shim before its C library, whose wall clock is wrong by the seconds in a file. The shim is
//! compiled with the C compiler that Rust links with; only Linux is sure to let it come first.

#![cfg(target_os = "linux")]

use crate::support::agent::{Agent, Builder, Running};
use crate::support::docker::assert_no_containers;
use crate::support::secs;
use crate::support::server::{Control, FakeServer, Status, TaskSpec};
use crate::support::tally;
use jiff::{SignedDuration, Timestamp};
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const SHIM: &str = r#"
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    int answer = (int)syscall(SYS_clock_gettime, clock, now);
    const char *path = getenv("WALL_CLOCK_IS_WRONG_BY");
    FILE *file = clock == CLOCK_REALTIME && path ? fopen(path, "r") : NULL;
    long seconds = 0;
    if (file) {
        if (fscanf(file, "%ld", &seconds) == 1) now->tv_sec += seconds;
        fclose(file);
    }
    return answer;
}
"#;

/// A wall clock that is wrong by a number of seconds.
struct Clock {
    // Removed with its content when the value is dropped.
    _dir: tempfile::TempDir,
    shim: PathBuf,
    wrong_by: PathBuf,
}

impl Clock {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("make a folder");
        let (source, shim) = (dir.path().join("shim.c"), dir.path().join("shim.so"));
        fs::write(&source, SHIM).expect("write the shim");
        let mut compiler = Command::new(env::var("CC").unwrap_or_else(|_| "cc".to_owned()));
        let done = compiler.args(["-shared", "-fPIC", "-o"]).args([&shim, &source]).status().expect("run a C compiler");
        assert!(done.success(), "the shim is compiled");
        let wrong_by = dir.path().join("wrong-by");
        fs::write(&wrong_by, "0").expect("write what is wrong");
        Self { _dir: dir, shim, wrong_by }
    }

    fn agent(&self, server: &FakeServer) -> Builder {
        let path = |path: &PathBuf| path.to_str().expect("a path of plain characters").to_owned();
        let agent = tally::agent(server).env("LD_PRELOAD", path(&self.shim));
        agent.env("WALL_CLOCK_IS_WRONG_BY", path(&self.wrong_by))
    }

    /// Sets the clock, and waits until the agent uses the new time.
    fn jump(&self, days: i64, agent: &Agent, server: &FakeServer) {
        let seconds = days * 24 * 3600;
        // The rename replaces the file in one step: an empty file would mean the right time for a moment.
        let next = self.wrong_by.with_extension("next");
        fs::write(&next, seconds.to_string()).expect("write what is wrong");
        fs::rename(&next, &self.wrong_by).expect("set the clock");
        server.wait_until("a heartbeat by the new clock", secs(40), |_| {
            let status = fs::read(agent.data_dir().join("status.json")).unwrap_or_default();
            let status: serde_json::Value = serde_json::from_slice(&status).unwrap_or_default();
            let told = status["last_heartbeat_at"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
            let off = told.map(|at| at.duration_since(Timestamp::now()) - SignedDuration::from_secs(seconds));
            off.is_some_and(|off| off.abs() < SignedDuration::from_secs(60))
        });
    }
}

fn begun(clock: &Clock, server: &FakeServer, limit: &str, spec: TaskSpec) -> (Agent, Running, String) {
    let agent = clock.agent(server).config(limit).build();
    let running = agent.start();
    let id = server.submit(spec);
    tally::wait_begun(&agent, &id);
    (agent, running, id)
}

#[test]
fn a_clock_change_does_not_end_a_task() {
    let (server, clock) = (FakeServer::start(), Clock::new());
    let limits = "[executor]\ntimeout_minutes = 600\nidle_timeout_minutes = 600";
    let (agent, mut running, id) = begun(&clock, &server, limits, tally::waiting_task("echo result > output/r"));
    let polls = |server: &Control| server.requests_to("poll").len();
    for days in [3, -3] {
        clock.jump(days, &agent, &server);
        let before = polls(&server);
        server.wait_until("polls", secs(20), |server| polls(server) >= before + 3);
        assert_eq!(server.task(&id).status, Status::Running);
    }
    tally::release(&agent, &id);
    let task = tally::wait_done_once(&server, &agent, &id);
    assert_eq!(server.output(&id, "output/r").bytes, b"result\n");
    let duration = task.output["duration_secs"].as_f64().expect("a number");
    assert!((1.0..600.0).contains(&duration), "the duration doesn't include the jump: {duration}");
    assert!(running.is_running());
    assert!(server.longest_heartbeat_gap() < secs(30));
}

#[test]
fn setting_the_clock_back_does_not_extend_a_task() {
    let (server, clock) = (FakeServer::start(), Clock::new());
    let script = "echo \"$TASK_ID\" >> /tally/begun; echo begun; sleep 600";
    let limit = "[executor]\ntimeout_minutes = 1";
    let (agent, _running, id) = begun(&clock, &server, limit, TaskSpec::script(script));
    clock.jump(-3, &agent, &server);
    let task = server.wait_for(&id, Status::Failed, secs(100));
    let message = task.error_message.expect("a reason");
    assert!(message.contains("timed out after 1 minute"), "{message}");
    assert_no_containers(&id);
}
