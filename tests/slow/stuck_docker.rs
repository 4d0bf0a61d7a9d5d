//! A docker client that hangs, or that leaves a process behind which holds its output open.

use crate::support::agent::{Agent, Running};
use crate::support::docker;
use crate::support::secs;
use crate::support::server::{FakeServer, Status};
use crate::support::tally;
use std::fs;
use std::time::Instant;

/// Installs a script as the docker client. `$here` is its folder.
fn install(agent: &Agent, body: &str) {
    let script = agent.path("stand-in/docker");
    let here = script.parent().expect("the script has a folder");
    agent.write_script("stand-in/docker", &format!("#!/bin/sh\nhere='{}'\n{body}\n", here.display()));
    agent.change_config(&format!("[executor]\ndocker = {:?}", script.to_string_lossy()));
}

/// An agent with a task whose docker client hangs at the first call of this kind.
fn with_hanging(server: &FakeServer, verb: &str) -> (Agent, Running, String) {
    let agent = tally::agent(server).build();
    let hang = format!("if [ \"$1\" = {verb} ] && mkdir \"$here/hung\" 2>/dev/null; then exec sleep 1000; fi");
    // Where the engine's events say how a container has ended, it isn't inspected.
    let blind = "[ \"$1 $2\" != 'events --filter' ] || exit 1";
    let blind = if verb == "inspect" { blind } else { "" };
    install(&agent, &format!("{hang}\n{blind}\nexec docker \"$@\""));
    let id = server.submit(tally::waiting_task("echo result > output/result"));
    tally::release(&agent, &id);
    let running = agent.start();
    (agent, running, id)
}

/// Waits until the task is completed once and the hanging client has ended.
fn expect_completed_once(server: &FakeServer, agent: &Agent, running: &mut Running, id: &str) {
    let task = server.wait_for(id, Status::Completed, secs(60));
    assert_eq!((tally::times_begun(agent, id), task.completed_count), (1, 1));
    assert_eq!(task.stdout(), "begun\nreleased\n");
    assert_eq!(server.output(id, "output/result").text(), "result\n");
    let what = "the agent to be the only process";
    docker::wait_until(what, secs(20), || agent.processes() == [running.pid()]);
    assert!(running.is_running());
    let gap = server.longest_heartbeat_gap();
    assert!(gap < secs(30), "the longest time between two heartbeats was {gap:?}");
}

#[test]
fn a_hanging_version_call_is_ended() {
    let server = FakeServer::start();
    let (agent, mut running, id) = with_hanging(&server, "version");
    running.wait_log("version` gave no answer within 10 s", secs(30));
    assert!(running.log().contains("no new task is accepted: the Docker engine can't be reached"), "{}", running.log());
    assert_eq!(server.task(&id).accepted_count, 0);
    expect_completed_once(&server, &agent, &mut running, &id);
    docker::assert_no_containers(&id);
}

#[test]
fn a_hanging_inspect_call_is_ended() {
    let server = FakeServer::start();
    let (agent, mut running, id) = with_hanging(&server, "inspect");
    running.wait_log("waiting for the engine", secs(50));
    assert!(running.log().contains("inspect` gave no answer within 30 s"), "{}", running.log());
    expect_completed_once(&server, &agent, &mut running, &id);
    docker::assert_no_containers(&id);
}

#[test]
fn a_hanging_rm_call_is_ended() {
    let server = FakeServer::start();
    let (agent, mut running, id) = with_hanging(&server, "rm");
    let began = Instant::now();
    server.wait_for(&id, Status::Completed, secs(20));
    assert!(began.elapsed() < secs(20), "the task waits for the removal");
    // The call is ended after 30 s, and made again.
    let name = docker::container_name(&id);
    docker::wait_until("the removal", secs(60), || docker::container_state(&name).is_none());
    expect_completed_once(&server, &agent, &mut running, &id);
}

#[test]
fn a_process_that_holds_the_clients_output_delays_nothing() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    // One process stays in the client's process group, the other leaves it.
    install(
        &agent,
        "if [ \"$1\" != run ]; then exec docker \"$@\"; fi
        docker \"$@\"
        code=$?
        sleep 301 &
        setsid sleep 302 &
        echo $! > \"$here/left\"
        exit $code",
    );
    let mut running = agent.start();
    let id = server.submit(tally::waiting_task("echo result > output/result"));
    tally::wait_begun(&agent, &id);
    let released = Instant::now();
    tally::release(&agent, &id);
    let task = server.wait_for(&id, Status::Completed, secs(40));
    let took = released.elapsed();
    assert!(took < secs(36), "completed after {took:?}");
    assert_eq!(task.stdout(), "begun\nreleased\n");
    assert_eq!((tally::times_begun(&agent, &id), task.completed_count), (1, 1));
    assert_eq!(server.output(&id, "output/result").text(), "result\n");

    let left: u32 = fs::read_to_string(agent.path("stand-in/left")).unwrap().trim().parse().unwrap();
    let what = "only the agent and the process outside of the group to run";
    docker::wait_until(what, secs(20), || {
        let mut processes = agent.processes();
        processes.retain(|process| *process != running.pid());
        processes == [left]
    });
    // A second task works the same way. When the processes end, the agent's threads for them end, too.
    let next = server.submit(tally::waiting_task(""));
    tally::release(&agent, &next);
    tally::wait_done_once(&server, &agent, &next);
    let pumps = || threads(&running).iter().filter(|name| name.starts_with("task-std")).count();
    docker::wait_until("threads that wait for that output", secs(20), || pumps() == 4);
    for process in agent.processes() {
        if process != running.pid() {
            kill(process);
        }
    }
    docker::wait_until("the end of those threads", secs(20), || pumps() == 0);
    assert!(running.is_running());
}

/// The names of the program's threads, cut to 15 characters by the system.
fn threads(running: &Running) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", running.pid())).expect("list the threads");
    // A thread that has ended meanwhile has no name.
    tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("comm")).ok()).collect()
}

fn kill(process: u32) {
    use nix::sys::signal::{Signal, kill};
    let process = nix::unistd::Pid::from_raw(i32::try_from(process).expect("a process id"));
    // It may have ended by itself.
    let _ = kill(process, Signal::SIGKILL);
}
