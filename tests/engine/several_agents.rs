//! Several agents: two on one engine that share a service, and two on one data_dir.

use crate::support::agent::Agent;
use crate::support::docker;
use crate::support::secs;
use crate::support::server::{FakeServer, Status, TaskSpec};
use crate::support::tally;

fn instance_of(name: &str) -> String {
    docker::docker(&["inspect", "--format", "{{index .Config.Labels \"open-aaas.instance\"}}", name])
}

#[test]
fn two_agents_on_one_engine_do_not_touch_each_others_tasks() {
    let server = FakeServer::start();
    let [one, two] = [(); 2].map(|()| tally::agent(&server).capacity(1).build());
    let _one_running = one.start();
    let ones = server.submit(tally::waiting_task(""));
    tally::wait_begun(&one, &ones);
    let mut two_running = two.start();
    let twos = server.submit(tally::waiting_task(""));
    tally::wait_begun(&two, &twos);
    let containers = [&ones, &twos].map(|id| docker::container_name(id));
    assert_eq!(instance_of(&containers[0]), one.instance().expect("an id"));
    assert_eq!(instance_of(&containers[1]), two.instance().expect("an id"));
    assert_ne!(one.instance(), two.instance());

    // At its start an agent follows its own containers and removes its leftover ones.
    two_running.kill9();
    let mut two_running = two.start();
    two_running.wait_log("following the running container", secs(20));
    two_running.wait_log("tasks are accepted", secs(20));
    assert!(!two_running.log().contains(&ones), "{}", two_running.log());
    assert_eq!(docker::container_state(&containers[0]).as_deref(), Some("running"));

    tally::release(&one, &ones);
    tally::release(&two, &twos);
    tally::wait_done_once(&server, &one, &ones);
    tally::wait_done_once(&server, &two, &twos);
    assert_eq!((tally::times_begun(&one, &twos), tally::times_begun(&two, &ones)), (0, 0));
}

#[test]
fn leftover_containers_are_removed_only_by_their_own_agent() {
    let server = FakeServer::start();
    let [one, two] = [(); 2].map(|()| tally::agent(&server).build());
    for agent in [&one, &two] {
        let mut running = agent.start();
        running.wait_log("tasks are accepted", secs(20));
        running.kill9();
    }
    // A crash between a task's last record and the removal leaves such containers.
    let leave = |agent: &Agent, end: &str| {
        let name = docker::container_name(&format!("{}-{end}", server.task_prefix()));
        let label = format!("open-aaas.instance={}", agent.instance().expect("an id"));
        docker::docker(&["create", "--name", &name, "--label", &label, docker::test_image()]);
        name
    };
    // The engine lists containers by age. After the agent has removed the first and the last, it has seen the one
    // between them.
    let [first, between, last] = [leave(&two, "first"), leave(&one, "between"), leave(&two, "last")];
    let mut running = two.start();
    for name in [&first, &last] {
        running.wait_log(&format!("removing the container `{name}`"), secs(20));
        docker::wait_until("the container to be removed", secs(20), || !docker::container_exists(name));
    }
    assert_eq!(docker::container_state(&between).as_deref(), Some("created"), "it belongs to the other agent");
    let _running = one.start();
    docker::wait_until("the container to be removed", secs(20), || !docker::container_exists(&between));
}

#[test]
fn a_task_waits_for_another_agents_container_of_its_name() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    let id = server.submit(tally::waiting_task(""));
    tally::release(&agent, &id);
    let name = docker::container_name(&id);
    let label = "open-aaas.instance=another";
    docker::docker(&["create", "--name", &name, "--label", label, docker::test_image()]);
    let mut running = agent.start();
    running.wait_log("is held by another agent's container (instance another)", secs(20));
    assert_eq!(docker::container_state(&name).as_deref(), Some("created"));
    assert_eq!(server.task(&id).status, Status::Running);
    docker::docker(&["rm", &name]);
    tally::wait_done_once(&server, &agent, &id);
}

/// A container that is never removed would otherwise hold the slot for ever.
#[test]
fn a_foreign_container_of_a_tasks_name_holds_no_slot() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).capacity(1).build();
    let blocked = server.submit(tally::waiting_task(""));
    tally::release(&agent, &blocked);
    let name = docker::container_name(&blocked);
    docker::docker(&["create", "--name", &name, docker::test_image()]);
    let mut running = agent.start();
    running.wait_log("is held by a container of no agent", secs(20));
    let other = server.submit(TaskSpec::script("echo 1 > output/other"));
    server.wait_for(&other, Status::Completed, secs(60));
    assert_eq!(running.log().matches("is held by").count(), 1, "the same reason is logged once");
    docker::docker(&["rm", &name]);
    tally::wait_done_once(&server, &agent, &blocked);
}

#[test]
fn tasks_of_two_servers_with_equal_ids_run_in_turn() {
    let servers = [(); 2].map(|()| FakeServer::start());
    let [one, two] = servers.each_ref().map(|server| tally::agent(server).build());
    let id = format!("{}-same", servers[0].task_prefix());
    let task = || tally::waiting_task("echo result > output/r").id(&id);
    servers[0].submit(task());
    let _one_running = one.start();
    tally::wait_begun(&one, &id);
    let container = docker::container_name(&id);
    let first = docker::docker(&["inspect", "--format", "{{.Id}}", &container]);

    servers[1].submit(task());
    let mut two_running = two.start();
    let held = format!("is held by another agent's container (instance {})", one.instance().expect("an id"));
    two_running.wait_log(&held, secs(20));
    // The second agent's task is cancelled; the container with that name belongs to the first agent.
    servers[1].cancel(&id);
    servers[1].wait_for(&id, Status::Cancelled, secs(30));
    let still = docker::docker(&["inspect", "--format", "{{.Id}} {{.State.Status}}", &container]);
    assert_eq!(still, format!("{first} running"));

    tally::release(&one, &id);
    tally::wait_done_once(&servers[0], &one, &id);
    assert_eq!(servers[0].output(&id, "output/r").bytes, b"result\n");
    assert_eq!((tally::times_begun(&two, &id), servers[1].outputs(&id).len()), (0, 0));
}

#[test]
fn a_second_run_on_one_data_dir_is_refused() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    let running = agent.start();
    let id = server.submit(tally::waiting_task(""));
    tally::wait_begun(&agent, &id);
    let before = agent.instance();
    let refused = agent.run(&["run"]);
    refused.expect_code(1);
    refused.expect_stderr(&format!("an agent with pid {} is running on this data_dir already", running.pid()));
    let pid_file = std::fs::read_to_string(agent.data_dir().join("agent.pid")).expect("the pidfile");
    assert_eq!(pid_file.trim(), running.pid().to_string());
    assert_eq!(agent.instance(), before);
    tally::release(&agent, &id);
    tally::wait_done_once(&server, &agent, &id);
}

#[test]
fn a_data_dir_is_free_again_after_a_crash() {
    let server = FakeServer::start();
    let agent: Agent = tally::agent(&server).build();
    let mut running = agent.start();
    running.wait_log("tasks are accepted", secs(20));
    running.kill9();
    assert!(agent.data_dir().join("agent.pid").exists(), "a crash leaves the pidfile");
    let mut running = agent.start();
    running.wait_log("tasks are accepted", secs(20));
}
