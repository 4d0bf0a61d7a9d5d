//! How many tasks run at the same time, and how soon a free slot is used.

use crate::support::agent::Agent;
use crate::support::docker::wait_until;
use crate::support::secs;
use crate::support::server::{Control, FakeServer, Request, Status, TaskSpec};
use crate::support::tally;
use std::fs;
use std::time::Duration;

/// A poll interval that is longer than these tests.
const NEVER_IN_TIME: &str = "[server]\npoll_interval_secs = 60";

#[test]
fn eight_tasks_fill_four_slots_and_never_exceed_them() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).capacity(4).config(NEVER_IN_TIME).build();
    let script = r#"
note() { read -r now rest < /proc/uptime; echo "$now $1" >> /tally/times; }
note begin
sleep 3
note end
"#;
    let ids: Vec<String> = (0..8).map(|_| server.submit(TaskSpec::script(script))).collect();
    let _running = agent.start();
    for id in &ids {
        server.wait_for(id, Status::Completed, secs(60));
    }
    assert_eq!(most_at_once(&agent), 4, "containers at once");

    let loads: Vec<i64> = reports(&server).iter().map(|request| number(request, "current_load")).collect();
    assert!(loads.iter().max() <= Some(&4), "reported loads: {loads:?}");
    // One poll brings each task; the first may come before the engine is known to answer, and the last four ends find
    // nothing more.
    let polls = server.requests_to("poll").len();
    assert!(polls <= 13, "{polls} polls");
    // The ideal time is the sum of all tasks' times divided by four slots.
    let tasks: Vec<_> = ids.iter().map(|id| server.task(id)).collect();
    let begins = tasks.iter().map(|task| task.since(Status::Running).expect("accepted"));
    let ends = tasks.iter().map(|task| task.since(Status::Completed).expect("completed"));
    let work: Duration = begins.clone().zip(ends.clone()).map(|(begin, end)| end - begin).sum();
    let makespan = ends.max().expect("eight ends") - begins.min().expect("eight begins");
    assert!(makespan <= work.mul_f64(1.3 / 4.0), "makespan {makespan:?} for {work:?} of work on four slots");
}

/// The largest number of containers that ran at the same time.
fn most_at_once(agent: &Agent) -> i32 {
    let text = fs::read_to_string(agent.path("tally/times")).expect("the containers' notes");
    let mut notes: Vec<(f64, i32)> = text
        .lines()
        .map(|line| {
            let (time, what) = line.split_once(' ').expect("time and word");
            (time.parse().expect("seconds"), if what == "begin" { 1 } else { -1 })
        })
        .collect();
    assert_eq!(notes.len(), 16, "{text}");
    // At the same time stamp an end sorts before a begin.
    notes.sort_by(|a, b| a.partial_cmp(b).expect("times"));
    let mut now = 0;
    let counts = notes.iter().map(|(_, change)| {
        now += change;
        now
    });
    counts.max().unwrap_or_default()
}

#[test]
fn heartbeats_report_busy_at_capacity_and_online_below() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).capacity(1).build();
    let mut running = agent.start();
    running.wait_log("tasks are accepted", secs(20));
    server.wait_until("two heartbeats", secs(30), |server| server.heartbeats().len() >= 2);
    assert_eq!(
        server.heartbeats()[1].body,
        serde_json::json!({"status": "online", "current_load": 0, "capacity": 1, "available_capacity": 1})
    );
    let id = server.submit(tally::waiting_task(""));
    tally::wait_begun(&agent, &id);
    // After a start the agent sends heartbeats at once; later ones are 20 s apart.
    running.kill9();
    let before = server.heartbeats().len();
    let mut running = agent.start();
    running.wait_log("tasks are accepted", secs(20));
    server.wait_until("two heartbeats", secs(30), |server| server.heartbeats().len() >= before + 2);
    for heartbeat in &server.heartbeats()[before..] {
        assert_eq!(
            heartbeat.body,
            serde_json::json!({"status": "busy", "current_load": 1, "capacity": 1, "available_capacity": 0})
        );
    }
    tally::release(&agent, &id);
    tally::wait_done_once(&server, &agent, &id);
}

#[test]
fn polling_continues_at_capacity_without_accepting() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).capacity(1).build();
    let [first, second] = [(); 2].map(|()| server.submit(tally::waiting_task("")));
    let _running = agent.start();
    tally::wait_begun(&agent, &first);
    let before = server.requests_to("poll").len();
    let since = |server: &Control| {
        let polls = server.requests_to("poll").into_iter().skip(before);
        polls.filter(|poll| poll.status == Some(200)).collect::<Vec<_>>()
    };
    server.wait_until("polls at capacity", secs(20), |server| since(server).len() >= 4);
    let polls = &since(&server)[..4];
    for poll in polls {
        assert_eq!(poll.body, serde_json::json!({"current_load": 1, "available_capacity": 0}));
    }
    let took = polls[3].at - polls[0].at;
    assert!(took >= Duration::from_millis(2500), "polls are one second apart: four took {took:?}");
    assert_eq!(server.requests_to("accept").len(), 1);
    assert_eq!(server.task(&second).status, Status::Pending);
    for id in [&first, &second] {
        tally::release(&agent, id);
        tally::wait_done_once(&server, &agent, id);
    }
}

#[test]
fn a_free_slot_is_used_at_once() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).capacity(1).config(NEVER_IN_TIME).build();
    let [first, second] = [(); 2].map(|()| server.submit(tally::waiting_task("")));
    let _running = agent.start();
    tally::wait_begun(&agent, &first);
    assert_eq!(server.task(&second).status, Status::Pending);
    tally::release(&agent, &first);
    let free = server.wait_for(&first, Status::Completed, secs(60)).since(Status::Completed);
    let taken = server.wait_for(&second, Status::Running, secs(30)).since(Status::Running);
    let waited = taken.expect("accepted") - free.expect("completed");
    assert!(waited < secs(20), "the slot was free for {waited:?}");
    tally::release(&agent, &second);
    tally::wait_done_once(&server, &agent, &second);
}

#[test]
fn waiting_tasks_are_accepted_without_a_pause() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).capacity(4).config(NEVER_IN_TIME).build();
    let ids = [(); 4].map(|()| server.submit(tally::waiting_task("")));
    let _running = agent.start();
    for id in &ids {
        server.wait_for(id, Status::Running, secs(30));
    }
    let accepts = server.requests_to("accept");
    let order: Vec<&str> = accepts.iter().filter_map(|request| request.task_id.as_deref()).collect();
    assert_eq!(order, ids.each_ref().map(String::as_str), "the oldest task is accepted first");
    let took = accepts[3].at - accepts[0].at;
    assert!(took < secs(30), "four tasks were taken within {took:?}");
    for id in &ids {
        tally::wait_begun(&agent, id);
    }
    for id in &ids {
        tally::release(&agent, id);
        tally::wait_done_once(&server, &agent, id);
    }
}

/// Every answered heartbeat and poll: the calls that report the load.
fn reports(server: &FakeServer) -> Vec<Request> {
    let mut requests = server.requests();
    requests.retain(|request| request.status.is_some() && (request.is("heartbeat") || request.is("poll")));
    requests
}

fn number(request: &Request, key: &str) -> i64 {
    request.body[key].as_i64().unwrap_or_else(|| panic!("no number `{key}` in {request}"))
}

#[test]
fn a_free_slot_that_waits_for_the_request_budget_is_shown() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().config("[server]\nmax_requests_per_minute = 20").build();
    let mut running = agent.start();
    running.wait_log("tasks are accepted", secs(20));
    for _ in 0..12 {
        server.submit(TaskSpec::script("true"));
    }
    running.wait_log(" for the request budget (`server.max_requests_per_minute`)", secs(30));
    let shown = || agent.run(&["status"]).stdout;
    wait_until("the reason in `status`", secs(30), || {
        shown().contains("Accepting tasks: no: the request budget (`server.max_requests_per_minute`) has no room now")
    });
}
