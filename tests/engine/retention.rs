//! Records and workspaces stay until the delivery, and `paths.retention_hours` after it.

use crate::hostile_server::names;
use crate::support::agent::Agent;
use crate::support::docker;
use crate::support::secs;
use crate::support::server::{Control, FakeServer, Fault, Match, Moment, Request, Status, TaskSpec};
use crate::support::tally;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use std::fs;
use std::sync::{Arc, Mutex};

fn hours_ago(hours: i64) -> Timestamp {
    Timestamp::now() - SignedDuration::from_hours(hours)
}

/// Runs a task to its delivery.
fn deliver(server: &FakeServer, agent: &Agent) -> String {
    let id = server.submit(tally::waiting_task("echo result > output/r.txt"));
    tally::release(agent, &id);
    tally::wait_done_once(server, agent, &id);
    tally::wait_phase(agent, &id, "settled");
    id
}

/// Changes the record so that the task was delivered `hours` ago.
fn make_delivered(agent: &Agent, id: &str, hours: i64) {
    let mut record = agent.record(id);
    record["settled_at"] = json!(hours_ago(hours));
    agent.write(&format!("data/tasks/{id}/record.json"), record.to_string());
}

fn is_whole(agent: &Agent, id: &str) -> bool {
    agent.task_file(id, "record.json").exists() && agent.workspace(id).join("output/r.txt").exists()
}

fn is_gone(agent: &Agent, id: &str) -> bool {
    !agent.task_file(id, "").exists() && !agent.workspace(id).exists()
}

#[test]
fn only_tasks_past_the_retention_time_are_removed_at_start() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    let mut running = agent.start();
    let [oldest, old, young] = [(); 3].map(|()| deliver(&server, &agent));
    // A result that has waited for the Server longer than the retention time.
    let waiting = server.submit(tally::waiting_task("echo result > output/r.txt"));
    tally::wait_begun(&agent, &waiting);
    server.stop_listening();
    tally::release(&agent, &waiting);
    tally::wait_phase(&agent, &waiting, "exited");
    running.kill9();
    let mut record = agent.record(&waiting);
    (record["offered_at"], record["ending"]["at"]) = (json!(hours_ago(400)), json!(hours_ago(399)));
    agent.write(&format!("data/tasks/{waiting}/record.json"), record.to_string());
    for (id, hours) in [(&oldest, 300), (&old, 169), (&young, 167)] {
        make_delivered(&agent, id, hours);
    }

    let mut running = agent.start();
    // The agent starts with the oldest; after these two only the youngest is left to check.
    for id in [&oldest, &old] {
        running.wait_log(&format!("task {id}: removed, 168 h after its delivery"), secs(30));
        assert!(is_gone(&agent, id));
    }
    server.resume();
    tally::wait_done_once(&server, &agent, &waiting);
    assert_eq!(server.output(&waiting, "output/r.txt").text(), "result\n");
    tally::wait_phase(&agent, &waiting, "settled");
    assert!(is_whole(&agent, &young) && is_whole(&agent, &waiting), "{}", running.log());
    for id in [&oldest, &old, &young] {
        assert_eq!(server.task(id).completed_count, 1, "`{id}` is not reported again");
    }
}

#[test]
fn every_task_is_kept_without_a_retention_limit() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).config("[paths]\nretention_hours = 0").build();
    let mut running = agent.start();
    let id = deliver(&server, &agent);
    running.kill9();
    make_delivered(&agent, &id, 9000);
    // The agent removes leftover containers just before it checks the records.
    let leftover = docker::container_name(&format!("{}-left", server.task_prefix()));
    let label = format!("open-aaas.instance={}", agent.instance().expect("an id"));
    docker::docker(&["create", "--name", &leftover, "--label", &label, docker::test_image()]);

    let mut running = agent.start();
    running.wait_log(&format!("removing the container `{leftover}`"), secs(30));
    docker::wait_until("the container to be removed", secs(30), || !docker::container_exists(&leftover));
    let polls = server.requests_to("poll").len();
    let polled = |server: &Control| server.requests_to("poll").len() >= polls + 3;
    server.wait_until("three polls", secs(30), polled);
    assert!(is_whole(&agent, &id), "{}", running.log());
    running.kill9();

    agent.change_config("[paths]\nretention_hours = 8999");
    let mut running = agent.start();
    running.wait_log(&format!("task {id}: removed, 8999 h after its delivery"), secs(30));
    assert!(is_gone(&agent, &id));
    assert_eq!(server.task(&id).status, Status::Completed);
}

/// Makes a workspace of an earlier task, whose record is gone.
fn earlier_workspace(agent: &Agent, id: &str, files: usize) {
    let output = agent.workspace(id).join("output");
    fs::create_dir_all(&output).expect("make folders");
    (0..files).for_each(|number| fs::write(output.join(format!("f{number}")), "old").expect("write a file"));
}

/// The names of workspaces that no task has any more.
fn set_aside(agent: &Agent) -> Vec<String> {
    names(agent.data_dir().join("workspaces")).into_iter().filter(|name| name.starts_with('.')).collect()
}

#[test]
fn a_large_workspace_of_an_earlier_task_delays_no_accept() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let id = format!("{}-again", server.task_prefix());
    earlier_workspace(&agent, &id, 50_000);
    let (seen, looked) = (Arc::new(Mutex::new(Vec::new())), agent.clone());
    let note = Arc::clone(&seen);
    let look = move |_: &Request| note.lock().unwrap().extend(set_aside(&looked));
    server.fault(Match::path("accept"), Fault::call(Moment::Arrived, look));
    server.submit(TaskSpec::script("ls output > output/list").id(&id));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Completed, secs(60));
    assert_eq!(task.output["files"], json!(["output/list"]));
    assert_eq!(server.output(&id, "output/list").text(), "list\n");
    assert_eq!(seen.lock().unwrap().len(), 1, "it was removed before the task was accepted");
    docker::wait_until("its removal", secs(60), || set_aside(&agent).is_empty());
}

#[test]
fn a_task_that_waits_for_room_loses_its_earlier_workspace() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().config("[paths]\nmin_free_disk_mb = 10").build();
    earlier_workspace(&agent, "too-large", 10);
    // It fits on an empty disk, and not on this one.
    let (free, all) = disk(&agent);
    let size = (free + all) / 2;
    let input = json!([{"id": "f", "filename": "a", "size_bytes": size}]);
    server.submit_raw("too-large", json!({"id": "too-large", "task_prompt": "p", "input_files": input}));
    let mut running = agent.start();
    running.wait_log("the offered task `too-large` waits", secs(30));
    docker::wait_until("the removal", secs(30), || names(agent.data_dir().join("workspaces")).is_empty());
    assert!(server.requests_to("accept").is_empty());
}

/// The free bytes and all bytes of the agent's disk.
fn disk(agent: &Agent) -> (u64, u64) {
    let found = nix::sys::statvfs::statvfs(agent.dir()).expect("look at the disk");
    (found.blocks_available() * found.fragment_size(), found.blocks() * found.fragment_size())
}
