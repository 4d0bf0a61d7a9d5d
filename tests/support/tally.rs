//! A folder that an agent's containers share with the test. A container records its start there and waits until the
//! test releases it.
//!
//! With it a test stops a container at a known point, without guessing times, and counts how often a task has run.

use crate::support::agent::{Agent, Builder, Running};
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

/// What [`begun`]'s task leaves as its result, with the text "result".
pub const RESULT: &str = "echo result > output/result.txt";

/// An agent, its running process, and the id of a task whose container is running.
pub fn begun(server: &FakeServer) -> (Agent, Running, String) {
    let agent = agent(server).build();
    let running = agent.start();
    let id = server.submit(waiting_task(RESULT));
    wait_begun(&agent, &id);
    (agent, running, id)
}

/// A task that prints `begun`, waits for [`release`], prints `released`, and runs `rest`. If a signal reaches it, it
/// prints `signalled` and fails.
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

/// The output of a task whose `rest` prints nothing.
const WHOLE_OUTPUT: &str = "begun\nreleased\n";

/// Releases a waiting task.
pub fn release(agent: &Agent, task_id: &str) {
    agent.write(&format!("tally/release-{task_id}"), "");
}

/// How often a container of this task has started its script.
pub fn times_begun(agent: &Agent, task_id: &str) -> usize {
    let begun = fs::read_to_string(agent.path("tally/begun")).unwrap_or_default();
    begun.lines().filter(|line| *line == task_id).count()
}

/// Waits until the task waits for its release and the agent has stored the first line of its output.
pub fn wait_begun(agent: &Agent, task_id: &str) {
    let output = agent.data_dir().join("tasks").join(task_id).join("stdout.log");
    docker::wait_until(&format!("`{task_id}` to begin"), secs(90), || {
        times_begun(agent, task_id) > 0 && fs::read(&output).is_ok_and(|bytes| bytes == b"begun\n")
    });
}

/// Waits until the task's record has this phase.
pub fn wait_phase(agent: &Agent, task_id: &str, phase: &str) {
    let path = agent.data_dir().join("tasks").join(task_id).join("record.json");
    docker::wait_until(&format!("the record of `{task_id}` to be {phase}"), secs(90), || {
        let record: Option<Value> = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        record.is_some_and(|record| record["phase"] == phase)
    });
}

/// Waits until a released task has completed, and fails the test unless its container ran once, its output is there
/// once, its end was reported once, and its container is removed.
pub fn wait_done_once(server: &FakeServer, agent: &Agent, task_id: &str) -> Task {
    let task = server.wait_for(task_id, Status::Completed, secs(90));
    assert_eq!(times_begun(agent, task_id), 1, "how often `{task_id}` has run");
    assert_eq!(task.stdout(), WHOLE_OUTPUT);
    assert_eq!(task.completed_count, 1);
    docker::assert_no_containers(task_id);
    task
}
