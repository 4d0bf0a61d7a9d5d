//! A Server whose answers have a date, as the real one's: the agent needs no list of files before its first upload, since
//! the time of a listed file says whether it is this agent's.

use crate::support::agent::{Agent, Running};
use crate::support::secs;
use crate::support::server::{FakeServer, Fault, Match, Options, Status};
use crate::support::tally::{self, RESULT};
use std::thread;
use std::time::Duration;

fn server() -> FakeServer {
    FakeServer::start_with(Options { dates: true, ..Options::default() })
}

fn submit(server: &FakeServer) -> (Agent, Running, String) {
    let agent = tally::agent(server).build();
    let running = agent.start();
    let id = server.submit(tally::waiting_task(RESULT).input("in.txt", b"input"));
    tally::release(&agent, &id);
    (agent, running, id)
}

/// Expects so many uploads, and that a list was asked for before the first one or not.
fn expect_uploads(server: &FakeServer, count: usize, is_listed_first: bool) {
    assert_eq!(server.requests_to("upload").len(), count);
    let delivery = server.requests().into_iter().find(|request| request.is("list") || request.is("upload"));
    assert_eq!(delivery.expect("an upload").is("list"), is_listed_first);
}

#[test]
fn a_task_with_input_and_result_takes_four_calls_beside_its_poll() {
    let server = server();
    let (agent, _running, id) = submit(&server);
    tally::wait_done_once(&server, &agent, &id);
    let calls = ["accept", "download", "list", "upload", "complete"].map(|call| server.requests_to(call).len());
    assert_eq!(calls, [1, 2, 0, 1, 1], "its script is an input, too");
}

#[test]
fn an_upload_with_a_lost_answer_is_found_by_its_time() {
    let server = server();
    server.fault(Match::path("upload").nth(1), Fault::AnswerLost);
    let (agent, _running, id) = submit(&server);
    tally::wait_done_once(&server, &agent, &id);
    assert_eq!(server.output(&id, "output/result.txt").text(), "result\n");
    expect_uploads(&server, 1, false);
    assert_eq!(server.requests_to("list").len(), 1);
}

#[test]
fn a_lost_upload_is_not_mistaken_for_an_older_file() {
    let server = server();
    server.pause_offering(true);
    server.fault(Match::path("upload").nth(1), Fault::CutBody(200));
    let (agent, _running, id) = submit(&server);
    let old = server.add_result(&id, "output/result.txt", b"resulT\n");
    // A date has no parts of a second.
    thread::sleep(Duration::from_millis(1100));
    server.pause_offering(false);
    let task = server.wait_for(&id, Status::Completed, secs(60));
    assert_eq!((task.file_ids.len(), task.file_ids.contains(&old)), (1, false));
    assert_eq!(server.file(&task.file_ids[0]).expect("the new file").text(), "result\n");
    expect_uploads(&server, 2, false);
    assert_eq!(tally::times_begun(&agent, &id), 1);
}

/// Another agent may have had the task meanwhile, and sent files that are younger than this agent's first `accept`.
#[test]
fn a_requeued_task_is_listed_before_its_first_upload() {
    let server = server();
    let agent = tally::agent(&server).build();
    let mut running = agent.start();
    let id = server.submit(tally::waiting_task(RESULT));
    tally::wait_begun(&agent, &id);
    running.kill9();
    server.time_out(&server.service().0);
    let other = server.add_result(&id, "output/result.txt", b"resulT\n");
    server.fault(Match::path("upload").nth(1), Fault::CutBody(200));
    let _running = agent.start();
    tally::release(&agent, &id);
    let task = server.wait_for(&id, Status::Completed, secs(60));
    assert_eq!((task.file_ids.len(), task.file_ids.contains(&other)), (1, false));
    expect_uploads(&server, 2, true);
    assert_eq!(tally::times_begun(&agent, &id), 1);
}
