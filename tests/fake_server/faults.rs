//! Every fault of the fake Server, from the client's side.

use crate::client::{Client, DEADLINE, completion, connect, form};
use crate::server::{FakeServer, Fault, Match, Moment, Options, Request, Response, Status, TaskSpec};
use serde_json::json;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

fn server_and_client() -> (FakeServer, Client) {
    let server = FakeServer::start();
    let client = Client::new(&server);
    (server, client)
}

/// A client with a short timeout.
fn hasty(client: &Client) -> Client {
    let config = ureq::Agent::config_builder()
        .proxy(None)
        .timeout_global(Some(Duration::from_millis(300)))
        .http_status_as_error(false)
        .build();
    Client { agent: config.into(), ..client.clone() }
}

#[test]
fn a_fault_can_replace_the_answer() {
    let (server, client) = server_and_client();
    let id = server.submit(TaskSpec::new("run"));
    let fault = server.fault(Match::path("accept").times(2), Fault::status_with_header(503, "Retry-After", "7"));
    for _ in 0..2 {
        let reply = client.accept(&id);
        assert_eq!((reply.status, reply.header("retry-after")), (503, Some("7")));
    }
    assert_eq!(server.fault_hits(fault), 2);
    assert_eq!(server.task(&id).status, Status::Pending, "the accept had no effect");
    assert_eq!(client.accept(&id).status, 200, "the fault is over");
    let odd = Response::new(200, "application/json", "[]");
    server.fault(Match::path("poll"), Fault::Answer(odd));
    assert_eq!(client.poll(), json!([]));
}

#[test]
fn a_fault_can_answer_html_instead_of_json() {
    let (server, client) = server_and_client();
    for status in [200, 502] {
        server.fault(Match::path("poll").times(1), Fault::html(status));
        let reply = client.try_poll().expect("an answer");
        assert_eq!(reply.status, status);
        assert!(reply.bytes.starts_with(b"<html>"));
    }
}

#[test]
fn faults_apply_only_to_matching_requests() {
    let (server, client) = server_and_client();
    let first = server.submit(TaskSpec::new("run").input("a.csv", "1").input("b.csv", "2"));
    let second = server.submit(TaskSpec::new("run"));
    server.fault(Match::path("accept").task(&second), Fault::status(500));
    server.fault(Match::path("upload").file("b"), Fault::status(501));
    server.fault(Match::path("download").task(&first).nth(2), Fault::status(502));
    let offline = Match::path("heartbeat").when(|request| request.body["status"] == "offline");
    server.fault(offline, Fault::status(503));
    assert_eq!(client.accept(&first).status, 200);
    assert_eq!(client.accept(&second).status, 500);
    assert_eq!(client.upload(&first, "a", b"1").status, 200);
    assert_eq!(client.upload(&first, "b", b"1").status, 501);
    let files = server.files(&first);
    let statuses = [0, 1, 1].map(|index| client.get(&format!("{}/download", files[index].id)).status);
    assert_eq!(statuses, [200, 502, 200]);
    assert_eq!(client.heartbeat("online").status, 200);
    assert_eq!(client.heartbeat("offline").status, 503);
    server.clear_faults();
    assert_eq!(client.heartbeat("offline").status, 200);
}

#[test]
fn a_fault_can_be_removed() {
    let (server, client) = server_and_client();
    let fault = server.fault(Match::any(), Fault::status(500));
    assert_eq!(client.heartbeat("online").status, 500);
    server.remove_fault(fault);
    assert_eq!(client.heartbeat("online").status, 200);
}

#[test]
fn a_reset_request_has_no_effect() {
    let (server, client) = server_and_client();
    let id = server.submit(TaskSpec::new("run"));
    server.fault(Match::path("accept").times(1), Fault::Reset);
    assert!(client.try_post("accept", &json!({"task_id": id})).is_err());
    assert_eq!(server.task(&id).status, Status::Pending);
    assert_eq!(server.requests_to("accept")[0].status, None);
    assert_eq!(client.accept(&id).status, 200);
}

#[test]
fn a_reset_ends_the_connection_with_rst() {
    let (server, client) = server_and_client();
    server.fault(Match::any(), Fault::Reset);
    let mut connection = connect(&server);
    let request = format!("GET /api/v1/files/agent/{}/files/list/x HTTP/1.1\r\n\r\n", client.sid);
    connection.write_all(request.as_bytes()).expect("send");
    let error = connection.read(&mut [0; 10]).expect_err("no answer");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_request_with_a_lost_answer_takes_effect() {
    let (server, client) = server_and_client();
    let id = server.submit(TaskSpec::new("run"));
    server.fault(Match::path("accept").times(1), Fault::AnswerLost);
    server.fault(Match::path("upload").times(1), Fault::AnswerLost);
    server.fault(Match::path("complete").times(1), Fault::Truncated);
    assert!(client.try_post("accept", &json!({"task_id": id})).is_err());
    assert_eq!(server.task(&id).status, Status::Running);
    assert_eq!(client.accept(&id).status, 400);
    assert!(client.try_upload(&id, "a", b"1").is_err());
    assert_eq!(server.outputs(&id).len(), 1);
    assert!(client.try_post("complete", &completion(&id, "completed")).is_err());
    assert_eq!(server.task(&id).status, Status::Completed);
}

#[test]
fn delays_come_before_or_after_the_effect() {
    let (server, client) = server_and_client();
    let first = server.submit(TaskSpec::new("run"));
    let second = server.submit(TaskSpec::new("run"));
    let delay = Duration::from_secs(30);
    server.fault(Match::path("accept").task(&first), Fault::Delay(delay));
    server.fault(Match::path("accept").task(&second), Fault::Late(delay));
    let hasty = hasty(&client);
    assert!(hasty.try_post("accept", &json!({"task_id": first})).is_err());
    assert!(hasty.try_post("accept", &json!({"task_id": second})).is_err());
    assert_eq!(server.task(&first).status, Status::Pending);
    assert_eq!(server.task(&second).status, Status::Running);
    server.clear_faults();
    server.fault(Match::path("heartbeat"), Fault::Delay(Duration::from_millis(100)));
    let began = Instant::now();
    assert_eq!(client.heartbeat("online").status, 200);
    assert!(began.elapsed() >= Duration::from_millis(100));
}

#[test]
fn an_unanswered_request_waits_until_the_server_stops() {
    let (server, client) = server_and_client();
    server.fault(Match::path("poll"), Fault::NeverAnswer);
    let began = Instant::now();
    assert!(hasty(&client).try_poll().is_err());
    assert!(began.elapsed() >= Duration::from_millis(300));
    let waiting = client.clone();
    let waiting = thread::spawn(move || waiting.try_poll().is_err());
    server.wait_until("the second poll", DEADLINE, |server| server.requests().len() == 2);
    drop(server);
    assert!(waiting.join().expect("the waiting client"));
}

#[test]
fn an_early_answer_does_not_wait_for_the_body() {
    let (server, client) = server_and_client();
    let id = client.running_task(&server);
    server.fault(Match::path("upload").times(1), Fault::too_large_for_the_proxy());
    let mut connection = connect(&server);
    connection.write_all(client.upload_head(10_000_000).as_bytes()).expect("send the head");
    let mut answer = [0; 12];
    connection.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 413");
    assert_eq!(client.upload(&id, "a", b"1").status, 200);
}

#[test]
fn an_upload_can_be_cut_or_stalled() {
    let (server, client) = server_and_client();
    let id = client.running_task(&server);
    server.fault(Match::path("upload").nth(1), Fault::CutBody(1000));
    server.fault(Match::path("upload").nth(1), Fault::StallBody(1000));
    let bytes = vec![b'x'; 20_000_000];
    assert!(client.try_upload(&id, "cut", &bytes).is_err());
    let began = Instant::now();
    assert!(hasty(&client).try_upload(&id, "stalled", &bytes).is_err());
    assert!(began.elapsed() >= Duration::from_millis(250));
    assert!(server.outputs(&id).is_empty());
    assert_eq!(client.upload(&id, "whole", b"1").status, 200);
}

#[test]
fn a_download_can_be_cut_stalled_slow_or_of_wrong_length() {
    let (server, client) = server_and_client();
    let content = vec![b'y'; 100_000];
    let id = server.submit(TaskSpec::new("run").input("a", content));
    let path = format!("{}/download", server.files(&id)[0].id);
    let next = |fault: Fault| server.fault(Match::path("download").times(1), fault);
    next(Fault::CutAnswer(50_000));
    assert!(client.try_get(&path).is_err(), "cut");
    next(Fault::StallAnswer(50_000));
    assert!(hasty(&client).try_get(&path).is_err(), "stalled");
    next(Fault::WrongLength(5));
    assert_eq!(client.get(&path).bytes.len(), 100_005);
    next(Fault::WrongLength(-5));
    assert_eq!(client.get(&path).bytes.len(), 99_995);
    next(Fault::DripAnswer { piece: 20_000, pause: Duration::from_millis(20) });
    let began = Instant::now();
    assert_eq!(client.get(&path).bytes.len(), 100_000);
    assert!(began.elapsed() >= Duration::from_millis(80), "four pauses");
}

#[test]
fn an_offer_can_announce_a_wrong_size() {
    let (server, client) = server_and_client();
    server.submit(TaskSpec::new("run").input("a", "12345").announced_size(7));
    assert_eq!(client.poll()["task"]["input_files"][0]["size_bytes"], 7);
}

#[test]
fn callbacks_run_at_their_moment_beside_other_faults() {
    let (server, client) = server_and_client();
    let id = server.submit(TaskSpec::new("run"));
    let seen = Arc::new(Mutex::new(Vec::new()));
    for moment in [Moment::Arrived, Moment::Effected, Moment::Answered] {
        let (seen, control) = (Arc::clone(&seen), server.control());
        let action = move |request: &Request| {
            let id = request.task_id.as_deref().expect("a task");
            let answered = request.answered.is_some();
            seen.lock().expect("the list").push((moment, control.task(id).status, answered));
        };
        server.fault(Match::path("accept"), Fault::call(moment, action));
    }
    assert_eq!(client.accept(&id).status, 200);
    server.wait_until("all calls", DEADLINE, |_| seen.lock().expect("the list").len() == 3);
    assert_eq!(
        *seen.lock().expect("the list"),
        [
            (Moment::Arrived, Status::Pending, false),
            (Moment::Effected, Status::Running, false),
            (Moment::Answered, Status::Running, true),
        ]
    );
    server.fault(Match::path("accept"), Fault::Reset);
    assert!(client.try_post("accept", &json!({"task_id": id})).is_err());
    assert_eq!(seen.lock().expect("the list").len(), 4, "only the first callback ran");
}

#[test]
fn a_callback_can_run_while_the_body_arrives() {
    let (server, client) = server_and_client();
    let id = client.running_task(&server);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sizes = Arc::clone(&seen);
    let note = move |request: &Request| sizes.lock().expect("the list").push(request.size);
    server.fault(Match::path("upload").times(2), Fault::call(Moment::Begun, note));
    server.fault(Match::path("upload").nth(1), Fault::CutBody(1000));
    let bytes = vec![b'x'; 20_000_000];
    assert!(client.try_upload(&id, "cut", &bytes).is_err());
    assert_eq!(client.upload(&id, "whole", &bytes).status, 200);
    assert_eq!(*seen.lock().expect("the list"), [0, 0]);
}

#[test]
fn an_outage_keeps_port_and_state() {
    let (server, client) = server_and_client();
    let id = client.running_task(&server);
    let url = server.url();
    for _ in 0..3 {
        server.stop_listening();
        let address = url.replace("http://", "");
        let error = TcpStream::connect(address).expect_err("the port is closed");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        server.resume();
        // A pooled connection from before the outage may fail once.
        let _ = client.try_poll();
        assert_eq!(client.heartbeat("online").status, 200);
        assert_eq!(server.url(), url);
    }
    assert_eq!(client.complete(&id, "completed").status, 200);
}

#[test]
fn an_outage_ends_open_requests() {
    let (server, client) = server_and_client();
    server.fault(Match::path("poll"), Fault::NeverAnswer);
    let control = server.control();
    server.fault(Match::path("heartbeat"), Fault::call(Moment::Arrived, move |_| control.stop_listening()));
    let waiting = client.clone();
    let waiting = thread::spawn(move || waiting.try_poll().is_err());
    server.wait_until("the poll", DEADLINE, |server| server.requests().len() == 1);
    let body = json!({"status": "online", "current_load": 0, "capacity": 2, "available_capacity": 2});
    assert!(client.try_post("heartbeat", &body).is_err(), "the outage also closes this connection");
    assert!(waiting.join().expect("the waiting client"));
}

#[test]
fn the_request_log_drops_the_oldest_entries() {
    let server = FakeServer::start_with(Options { keep_requests: 3, ..Options::default() });
    let client = Client::new(&server);
    for _ in 0..5 {
        client.heartbeat("online");
    }
    client.poll();
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests[2].is("poll"));
    assert_eq!(requests[2].status, Some(200));
    assert!(server.report().contains("→ 200"), "{}", server.report());
}

#[test]
fn a_truncated_form_leaves_no_file() {
    let (server, client) = server_and_client();
    let id = client.running_task(&server);
    let body = form(&[("task_id", None, id.as_bytes()), ("file", Some("a"), b"1")]);
    let mut connection = connect(&server);
    connection.write_all(client.upload_head(body.len()).as_bytes()).expect("send the head");
    connection.write_all(&body[..body.len() - 10]).expect("send a part");
    server.wait_until("the task's id to be read", DEADLINE, |server| server.unfinished_uploads() == 1);
    drop(connection);
    assert_eq!(client.upload(&id, "b", b"2").status, 200);
    let names: Vec<String> = server.outputs(&id).into_iter().map(|file| file.filename).collect();
    assert_eq!(names, ["b"]);
}
