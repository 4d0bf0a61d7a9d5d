//! Points 1 to 5 of PROTOCOL: the queue, cancellations and the state of services.

use crate::client::{Client, DEADLINE, completion, millis};
use crate::server::{Control, FakeServer, Fault, Match, Moment, Options, Request, Status, TaskSpec};
use serde_json::{Value, json};
use std::thread;
use std::time::{Duration, Instant};

/// A Server that takes a service for offline after 100 ms.
fn impatient() -> FakeServer {
    FakeServer::start_with(Options { heartbeat_timeout: millis(100), check_interval: millis(5), ..Options::default() })
}

fn wait_offline(server: &Control, sid: &str) {
    let what = "the service to be offline";
    server.wait_until(what, DEADLINE, |server| server.service_state(sid).status == "offline");
}

#[test]
fn point_1_an_offer_does_not_reserve() {
    let server = FakeServer::start();
    let client = Client::new(&server);
    let first = server.submit(TaskSpec::new("first"));
    let second = server.submit(TaskSpec::new("second"));
    assert_eq!(client.offered().as_ref(), Some(&first));
    assert_eq!(client.offered().as_ref(), Some(&first));
    assert_eq!(client.accept(&first).status, 200);
    assert_eq!(client.offered().as_ref(), Some(&second));
    assert_eq!(server.task(&first).accepted_count, 1);
}

#[test]
fn point_1_accept_needs_no_offer_and_works_once() {
    let server = FakeServer::start();
    let client = Client::new(&server);
    let _first = server.submit(TaskSpec::new("first"));
    let second = server.submit(TaskSpec::new("second"));
    assert_eq!(client.accept(&second).status, 200);
    let refused = client.accept(&second);
    assert_eq!(refused.status, 400);
    assert!(refused.json()["message"].as_str().is_some_and(|text| text.contains("任务")));
    assert_eq!(server.task(&second).accepted_count, 1);
}

#[test]
fn point_1_only_one_of_many_twins_gets_the_task() {
    let server = FakeServer::start();
    let client = Client::new(&server);
    let id = server.submit(TaskSpec::new("run"));
    let twins: Vec<_> = (0..8)
        .map(|_| {
            let (client, id) = (client.clone(), id.clone());
            thread::spawn(move || client.accept(&id).status)
        })
        .collect();
    let statuses: Vec<u16> = twins.into_iter().map(|twin| twin.join().expect("a twin")).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1);
    assert_eq!(statuses.iter().filter(|status| **status == 400).count(), 7);
}

#[test]
fn point_1_older_servers_answer_409() {
    let server = FakeServer::start_with(Options { accept_refusal: 409, ..Options::default() });
    let client = Client::new(&server);
    let id = client.running_task(&server);
    assert_eq!(client.accept(&id).status, 409);
}

#[test]
fn point_2_a_cancellation_blocks_the_queue() {
    let server = FakeServer::start();
    let client = Client::new(&server);
    let running = client.running_task(&server);
    let waiting = server.submit(TaskSpec::new("waiting"));
    server.cancel(&running);
    assert_eq!(server.task(&running).status, Status::Cancelling);
    for _ in 0..3 {
        let answer = client.poll();
        assert_eq!(answer["should_cancel"], true);
        assert_eq!(answer["cancel_task_id"], running.as_str());
        assert_eq!(answer["has_task"], false);
        assert_eq!(answer["task"], Value::Null);
    }
    assert_eq!(client.complete(&running, "cancelled").status, 200);
    assert_eq!(server.task(&running).status, Status::Cancelled);
    assert_eq!(client.offered(), Some(waiting));
}

#[test]
fn point_3_only_heartbeats_keep_a_service_online() {
    let server = impatient();
    let client = Client::new(&server);
    assert_eq!(client.heartbeat("online").status, 200);
    let running = client.running_task(&server);
    let cancelling = client.running_task(&server);
    server.cancel(&cancelling);
    let until = Instant::now() + DEADLINE;
    while server.service_state(&client.sid).status != "offline" {
        client.poll();
        assert!(Instant::now() < until, "polls kept the service online");
    }
    assert_eq!(server.task(&running).status, Status::Pending);
    assert_eq!(server.task(&running).retry_count, 1);
    assert_eq!(server.task(&cancelling).status, Status::Cancelled);
    assert_eq!(client.offered().as_ref(), Some(&running), "the same id is offered again");
}

#[test]
fn point_3_heartbeats_keep_a_service_online() {
    let server = FakeServer::start_with(Options {
        heartbeat_timeout: Duration::from_secs(5),
        check_interval: millis(5),
        ..Options::default()
    });
    let client = Client::new(&server);
    let id = client.running_task(&server);
    for _ in 0..20 {
        assert_eq!(client.heartbeat("busy").status, 200);
        thread::sleep(millis(10));
    }
    assert_eq!(server.service_state(&client.sid).status, "busy");
    assert_eq!(server.task(&id).status, Status::Running);
}

#[test]
fn point_3_the_fourth_loss_fails_the_task() {
    let server = FakeServer::start();
    let client = Client::new(&server);
    let id = server.submit(TaskSpec::new("run"));
    for retry in 1..=3 {
        assert_eq!(client.accept(&id).status, 200);
        server.time_out(&client.sid);
        assert_eq!(server.task(&id).status, Status::Pending);
        assert_eq!(server.task(&id).retry_count, retry);
    }
    assert_eq!(client.accept(&id).status, 200);
    server.time_out(&client.sid);
    assert_eq!(server.task(&id).status, Status::Failed);
}

#[test]
fn point_3_a_waiting_task_is_cancelled_at_once() {
    let server = FakeServer::start();
    let client = Client::new(&server);
    let id = client.running_task(&server);
    server.time_out(&client.sid);
    server.cancel(&id);
    assert_eq!(server.task(&id).status, Status::Cancelled);
    assert_eq!(client.poll()["should_cancel"], false);
}

#[test]
fn point_4_offline_alone_requeues_no_task() {
    let server = impatient();
    let client = Client::new(&server);
    let other = Client::with_credentials(&server, server.add_service());
    let id = client.running_task(&server);
    assert_eq!(client.heartbeat("offline").status, 200);
    assert_eq!(server.service_state(&client.sid).status, "offline");
    thread::sleep(millis(200));
    assert_eq!(server.task(&id).status, Status::Running, "the service reported offline itself");
    assert_eq!(other.heartbeat("online").status, 200);
    wait_offline(&server, &other.sid);
    assert_eq!(server.task(&id).status, Status::Pending);
}

#[test]
fn point_4_a_heartbeat_brings_the_service_back() {
    let server = FakeServer::start();
    let client = Client::new(&server);
    let other = Client::with_credentials(&server, server.add_service());
    let id = client.running_task(&server);
    client.heartbeat("offline");
    client.heartbeat("online");
    server.time_out(&other.sid);
    assert_eq!(server.task(&id).status, Status::Running);
}

#[test]
fn point_5_complete_takes_running_and_cancelling_tasks_only() {
    let server = FakeServer::start();
    let client = Client::new(&server);
    let id = server.submit(TaskSpec::new("run"));
    assert_eq!(client.complete(&id, "completed").status, 400, "pending");
    assert_eq!(server.task(&id).status, Status::Pending);
    client.accept(&id);
    server.time_out(&client.sid);
    assert_eq!(client.complete(&id, "completed").status, 400, "requeued");
    assert_eq!(client.accept(&id).status, 200, "the task is accepted again");
    assert_eq!(client.complete(&id, "completed").status, 200);
    assert_eq!(client.complete(&id, "failed").status, 400, "ended");
    assert_eq!(client.accept(&id).status, 400, "ended");
    let task = server.task(&id);
    assert_eq!(task.status, Status::Completed);
    assert_eq!((task.accepted_count, task.completed_count), (2, 1));
}

#[test]
fn point_5_complete_stores_the_report() {
    let server = FakeServer::start();
    let client = Client::new(&server);
    let id = client.running_task(&server);
    let file = client.upload(&id, "output/报告.md", b"text").json()["file_id"].clone();
    let mut body = completion(&id, "failed");
    body["error_message"] = json!("it broke");
    body["output"]["exit_code"] = json!(3);
    body["file_ids"] = json!([file]);
    assert_eq!(client.post("complete", &body).status, 200);
    let task = server.task(&id);
    assert_eq!(task.error_message.as_deref(), Some("it broke"));
    assert_eq!(task.stdout(), "done");
    assert_eq!(task.output["exit_code"], 3);
    assert_eq!(task.output["file_ids"], json!([file]));
    assert_eq!(server.output(&id, "output/报告.md").text(), "text");
}

#[test]
fn a_cancellation_can_come_right_after_an_accept() {
    let server = FakeServer::start();
    let client = Client::new(&server);
    let id = server.submit(TaskSpec::new("run"));
    let control = server.control();
    let cancel = move |request: &Request| {
        control.cancel(request.task_id.as_deref().expect("a task"));
    };
    server.fault(Match::path("accept").task(&id), Fault::call(Moment::Answered, cancel));
    assert_eq!(client.accept(&id).status, 200);
    server.wait_for(&id, Status::Cancelling, DEADLINE);
    assert_eq!(client.poll()["cancel_task_id"], id.as_str());
}
