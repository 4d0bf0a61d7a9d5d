//! A task that runs for longer than `timeout_minutes`. One minute is the shortest limit.

use crate::support::agent::Agent;
use crate::support::docker::assert_no_containers;
use crate::support::secs;
use crate::support::server::{FakeServer, Status, TaskSpec};
use serde_json::json;

#[test]
fn a_task_over_its_time_limit_is_stopped_and_delivered() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().config("[executor]\ntimeout_minutes = 1").build();
    let script = "trap 'echo asked > /workspace/output/asked; exit 0' TERM
        echo \"$TIMEOUT\" > /workspace/output/timeout
        echo still working >&2
        while :; do sleep 0.2; done";
    let id = server.submit(TaskSpec::script(script));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Failed, secs(120));
    assert_no_containers(&id);
    let message = task.error_message.unwrap();
    let (explanation, words) = message.split_once('\n').unwrap();
    assert!(explanation.contains("timed out after 1 minute") && explanation.contains("timeout_minutes"), "{message}");
    assert_eq!(words, "still working");
    assert_eq!(task.output["files"], json!(["output/timeout", "output/asked"]));
    assert_eq!(server.output(&id, "output/timeout").text(), "60\n");
    let duration = task.output["duration_secs"].as_f64().unwrap();
    // The limit counts from the container's creation, and a busy engine may start it seconds later.
    assert!((45.0..75.0).contains(&duration), "{duration}");
    assert_eq!(task.completed_count, 1);
    assert_eq!(agent.record(&id)["stop"], json!({"timeout": {"minutes": 1}}));
}
