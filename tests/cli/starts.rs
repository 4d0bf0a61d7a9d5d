//! Starts of containers by a script in place of docker, which does what a real client does once in a thousand times.

use crate::support::agent::Agent;
use crate::support::docker::wait_until;
use crate::support::secs;
use crate::support::server::{FakeServer, Fault, Match, Status, TaskSpec};
use std::fs;
use std::time::{Duration, Instant};

/// The client of an engine with one image, on which every container ends at once. `CASE` is what a `docker run` does first;
/// `$run` tells a task's container from one of the agent's own.
const CLIENT: &str = r#"#!/bin/sh
here='HERE'
for last; do :; done
run=task
case "$*" in *open-aaas-probe-*) run=own ;; esac
CASE
case "$1" in
version) echo 28 ;;
info) echo / ;;
image) case "$*" in *Volumes*) cat "$here/volumes" ;; *) echo null ;; esac ;;
inspect) cat "$here/$last.container" 2>/dev/null ;;
rm) rm -f "$here/$last.container" ;;
run) if [ "$run" = task ]; then echo hi; else
    echo '{"Id":"i","State":{"Status":"exited","StartedAt":"2026-01-01T00:00:00Z"},"Labels":null}' >"$here/$3.container"
fi ;;
esac
"#;

/// An agent with such a client.
pub fn agent(server: &FakeServer, case: &str) -> Agent {
    let agent = Agent::builder(server).capacity(3).config("[executor]\ndocker = './docker'").build();
    agent.write("client/volumes", "null");
    let here = agent.path("client").display().to_string();
    agent.write_script("docker", &CLIENT.replace("HERE", &here).replace("CASE", case));
    agent
}

fn submit(server: &FakeServer, count: usize) -> Vec<String> {
    (0..count).map(|_| server.submit(TaskSpec::new("x"))).collect()
}

/// Waits until `status` says these words of why nothing is accepted.
fn wait_not_accepting(agent: &Agent, limit: Duration, words: &str) {
    let is_said = |line: &str| line.starts_with("Accepting tasks: no: ") && line.contains(words);
    wait_until(&format!("a status that says {words:?}"), limit, || agent.run(&["status"]).stdout.lines().any(is_said));
}

#[test]
fn a_client_that_breaks_off_fails_no_task() {
    let server = FakeServer::start();
    // As Go ends a program without a thread, a shell one without memory, and the kernel one of either. The word of a client
    // that broke off is no word of the engine: the image is there.
    let case = r#"if [ "$1 $run" = "run task" ]; then
    mkdir "$here/first" 2>/dev/null && { echo 'runtime: failed to create new OS thread' >&2; exit 2; }
    mkdir "$here/second" 2>/dev/null && exit 126
    mkdir "$here/third" 2>/dev/null && kill -9 $$
fi
case "$*" in *'{{.Id}}'*) mkdir "$here/asked" 2>/dev/null && exit 2 ;; esac"#;
    let agent = agent(&server, case);
    let tasks = submit(&server, 3);
    let running = agent.start();
    for id in &tasks {
        assert_eq!(server.wait_for(id, Status::Completed, secs(60)).stdout(), "hi\n");
        assert_eq!(server.task(id).accepted_count, 1);
    }
    let log = running.log();
    assert_eq!(log.matches("`docker run` broke off without an answer of the engine; going on in").count(), 3, "{log}");
    assert!(agent.path("client/asked").exists(), "it has looked for the image");
    for words in ["can't be started", "isn't on this machine", "no new task is accepted"] {
        assert!(!log.contains(words), "{words:?} is in: {log}");
    }
}

#[test]
fn an_image_that_hides_the_workspace_costs_one_task() {
    let server = FakeServer::start();
    let agent = agent(&server, "");
    agent.write("client/volumes", "{\"/workspace/output\":{}}");
    let tasks = submit(&server, 4);
    let _running = agent.start();
    let failed = || tasks.iter().filter(|id| server.task(id).status == Status::Failed).collect::<Vec<_>>();
    wait_until("the first task to fail", secs(30), || !failed().is_empty());
    // Not only for the length of a pause: a container of the agent's own can be started all the time.
    wait_not_accepting(&agent, secs(30), ": no: the image");
    let [failed] = failed()[..] else { panic!("not one task has failed") };
    assert!(server.task(failed).error_message.unwrap().contains("declares the volume `/workspace/output`"));
    agent.write("client/volumes", "null");
    for id in tasks.iter().filter(|id| *id != failed) {
        assert_eq!(server.wait_for(id, Status::Completed, secs(60)).stdout(), "hi\n");
    }
}

#[test]
fn nothing_is_accepted_while_a_failed_start_is_looked_into() {
    let server = FakeServer::start();
    // The engine takes long to say whether a container of this agent runs.
    let case = r#"[ "$1 $run" = "run own" ] && echo >>"$here/own"
case "$1 $2" in
'run '*) echo "docker: endpoint $(od -An -N8 -tx8 /dev/urandom): network lab not found" >&2; exit 125 ;;
'ps -q') touch "$here/asked"; sleep 8 ;;
esac"#;
    let agent = agent(&server, case);
    let first = server.submit(TaskSpec::new("x"));
    let running = agent.start();
    wait_until("the failed start to be looked into", secs(60), || agent.path("client/asked").exists());
    let asked = Instant::now();
    wait_not_accepting(&agent, secs(20), "network lab not found");
    let second = server.submit(TaskSpec::new("x"));
    server.wait_for(&first, Status::Failed, secs(60));
    assert!(asked.elapsed() > secs(6), "it was to take long");
    assert_eq!(server.task(&second).accepted_count, 0);
    let own = || fs::read_to_string(agent.path("client/own")).map_or(0, |tries| tries.lines().count());
    wait_until("more containers of the agent's own", secs(60), || own() >= 3);
    let said = "no new task is accepted: containers can't be started on this machine";
    assert_eq!(running.log().matches(said).count(), 1, "only the ids differ: {}", running.log());
}

#[test]
fn the_log_and_status_agree_on_whether_tasks_are_accepted() {
    let server = FakeServer::start();
    let case = r#"if [ "$1 $run" = "run task" ] && mkdir "$here/failed" 2>/dev/null; then
    echo 'docker: exec: "/x": permission denied' >&2; exit 127
fi"#;
    let agent = agent(&server, case);
    server.submit(TaskSpec::new("x"));
    let mut running = agent.start();
    wait_not_accepting(&agent, secs(30), "a container couldn't be started a moment ago");
    running.wait_log("engine, mounts and disk are in order\n", secs(20));
    let log = running.log();
    assert_eq!(log.matches("tasks are accepted").count(), 1, "{log}");
    let next = server.submit(TaskSpec::new("x"));
    running.wait_log("INFO  tasks are accepted\n", secs(30));
    server.wait_for(&next, Status::Completed, secs(60));
}

#[test]
fn status_counts_the_slot_of_a_worker_that_delivers() {
    let server = FakeServer::start();
    let agent = agent(&server, "");
    server.fault(Match::path("complete"), Fault::NeverAnswer);
    server.submit(TaskSpec::new("x"));
    let _running = agent.start();
    // Its container has ended, and its worker is busy with it.
    let mut shown = String::new();
    wait_until("the report to be sent", secs(30), || {
        shown = agent.run(&["status"]).stdout;
        shown.contains(", 1 undelivered")
    });
    assert!(shown.contains("\nLoad: 1 of 3 slots, 1 undelivered\n"), "{shown}");
}
