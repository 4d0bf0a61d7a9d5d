//! `stop --drain` and `stop --abort`.

use crate::support::agent::{Agent, Running};
use crate::support::docker;
use crate::support::secs;
use crate::support::server::{FakeServer, Status, TaskSpec};
use crate::support::tally;
use nix::sys::signal::Signal;

/// An agent with a task whose container waits.
fn at_work(server: &FakeServer) -> (Agent, Running, String) {
    let agent = tally::agent(server).capacity(2).build();
    let running = agent.start();
    let id = server.submit(tally::waiting_task("echo done > output/done"));
    tally::wait_begun(&agent, &id);
    (agent, running, id)
}

#[test]
fn a_drain_ends_the_agent_after_all_deliveries() {
    let server = FakeServer::start();
    let (agent, mut running, id) = at_work(&server);
    let mut drain = agent.invoke(&["stop", "--drain"]).start();
    running.wait_log("draining: no new task is accepted", secs(20));
    let late = server.submit(tally::waiting_task(""));
    let polls = server.requests_to("poll").len();
    server
        .wait_until("polls that show the late task", secs(20), |server| server.requests_to("poll").len() >= polls + 3);
    assert_eq!(server.task(&late).status, Status::Pending, "no new task is accepted");
    assert_eq!(server.heartbeats().last().expect("heartbeats").body["status"], "busy");
    agent.run(&["status"]).expect_code(0).expect_stdout("Accepting tasks: no: the agent is draining");
    assert!(drain.is_running() && running.is_running());

    tally::release(&agent, &id);
    assert_eq!(drain.wait_exit(secs(30)).code(), Some(0), "{}", drain.log());
    assert!(running.wait_exit(secs(20)).success());
    assert!(drain.stdout().contains("1 task(s) in progress, 0 result(s) to deliver\n"), "{}", drain.stdout());
    assert!(drain.stdout().ends_with(&format!("Drained and stopped (pid {}).\n", running.pid())), "{}", drain.stdout());
    tally::wait_done_once(&server, &agent, &id);
    assert_eq!(server.output(&id, "output/done").text(), "done\n");
    assert_eq!(server.heartbeats().last().expect("heartbeats").body["status"], "offline");
    assert!(!agent.data_dir().join("drain").exists());

    // The next start accepts tasks again.
    let _running = agent.start();
    tally::wait_begun(&agent, &late);
    tally::release(&agent, &late);
    server.wait_for(&late, Status::Completed, secs(60));
}

#[test]
fn a_drain_continues_when_its_command_is_interrupted() {
    let server = FakeServer::start();
    let (agent, mut running, id) = at_work(&server);
    let mut drain = agent.invoke(&["stop", "--drain"]).start();
    running.wait_log("draining", secs(20));
    // SIGTERM, since children of a background shell may ignore SIGINT.
    drain.signal(Signal::SIGTERM);
    drain.wait_exit(secs(20));
    assert!(running.is_running());
    tally::release(&agent, &id);
    assert!(running.wait_exit(secs(30)).success());
    tally::wait_done_once(&server, &agent, &id);
}

#[test]
fn a_drain_fails_when_the_agent_is_killed() {
    let server = FakeServer::start();
    let (agent, mut running, id) = at_work(&server);
    let mut drain = agent.invoke(&["stop", "--drain"]).start();
    running.wait_log("draining", secs(20));
    running.kill9();
    assert_eq!(drain.wait_exit(secs(20)).code(), Some(1));
    let words = "ended before everything was delivered: 1 task(s) in progress, 0 result(s) to deliver; start it again";
    assert!(drain.log().contains(words), "{}", drain.log());
    // The drain request of the killed agent doesn't apply to the next start.
    let mut running = agent.start();
    running.wait_log("following the running container", secs(20));
    let next = server.submit(tally::waiting_task(""));
    tally::wait_begun(&agent, &next);
    for task in [&id, &next] {
        tally::release(&agent, task);
        tally::wait_done_once(&server, &agent, task);
    }
}

#[test]
fn drain_and_abort_succeed_without_an_agent() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    agent.run(&["stop", "--drain"]).expect_code(0).expect_stdout("The agent is not running.");
    agent.run(&["stop", "--abort"]).expect_code(0).expect_stdout("The agent is not running.");
    agent.run(&["stop", "--abort", "--drain"]).expect_code(2).expect_stderr("cannot be used with");
}

#[test]
fn an_abort_ends_containers_and_reports_their_tasks_as_failed() {
    let server = FakeServer::start();
    let (agent, mut running, id) = at_work(&server);
    let other = server.submit(tally::waiting_task(""));
    tally::wait_begun(&agent, &other);
    let finished = agent.run(&["stop", "--abort"]);
    finished.expect_code(0).expect_stdout(&format!("Stopped (pid {}).", running.pid()));
    finished.expect_stdout("2 task(s) aborted.");
    assert!(running.wait_exit(secs(20)).success());
    for task in [&id, &other] {
        let task = server.task(task);
        assert_eq!((task.status, task.completed_count), (Status::Failed, 1), "{task:#?}");
        let message = task.error_message.as_deref().unwrap_or_default();
        assert_eq!(message.lines().next(), Some("stopped by the operator"), "{message}");
        docker::assert_no_containers(&task.id);
    }
    agent.run(&["stop", "--abort"]).expect_code(0).expect_stdout("No task is left to stop.");
}

#[test]
fn an_aborted_container_has_ten_seconds_to_write_its_files() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let script = "trap 'sleep 4; echo late > output/late; exit 0' TERM
        touch output/began
        while :; do sleep 0.1; done";
    let id = server.submit(TaskSpec::script(script));
    let _running = agent.start();
    let began = agent.workspace(&id).join("output/began");
    docker::wait_until("the script", secs(60), || began.exists());
    agent.run(&["stop", "--abort"]).expect_code(0);
    assert_eq!(server.output(&id, "output/late").text(), "late\n");
}

#[test]
fn an_abort_needs_no_running_agent() {
    let server = FakeServer::start();
    let (agent, mut running, id) = at_work(&server);
    running.kill9();
    assert_eq!(docker::container_state(&docker::container_name(&id)).as_deref(), Some("running"));
    let finished = agent.run(&["stop", "--abort"]);
    finished.expect_code(0).expect_stdout("The agent is not running.").expect_stdout("1 task(s) aborted.");
    assert_eq!(server.task(&id).status, Status::Failed);
    docker::assert_no_containers(&id);
}

#[test]
fn an_abort_without_a_report_is_reported_by_the_next_start() {
    let server = FakeServer::start();
    let (agent, mut running, id) = at_work(&server);
    server.stop_listening();
    let mut abort = agent.invoke(&["stop", "--abort"]).start();
    running.wait_exit(secs(20));
    docker::wait_until("the container to be removed", secs(40), || {
        !docker::container_exists(&docker::container_name(&id))
    });
    tally::wait_phase(&agent, &id, "exited");
    // The signal shortens the minute that `stop` waits.
    abort.signal(Signal::SIGINT);
    assert_eq!(abort.wait_exit(secs(20)).code(), Some(1));
    let words = "not every task could be stopped and reported: 0 task(s) in progress, 1 result(s) to deliver; the next \
                 start continues";
    assert!(abort.log().contains(words), "{}", abort.log());
    server.resume();
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Failed, secs(30));
    assert_eq!(task.error_message.as_deref().unwrap_or_default().lines().next(), Some("stopped by the operator"));
    assert_eq!(tally::times_begun(&agent, &id), 1);
}

#[test]
fn tasks_of_another_registration_do_not_block_a_drain() {
    let server = FakeServer::start();
    let (agent, mut running, id) = at_work(&server);
    running.kill9();
    tally::release(&agent, &id);
    docker::wait_container_state(&id, "exited", secs(20));
    let (service, key) = server.add_service();
    agent.change_config(&format!("[agent]\nservice_id = '{service}'\napi_key = '{key}'"));
    let mut running = agent.start();
    running.wait_log("tasks are accepted", secs(20));
    let status = agent.run(&["status"]);
    status.expect_code(0).expect_stdout("Load: 0 of 2 slots, 0 undelivered, 1 of another registration");
    let words = "1 task(s) of another registration are kept and not worked on";
    agent.run(&["stop", "--drain"]).expect_code(0).expect_stdout("Drained and stopped").expect_stdout(words);
    assert!(running.wait_exit(secs(20)).success());
    agent.run(&["stop"]).expect_code(0).expect_stdout(words);
}

#[test]
fn an_abort_does_not_stop_another_agents_container() {
    let server = FakeServer::start();
    let (agent, mut running, id) = at_work(&server);
    running.kill9();
    // Another data_dir has a record of the same task, as after a copy of the folder. The container belongs to the first
    // agent.
    let twin = tally::agent(&server).build();
    let (service, key) = server.add_service();
    twin.change_config(&format!("[agent]\nservice_id = '{service}'\napi_key = '{key}'"));
    twin.write(&format!("data/tasks/{id}/record.json"), agent.record(&id).to_string());
    twin.run(&["stop", "--abort"]).expect_code(0).expect_stdout("1 task(s) aborted.");
    assert_eq!(docker::container_state(&docker::container_name(&id)).as_deref(), Some("running"));
    let _running = agent.start();
    tally::release(&agent, &id);
    tally::wait_done_once(&server, &agent, &id);
}
