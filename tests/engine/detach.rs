//! `run-detached`, `status` and `stop`: the agent in the background.
//!
//! Commands run in `/` with a minimal environment, as from cron. Dropping the test's folder ends an agent that a
//! failing test leaves behind.

use crate::support::agent::{Agent, Finished};
use crate::support::docker;
use crate::support::secs;
use crate::support::server::{FakeServer, Fault, Match, Status};
use crate::support::tally;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getsid};
use std::fs;
use std::time::Instant;

fn run_from_root(agent: &Agent, command: &str) -> Finished {
    let config = agent.config_path();
    agent.invoke(&["--config", &config.to_string_lossy(), command]).cwd("/").run()
}

/// Starts the agent in the background and returns its process.
fn detach(agent: &Agent) -> Pid {
    let finished = run_from_root(agent, "run-detached");
    finished.expect_code(0);
    let pid = pid_in(agent);
    finished.expect_stdout(&format!("The agent runs in the background (pid {pid})"));
    pid
}

fn pid_in(agent: &Agent) -> Pid {
    let text = fs::read_to_string(agent.data_dir().join("agent.pid")).expect("the pidfile");
    Pid::from_raw(text.trim().parse().expect("a process id"))
}

/// Whether a process runs. A zombie doesn't.
fn is_alive(process: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // proc(5): the state follows the name, which is in brackets.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn wait_gone(process: Pid) {
    docker::wait_until("the agent to end", secs(20), || !is_alive(process));
}

fn wait_log(agent: &Agent, text: &str) {
    docker::wait_until(&format!("{text:?} in agent.log"), secs(20), || agent.agent_log().contains(text));
}

#[test]
fn run_detached_returns_when_the_agent_is_up() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    let begun = Instant::now();
    let process = detach(&agent);
    assert!(begun.elapsed() < secs(30), "elapsed: {:?}", begun.elapsed());
    assert!(is_alive(process));
    wait_log(&agent, "tasks are accepted");
    assert!(agent.agent_log().contains(&format!("for service {} at {}", server.service().0, server.url())));
    let id = server.submit(tally::waiting_task(""));
    tally::release(&agent, &id);
    tally::wait_done_once(&server, &agent, &id);
    wait_log(&agent, &format!("task {id}: settled as completed"));
}

#[test]
fn a_detached_agent_has_its_own_session_and_log() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    let process = detach(&agent);
    assert_eq!(getsid(Some(process)), Ok(process), "the agent leads its own session");
    let stream = |number: u32| fs::read_link(format!("/proc/{process}/fd/{number}")).expect("a stream");
    let log = agent.data_dir().join("agent.log");
    assert_eq!([0, 1, 2].map(stream), ["/dev/null".into(), log.clone(), log]);
}

#[test]
fn a_second_run_detached_changes_nothing() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    let process = detach(&agent);
    wait_log(&agent, "tasks are accepted");
    let again = run_from_root(&agent, "run-detached");
    again.expect_code(0);
    assert_eq!(again.stdout, "");
    assert!(is_alive(process));
    assert_eq!(pid_in(&agent), process);
    let alone = [u32::try_from(process.as_raw()).expect("a process id")];
    docker::wait_until("one agent and no other process", secs(20), || agent.processes() == alone);
}

#[test]
fn status_shows_whether_the_agent_runs() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    run_from_root(&agent, "status").expect_code(3).expect_stdout("Running: no");
    let process = detach(&agent);
    let status = run_from_root(&agent, "status");
    status.expect_code(0).expect_stdout(&format!("Running: yes, pid {process}"));
    status.expect_stdout(&format!("Service ID: {}", server.service().0));
    run_from_root(&agent, "stop").expect_code(0);
    run_from_root(&agent, "status").expect_code(3).expect_stdout("Running: no");
}

#[test]
fn stop_ends_the_agent() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    let process = detach(&agent);
    wait_log(&agent, "tasks are accepted");
    // After five seconds it would say that the agent was killed.
    run_from_root(&agent, "stop").expect_code(0).expect_stdout(&format!("Stopped (pid {process})."));
    wait_gone(process);
    assert!(!agent.data_dir().join("agent.pid").exists());
    assert_eq!(server.heartbeats().last().expect("heartbeats").body["status"], "offline");
}

#[test]
fn stop_succeeds_when_no_agent_runs() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    run_from_root(&agent, "stop").expect_code(0).expect_stdout("The agent is not running.");
    // `stop` also succeeds with the pidfile of a crashed agent.
    let process = detach(&agent);
    kill(process, Signal::SIGKILL).expect("kill the agent");
    // The kernel releases the lock when the last thread has ended.
    let status = || run_from_root(&agent, "status").status.code();
    docker::wait_until("the status of no agent", secs(20), || status() == Some(3));
    assert_eq!(pid_in(&agent), process, "a crash leaves the pidfile");
    run_from_root(&agent, "stop").expect_code(0).expect_stdout("The agent is not running.");
    assert!(!agent.data_dir().join("agent.pid").exists());
}

#[test]
fn stop_kills_an_agent_that_does_not_end() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    let process = detach(&agent);
    // A stopped process reacts only to SIGCONT and SIGKILL.
    kill(process, Signal::SIGSTOP).expect("stop the process");
    let begun = Instant::now();
    run_from_root(&agent, "stop").expect_code(0).expect_stdout(&format!("Killed after 5 seconds (pid {process})."));
    assert!(begun.elapsed() < secs(20), "elapsed: {:?}", begun.elapsed());
    wait_gone(process);
    assert!(!agent.data_dir().join("agent.pid").exists());
    detach(&agent);
}

#[test]
fn a_container_outlives_stop_and_the_next_start_adopts_it() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    let process = detach(&agent);
    let id = server.submit(tally::waiting_task(""));
    tally::wait_begun(&agent, &id);
    let stopped = run_from_root(&agent, "stop");
    stopped.expect_code(0);
    stopped.expect_stdout("1 task(s) stay in their containers; the next start continues them.");
    assert_eq!(docker::container_state(&docker::container_name(&id)).as_deref(), Some("running"));
    assert_eq!(server.task(&id).status, Status::Running);
    wait_gone(process);
    docker::wait_until("the docker clients to end", secs(20), || agent.processes().is_empty());

    detach(&agent);
    wait_log(&agent, "following the running container");
    tally::release(&agent, &id);
    tally::wait_done_once(&server, &agent, &id);
}

#[test]
fn run_detached_reports_why_the_agent_does_not_start() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).unregistered().build();
    run_from_root(&agent, "run-detached").expect_code(1).expect_stderr("not registered; run `agent-core --config");
    // `run-detached` quotes the log for errors after the start.
    let agent = tally::agent(&server).build();
    fs::create_dir_all(agent.data_dir().join("instance_id")).expect("a folder in the way");
    let refused = run_from_root(&agent, "run-detached");
    refused.expect_code(1).expect_stderr("the agent didn't start; the end of ").expect_stderr("can't be used");
    run_from_root(&agent, "status").expect_code(3);
    assert!(agent.processes().is_empty());
}

#[test]
fn a_missing_mount_does_not_block_a_delivery() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    server.fault(Match::path("upload"), Fault::status(503));
    let mut running = agent.start();
    let id = server.submit(tally::waiting_task("echo x > output/x"));
    tally::release(&agent, &id);
    tally::wait_phase(&agent, &id, "exited");
    running.terminate(secs(20));
    server.clear_faults();
    agent.change_config("[[paths.mounts]]\nhost = '/nonexistent/nas'\ncontainer = '/nas'");
    let process = detach(&agent);
    server.wait_for(&id, Status::Completed, secs(60));
    run_from_root(&agent, "stop").expect_code(0);
    wait_gone(process);
    // Without undelivered results the agent refuses to start with a missing mount, and shows only that reason.
    tally::wait_phase(&agent, &id, "settled");
    let refused = run_from_root(&agent, "run-detached");
    refused.expect_code(1).expect_stderr("the mount's host path `/nonexistent/nas`");
    assert_eq!(refused.stderr.matches("for service").count(), 0, "an earlier start's lines: {}", refused.stderr);
}
