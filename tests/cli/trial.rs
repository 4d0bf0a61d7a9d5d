//! `try` where it ends before there is a container.

use crate::support::agent::Agent;
use crate::support::server::FakeServer;
use std::fs;

#[test]
fn without_an_engine_it_says_so_and_leaves_nothing() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().unregistered().build();
    let done = agent.run(&["try", "--prompt", "p"]);
    done.expect_code(1).expect_stderr("the Docker engine can't be reached");
    assert!(!agent.data_dir().exists());
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn a_prompt_or_a_task_is_needed_and_not_both() {
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
fn a_wrong_file_is_exit_status_2() {
    let agent = Agent::builder(&FakeServer::start()).without_engine().config("[executor]\ncapacity = 0").build();
    agent.run(&["try", "--prompt", "p"]).expect_code(2).expect_stderr("`executor.capacity`");
}

#[test]
fn a_folder_for_results_that_is_not_empty_is_refused_before_anything_is_done() {
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
