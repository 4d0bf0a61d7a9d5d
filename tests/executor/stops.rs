//! Tasks that are stopped by the image's own deadline, by a cancellation or by `docker stop`.

use crate::image::{last_error, wait_output};
use crate::model::{Model, Style, bash, say};
use crate::scene::{Setup, by_hand};
use crate::support::docker::{assert_no_containers, wait_until};
use crate::support::secs;
use crate::support::server::{Fault, Match, Request, Status, TaskSpec};
use std::fs;
use std::time::Instant;

#[test]
fn the_deadline_ends_a_tool_that_ignores_sigterm() {
    let deaf = "trap '' TERM; echo began > output/began; while :; do sleep 1; done";
    let model = Model::start(Style::OpenAi, vec![bash(deaf)], None);
    let container = by_hand(&model).with(&["-e", "TIMEOUT=10"]);
    let began = Instant::now();
    let output = container.run();
    assert_eq!((output.status.code(), last_error(&output).as_str()), (Some(124), DEADLINE), "{output:?}");
    assert!(began.elapsed() < secs(30), "{:?}", began.elapsed());
    assert_eq!(fs::read_to_string(container.path("workspace/output/began")).unwrap(), "began\n");
}

const DEADLINE: &str = "not done within the 10 s that a task may take (TIMEOUT)";

#[test]
fn the_deadline_ends_a_wait_for_a_silent_model() {
    let model = Model::start(Style::OpenAi, vec![], None);
    model.fault(Match::any(), Fault::NeverAnswer);
    let output = by_hand(&model).with(&["-e", "TIMEOUT=10"]).run();
    assert_eq!((output.status.code(), last_error(&output).as_str()), (Some(124), DEADLINE), "{output:?}");
}

#[test]
fn the_deadline_in_the_second_turn_keeps_the_answer() {
    let model = Model::start(Style::OpenAi, vec![say("The answer.")], None);
    let has_no_tools = |request: &Request| request.body["tools"].is_null();
    model.fault(Match::any().when(has_no_tools), Fault::NeverAnswer);
    let container = by_hand(&model).with(&["-e", "TIMEOUT=20"]);
    let task = r#"{"task_id": "t", "task_prompt": "Work.", "output_prompt": "short"}"#;
    let container = container.file("workspace/task.json", task);
    let output = container.run();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(fs::read_to_string(container.path("workspace/output/response.md")).unwrap(), "The answer.\n");
}

#[test]
fn docker_stop_ends_processes_that_ignore_sigterm() {
    // pi is stopped (SIGSTOP) and its tool ignores SIGTERM, so only SIGKILL ends them.
    let deaf = "trap '' TERM; kill -STOP $PPID; echo began > output/began; while :; do sleep 1; done";
    let model = Model::start(Style::OpenAi, vec![bash(deaf)], None);
    let container = by_hand(&model);
    let child = container.start();
    let began = container.path("workspace/output/began");
    wait_until("the tool", secs(60), || began.exists());
    let asked = Instant::now();
    container.stop();
    let took = asked.elapsed();
    assert!(took > secs(4) && took < secs(9), "after the grace period and before docker's SIGKILL: {took:?}");
    let output = wait_output(child, secs(20));
    assert_eq!((output.status.code(), last_error(&output).as_str()), (Some(143), STOPPED));
}

const STOPPED: &str = "asked to end (TERM) before the task was done";

#[test]
fn a_cancellation_ends_a_running_tool() {
    let scene = Setup::new(vec![bash("touch output/began; sleep 1000"), say("Never.")]).start();
    let id = scene.server.submit(TaskSpec::new("Work."));
    let began = scene.agent.workspace(&id).join("output/began");
    wait_until("the tool", secs(60), || began.exists());
    // `logs` shows the progress.
    scene.agent.run(&["logs", &id]).expect_code(0).expect_stdout("> bash touch output/began; sleep 1000\n");
    let asked = Instant::now();
    scene.server.cancel(&id);
    scene.server.wait_for(&id, Status::Cancelled, secs(60));
    assert_no_containers(&id);
    assert!(asked.elapsed() < secs(8), "{:?}", asked.elapsed());
}

#[test]
fn orphaned_processes_of_a_tool_are_reaped() {
    // Process 1 inherits both sleeps; one of them has ended before the second command looks.
    let turns = vec![
        bash("sh -c 'sleep 0.1 & setsid sleep 1000 > /dev/null 2>&1 &'; sleep 2"),
        bash("grep -l '^State:.Z' /proc/[0-9]*/status > output/zombies; true"),
        say("Done."),
    ];
    let model = Model::start(Style::OpenAi, turns, None);
    let container = by_hand(&model);
    let output = container.run();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(fs::read_to_string(container.path("workspace/output/zombies")).unwrap(), "");
}

#[test]
fn docker_stop_in_the_second_turn_keeps_the_answer() {
    let model = Model::start(Style::OpenAi, vec![say("The answer.")], None);
    let has_no_tools = |request: &Request| request.body["tools"].is_null();
    model.fault(Match::any().when(has_no_tools), Fault::NeverAnswer);
    let task = r#"{"task_id": "t", "task_prompt": "Work.", "output_prompt": "short"}"#;
    let container = by_hand(&model).file("workspace/task.json", task);
    let child = container.start();
    let response = container.path("workspace/output/response.md");
    wait_until("the answer", secs(60), || response.exists() && model.asked().len() == 2);
    container.stop();
    let output = wait_output(child, secs(20));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(fs::read_to_string(response).unwrap(), "The answer.\n");
}

#[test]
fn a_killed_pi_is_reported_with_its_signal() {
    let model = Model::start(Style::OpenAi, vec![bash("kill -KILL $PPID; sleep 1000"), say("Never.")], None);
    let output = by_hand(&model).run();
    assert_eq!(output.status.code(), Some(137), "{output:?}");
    assert!(last_error(&output).starts_with("pi was ended by signal 9 (SIGKILL); the kernel"), "{output:?}");
}
