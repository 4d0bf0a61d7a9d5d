//! Points 6 to 9 of PROTOCOL: the limits, the codes, and registering.

use crate::client::{Client, DEADLINE, connect, exchange, form, millis};
use crate::server::{FakeServer, KeyHeaders, Options, RateLimit, TaskSpec};
use serde_json::{Value, json};
use std::io::Write;
use std::time::Instant;

#[test]
fn point_6_the_window_slides_and_refused_calls_do_not_count() {
    let window = millis(400);
    let limit = RateLimit { calls: 3, window, retry_after_secs: 60 };
    let server = FakeServer::start_with(Options { rate_limit: Some(limit), ..Options::default() });
    let client = Client::new(&server);
    let began = Instant::now();
    while began.elapsed() < window * 4 {
        let reply = client.heartbeat("online");
        if reply.status == 429 {
            assert_eq!(reply.header("retry-after"), Some("60"));
        }
    }
    let beats = server.requests_to("heartbeat");
    let passed = server.heartbeats();
    assert!(beats.iter().any(|beat| beat.status == Some(429)));
    // If refused calls counted, the window would never become empty.
    assert!(passed.len() >= 6, "{} passed", passed.len());
    for four in passed.windows(4) {
        // A request is counted between the arrival of its head and its answer.
        let answered = four[3].answered.unwrap_or_else(Instant::now);
        let span = answered - four[0].at;
        assert!(span >= window, "four calls within {span:?}");
    }
}

#[test]
fn point_6_each_key_has_its_own_window() {
    let limit = RateLimit { calls: 1, ..RateLimit::real() };
    let server = FakeServer::start_with(Options { rate_limit: Some(limit), ..Options::default() });
    let client = Client::new(&server);
    let other = Client::with_credentials(&server, server.add_service());
    assert_eq!(client.heartbeat("online").status, 200);
    assert_eq!(client.heartbeat("online").status, 429);
    assert_eq!(other.heartbeat("online").status, 200);
}

#[test]
fn point_7_a_body_that_does_not_arrive_is_408() {
    let server = FakeServer::start_with(Options { body_deadline: millis(50), ..Options::default() });
    let client = Client::new(&server);
    let id = client.running_task(&server);
    let mut connection = connect(&server);
    connection.write_all(client.upload_head(1000).as_bytes()).expect("send the head");
    let answer = exchange(&mut connection, b"------limit7\r\n").expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(server.outputs(&id).is_empty());
}

#[test]
fn point_7_a_file_may_be_just_as_large_as_the_limit() {
    let server = FakeServer::start_with(Options { max_upload_bytes: 100_000, ..Options::default() });
    let client = Client::new(&server);
    let id = client.running_task(&server);
    assert_eq!(client.upload(&id, "fits", &[b'x'; 100_000]).status, 200);
    assert_eq!(client.upload(&id, "too-large", &[b'\n'; 100_001]).status, 400);
    assert_eq!(client.upload(&id, "far-too-large", &[b'x'; 1_000_000]).status, 400);
    let names: Vec<String> = server.outputs(&id).into_iter().map(|file| file.filename).collect();
    assert_eq!(names, ["fits"]);
}

#[test]
fn point_7_a_name_uploaded_twice_makes_two_files_in_any_state() {
    let server = FakeServer::start();
    let client = Client::new(&server);
    let id = server.submit(TaskSpec::new("run"));
    assert_eq!(client.upload(&id, "a", b"1").status, 200);
    server.cancel(&id);
    assert_eq!(client.upload(&id, "a", b"2").status, 200);
    let outputs = server.outputs(&id);
    assert_eq!(outputs.iter().map(|file| file.text()).collect::<Vec<_>>(), ["1", "2"]);
    assert_ne!(outputs[0].id, outputs[1].id);
}

#[test]
fn point_7_an_upload_deletes_unfinished_ones_of_its_task() {
    let server = FakeServer::start();
    let client = Client::new(&server);
    let id = client.running_task(&server);
    let other = client.running_task(&server);
    let content = vec![b'x'; 100_000];
    let body = form(&[("task_id", None, id.as_bytes()), ("file", Some("slow"), &content)]);
    let mut slow = connect(&server);
    slow.write_all(client.upload_head(body.len()).as_bytes()).expect("send the head");
    slow.write_all(&body[..1000]).expect("send a part");
    server.wait_until("the task's id to be read", DEADLINE, |server| server.unfinished_uploads() == 1);
    assert_eq!(client.upload(&other, "other", b"1").status, 200, "an upload of another task has no effect");
    assert_eq!(server.spoiled_uploads(), 0);
    assert_eq!(client.upload(&id, "fast", b"2").status, 200);
    assert_eq!(server.spoiled_uploads(), 1);
    slow.write_all(&body[1000..]).expect("send the rest");
    server.wait_until("an answer", DEADLINE, |server| {
        server.requests().iter().any(|request| request.status == Some(500))
    });
    let names: Vec<String> = server.outputs(&id).into_iter().map(|file| file.filename).collect();
    assert_eq!(names, ["fast"]);
}

#[test]
fn point_8_all_three_headers_are_required() {
    let server = FakeServer::start();
    let client = Client::new(&server);
    let path = format!("/api/v1/agent/{}/heartbeat", client.sid);
    for left_out in 0..3 {
        let mut headers = client.headers();
        headers.remove(left_out);
        let reply = client.request("POST", &path, &headers, None).expect("an answer");
        assert_eq!(reply.status, 401, "without the header number {left_out}");
    }
}

#[test]
fn point_8_older_servers_read_one_key_header() {
    for (mode, enough) in [
        (KeyHeaders::Either, [true, true]),
        (KeyHeaders::OnlyApiKey, [false, true]),
        (KeyHeaders::OnlyBearer, [true, false]),
    ] {
        let server = FakeServer::start_with(Options { key_headers: mode, ..Options::default() });
        let client = Client::new(&server);
        let path = format!("/api/v1/agent/{}/poll", client.sid);
        for (left_out, enough) in [(1, enough[0]), (2, enough[1])] {
            let mut headers = client.headers();
            headers.remove(left_out);
            let body = json!({"current_load": 0, "available_capacity": 1}).to_string();
            let body = Some(("application/json", body.into_bytes()));
            let reply = client.request("POST", &path, &headers, body).expect("an answer");
            let expected = if enough { 200 } else { 401 };
            assert_eq!(reply.status, expected, "{mode:?} without the header number {left_out}");
        }
    }
}

#[test]
fn point_8_wrong_keys_and_services_have_their_statuses() {
    let server = FakeServer::start();
    let client = Client::new(&server);
    let other = Client::with_credentials(&server, server.add_service());
    let bad = Client { key: "ak_wrong".to_owned(), ..client.clone() };
    assert_eq!(bad.try_poll().expect("an answer").status, 401);
    // The key is right, but the path names the other service.
    let path = format!("/api/v1/agent/{}/poll", other.sid);
    let reply = client.request("POST", &path, &client.headers(), None).expect("an answer");
    assert_eq!(reply.status, 403);
    server.revoke_key(&client.sid);
    assert_eq!(client.try_poll().expect("an answer").status, 401);
    server.recreate_service(&other.sid);
    assert_eq!(other.try_poll().expect("an answer").status, 500);
}

#[test]
fn point_8_unknown_and_foreign_ids_are_refused() {
    let server = FakeServer::start();
    let client = Client::new(&server);
    let other = Client::with_credentials(&server, server.add_service());
    let id = server.submit(TaskSpec::new("run").service(&other.sid).input("a", "b"));
    let file = server.files(&id)[0].id.clone();
    assert_eq!(client.accept("nobody").status, 400);
    assert_eq!(client.accept(&id).status, 400);
    assert_eq!(client.complete("nobody", "completed").status, 400);
    other.accept(&id);
    assert_eq!(client.complete(&id, "completed").status, 400);
    assert_eq!(client.get(&format!("{file}/download")).status, 403);
    assert_eq!(client.get("nothing/download").status, 404);
    assert_eq!(client.get(&format!("list/{id}")).status, 403);
    assert_eq!(client.get("list/nobody").status, 404);
    assert_eq!(client.upload(&id, "a", b"1").status, 403);
    assert_eq!(client.upload("nobody", "a", b"1").status, 404);
}

#[test]
fn point_8_invalid_heartbeats_are_refused() {
    let server = FakeServer::start();
    let client = Client::new(&server);
    let beat = |load: Value, capacity: Value| {
        let body = json!({
            "status": "online", "current_load": load, "capacity": capacity, "available_capacity": 0,
        });
        client.post("heartbeat", &body).status
    };
    assert_eq!(beat(json!(2), json!(2)), 200);
    assert_eq!(beat(json!(3), json!(2)), 400);
    assert_eq!(beat(json!(0), json!(0)), 400);
    assert_eq!(beat(json!("0"), json!(2)), 400);
    assert_eq!(client.heartbeat("resting").status, 400);
}

#[test]
fn point_8_a_proxy_refuses_large_bodies() {
    let server = FakeServer::start_with(Options { proxy_body_limit: Some(1000), ..Options::default() });
    let client = Client::new(&server);
    let id = client.running_task(&server);
    let reply = client.upload(&id, "a", &[b'x'; 1000]);
    assert_eq!(reply.status, 413);
    assert_eq!(reply.header("content-type"), Some("text/html"));
    assert_eq!(client.upload(&id, "a", b"1").status, 200);
}

#[test]
fn point_9_a_token_works_once() {
    let server = FakeServer::start();
    server.add_token("rt_x");
    let client = Client::new(&server);
    let register = |token: &str| {
        let body = json!({"registration_token": token, "capacity": 2}).to_string();
        let body = Some(("application/json", body.into_bytes()));
        client.request("POST", "/api/v1/agent/register", &[], body).expect("an answer")
    };
    let reply = register("rt_x");
    assert_eq!(reply.status, 201);
    let answer = reply.json();
    let text = |key: &str| answer[key].as_str().expect("a text").to_owned();
    let registered = Client::with_credentials(&server, (text("service_id"), text("api_key")));
    assert_eq!(registered.heartbeat("online").status, 200);
    assert_eq!(register("rt_x").status, 404);
    assert_eq!(register("rt_unknown").status, 404);
}

#[test]
fn point_9_registering_again_makes_a_new_key_and_ends_the_500() {
    let server = FakeServer::start();
    let client = Client::new(&server);
    let id = client.running_task(&server);
    server.recreate_service(&client.sid);
    server.add_token_for("rt_again", &client.sid);
    let body = json!({"registration_token": "rt_again", "capacity": 2}).to_string();
    let body = Some(("application/json", body.into_bytes()));
    let reply = client.request("POST", "/api/v1/agent/register", &[], body).expect("an answer");
    assert_eq!(reply.json()["service_id"], client.sid.as_str());
    assert_eq!(client.try_poll().expect("an answer").status, 401, "the old key");
    let key = reply.json()["api_key"].as_str().expect("a key").to_owned();
    let renewed = Client { key, ..client };
    assert_eq!(renewed.complete(&id, "completed").status, 200);
}

#[test]
fn point_9_twins_overwrite_each_others_load() {
    let server = FakeServer::start();
    let client = Client::new(&server);
    for load in [1, 0] {
        let body = json!({
            "status": "online", "current_load": load, "capacity": 2, "available_capacity": 2 - load,
        });
        client.post("heartbeat", &body);
        assert_eq!(server.service_state(&client.sid).reported["current_load"], load);
    }
}
