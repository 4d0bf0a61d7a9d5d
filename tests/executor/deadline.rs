//! A task that takes longer than the agent allows. One minute is the shortest limit.

use crate::model::{bash, say};
use crate::scene::{Setup, reason};
use crate::support::server::TaskSpec;
use serde_json::json;

#[test]
fn the_image_ends_a_task_shortly_before_its_time_limit() {
    let turns = vec![bash("echo half > output/half; sleep 1000"), say("Never.")];
    let scene = Setup::new(turns).config("[executor]\ntimeout_minutes = 1").start();
    let task = scene.failed(TaskSpec::new("Work."));
    assert_eq!(reason(&task).trim_end(), "not done within the 60 s that a task may take (TIMEOUT)");
    assert_eq!((&task.output["exit_code"], &task.output["files"]), (&json!(124), &json!(["output/half"])));
}
