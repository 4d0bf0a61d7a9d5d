//! A folder that the containers of an agent share with the test: they write down there that they have
//! begun, and wait for the test's word to go on.
//!
//! So a test holds a container where it wants it, without guessing times, and counts how often a task has
//! run.

use crate::support::agent::{Agent, Builder};
use crate::support::docker;
use crate::support::secs;
use crate::support::server::{FakeServer, Status, Task, TaskSpec};
use serde_json::Value;
use std::fs;

/// The settings of an agent whose containers see the folder as `/tally`.
pub fn agent(server: &FakeServer) -> Builder {
    let mount = "[[paths.mounts]]\nhost = \"./tally\"\ncontainer = \"/tally\"";
    Agent::builder(server).with_engine().config(mount)
}

/// A task that prints `begun`, waits to be released, prints `released`, and goes on with `rest`. A signal
/// that reaches it makes it print `signalled` and fail.
pub fn waiting_task(rest: &str) -> TaskSpec {
    TaskSpec::script(format!(
        r#"
trap 'echo signalled; exit 99' TERM INT
echo "$TASK_ID" >> /tally/begun
echo begun
while [ ! -e "/tally/release-$TASK_ID" ]; do sleep 0.05; done
echo released
{rest}
"#
    ))
}

/// What a task prints whose `rest` prints nothing, whoever watched it.
const WHOLE_OUTPUT: &str = "begun\nreleased\n";

/// Lets a waiting task go on.
pub fn release(agent: &Agent, task_id: &str) {
    agent.write(&format!("tally/release-{task_id}"), "");
}

/// How often a container of this task has begun its script.
pub fn times_begun(agent: &Agent, task_id: &str) -> usize {
    let begun = fs::read_to_string(agent.path("tally/begun")).unwrap_or_default();
    begun.lines().filter(|line| *line == task_id).count()
}

/// Waits until the task waits to be released and the agent has kept the first line of its output.
pub fn wait_begun(agent: &Agent, task_id: &str) {
    let output = agent.data_dir().join("tasks").join(task_id).join("stdout.log");
    docker::wait_until(&format!("`{task_id}` to begin"), secs(30), || {
        times_begun(agent, task_id) > 0 && fs::read(&output).is_ok_and(|bytes| bytes == b"begun\n")
    });
}

/// Waits until the agent has written down that a task is as far as this.
pub fn wait_phase(agent: &Agent, task_id: &str, phase: &str) {
    let path = agent.data_dir().join("tasks").join(task_id).join("record.json");
    docker::wait_until(&format!("the record of `{task_id}` to be {phase}"), secs(30), || {
        let record: Option<Value> = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        record.is_some_and(|record| record["phase"] == phase)
    });
}

/// Waits until a waiting task has completed, and fails the test unless its container has run once, its
/// output is there once, its end was reported once, and its container is gone.
pub fn wait_done_once(server: &FakeServer, agent: &Agent, task_id: &str) -> Task {
    let task = server.wait_for(task_id, Status::Completed, secs(30));
    assert_eq!(times_begun(agent, task_id), 1, "how often `{task_id}` has run");
    assert_eq!(task.stdout(), WHOLE_OUTPUT);
    assert_eq!(task.completed_count, 1);
    docker::assert_no_containers(task_id);
    task
}
