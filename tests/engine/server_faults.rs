//! The Server is down, loses answers, requeues tasks or refuses calls: each task still runs once, and its result
//! arrives once.

use crate::support::agent::{Agent, Running};
use crate::support::docker;
use crate::support::secs;
use crate::support::server::{Control, FakeServer, Fault, Match, Moment, Request, Response, Status};
use crate::support::tally::{self, RESULT, begun};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use std::fs;
use std::thread;

/// An agent with this fault scripted, and a task that needs no release.
fn with_trouble(server: &FakeServer, which: Match, fault: Fault) -> (Agent, Running, String) {
    let agent = tally::agent(server).build();
    let running = agent.start();
    server.fault(which, fault);
    let id = server.submit(tally::waiting_task(RESULT));
    tally::release(&agent, &id);
    (agent, running, id)
}

fn expect_result_once(server: &FakeServer, agent: &Agent, id: &str) {
    let task = tally::wait_done_once(server, agent, id);
    let file = server.output(id, "output/result.txt");
    assert_eq!(file.bytes, b"result\n");
    assert_eq!(task.file_ids, [file.id]);
}

/// Waits for this many more polls and expects that no other call was about the task meanwhile.
fn expect_quiet(server: &FakeServer, id: &str, polls: usize) {
    let before = server.requests().len();
    let since = |server: &Control| server.requests().split_off(before);
    server.wait_until("polls", secs(20), |server| {
        since(server).iter().filter(|request| request.is("poll")).count() >= polls
    });
    assert!(!since(server).iter().any(|request| request.about(id)), "{}", server.report());
}

#[test]
fn a_result_waits_until_the_server_is_back() {
    let server = FakeServer::start();
    let (agent, mut running, id) = begun(&server);
    server.stop_listening();
    tally::release(&agent, &id);
    running.wait_log("container exited with 0", secs(20));
    running.wait_log("the Server can't be reached", secs(20));
    server.resume();
    expect_result_once(&server, &agent, &id);
    assert_eq!(server.task(&id).accepted_count, 1);
}

#[test]
fn a_waiting_result_is_delivered_after_a_restart() {
    let server = FakeServer::start();
    let (agent, mut running, id) = begun(&server);
    server.stop_listening();
    tally::release(&agent, &id);
    running.wait_log("container exited with 0", secs(20));
    assert_eq!(running.terminate(secs(20)).code(), Some(0));
    let said = "1 result(s) are not delivered yet; the next start delivers them";
    assert!(running.log().contains(said), "{}", running.log());
    let mut running = agent.start();
    running.wait_log("the Server can't be reached", secs(20));
    server.resume();
    expect_result_once(&server, &agent, &id);
}

#[test]
fn a_task_runs_once_after_a_lost_answer_to_accept() {
    let server = FakeServer::start();
    let (agent, _running, id) = with_trouble(&server, Match::path("accept").nth(1), Fault::AnswerLost);
    expect_result_once(&server, &agent, &id);
    assert_eq!(server.task(&id).accepted_count, 1);
    assert_eq!(
        server.requests_to("accept").len(),
        2,
        "the second accept is refused, which proves that the first took effect"
    );
}

#[test]
fn an_accept_that_did_not_arrive_is_repeated() {
    let server = FakeServer::start();
    let (agent, _running, id) = with_trouble(&server, Match::path("accept").nth(1), Fault::Reset);
    expect_result_once(&server, &agent, &id);
    assert_eq!(server.task(&id).accepted_count, 1);
}

/// Such a call leaves no doubt: were it taken for a lost one, the agent would run a task that it was never given.
#[test]
fn an_accept_without_a_connection_leaves_no_task_behind() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    let mut running = agent.start();
    running.wait_log("tasks are accepted", secs(20));
    server.pause_offering(true);
    let id = server.submit(tally::waiting_task(RESULT));
    tally::release(&agent, &id);
    let next_poll = || Match::path("poll").times(1);
    let (offering, outage) = (server.control(), server.control());
    server.fault(next_poll(), Fault::call(Moment::Arrived, move |_| offering.pause_offering(false)));
    server.fault(next_poll(), Fault::call(Moment::Answered, move |_| outage.stop_listening()));
    running.wait_log(&format!("accept of the task `{id}`: the Server can't be reached"), secs(20));
    assert!(!agent.task_file(&id, "record.json").exists());
    server.cancel(&id);
    server.resume();
    expect_quiet(&server, &id, 3);
    assert_eq!(tally::times_begun(&agent, &id), 0);
}

#[test]
fn an_upload_with_a_lost_answer_is_not_repeated() {
    let server = FakeServer::start();
    let (agent, _running, id) = with_trouble(&server, Match::path("upload").nth(1), Fault::AnswerLost);
    expect_result_once(&server, &agent, &id);
    assert_eq!(server.requests_to("upload").len(), 1, "the file isn't sent again");
}

#[test]
fn an_upload_that_did_not_arrive_is_repeated() {
    let server = FakeServer::start();
    let (agent, _running, id) = with_trouble(&server, Match::path("upload").nth(1), Fault::CutBody(200));
    expect_result_once(&server, &agent, &id);
    assert_eq!(server.requests_to("upload").len(), 2);
}

#[test]
fn a_report_with_a_lost_answer_counts_once() {
    let server = FakeServer::start();
    let (agent, mut running, id) = with_trouble(&server, Match::path("complete").nth(1), Fault::AnswerLost);
    running.wait_log("had ended on the Server already", secs(30));
    expect_result_once(&server, &agent, &id);
    let statuses: Vec<_> = server.requests_to("complete").iter().map(|request| request.status).collect();
    // After a refused report and a refused accept the agent reports once more: the accept may have been refused
    // because an earlier accept of this agent took effect. The last report has nothing but the status.
    assert_eq!(statuses, [None, Some(400), Some(400), Some(400)]);
    expect_quiet(&server, &id, 3);
}

#[test]
fn a_task_requeued_while_its_container_runs_is_reclaimed() {
    let server = FakeServer::start();
    let (agent, mut running, id) = begun(&server);
    server.time_out(&server.service().0);
    running.wait_log("had been requeued and is this agent's again", secs(20));
    let task = server.task(&id);
    assert_eq!((task.retry_count, task.accepted_count), (1, 2));
    tally::release(&agent, &id);
    expect_result_once(&server, &agent, &id);
    expect_quiet(&server, &id, 2);
}

#[test]
fn a_task_requeued_just_before_its_report_is_reported() {
    let server = FakeServer::start();
    let service = server.service().0;
    let control = server.control();
    let requeue = move |_: &Request| control.time_out(&service);
    let requeued = Fault::call(Moment::Arrived, requeue);
    let (agent, _running, id) = with_trouble(&server, Match::path("complete").nth(1), requeued);
    expect_result_once(&server, &agent, &id);
    let task = server.task(&id);
    assert_eq!((task.retry_count, task.accepted_count), (1, 2));
    expect_quiet(&server, &id, 2);
}

#[test]
fn a_task_requeued_while_no_agent_runs_is_reclaimed() {
    let server = FakeServer::start();
    let (agent, mut running, id) = begun(&server);
    running.kill9();
    server.time_out(&server.service().0);
    let _running = agent.start();
    server.wait_until("the task to be accepted again", secs(20), |server| server.task(&id).accepted_count == 2);
    tally::release(&agent, &id);
    expect_result_once(&server, &agent, &id);
}

/// Makes the Server offer the settled task again. The agent must report it again, and run and send nothing.
fn expect_handed_in_again(server: &FakeServer, agent: &Agent, id: &str, running: &mut Running) {
    let (before, first) = (server.requests().len(), server.task(id));
    server.forget_end(id);
    running.wait_log("offered again although it was settled; reporting the stored result", secs(20));
    server.wait_for(id, Status::Completed, secs(60));
    tally::wait_phase(agent, id, "settled");
    let again = server.task(id);
    assert_eq!((again.accepted_count, again.completed_count), (2, 2));
    assert_eq!((again.output, again.file_ids), (first.output, first.file_ids));
    let requests = server.requests().split_off(before);
    assert!(!requests.iter().any(|request| request.is("upload") || request.is("download")), "{}", server.report());
    assert_eq!(tally::times_begun(agent, id), 1, "the container ran once");
    docker::assert_no_containers(id);
}

#[test]
fn a_settled_task_offered_again_is_reported_from_its_record() {
    let server = FakeServer::start();
    let (agent, mut running, id) = begun(&server);
    tally::release(&agent, &id);
    expect_result_once(&server, &agent, &id);
    tally::wait_phase(&agent, &id, "settled");
    expect_handed_in_again(&server, &agent, &id, &mut running);
    expect_quiet(&server, &id, 3);
}

#[test]
fn a_settled_task_without_its_workspace_is_reported_again() {
    let server = FakeServer::start();
    let (agent, mut running, id) = begun(&server);
    tally::release(&agent, &id);
    expect_result_once(&server, &agent, &id);
    tally::wait_phase(&agent, &id, "settled");
    assert_eq!(running.terminate(secs(20)).code(), Some(0));
    // The agent removes delivered workspaces when the disk is nearly full.
    fs::remove_dir_all(agent.workspace(&id)).expect("remove the workspace");
    let mut running = agent.start();
    expect_handed_in_again(&server, &agent, &id, &mut running);
}

#[test]
fn retry_after_delays_the_next_poll() {
    let server = FakeServer::start();
    let (agent, _running, id) = begun(&server);
    let refusal = Fault::status_with_header(429, "Retry-After", "4");
    let refused = server.fault(Match::path("poll").times(1), refusal);
    server.wait_until("a refused poll", secs(20), |server| server.fault_hits(refused) == 1);
    // A free slot must not shorten the pause.
    tally::release(&agent, &id);
    expect_result_once(&server, &agent, &id);
    let is_refused = |request: &Request| request.status == Some(429);
    let next = |server: &Control| {
        let polls = server.requests_to("poll");
        let place = polls.iter().position(is_refused)?;
        Some(polls.get(place + 1)?.at - polls[place].at)
    };
    server.wait_until("the next poll", secs(20), |server| next(server).is_some());
    let pause = next(&server).expect("two polls");
    assert!(pause >= secs(4) && pause < secs(20), "the pause was {pause:?}");
}

#[test]
fn a_revoked_key_is_logged_once_and_loses_no_result() {
    let server = FakeServer::start();
    let (agent, mut running, id) = begun(&server);
    let service = server.service().0;
    let before = server.requests().len();
    server.revoke_key(&service);
    running.wait_log("register again with `agent-core --config", secs(30));
    // The container continues, and its result waits until the Server accepts the key: all calls for it would be refused.
    tally::release(&agent, &id);
    tally::wait_phase(&agent, &id, "exited");
    let refused = |server: &Control, call: &str| {
        let requests = server.requests().split_off(before);
        requests.iter().filter(|request| request.is(call) && request.status == Some(401)).count()
    };
    let heartbeats = refused(&server, "heartbeat");
    server.wait_until("a heartbeat", secs(40), |server| refused(server, "heartbeat") > heartbeats);
    assert_eq!((refused(&server, "list"), refused(&server, "upload")), (0, 0), "{}", server.report());
    assert!(refused(&server, "poll") <= 1, "the agent stops polling with a bad key");
    let log = running.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("register")).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("401") && lines[0].contains(" register --replace --token rt_…`"), "{}", lines[0]);

    // The command in the line repairs the registration.
    assert_eq!(running.terminate(secs(20)).code(), Some(0));
    server.add_token_for("rt_again", &service);
    agent.run(&["register", "--replace", "--token", "rt_again"]).expect_code(0);
    let _running = agent.start();
    expect_result_once(&server, &agent, &id);
    docker::assert_no_containers(&id);
}

#[test]
fn a_result_undelivered_for_a_day_is_logged_as_an_error() {
    let server = FakeServer::start();
    let (agent, mut running, id) = begun(&server);
    server.stop_listening();
    tally::release(&agent, &id);
    tally::wait_phase(&agent, &id, "exited");
    running.kill9();
    let mut record = agent.record(&id);
    let ended: Timestamp = record["ending"]["at"].as_str().and_then(|at| at.parse().ok()).expect("a time");
    record["ending"]["at"] = json!((ended - SignedDuration::from_hours(30)).to_string());
    fs::write(agent.task_file(&id, "record.json"), record.to_string()).expect("write the record");

    let mut running = agent.start();
    running.wait_log("1 result(s) have been waiting for delivery for over a day", secs(30));
    let log = running.log();
    let line = log.lines().find(|line| line.contains("over a day")).expect("a line about the delay");
    assert!(line.contains("ERROR") && line.contains(&format!("that of task {id}, for 30 h: ")), "{line}");
    assert!(line.contains("the Server doesn't acknowledge this agent's heartbeats"), "{line}");
    server.resume();
    expect_result_once(&server, &agent, &id);
}

/// Runs a task while the first calls of this kind get these faults, one after the other.
fn survives(call: &str, faults: Vec<Fault>) {
    let server = FakeServer::start();
    let hits: Vec<_> = faults.into_iter().map(|fault| server.fault(Match::path(call).times(1), fault)).collect();
    let agent = tally::agent(&server).build();
    let _running = agent.start();
    let id = server.submit(tally::waiting_task(RESULT).input("in.txt", b"input"));
    tally::release(&agent, &id);
    server.wait_for(&id, Status::Completed, secs(90));
    assert!(hits.iter().all(|hit| server.fault_hits(*hit) == 1), "{call}: not every fault was used");
    expect_result_once(&server, &agent, &id);
}

const CALLS: [&str; 5] = ["accept", "download", "list", "upload", "complete"];

#[test]
fn every_call_is_retried_after_error_pages() {
    thread::scope(|scope| {
        for call in CALLS {
            scope.spawn(move || survives(call, vec![Fault::html(502), Fault::html(200), Fault::status(500)]));
        }
    });
}

/// Answers with a good status that aren't the Server's: of a proxy, or of a network that wants a login first.
#[test]
fn every_call_is_retried_after_a_success_that_is_not_the_servers() {
    let answers = [
        Response::new(204, "text/plain", ""),
        Response::json(200, &json!({"success": false, "error": "Maintenance"})),
        Response::json(202, &json!({"success": true, "file_id": "f", "files": []})),
    ];
    thread::scope(|scope| {
        // A download has no form: its length is what is checked.
        for call in ["accept", "list", "upload", "complete"] {
            let faults = answers.clone().map(Fault::Answer).to_vec();
            scope.spawn(move || survives(call, faults));
        }
    });
}

#[test]
fn a_report_that_another_program_confirms_is_not_settled() {
    let server = FakeServer::start();
    let (agent, mut running, id) = begun(&server);
    let other = Response::json(200, &json!({"success": true, "task_id": "another", "status": "completed"}));
    let fault = server.fault(Match::path("complete"), Fault::Answer(other));
    tally::release(&agent, &id);
    running.wait_log("no usable answer from the Server: a confirmation about another task", secs(20));
    assert_eq!(agent.record(&id)["phase"], "uploaded");
    server.remove_fault(fault);
    expect_result_once(&server, &agent, &id);
}

#[test]
fn every_call_is_retried_after_timeouts_and_rate_limits() {
    let now = Timestamp::now().to_zoned(TimeZone::UTC);
    let in_two_seconds =
        now.saturating_add(SignedDuration::from_secs(2)).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    thread::scope(|scope| {
        for call in CALLS {
            let date = in_two_seconds.as_str();
            scope.spawn(move || {
                let asked = [
                    Fault::status_with_header(503, "Retry-After", date),
                    Fault::status_with_header(429, "Retry-After", "1"),
                ];
                survives(call, asked.into_iter().chain([Fault::status(408)]).collect());
            });
        }
    });
}

#[test]
fn tasks_of_another_service_are_kept_and_not_sent() {
    let server = FakeServer::start();
    let (agent, mut running, id) = begun(&server);
    running.kill9();
    tally::release(&agent, &id);
    docker::wait_container_state(&id, "exited", secs(20));
    let (old_service, old_key) = server.service();
    let (service, key) = server.add_service();
    let before = server.requests().len();
    agent.change_config(&format!("[agent]\nservice_id = '{service}'\napi_key = '{key}'"));
    let mut running = agent.start();
    let url = server.url();
    running.wait_log(
        &format!("1 unfinished task(s) of service {old_service} at {url} are kept and not worked on"),
        secs(20),
    );
    server.wait_until("polls", secs(20), |server| {
        server.requests().split_off(before).iter().filter(|request| request.is("poll")).count() >= 3
    });
    let requests = server.requests().split_off(before);
    assert!(requests.iter().all(|request| !request.about(&id)), "{}", server.report());
    let is_there = docker::container_state(&docker::container_name(&id));
    assert_eq!(is_there.as_deref(), Some("exited"), "its container is kept, too");
    assert_eq!(running.terminate(secs(20)).code(), Some(0));

    agent.change_config(&format!("[agent]\nservice_id = '{old_service}'\napi_key = '{old_key}'"));
    let _running = agent.start();
    expect_result_once(&server, &agent, &id);
}
