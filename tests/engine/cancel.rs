//! Cancellations at every phase of a task.
//!
//! In every phase the task is reported as cancelled once, its container is removed, and the agent continues with the
//! next task.

use crate::support::agent::{Agent, Running};
use crate::support::docker::{assert_no_containers, wait_container_state, wait_until};
use crate::support::secs;
use crate::support::server::{FakeServer, Fault, Match, Moment, Status, Task, TaskSpec};
use std::fs;
use std::time::Duration;

/// Runs much longer than any test.
const FOREVER: &str = "echo began; sleep 1000";

/// Waits for the end of the cancelled task, and then runs a task behind it.
fn wait_cancelled(server: &FakeServer, id: &str) -> Task {
    let task = server.wait_for(id, Status::Cancelled, secs(60));
    assert_no_containers(id);
    let next = server.submit(TaskSpec::script("echo next"));
    assert_eq!(server.wait_for(&next, Status::Completed, secs(60)).stdout(), "next\n");
    let reports = server.requests_to("complete");
    let reports: Vec<_> = reports.iter().filter(|report| report.about(id)).collect();
    assert_eq!(reports.len(), 1, "the task is reported once: {reports:#?}");
    assert_eq!((&reports[0].body["status"], reports[0].status), (&"cancelled".into(), Some(200)));
    assert_eq!(task.error_message, None);
    assert_eq!((server.task(id).status, task.accepted_count), (Status::Cancelled, 1));
    task
}

fn took(task: &Task) -> Duration {
    let since = |status| task.since(status).expect("a status of the cancellation");
    since(Status::Cancelled) - since(Status::Cancelling)
}

#[test]
fn a_task_cancelled_on_the_server_is_never_accepted() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().capacity(1).build();
    let first = server.submit(TaskSpec::script("until [ -e /workspace/go ]; do sleep 0.1; done"));
    let second = server.submit(TaskSpec::script("echo never"));
    let third = server.submit(TaskSpec::script("echo third"));
    let _running = agent.start();
    wait_container_state(&first, "running", secs(60));
    server.cancel(&second);
    fs::write(agent.workspace(&first).join("go"), "").unwrap();
    server.wait_for(&first, Status::Completed, secs(60));
    assert_eq!(server.wait_for(&third, Status::Completed, secs(60)).stdout(), "third\n");
    let task = server.task(&second);
    let history: Vec<_> = task.history.iter().map(|(_, status)| *status).collect();
    assert_eq!(history, [Status::Pending, Status::Cancelled]);
    assert!(!server.requests().iter().any(|request| request.about(&second)), "the agent made no call about the task");
}

/// Cancels a task while this fault delays the download of its second input file.
fn cancel_while_downloading(fault: Fault) {
    let server = FakeServer::start();
    server.fault(Match::path("download").file("large.bin"), fault);
    let agent = Agent::builder(&server).with_engine().build();
    let id = server.submit(TaskSpec::script(FOREVER).input("large.bin", vec![7; 1_000_000]));
    let _running = agent.start();
    let is_downloading = || {
        let requests = server.requests_to("download");
        requests.iter().any(|request| request.filename.as_deref() == Some("large.bin"))
    };
    wait_until("the download", secs(60), is_downloading);
    server.cancel(&id);
    let task = wait_cancelled(&server, &id);
    assert!(took(&task) < secs(25), "{:?}", took(&task));
    assert!(!agent.task_file(&id, "cid").exists(), "no container was made");
}

#[test]
fn a_task_is_cancelled_during_a_slow_download() {
    cancel_while_downloading(Fault::DripAnswer { piece: 1000, pause: Duration::from_millis(100) });
}

#[test]
fn a_task_is_cancelled_during_an_unanswered_download() {
    cancel_while_downloading(Fault::NeverAnswer);
}

#[test]
fn a_cancelled_container_may_end_by_itself_after_sigterm() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let script = "trap 'echo asked > /workspace/output/asked; exit 0' TERM
        echo 1 > /workspace/output/partial
        while :; do sleep 0.1; done";
    let id = server.submit(TaskSpec::script(script));
    let _running = agent.start();
    let partial = agent.workspace(&id).join("output/partial");
    wait_until("the script", secs(60), || partial.exists());
    server.cancel(&id);
    let task = wait_cancelled(&server, &id);
    assert!(agent.workspace(&id).join("output/asked").exists(), "the container received SIGTERM");
    assert!(took(&task) < secs(25), "{:?}", took(&task));
    assert_eq!(server.outputs(&id).len(), 0, "the files of a cancelled task are not sent");
}

#[test]
fn a_cancelled_container_that_ignores_sigterm_is_killed() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let script = "trap 'echo asked > /workspace/output/asked' TERM
        touch /workspace/output/began
        while :; do touch /workspace/output/alive; sleep 0.1; done";
    let id = server.submit(TaskSpec::script(script));
    let _running = agent.start();
    let output = |name: &str| agent.workspace(&id).join("output").join(name);
    wait_until("the script", secs(60), || output("began").exists());
    server.cancel(&id);
    wait_cancelled(&server, &id);
    let written = |name: &str| fs::metadata(output(name)).and_then(|meta| meta.modified()).expect("a file of the task");
    let went_on = written("alive").duration_since(written("asked")).expect("it went on after SIGTERM");
    assert!(went_on > secs(1) && went_on < secs(8), "the grace period is two seconds: {went_on:?}");
}

#[test]
fn a_task_is_cancelled_at_the_moment_of_its_accept() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let id = server.submit(TaskSpec::script(FOREVER));
    let (control, cancelled) = (server.control(), id.clone());
    let cancel = Fault::call(Moment::Effected, move |_| control.cancel(&cancelled));
    server.fault(Match::path("accept").task(&id), cancel);
    let _running = agent.start();
    let task = wait_cancelled(&server, &id);
    assert!(took(&task) < secs(25), "{:?}", took(&task));
}

/// An agent whose `docker run` creates the file `held` and waits for the file `go` before it starts.
fn agent_with_slow_docker_run(server: &FakeServer) -> Agent {
    let agent = Agent::builder(server).with_engine().build();
    agent.write_script(
        "bin/docker",
        "#!/bin/sh
        here=${0%/bin/docker}
        if [ \"$1\" = run ]; then
            touch \"$here/held\"
            until [ -e \"$here/go\" ]; do sleep 0.05; done
        fi
        PATH=${PATH#*:}
        exec docker \"$@\"\n",
    );
    agent
}

fn start_with_slow_docker_run(agent: &Agent) -> Running {
    let path = format!("{}:{}", agent.path("bin").display(), std::env::var("PATH").unwrap_or_default());
    agent.invoke(&["run"]).env("PATH", path).env("RUST_LOG", "debug").start()
}

#[test]
fn a_task_is_cancelled_before_its_container_exists() {
    let server = FakeServer::start();
    let agent = agent_with_slow_docker_run(&server);
    let id = server.submit(TaskSpec::script(FOREVER));
    let mut running = start_with_slow_docker_run(&agent);
    wait_until("`docker run`", secs(60), || agent.path("held").exists());
    server.cancel(&id);
    // The agent has tried to stop a container that doesn't exist yet.
    running.wait_log(&format!("task {id}: stop: "), secs(30));
    agent.write("go", "");
    let task = wait_cancelled(&server, &id);
    assert!(took(&task) < secs(30), "{:?}", took(&task));
}

#[test]
fn a_task_is_cancelled_during_its_upload() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let stall = server.fault(Match::path("upload").times(1), Fault::StallBody(1000));
    let id = server.submit(TaskSpec::script("head -c 20000000 /dev/zero > /workspace/output/large"));
    let _running = agent.start();
    wait_until("the upload", secs(60), || server.fault_hits(stall) == 1);
    server.cancel(&id);
    let task = wait_cancelled(&server, &id);
    assert!(took(&task) < secs(25), "{:?}", took(&task));
}
