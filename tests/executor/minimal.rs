//! The minimal sample, `executor-example/minimal`.

use crate::image::repository;
use crate::scene::reason;
use crate::support::agent::Agent;
use crate::support::docker::{docker, test_image};
use crate::support::secs;
use crate::support::server::{FakeServer, Status, TaskSpec};
use serde_json::json;

const IMAGE: &str = "agent-core-minimal-test:1";

#[test]
fn the_minimal_image_works_under_strict_with_any_prompt() {
    let base = format!("BASE_IMAGE={}", test_image());
    let folder = repository("executor-example/minimal");
    docker(&["build", "--quiet", "--build-arg", &base, "--tag", IMAGE, &folder.to_string_lossy()]);
    let server = FakeServer::start();
    let config = format!("[executor]\nimage = '{IMAGE}'\nisolation = 'strict'\nuser = '12345'");
    let agent = Agent::builder(&server).with_engine().config(&config).build();
    let _running = agent.start();
    let prompts =
        ["Count.", "\"task_prompt\": \"x\", say \"100 %\"", "a\\nb\\c\\\\ \\0101\n\tnext — Zähle 数", "-n $HOME `id`"];
    for prompt in prompts {
        let id = server.submit(TaskSpec::new(prompt).input("data.csv", "1,2\n3,4\n"));
        let task = server.wait_for(&id, Status::Completed, secs(60));
        let report = format!("# Report\n\nAsked for: {prompt}\n\n- data.csv: 2 lines, 2 words, 8 bytes\n");
        assert_eq!(task.output["files"], json!(["output/response.md"]));
        assert_eq!(server.output(&id, "output/response.md").text(), report);
        assert_eq!(task.stdout(), "wrote output/response.md\n");
    }
    let id = server.submit(TaskSpec::new(""));
    let task = server.wait_for(&id, Status::Failed, secs(60));
    assert_eq!(reason(&task).trim_end(), "no task_prompt in /workspace/task.json");
}
