//! `agent-core try` with the image, as in the development of an executor.

use crate::model::{bash, say};
use crate::scene::Setup;
use crate::support::server::FakeServer;
use std::fs;

#[test]
fn a_trial_shows_the_progress_and_copies_the_results() {
    let server = FakeServer::start();
    let (agent, model) =
        Setup::new(vec![bash("wc -l < input/data.csv > output/lines"), say("Two lines.")]).build(&server);
    agent.write("data.csv", "1\n2\n");
    let done = agent.run(&["try", "--prompt", "Count.", "--input", "data.csv", "--out", "results"]);
    done.expect_code(0).expect_stdout("asking scripted/m, with 1 input file(s)\n");
    done.expect_stdout("> bash wc -l < input/data.csv > output/lines\n").expect_stderr("output/response.md");
    let result = |name: &str| fs::read_to_string(agent.path("results/output").join(name)).unwrap();
    assert_eq!((result("response.md").as_str(), result("lines").as_str()), ("Two lines.\n", "2\n"));
    assert_eq!((model.asked().len(), server.requests().len()), (2, 0));
}
