//! A data_dir on a disk that blocks all writes, as a network drive or a failing controller may: heartbeats continue.

use crate::disk::{Ext4Disk, system};
use crate::support::docker::assert_no_containers;
use crate::support::secs;
use crate::support::server::{FakeServer, Status, TaskSpec};
use crate::support::tally;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Blocks all writes until the returned value is dropped. Blocked processes can't be killed.
fn freeze(disk: &Ext4Disk) -> Frozen<'_> {
    system("fsfreeze", &["--freeze"], &[&disk.place]);
    Frozen(&disk.place)
}

struct Frozen<'d>(&'d Path);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        system("fsfreeze", &["--unfreeze"], &[self.0]);
    }
}

#[test]
fn heartbeats_continue_while_the_disk_is_frozen() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    let disk = Ext4Disk::mount(&agent, "");
    // A detached agent has its log on the same disk.
    agent.run(&["run-detached"]).expect_code(0);
    server.wait_until("a poll", secs(20), |server| !server.requests_to("poll").is_empty());

    let frozen = freeze(&disk);
    let id = server.submit(TaskSpec::script("echo done > output/r.txt"));
    let frozen_at = Instant::now();
    while frozen_at.elapsed() < secs(75) {
        thread::sleep(Duration::from_millis(200));
        let gap = server.longest_heartbeat_gap();
        assert!(gap < secs(30), "no heartbeat for {gap:?}");
    }
    let last = server.heartbeats().pop().expect("a heartbeat");
    assert_eq!(last.body["status"], "busy", "an agent that can't accept reports no room: {}", last.body);
    assert_eq!(server.task(&id).accepted_count, 0);

    drop(frozen);
    let task = server.wait_for(&id, Status::Completed, secs(60));
    assert_eq!((task.accepted_count, task.completed_count), (1, 1));
    assert_eq!(server.output(&id, "output/r.txt").text(), "done\n");
    assert_no_containers(&id);
    agent.run(&["stop"]).expect_code(0);
}

#[test]
fn stop_ends_while_the_disk_is_frozen() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    let disk = Ext4Disk::mount(&agent, "");
    let mut running = agent.start();
    server.wait_until("a poll", secs(20), |server| !server.requests_to("poll").is_empty());
    // Its pidfile stays, which `stop` removes.
    running.kill9();
    let frozen = freeze(&disk);
    let mut stop = agent.invoke(&["stop"]).start();
    assert_eq!(stop.wait_exit(secs(90)).code(), Some(1), "{}", stop.log());
    let words = format!("a disk gives no answer, most likely that of the data directory `{}`", disk.place.display());
    assert!(stop.log().contains(&words), "{}", stop.log());
    drop(frozen);
    agent.run(&["stop"]).expect_code(0);
    assert!(!agent.data_dir().join("agent.pid").exists());
}

#[test]
fn a_signal_ends_the_agent_while_the_disk_is_frozen() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).build();
    let disk = Ext4Disk::mount(&agent, "");
    let mut running = agent.start();
    // After these polls the agent has written its files; a write before the offer would end the polls.
    server.wait_until("regular polls", secs(20), |server| server.requests_to("poll").len() >= 4);
    let frozen = freeze(&disk);
    let id = server.submit(TaskSpec::script("true"));
    let polls = server.requests_to("poll").len();
    server.wait_until("the offer", secs(20), |server| server.requests_to("poll").len() > polls);
    running.signal(nix::sys::signal::Signal::SIGTERM);
    server.wait_until("the last heartbeat", secs(20), |server| {
        server.heartbeats().last().is_some_and(|beat| beat.body["status"] == "offline")
    });
    drop(frozen);
    running.wait_exit(secs(20));
    assert_eq!(server.task(&id).accepted_count, 0);
}
