//! Containers that can't be started: the task fails with the reason, and the agent continues.

use crate::support::agent::Agent;
use crate::support::docker::{assert_no_containers, docker, docker_if_there, test_image, wait_until};
use crate::support::secs;
use crate::support::server::{FakeServer, Request, Status, TaskSpec};
use serde_json::json;
use std::fs;
use std::time::Instant;

/// A unique name for the test image. Dropping the value removes it.
struct Tag(String);

impl Drop for Tag {
    fn drop(&mut self) {
        docker_if_there(&["image", "rm", &self.0]);
    }
}

#[test]
fn an_image_removed_meanwhile_fails_one_task() {
    let server = FakeServer::start();
    // No registry listens at that address, so docker fails at once.
    let image = Tag(format!("localhost:1/agent-core-{}:1", server.task_prefix()));
    let agent = Agent::builder(&server).with_engine().config(&format!("[executor]\nimage = '{}'", image.0)).build();
    docker(&["tag", test_image(), &image.0]);
    let mut running = agent.start();
    running.wait_log("tasks are accepted", secs(60));
    docker(&["image", "rm", &image.0]);
    let first = server.submit(TaskSpec::script("echo hi"));
    let task = server.wait_for(&first, Status::Failed, secs(60));
    let message = task.error_message.unwrap();
    for part in [
        format!("Unable to find image '{}' locally", image.0),
        "connection refused".to_owned(),
        format!("docker build -t {} ", image.0),
    ] {
        assert!(message.contains(&part), "{part:?} is not in: {message}");
    }
    assert_eq!((&task.output["exit_code"], &task.output["files"]), (&json!(null), &json!([])));
    let (service, _) = server.service();
    let is_busy = || server.service_state(&service).status == "busy";
    wait_until("the Server to show that no task is taken", secs(30), is_busy);

    let second = server.submit(TaskSpec::script("echo hi"));
    let submitted = Instant::now();
    let is_answered = |poll: &&Request| poll.at > submitted && poll.status.is_some();
    let polls = || server.requests_to("poll").iter().filter(is_answered).count();
    wait_until("polls without the image", secs(30), || polls() >= 4);
    assert!(running.is_running());
    assert_eq!(server.task(&second).accepted_count, 0);

    docker(&["tag", test_image(), &image.0]);
    assert_eq!(server.wait_for(&second, Status::Completed, secs(60)).stdout(), "hi\n");
}

#[test]
fn a_missing_entrypoint_fails_the_task_with_dockers_message() {
    let server = FakeServer::start();
    let config = "[executor]\nexecutor_type = 'custom'\ncustom_entrypoint = ['/no/such/program', 'x']";
    let agent = Agent::builder(&server).with_engine().config(config).build();
    let _running = agent.start();
    // The failure is the task's own, so the next task is accepted.
    for _ in 0..2 {
        let id = server.submit(TaskSpec::new("x"));
        let task = server.wait_for(&id, Status::Failed, secs(60));
        let message = task.error_message.unwrap();
        assert!(message.contains("/no/such/program") && message.contains("no such file"), "{message}");
        assert!(!message.contains("docker build"), "the image is there: {message}");
        assert_eq!((&task.output["exit_code"], task.completed_count), (&json!(null), 1));
        assert_no_containers(&id);
    }
}

/// A network of the engine. Dropping the value removes it.
struct Network(String);

impl Network {
    fn create(server: &FakeServer, options: &[&str]) -> Self {
        let name = format!("agent-core-test-{}", server.task_prefix());
        let network = Self(name);
        docker(&[&["network", "create"], options, &[&network.0]].concat());
        network
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        docker_if_there(&["network", "rm", &self.0]);
    }
}

/// Waits until the agent says this of why it accepts nothing.
fn wait_not_accepting(agent: &Agent, words: &str) {
    wait_until(&format!("a status that says {words:?}"), secs(60), || {
        agent
            .run(&["status"])
            .stdout
            .lines()
            .any(|line| line.starts_with("Accepting tasks: no") && line.contains(words))
    });
}

#[test]
fn a_pruned_network_costs_one_task_of_the_queue() {
    let server = FakeServer::start();
    let network = Network::create(&server, &[]);
    let config = format!("[executor]\nnetwork = '{}'", network.0);
    let agent = Agent::builder(&server).with_engine().capacity(2).config(&config).build();
    docker(&["network", "rm", &network.0]);
    let tasks: Vec<String> = (0..6).map(|_| server.submit(TaskSpec::script("echo hi"))).collect();
    let mut running = agent.start();
    let states = || tasks.iter().map(|id| server.task(id).status).collect::<Vec<_>>();
    wait_until("the first task to fail", secs(60), || states().contains(&Status::Failed));
    wait_not_accepting(&agent, &format!("network {} not found", network.0));
    let (service, _) = server.service();
    wait_until("the Server to be told", secs(30), || server.service_state(&service).status == "busy");
    running.wait_log("containers can't be started on this machine: docker: network", secs(30));
    let failed: Vec<&String> = tasks.iter().filter(|id| server.task(id).status == Status::Failed).collect();
    let [failed] = failed[..] else { panic!("not one task has failed: {:?}", states()) };
    assert!(server.task(failed).error_message.unwrap().contains("not found"));
    assert_eq!(agent.record(failed)["failed_starts"], 3);
    agent.run(&["check"]).expect_code(1).expect_stdout("✗ start").expect_stdout("not found");

    docker(&["network", "create", &network.0]);
    for id in tasks.iter().filter(|id| *id != failed) {
        assert_eq!(server.wait_for(id, Status::Completed, secs(120)).stdout(), "hi\n");
        assert_no_containers(id);
    }
}

#[test]
fn a_task_waits_for_an_address_that_another_one_has() {
    let server = FakeServer::start();
    // Its gateway takes one of the two addresses.
    let network = Network::create(&server, &["--subnet", "10.213.97.0/30"]);
    let config = format!("[executor]\nnetwork = '{}'", network.0);
    let agent = Agent::builder(&server).with_engine().capacity(2).config(&config).build();
    let script = "touch /workspace/output/up; while [ ! -e /workspace/go ]; do sleep 0.1; done; echo hi";
    let tasks = [0, 1].map(|_| server.submit(TaskSpec::script(script)));
    let _running = agent.start();
    wait_not_accepting(&agent, "no available IPv4 addresses");
    let is_up = |id: &&String| agent.workspace(id).join("output/up").exists();
    assert_eq!(tasks.iter().filter(is_up).count(), 1);
    for id in &tasks {
        assert_eq!(server.task(id).status, Status::Running);
    }
    for id in &tasks {
        fs::write(agent.workspace(id).join("go"), "").expect("let the task end");
    }
    for id in &tasks {
        assert_eq!(server.wait_for(id, Status::Completed, secs(120)).stdout(), "hi\n");
    }
}

#[test]
fn a_start_that_fails_once_is_tried_again() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().config("[executor]\ndocker = './docker'").build();
    let mark = agent.path("failed");
    // The engine makes such a container, and can't start it.
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = run ] && [ ! -e '{0}' ]; then touch '{0}'; shift; exec docker run --device /dev/nope \"$@\"; \
         fi\nexec docker \"$@\"\n",
        mark.display()
    );
    agent.write_script("docker", &script);
    let id = server.submit(TaskSpec::script("echo ran >> /workspace/output/runs; echo hi"));
    let mut running = agent.start();
    assert_eq!(server.wait_for(&id, Status::Completed, secs(60)).stdout(), "hi\n");
    assert_eq!(server.output(&id, "output/runs").text(), "ran\n");
    running.wait_log("custom device \"/dev/nope\": no such file or directory; trying again in 2 s", secs(10));
    assert_eq!(agent.record(&id)["failed_starts"], 1);
    assert_no_containers(&id);
}

#[test]
fn silent_ends_in_a_row_close_the_door() {
    let server = FakeServer::start();
    let config = "[executor]\nexecutor_type = 'custom'\ncustom_entrypoint = ['/bin/sh', '-c', 'exit 126']";
    let agent = Agent::builder(&server).with_engine().capacity(1).config(config).build();
    let tasks: Vec<String> = (0..6).map(|_| server.submit(TaskSpec::new("x"))).collect();
    let _running = agent.start();
    wait_not_accepting(&agent, "ended at once, the last with exit status 126, and printed nothing");
    let (service, _) = server.service();
    wait_until("the Server to be told", secs(30), || server.service_state(&service).status == "busy");
    let taken = tasks.iter().filter(|id| server.task(id).accepted_count > 0).count();
    assert_eq!(taken, 3);
}

#[test]
fn a_program_that_runs_meanwhile_keeps_the_door_open() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().capacity(2).build();
    let _running = agent.start();
    let end_silently = || {
        let id = server.submit(TaskSpec::script("exit 1"));
        server.wait_for(&id, Status::Failed, secs(30));
    };
    (0..2).for_each(|_| end_silently());
    let script = "echo up; while [ ! -e /workspace/go ]; do sleep 0.1; done";
    let runs = server.submit(TaskSpec::script(script));
    let log = agent.task_file(&runs, "stdout.log");
    wait_until("the program to run", secs(30), || fs::metadata(&log).is_ok_and(|log| log.len() > 0));
    (0..2).for_each(|_| end_silently());
    agent.run(&["status"]).expect_stdout("Accepting tasks: yes");
    fs::write(agent.workspace(&runs).join("go"), "").expect("let the task end");
    server.wait_for(&runs, Status::Completed, secs(60));
}

#[test]
fn no_queue_is_spent_where_no_program_can_run() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().capacity(1).config("[executor]\ndocker = './docker'").build();
    // As docker from snap does it: each first program ends with 1 under no-new-privileges.
    let denied = "#!/bin/sh\nif [ \"$1\" = run ]; then case \"$*\" in *no-new-privileges*)\n    \
        n=$#; for a; do [ \"$p\" = --entrypoint ] && a=/bin/false; p=$a; set -- \"$@\" \"$a\"; done; shift \"$n\"\n    \
        case \"$*\" in *--entrypoint*) ;; *) shift; set -- run --entrypoint /bin/false \"$@\";; esac;;\n\
        esac; fi\nexec docker \"$@\"\n";
    agent.write_script("docker", denied);
    let tasks: Vec<String> = (0..6).map(|_| server.submit(TaskSpec::script("echo hi"))).collect();
    let _running = agent.start();
    wait_not_accepting(&agent, "a container of the agent's own ended at once with status 1");
    let taken = tasks.iter().filter(|id| server.task(id).accepted_count > 0).count();
    assert_eq!(taken, 3);
    agent.run(&["check"]).expect_code(1).expect_stdout("✗ start").expect_stdout("no-new-privileges");
}
