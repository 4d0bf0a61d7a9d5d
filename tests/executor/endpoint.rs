//! Faults of the model's endpoint: the task fails in time, with a line about the reason.

use crate::model::{Model, say};
use crate::scene::{Scene, Setup, reason};
use crate::support::server::{FakeServer, Fault, Match, TaskSpec};
use std::fs;

/// Runs a task that fails because of the endpoint, and returns the reason.
fn failed(trouble: impl FnOnce(&Scene)) -> String {
    let scene = Setup::new(vec![say("Never.")]).start();
    trouble(&scene);
    let task = scene.failed(TaskSpec::new("Ask."));
    assert_eq!(task.output["exit_code"], 1, "{task:#?}");
    let reason = reason(&task).to_owned();
    let named = format!("the model's endpoint ({}/v1) failed: ", scene.model.url());
    assert!(reason.contains(&named), "{reason}");
    reason
}

#[test]
fn an_endpoint_that_refuses_connections_fails_the_task() {
    let reason = failed(|scene| scene.model.stop_listening());
    assert!(reason.contains("Connection error"), "{reason}");
}

#[test]
fn an_endpoint_that_rejects_the_key_fails_the_task() {
    let scene = Setup::new(vec![say("Never.")]).key("sk-another-key").start();
    let task = scene.failed(TaskSpec::new("Ask."));
    assert!(reason(&task).contains("failed: 401"), "{}", reason(&task));
    assert!(reason(&task).contains("Incorrect API key provided: ***"), "{}", reason(&task));
    assert_eq!(scene.model.asked().len(), 1, "a rejected key isn't retried");
}

#[test]
fn an_endpoint_that_answers_500_fails_the_task() {
    let reason = failed(|scene| {
        scene.model.fault(Match::any(), Fault::status(500));
    });
    assert!(reason.contains("500"), "{reason}");
}

#[test]
fn a_silent_endpoint_fails_the_task() {
    let reason = failed(|scene| {
        scene.model.fault(Match::any(), Fault::NeverAnswer);
    });
    assert!(reason.contains("timed out"), "{reason}");
}

#[test]
fn an_endpoint_that_stalls_in_an_answer_fails_the_task() {
    failed(|scene| {
        scene.model.fault(Match::any(), Fault::StallAnswer(100));
    });
}

#[test]
fn an_endpoint_that_cuts_its_answer_fails_the_task() {
    failed(|scene| {
        scene.model.fault(Match::any(), Fault::CutAnswer(100));
    });
}

#[test]
fn an_endpoint_that_recovers_is_asked_again() {
    let settings = r#"{"defaultProvider": "scripted", "defaultModel": "m", "retry": {"baseDelayMs": 100}}"#;
    let scene = Setup::new(vec![say("Here I am.")]).settings(settings).start();
    scene.model.fault(Match::any().times(2), Fault::status(500));
    let task = scene.completed(TaskSpec::new("Ask."));
    assert_eq!(scene.output(&task, "output/response.md"), "Here I am.\n");
    assert_eq!(task.stdout().matches("; trying again in ").count(), 2, "{}", task.stdout());
}

#[test]
fn a_private_authority_is_trusted_when_configured() {
    let server = FakeServer::start();
    let (agent, model) = Setup::with_model(Model::start_https(vec![say("Trusted.")])).build(&server);
    let unknown = agent.run(&["try", "--prompt", "Ask."]);
    unknown.expect_code(1).expect_stderr(&format!("the model's endpoint ({}/v1) failed: ", model.url()));
    assert_eq!(model.asked().len(), 0);
    fs::copy(model.ca_pem(), agent.path("pi-agent/ca.pem")).expect("copy the authority's certificate");
    agent.change_config("[executor.env]\nNODE_EXTRA_CA_CERTS = '/etc/pi-agent/ca.pem'");
    agent.run(&["try", "--prompt", "Ask.", "--out", "results"]).expect_code(0);
    assert_eq!(fs::read_to_string(agent.path("results/output/response.md")).unwrap(), "Trusted.\n");
}
