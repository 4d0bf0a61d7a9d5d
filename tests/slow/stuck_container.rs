//! Containers and clients that get stuck, by a script before docker: a task ends all the same, its slot gets free, and the
//! log says what is waited for.

use crate::support::agent::Agent;
use crate::support::docker;
use crate::support::secs;
use crate::support::server::{FakeServer, Status};
use crate::support::tally;
use std::fs;
use std::time::Instant;

/// An agent with one slot. `case` is what the client does in place of docker; `$here` is a folder of its own.
fn agent(server: &FakeServer, case: &str) -> Agent {
    let agent = tally::agent(server).capacity(1).build();
    let here = agent.path("stand-in");
    fs::create_dir(&here).expect("make the script's folder");
    let script = format!("#!/bin/sh\nhere='{}'\n{case}\nexec docker \"$@\"\n", here.display());
    let script = agent.write_script("stand-in-docker", &script);
    agent.change_config(&format!("[executor]\ndocker = {:?}", script.to_string_lossy()));
    agent
}

/// Runs another task, in the only slot.
fn expect_another_done(server: &FakeServer, agent: &Agent) {
    let next = server.submit(tally::waiting_task(""));
    tally::release(agent, &next);
    tally::wait_done_once(server, agent, &next);
}

#[test]
fn a_client_that_outlives_its_container_is_ended() {
    let server = FakeServer::start();
    let agent = agent(&server, "if [ \"$1\" = run ]; then docker \"$@\"; exec sleep 1000; fi");
    let running = agent.start();
    let id = server.submit(tally::waiting_task(tally::RESULT));
    tally::wait_begun(&agent, &id);
    tally::release(&agent, &id);
    let released = Instant::now();
    let task = server.wait_for(&id, Status::Completed, secs(60));
    assert!(released.elapsed() < secs(60), "{:?}", released.elapsed());
    assert_eq!((task.stdout(), task.completed_count), ("begun\nreleased\n", 1));
    assert_eq!(server.output(&id, "output/result.txt").text(), "result\n");
    assert!(running.log().contains("its docker client hasn't; ending the client"), "{}", running.log());
    docker::assert_no_containers(&id);
}

#[test]
fn a_follower_that_outlives_its_container_is_ended() {
    let server = FakeServer::start();
    let agent = agent(&server, "if [ \"$1 $2\" = 'logs --follow' ]; then docker \"$@\"; exec sleep 1000; fi");
    let mut running = agent.start();
    let id = server.submit(tally::waiting_task(tally::RESULT));
    tally::wait_begun(&agent, &id);
    running.kill9();
    let mut running = agent.start();
    running.wait_log("following the running container", secs(20));
    tally::release(&agent, &id);
    let task = server.wait_for(&id, Status::Completed, secs(60));
    assert_eq!((tally::times_begun(&agent, &id), task.stdout(), task.completed_count), (1, "begun\nreleased\n", 1));
    docker::assert_no_containers(&id);
}

#[test]
fn a_docker_run_without_a_container_is_said_and_cancelled() {
    let server = FakeServer::start();
    let hang = "if [ \"$1\" = run ] && mkdir \"$here/hung\" 2>/dev/null; then exec sleep 1000; fi";
    let agent = agent(&server, hang);
    let mut running = agent.start();
    let id = server.submit(tally::waiting_task(""));
    running.wait_log("docker hasn't started the container yet, ", secs(120));
    server.cancel(&id);
    server.wait_for(&id, Status::Cancelled, secs(60));
    expect_another_done(&server, &agent);
}

#[test]
fn a_container_whose_removal_does_not_end_is_said_and_cancelled() {
    let server = FakeServer::start();
    // Without the engine's events, the container is looked at for its end.
    let removing = "[ \"$1\" != events ] || exit 1
    if [ \"$1\" = inspect ] && [ ! -e \"$here/over\" ]; then
        seen=$(docker \"$@\") || exit
        printf '%s\\n' \"$seen\" | sed 's/\"Status\":\"[a-z]*\"/\"Status\":\"removing\"/'; exit
    fi";
    let agent = agent(&server, removing);
    let mut running = agent.start();
    let id = server.submit(tally::waiting_task(""));
    tally::release(&agent, &id);
    running.wait_log("is being removed; waiting for up to 10 min", secs(60));
    server.cancel(&id);
    server.wait_for(&id, Status::Cancelled, secs(60));
    agent.write("stand-in/over", "");
    expect_another_done(&server, &agent);
}

/// The engine's times are those of a container that was running when the machine lost its power.
#[test]
fn a_container_that_was_running_at_a_power_cut_is_not_done() {
    let server = FakeServer::start();
    let stat = fs::read_to_string("/proc/stat").expect("read the time of the boot");
    let boot = stat.lines().find_map(|line| line.strip_prefix("btime ")).expect("the time of the boot");
    let case = format!(
        "[ -e \"$here/rebooted\" ] && case $1 in
        events) exit ;;
        inspect) seen=$(docker \"$@\") || exit
            started=$(date -u -d @$(({boot} - 3600)) +%Y-%m-%dT%H:%M:%SZ) ended=$(date -u -d @$(({boot} + 20)) +%Y-%m-%dT%H:%M:%SZ)
            printf '%s\\n' \"$seen\" | sed \"s/StartedAt\\\":\\\"[^\\\"]*/StartedAt\\\":\\\"$started/; s/FinishedAt\\\":\\\"[^\\\"]*/FinishedAt\\\":\\\"$ended/\"
            exit ;;
        esac"
    );
    let agent = agent(&server, &case);
    let mut running = agent.start();
    let id = server.submit(tally::waiting_task(tally::RESULT));
    tally::wait_begun(&agent, &id);
    running.kill9();
    tally::release(&agent, &id);
    let name = docker::container_name(&id);
    docker::wait_until("the container's end", secs(30), || docker::container_state(&name).as_deref() == Some("exited"));
    agent.write("stand-in/rebooted", "");
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Failed, secs(60));
    let message = task.error_message.expect("a message");
    assert!(
        message.starts_with("the machine went down while the container ran, which ended it with status 0"),
        "{message}"
    );
    assert_eq!(tally::times_begun(&agent, &id), 1);
}
