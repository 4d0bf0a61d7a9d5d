//! A crash (SIGKILL) at the critical moments of a task: its container runs once, its results arrive once.

use crate::support::agent::{Agent, Running};
use crate::support::docker;
use crate::support::secs;
use crate::support::server::{Control, FakeServer, Fault, Match, Moment, Request};
use crate::support::tally;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::process::ExitStatusExt as _;

/// Kills the agent at a moment of the first request that matches.
fn kill_at(server: &Control, running: &Running, which: Match, moment: Moment) {
    let pid = Pid::from_raw(i32::try_from(running.pid()).expect("a process id"));
    let strike = move |_: &Request| kill(pid, Signal::SIGKILL).expect("kill the agent");
    server.fault(which.times(1), Fault::call(moment, strike));
}

/// Runs a task with two results, kills the agent at this moment, starts it again, and expects everything once.
fn crash_and_go_on(which: Match, moment: Moment, besides: Option<Fault>) {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    let mut running = agent.start();
    kill_at(&server, &running, which.clone(), moment);
    if let Some(fault) = besides {
        server.fault(which.times(1), fault);
    }
    let id = server.submit(tally::waiting_task("echo A > output/a.txt; echo B > output/b.txt"));
    tally::release(&agent, &id);
    assert_eq!(running.wait_exit(secs(30)).signal(), Some(9), "the program was killed");

    let _running = agent.start();
    tally::wait_done_once(&server, &agent, &id);
    expect_both_results_once(&server, &id);
    assert_eq!(server.task(&id).accepted_count, 1);
    expect_nothing_left_to_do(&server, &agent, &id);
}

fn expect_both_results_once(server: &FakeServer, id: &str) {
    let outputs = server.outputs(id);
    let outputs: Vec<_> = outputs.iter().map(|file| (file.filename.as_str(), file.text(), file.id.as_str())).collect();
    let task = server.task(id);
    let [b, a] = task.file_ids.as_slice() else { panic!("two ids: {task:#?}") };
    assert_eq!(outputs, [("output/a.txt", "A\n", a.as_str()), ("output/b.txt", "B\n", b.as_str())]);
}

/// Stops the agent and starts it once more; it must make no further call about the task.
fn expect_nothing_left_to_do(server: &FakeServer, agent: &Agent, id: &str) {
    tally::wait_phase(agent, id, "settled");
    agent.run(&["stop"]).expect_code(0);
    let before = server.requests().len();
    let _running = agent.start();
    let polled = |server: &Control| server.requests()[before..].iter().filter(|request| request.is("poll")).count();
    server.wait_until("two polls", secs(20), |server| polled(server) >= 2);
    let about = |request: &Request| request.about(id);
    assert!(!server.requests()[before..].iter().any(about), "a call is about the settled task");
}

#[test]
fn a_kill_before_accept_takes_effect_loses_nothing() {
    crash_and_go_on(Match::path("accept"), Moment::Arrived, Some(Fault::Reset));
}

#[test]
fn a_kill_after_accept_took_effect_loses_nothing() {
    crash_and_go_on(Match::path("accept"), Moment::Effected, None);
}

#[test]
fn a_kill_after_the_answer_to_accept_loses_nothing() {
    crash_and_go_on(Match::path("accept"), Moment::Answered, None);
}

#[test]
fn a_kill_during_a_download_loses_nothing() {
    crash_and_go_on(Match::path("download"), Moment::Arrived, Some(Fault::CutAnswer(10)));
}

#[test]
fn a_kill_before_an_upload_takes_effect_loses_nothing() {
    crash_and_go_on(Match::path("upload").file("output/b.txt"), Moment::Arrived, Some(Fault::Reset));
}

#[test]
fn a_kill_after_an_upload_took_effect_loses_nothing() {
    crash_and_go_on(Match::path("upload").file("output/b.txt"), Moment::Effected, None);
}

#[test]
fn a_kill_after_the_answer_to_an_upload_loses_nothing() {
    crash_and_go_on(Match::path("upload").file("output/b.txt"), Moment::Answered, None);
}

#[test]
fn a_kill_before_complete_takes_effect_loses_nothing() {
    crash_and_go_on(Match::path("complete"), Moment::Arrived, Some(Fault::Reset));
}

#[test]
fn a_kill_after_complete_took_effect_loses_nothing() {
    crash_and_go_on(Match::path("complete"), Moment::Effected, None);
}

#[test]
fn a_kill_while_containers_start_runs_each_task_once() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).capacity(4).build();
    let mut running = agent.start();
    let ids = [(); 4].map(|()| server.submit(tally::waiting_task("")));
    // The other containers may be created, about to be created, or not requested yet.
    docker::wait_until("a container to begin", secs(30), || ids.iter().any(|id| tally::times_begun(&agent, id) > 0));
    running.kill9();
    let _running = agent.start();
    for id in &ids {
        tally::release(&agent, id);
    }
    for id in &ids {
        tally::wait_done_once(&server, &agent, id);
    }
}
