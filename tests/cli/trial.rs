//! `try` when it ends before a container exists.

use crate::support::agent::Agent;
use crate::support::server::FakeServer;
use std::fs;

#[test]
fn try_without_an_engine_fails_and_leaves_no_file() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().unregistered().build();
    let done = agent.run(&["try", "--prompt", "p"]);
    done.expect_code(1).expect_stderr("the Docker engine can't be reached");
    assert!(!agent.data_dir().exists());
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn try_needs_either_a_prompt_or_a_replay() {
    let agent = Agent::builder(&FakeServer::start()).without_engine().build();
    agent.run(&["try"]).expect_code(2).expect_stderr("--prompt <TEXT>");
    for other in [["--prompt", "p"], ["--output-prompt", "o"], ["--input", "config.toml"]] {
        agent
            .run(&[&["try", "--replay", "t"][..], &other].concat())
            .expect_code(2)
            .expect_stderr("cannot be used with");
    }
}

#[test]
fn try_exits_with_2_when_the_file_is_wrong() {
    let agent = Agent::builder(&FakeServer::start()).without_engine().config("[executor]\ncapacity = 0").build();
    agent.run(&["try", "--prompt", "p"]).expect_code(2).expect_stderr("`executor.capacity`");
}

#[test]
fn a_results_folder_that_is_not_empty_is_refused() {
    let agent = Agent::builder(&FakeServer::start()).without_engine().build();
    agent.write("results/mine", "kept");
    let done = agent.run(&["try", "--prompt", "p", "--out", "results"]);
    done.expect_code(2).expect_stderr("`results` isn't empty, and nothing is overwritten");
    agent
        .run(&["try", "--prompt", "p", "--out", "config.toml"])
        .expect_code(2)
        .expect_stderr("`config.toml` can't be used");
    assert_eq!(fs::read_to_string(agent.path("results/mine")).unwrap(), "kept");
}
