//! The agent as the first process (pid 1) of a container: here of a PID namespace of its own.

use crate::support::agent::{Agent, Running};
use crate::support::docker::wait_until;
use crate::support::secs;
use crate::support::server::FakeServer;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::thread;

const NAMESPACE: [&str; 4] = ["unshare", "--pid", "--fork", "--mount-proc"];

/// The process with this number in the namespace that the first process leads, as this machine numbers it.
fn first_process(running: &Running) -> i32 {
    let path = format!("/proc/{0}/task/{0}/children", running.pid());
    let children = || fs::read_to_string(&path).unwrap_or_default().trim().parse::<i32>().ok();
    wait_until("the first process", secs(20), || children().is_some());
    children().expect("a process id")
}

/// The states of the processes whose parent this is.
fn states_of_children(parent: i32) -> Vec<String> {
    let listed = fs::read_dir("/proc").expect("list the processes").flatten();
    let stats = listed.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let fields = stats.filter_map(|stat| stat.rsplit_once(") ").map(|(_, rest)| rest.to_owned()));
    let own = |rest: &String| rest.split(' ').nth(1).and_then(|ppid| ppid.parse().ok()) == Some(parent);
    fields.filter(own).map(|rest| rest[..1].to_owned()).collect()
}

/// An agent whose docker client leaves a process behind with each call.
fn start(server: &FakeServer) -> (Agent, Running) {
    crate::require_root();
    let agent = Agent::builder(server).without_engine().config("[executor]\ndocker = './docker'").build();
    agent.write_script("docker", "#!/bin/sh\n(sleep 0.3 &)\necho called >>\"$(dirname \"$0\")/calls\"\nexit 1\n");
    let running = agent.invoke(&["run"]).through(&NAMESPACE).start();
    server.wait_until("a heartbeat", secs(20), |server| !server.heartbeats().is_empty());
    (agent, running)
}

#[test]
fn the_first_process_ends_on_sigterm() {
    let server = FakeServer::start();
    let (_agent, mut running) = start(&server);
    kill(Pid::from_raw(first_process(&running)), Signal::SIGTERM).expect("send a signal");
    assert!(running.wait_exit(secs(20)).success(), "{}", running.log());
    assert!(running.log().contains("stopped"), "{}", running.log());
}

#[test]
fn stop_ends_an_agent_below_the_first_process() {
    let server = FakeServer::start();
    let (agent, mut running) = start(&server);
    let first = first_process(&running).to_string();
    let inside = ["nsenter", "--target", &first, "--pid", "--mount"];
    let config = agent.config_path().to_string_lossy().into_owned();
    agent.invoke(&["--config", &config, "stop"]).through(&inside).run().expect_code(0).expect_stdout("Stopped");
    assert!(running.wait_exit(secs(20)).success(), "{}", running.log());
}

#[test]
fn processes_that_docker_leaves_do_not_stay_as_zombies() {
    let server = FakeServer::start();
    let (agent, mut running) = start(&server);
    let first = first_process(&running);
    let calls = || fs::read_to_string(agent.path("calls")).unwrap_or_default().lines().count();
    wait_until("calls of docker", secs(20), || calls() >= 1);
    // The process that each call leaves has ended by then.
    thread::sleep(secs(2));
    let states = states_of_children(first);
    assert!(!states.is_empty() && !states.contains(&"Z".to_owned()), "{states:?}");
    // The agent is killed, and the first process ends with it.
    let children = fs::read_to_string(format!("/proc/{first}/task/{first}/children")).expect("its children");
    let child: i32 = children.split_whitespace().next().expect("the agent").parse().expect("a process id");
    kill(Pid::from_raw(child), Signal::SIGKILL).expect("send a signal");
    assert_eq!(running.wait_exit(secs(20)).code(), Some(128 + 9));
}
