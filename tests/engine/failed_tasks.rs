//! Tasks whose container failed: the reported reason, and the delivery of the files.

use crate::support::agent::Agent;
use crate::support::docker::{assert_no_containers, container_name, docker};
use crate::support::secs;
use crate::support::server::{FakeServer, Status, TaskSpec};
use crate::support::tally;
use serde_json::json;

#[test]
fn a_failed_task_reports_the_end_of_stderr_and_its_files() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let script = "echo out
        echo partial > /workspace/output/partial
        i=0; while [ $i -lt 1000 ]; do echo \"zeile äöü $i\" >&2; i=$((i+1)); done
        exit 7";
    let id = server.submit(TaskSpec::script(script));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Failed, secs(60));
    let stderr: String = (0..1000).map(|number| format!("zeile äöü {number}\n")).collect();
    let skipped = stderr.trim().chars().count() - 2000;
    let last: String = stderr.trim().chars().skip(skipped).collect();
    assert_eq!(task.error_message, Some(last));
    assert_eq!(server.output(&id, "output/partial").text(), "partial\n");
    assert_eq!(task.file_ids, [server.output(&id, "output/partial").id]);
    assert_eq!((&task.output["exit_code"], task.stdout()), (&json!(7), "out\n"));
    assert_eq!(task.output["stderr"], json!(stderr));
}

#[test]
fn a_failed_task_without_stderr_reports_the_end_of_stdout() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let id = server.submit(TaskSpec::script("echo began; echo 'no such column'; echo >&2; exit 1"));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Failed, secs(60));
    assert_eq!(task.error_message.as_deref(), Some("began\nno such column"));
}

#[test]
fn a_failed_task_without_output_reports_its_exit_status() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let id = server.submit(TaskSpec::script("exit 42"));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Failed, secs(60));
    let message = task.error_message.unwrap();
    assert!(message.contains("42"), "{message}");
    assert_eq!((&task.output["exit_code"], &task.output["files"]), (&json!(42), &json!([])));
}

/// The docker client exits with 125, 126 or 127 when it could not start a container; a container may do the same.
#[test]
fn containers_may_exit_with_dockers_own_error_statuses() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let codes = [125, 126, 127];
    let script = |code| format!("echo ran >> /workspace/output/runs; echo 'docker: not me' >&2; exit {code}");
    let ids = codes.map(|code| server.submit(TaskSpec::script(script(code))));
    let _running = agent.start();
    for (id, code) in ids.iter().zip(codes) {
        let task = server.wait_for(id, Status::Failed, secs(60));
        assert_eq!(task.output["exit_code"], json!(code));
        assert_eq!(server.output(id, "output/runs").text(), "ran\n", "exit status {code}");
        assert_eq!(task.error_message.as_deref(), Some("docker: not me"));
        assert_eq!((task.accepted_count, task.completed_count), (1, 1));
        assert_no_containers(id);
    }
}

#[test]
fn an_out_of_memory_kill_is_reported() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().config("[executor]\nmemory_limit = '16m'").build();
    let script =
        "echo 1 > /workspace/output/before; echo working >&2; exec dd if=/dev/zero of=/dev/null bs=64M count=1";
    let id = server.submit(TaskSpec::script(script));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Failed, secs(60));
    let message = task.error_message.unwrap();
    let (explanation, words) = message.split_once('\n').unwrap();
    assert!(explanation.contains("out of memory") && explanation.contains("16m"), "{message}");
    assert!(words.starts_with("working"), "{message}");
    assert_eq!(task.output["exit_code"], json!(137));
    assert_eq!(task.output["files"], json!(["output/before"]));
}

/// A program that handles SIGTERM may exit with 0 without having finished its work.
#[test]
fn a_container_stopped_from_outside_fails_even_with_status_0() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    expect_stopped_from_outside(&server, &agent, "TERM");
}

/// An engine that goes away or comes back doesn't answer every call.
#[test]
fn an_unanswered_question_about_a_stop_is_asked_again() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    let asked = agent.path("asked");
    let client = format!(
        "#!/bin/sh\nif [ \"$1 $2\" = 'events --since' ] && mkdir '{}' 2>/dev/null; then exit 1; fi\nexec docker \"$@\"\n",
        asked.display()
    );
    agent.write_script("docker", &client);
    agent.change_config("[executor]\ndocker = './docker'");
    expect_stopped_from_outside(&server, &agent, "TERM");
    assert!(asked.is_dir(), "the first question has had no answer");
}

/// The engine's test image passes on TERM and INT only, so the shell of the script is the container's first process.
#[test]
fn a_container_stopped_by_a_signal_of_its_own_has_not_exited_by_itself() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    let config = "[executor]\nexecutor_type = 'custom'\ncustom_entrypoint = ['sh', 'input/run.sh']
        docker_args = ['--stop-signal=USR1']";
    agent.change_config(config);
    expect_stopped_from_outside(&server, &agent, "USR1");
}

/// The container ends with status 0 when it gets this signal.
fn expect_stopped_from_outside(server: &FakeServer, agent: &Agent, signal: &str) {
    let _running = agent.start();
    let script = "
        echo half > /workspace/output/half
        echo \"$TASK_ID\" >> /tally/begun
        echo begun
        while true; do sleep 0.05; done";
    let script = format!("trap 'echo saved; exit 0' {signal}{script}");
    let id = server.submit(TaskSpec::script(script));
    tally::wait_begun(agent, &id);
    docker(&["stop", &container_name(&id)]);
    let task = server.wait_for(&id, Status::Failed, secs(60));
    let expected = "something other than the agent stopped the container, as `docker stop` does, which ended it with \
        status 0\nbegun\nsaved";
    assert_eq!(task.error_message.as_deref(), Some(expected));
    assert_eq!((&task.output["exit_code"], task.stdout()), (&json!(0), "begun\nsaved\n"));
    assert_eq!(server.output(&id, "output/half").text(), "half\n");
    assert_eq!((tally::times_begun(agent, &id), task.accepted_count, task.completed_count), (1, 1, 1));
    assert_no_containers(&id);
}
