//! `executor.pull`: when the agent pulls the image, and what it does after a registry's outage.
//!
//! There is no registry: a script replaces the docker client and tags the test image instead of pulling.

use crate::support::agent::{Agent, Running};
use crate::support::docker::{docker, docker_if_there, test_image, wait_until};
use crate::support::secs;
use crate::support::server::{FakeServer, Status, TaskSpec};
use std::fs;

/// A unique name for the test image, at a registry that doesn't exist. Dropping the value removes it.
struct Tag(String);

impl Tag {
    fn of(server: &FakeServer) -> Self {
        Self(format!("localhost:1/agent-core-pull-{}:1", server.task_prefix()))
    }
}

impl Drop for Tag {
    fn drop(&mut self) {
        docker_if_there(&["image", "rm", &self.0]);
    }
}

/// An agent with a docker client that records its verbs and runs `pull` for `docker pull`. `$here` is its folder.
/// With the file `up` in it, `docker run --pull always` works without a registry.
fn agent_with(server: &FakeServer, image: &Tag, key: &str, pull: &str) -> Agent {
    let config = format!("[executor]\nimage = '{}'\n{key}", image.0);
    let agent = Agent::builder(server).with_engine().config(&config).build();
    let body = format!(
        r#"echo "$1" >> "$here/verbs"
if [ "$1" = pull ]; then
    echo "$*" > "$here/pulled"
    {pull}
fi
if [ -e "$here/up" ]; then
    for word; do
        shift
        if [ "$word" = always ]; then word=never; fi
        set -- "$@" "$word"
    done
fi
exec docker "$@""#
    );
    let script = agent.path("stand-in/docker");
    let here = script.parent().expect("the script has a folder").display();
    agent.write_script("stand-in/docker", &format!("#!/bin/sh\nhere='{here}'\n{body}\n"));
    agent.change_config(&format!("[executor]\ndocker = {:?}", script.to_string_lossy()));
    agent
}

/// How often the client was called with this verb.
fn times(agent: &Agent, verb: &str) -> usize {
    let verbs = fs::read_to_string(agent.path("stand-in/verbs")).unwrap_or_default();
    verbs.lines().filter(|line| *line == verb).count()
}

/// Submits a task, starts the agent, and returns both.
fn start_with_a_task(server: &FakeServer, agent: &Agent) -> (Running, String) {
    let first = server.submit(TaskSpec::script("echo hi"));
    (agent.start(), first)
}

/// Waits until the agent has looked for the image twice more.
fn wait_two_looks(agent: &Agent) {
    let before = times(agent, "image");
    wait_until("two looks for the image", secs(40), || times(agent, "image") >= before + 2);
}

#[test]
fn pull_never_contacts_no_registry() {
    let server = FakeServer::start();
    let image = Tag::of(&server);
    let agent = agent_with(&server, &image, "pull = 'never'", "exit 1");
    let (mut running, first) = start_with_a_task(&server, &agent);
    running.wait_log("isn't on this machine", secs(20));
    wait_two_looks(&agent);
    assert_eq!(
        (server.task(&first).accepted_count, times(&agent, "pull")),
        (0, 0),
        "no task is accepted without the image"
    );
    docker(&["tag", test_image(), &image.0]);
    server.wait_for(&first, Status::Completed, secs(60));

    // If the image is removed later, the next task fails.
    docker(&["image", "rm", &image.0]);
    let id = server.submit(TaskSpec::script("echo hi"));
    let message = server.wait_for(&id, Status::Failed, secs(60)).error_message.unwrap();
    assert!(message.contains(&image.0) && message.contains("docker build -t"), "{message}");
    assert!(!message.contains("connection refused"), "{message}");
    wait_two_looks(&agent);
    assert_eq!(times(&agent, "pull"), 0);
    docker(&["tag", test_image(), &image.0]);
    let id = server.submit(TaskSpec::script("echo hi"));
    server.wait_for(&id, Status::Completed, secs(60));
}

/// The first task failed: docker pulled with it, where the agent didn't.
#[test]
fn without_the_key_the_agent_pulls_a_missing_image_too() {
    let server = FakeServer::start();
    let image = Tag::of(&server);
    let agent = agent_with(&server, &image, "", "exit 1");
    let (mut running, first) = start_with_a_task(&server, &agent);
    running.wait_log("has to be built or pulled first", secs(20));
    wait_two_looks(&agent);
    assert_eq!((server.task(&first).accepted_count, times(&agent, "pull")), (0, 1));
    docker(&["tag", test_image(), &image.0]);
    server.wait_for(&first, Status::Completed, secs(60));
}

#[test]
fn a_missing_image_is_pulled_in_the_background() {
    let server = FakeServer::start();
    let image = Tag::of(&server);
    // A slow pull.
    let pull =
        format!("until [ -e \"$here/go\" ]; do sleep 0.1; done; docker tag {} {}; exit $?", test_image(), image.0);
    let key = "pull = 'missing'\ndocker_args = ['--platform=linux/amd64']";
    let agent = agent_with(&server, &image, key, &pull);
    let (mut running, task) = start_with_a_task(&server, &agent);
    wait_until("the pull", secs(20), || times(&agent, "pull") == 1);
    wait_two_looks(&agent);
    assert_eq!((server.task(&task).accepted_count, times(&agent, "pull")), (0, 1));
    let words = fs::read_to_string(agent.path("stand-in/pulled")).unwrap();
    assert_eq!(words, format!("pull --quiet --platform linux/amd64 {}\n", image.0));
    agent.write("stand-in/go", "");
    // The agent notices the end of the pull at once, not at the next check.
    running.wait_log("tasks are accepted", secs(8));
    assert_eq!(server.wait_for(&task, Status::Completed, secs(60)).stdout(), "hi\n");
    assert_eq!(times(&agent, "pull"), 1);
    assert_eq!(running.log().matches("was pulled").count(), 1);
}

#[test]
fn a_failed_pull_is_logged_once_and_retried_after_a_pause() {
    let server = FakeServer::start();
    let image = Tag::of(&server);
    let agent = agent_with(&server, &image, "pull = 'missing'", "echo 'no such registry' >&2; exit 1");
    let (mut running, task) = start_with_a_task(&server, &agent);
    running.wait_log("can't be pulled: docker: no such registry; trying again in 5 minutes", secs(20));
    wait_two_looks(&agent);
    assert_eq!((server.task(&task).accepted_count, times(&agent, "pull")), (0, 1));
    assert_eq!(running.log().matches("no such registry").count(), 1);
    // An image that the operator adds is used before the next pull.
    docker(&["tag", test_image(), &image.0]);
    server.wait_for(&task, Status::Completed, secs(60));
}

#[test]
fn pull_always_accepts_no_task_before_a_successful_pull() {
    let server = FakeServer::start();
    let image = Tag::of(&server);
    let pull = "until [ -e \"$here/up\" ]; do sleep 0.1; done; exit 0";
    let agent = agent_with(&server, &image, "pull = 'always'", pull);
    docker(&["tag", test_image(), &image.0]);
    let (_running, task) = start_with_a_task(&server, &agent);
    wait_until("the pull", secs(20), || times(&agent, "pull") == 1);
    wait_two_looks(&agent);
    assert_eq!(server.task(&task).accepted_count, 0, "the image exists, but `docker run` would fail");
    agent.write("stand-in/up", "");
    server.wait_for(&task, Status::Completed, secs(60));
    assert_eq!(times(&agent, "pull"), 1);
}
