//! The Server's limit of 150 calls a minute (PROTOCOL 6), with more files to deliver than it allows.

use crate::support::agent::{Agent, Running};
use crate::support::docker::wait_until;
use crate::support::secs;
use crate::support::server::{Control, FakeServer, Options, RateLimit, Request, Status, Task, TaskSpec};
use crate::support::tally;
use crate::support::twin::Twin;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);

fn limited_server() -> FakeServer {
    FakeServer::start_with(Options { rate_limit: Some(RateLimit::real()), ..Options::default() })
}

/// An agent with the default poll interval.
fn agent(server: &FakeServer, more: &str) -> Agent {
    tally::agent(server).config(&format!("[server]\npoll_interval_secs = 5\n{more}")).build()
}

/// Submits a task with this number of results and waits until this agent has started it.
fn begin(server: &FakeServer, agent: &Agent, files: usize) -> String {
    let script = format!("for number in $(seq {files}); do echo \"$TASK_ID $number\" > output/$number; done");
    let id = server.submit(tally::waiting_task(&script));
    tally::wait_begun(agent, &id);
    id
}

/// Waits until every file has arrived once, and returns the task.
fn wait_delivered(server: &FakeServer, agent: &Agent, id: &str, files: usize) -> Task {
    let task = server.wait_for(id, Status::Completed, secs(900));
    assert_eq!((tally::times_begun(agent, id), task.completed_count), (1, 1));
    let outputs = server.outputs(id);
    let names: BTreeSet<String> = outputs.iter().map(|file| file.filename.clone()).collect();
    assert_eq!((outputs.len(), names.len()), (files, files), "every file arrives once");
    for file in &outputs {
        let number = file.filename.strip_prefix("output/").expect("a result");
        assert_eq!(file.text(), format!("{id} {number}\n"));
    }
    let ids: BTreeSet<&String> = task.file_ids.iter().collect();
    assert_eq!(ids.len(), files, "the report names each");
    task
}

/// The largest number of calls within a minute.
fn busiest_minute(requests: &[Request]) -> usize {
    let within = |at: Instant| requests.iter().filter(|request| request.at >= at && request.at < at + MINUTE).count();
    requests.iter().map(|request| within(request.at)).max().unwrap_or_default()
}

fn refused(server: &Control) -> Vec<Request> {
    let mut requests = server.requests();
    requests.retain(|request| request.status == Some(429));
    requests
}

fn print_table(what: &str, server: &FakeServer, took: Duration) {
    let requests = server.requests();
    let count = |call: &str| requests.iter().filter(|request| request.is(call)).count();
    println!("{what}");
    println!("seconds  calls  busiest minute  refused  uploads  polls  heartbeats  longest heartbeat gap");
    println!(
        "{:7.0}  {:5}  {:14}  {:7}  {:7}  {:5}  {:10}  {:.1?}",
        took.as_secs_f64(),
        requests.len(),
        busiest_minute(&requests),
        refused(server).len(),
        count("upload"),
        count("poll"),
        count("heartbeat"),
        server.longest_heartbeat_gap()
    );
}

fn expect_never_refused(server: &FakeServer) {
    assert_eq!(refused(server).len(), 0, "calls were refused");
    let gap = server.longest_heartbeat_gap();
    assert!(gap < secs(25), "the longest time between two heartbeats was {gap:?}");
    assert_eq!(server.spoiled_uploads(), 0);
}

#[test]
fn a_task_with_400_results_is_delivered_without_a_refused_call() {
    let server = limited_server();
    let agent = agent(&server, "");
    let _running = agent.start();
    let id = begin(&server, &agent, 400);
    let released = Instant::now();
    tally::release(&agent, &id);
    let task = wait_delivered(&server, &agent, &id, 400);
    print_table("one agent, 400 results", &server, released.elapsed());
    expect_never_refused(&server);
    assert_eq!(task.accepted_count, 1);
}

#[test]
fn two_agents_with_half_the_budget_each_are_never_refused() {
    let server = limited_server();
    let agents = [(); 2].map(|()| {
        let agent = agent(&server, "max_requests_per_minute = 70");
        agent.change_config("[executor]\ncapacity = 1");
        agent
    });
    let mut running: Vec<Running> = Vec::new();
    let mut tasks = Vec::new();
    for agent in &agents {
        running.push(agent.start());
        tasks.push(begin(&server, agent, 200));
    }
    let released = Instant::now();
    for (agent, id) in agents.iter().zip(&tasks) {
        tally::release(agent, id);
    }
    for (agent, id) in agents.iter().zip(&tasks) {
        let task = wait_delivered(&server, agent, id, 200);
        assert_eq!(task.accepted_count, 1);
    }
    print_table("two agents, 200 results each", &server, released.elapsed());
    expect_never_refused(&server);
}

#[test]
fn a_limit_used_up_by_another_agent_delays_transfers() {
    let server = limited_server();
    let agent = agent(&server, "");
    let _running = agent.start();
    let id = begin(&server, &agent, 100);
    let released = Instant::now();
    tally::release(&agent, &id);
    server.wait_until("some uploads", secs(30), |server| server.outputs(&id).len() >= 10);
    let twin = Twin::new(&server);
    while twin.poll() != 429 {}
    wait_delivered(&server, &agent, &id, 100);
    print_table("one agent, 100 results, and a twin that uses the limit up", &server, released.elapsed());

    let requests = server.requests();
    let is_transfer = |request: &&Request| request.is("upload") || request.is("list");
    let transfers: Vec<&Request> = requests.iter().filter(is_transfer).collect();
    let first = transfers.iter().position(|request| request.status == Some(429)).expect("a transfer was refused");
    let pause = transfers[first + 1].at - transfers[first].at;
    println!("transfers were put off for {pause:.1?}");
    assert!((secs(60)..secs(75)).contains(&pause), "tried again after {pause:?}");

    let beats: Vec<&Request> = requests.iter().filter(|request| request.is("heartbeat")).collect();
    let retried: Vec<f64> = beats
        .windows(2)
        .filter(|pair| pair[0].status == Some(429))
        .map(|pair| (pair[1].at - pair[0].at).as_secs_f64())
        .collect();
    println!("refused heartbeats were tried again after {retried:.1?} s");
    assert!(retried.len() >= 5, "{retried:?}");
    assert!(retried.iter().all(|pause| (5.0..8.0).contains(pause)), "{retried:?}");
}

/// How long after its submission a task had this status.
fn after(task: &Task, status: Status) -> Duration {
    task.since(status).expect("the status") - task.since(Status::Pending).expect("the submission")
}

#[test]
fn small_tasks_are_accepted_while_300_files_are_sent() {
    let server = limited_server();
    let agent = agent(&server, "");
    let mut running = agent.start();
    let large = begin(&server, &agent, 300);
    tally::release(&agent, &large);
    server.wait_until("the window to be full", secs(60), |server| server.outputs(&large).len() >= 60);
    let mut times = Vec::new();
    for seconds in [3, 12, 20] {
        let submitted = Instant::now();
        let id = server.submit(TaskSpec::script("echo 1 > output/a; echo 2 > output/b; echo 3 > output/response.md"));
        let task = server.wait_for(&id, Status::Completed, secs(60));
        times.push((after(&task, Status::Running), after(&task, Status::Completed)));
        let next = submitted + secs(seconds);
        wait_until("the next submission", secs(30), || Instant::now() >= next);
    }
    println!("accepted and completed after {times:.1?}, beside {} files", server.outputs(&large).len());
    assert_eq!(server.task(&large).status, Status::Running, "the files aren't all sent yet: {times:?}");
    // A poll comes every five seconds.
    assert!(times.iter().all(|(accepted, _)| *accepted < secs(7)), "{times:?}");
    assert!(times.iter().all(|(_, completed)| *completed < secs(20)), "{times:?}");
    running.wait_log("for the request budget", secs(20));
    expect_never_refused(&server);
}
