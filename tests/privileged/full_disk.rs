//! A disk without a free block or file, for an agent of an ordinary user and a container of root, which may also use what
//! the system keeps back: stopping, ending, reporting, discarding and looking go on, since nothing of them needs new room.

use crate::disk::SmallDisk;
use crate::support::agent::{Agent, Builder, Running};
use crate::support::docker::{assert_no_containers, container_name, container_state, docker, wait_until};
use crate::support::ledger;
use crate::support::ordinary_user::{OrdinaryUser, open_to_all};
use crate::support::secs;
use crate::support::server::{FakeServer, Fault, Match, Status, TaskSpec};
use crate::support::tally;
use std::fs::{self, File};
use std::time::Duration;

/// The time limit for a task on a busy engine, with the agent's pauses between two tries.
const PATIENCE: Duration = Duration::from_secs(120);
/// A container that takes each block that becomes free, and hears no TERM.
const HOG: &str =
    "trap '' TERM; (while :; do cat /dev/zero >> a; done) 2>/dev/null & while :; do echo x >> b; done 2>/dev/null";
/// The same with files.
const FILE_HOG: &str = "trap '' TERM; i=0; while :; do : > f$i; i=$((i + 1)); done 2>/dev/null";

/// An agent of an ordinary user on a disk of 64 MiB.
fn user_on_disk(builder: Builder, options: &[&str]) -> (OrdinaryUser, SmallDisk) {
    let user = OrdinaryUser::new(builder.config("[paths]\nmin_free_disk_mb = 5"));
    let tally = user.agent.path("tally");
    if !tally.exists() {
        fs::create_dir(&tally).expect("make the folder that containers share with the test");
    }
    open_to_all(&tally);
    let disk = SmallDisk::mount_ext4(&user, 64, options);
    (user, disk)
}

fn start(user: &OrdinaryUser) -> Running {
    let mut running = user.start();
    running.wait_log("tasks are accepted", secs(20));
    running
}

fn wait_full(disk: &SmallDisk) {
    wait_until("the disk to be full", secs(60), || disk.is_full());
}

/// The containers have ended, and the agent gets out by itself: the next task is done.
fn expect_next_task_works(server: &FakeServer) {
    let id = server.submit(TaskSpec::script("echo next > output/next.txt"));
    server.wait_for(&id, Status::Completed, PATIENCE);
    assert_eq!(server.output(&id, "output/next.txt").text(), "next\n");
    assert_no_containers(&id);
}

fn wait_settled(agent: &Agent, id: &str) {
    wait_until("the record to be settled", PATIENCE, || agent.record(id)["phase"] == "settled");
}

#[test]
fn a_result_beside_a_file_that_fills_the_disk_is_delivered() {
    let server = FakeServer::start();
    let (user, _disk) = user_on_disk(tally::agent(&server), &[]);
    let running = start(&user);
    let id = server.submit(TaskSpec::script("echo IMPORTANT > output/result.csv; cat /dev/zero > fill; exit 0"));
    let task = server.wait_for(&id, Status::Completed, PATIENCE);
    assert_eq!(server.output(&id, "output/result.csv").text(), "IMPORTANT\n");
    assert_eq!((task.completed_count, task.accepted_count), (1, 1));
    assert_no_containers(&id);
    expect_next_task_works(&server);
    // What was kept in the reserve is in its place again.
    wait_settled(&user.agent, &id);
    wait_until("the reserve to be removed", secs(60), || !user.agent.task_file(&id, "reserve").exists());
    ledger::expect_what_left(&user.agent.data_dir(), &server, &id);
    assert_eq!(ledger::of_kind(&user.agent.data_dir(), &id, "task").len(), 1);
    assert!(!running.log().contains("can't be written"), "{}", running.log());
}

#[test]
fn a_private_result_beside_a_file_that_fills_the_disk_is_delivered() {
    let server = FakeServer::start();
    let (user, _disk) = user_on_disk(tally::agent(&server).config("[outputs]\nmax_file_mb = 20"), &[]);
    let mut running = start(&user);
    // Neither a file of this machine nor one that only root can remove is the task's to remove.
    let host = user.agent.path("host");
    fs::create_dir(&host).expect("make a folder of this machine");
    File::create(host.join("PATIENT")).and_then(|file| file.set_len(30 << 20)).expect("write a file of this machine");
    open_to_all(&host);
    let script = format!(
        "mkdir roots; head -c 22000000 /dev/zero > roots/large; umask 077; echo IMPORTANT > result.csv
        rmdir output; ln -s {} output; mkdir deep; chmod 777 deep; cat /dev/zero > deep/fill; exit 0",
        host.display()
    );
    let id = server.submit(TaskSpec::script(&script));
    let task = server.wait_for(&id, Status::Completed, PATIENCE);
    assert_eq!(server.output(&id, "result.csv").text(), "IMPORTANT\n");
    let left_out = task.output["left_out"].to_string();
    assert!(left_out.contains("deep/fill") && left_out.contains("fills this machine's disk"), "{left_out}");
    running.wait_log("1 file(s) of", secs(20));
    let removed = ledger::files(&user.agent.data_dir(), &id, "out", "removed");
    assert!(removed.len() == 1 && removed[0]["file"] == "deep/fill", "{removed:?}");
    assert!(user.agent.workspace(&id).join("roots/large").exists());
    let told = fs::read_to_string(user.agent.data_dir().join("ledger.jsonl")).expect("read the ledger");
    assert!(!told.contains("PATIENT") && !left_out.contains("PATIENT") && !running.log().contains("PATIENT"), "{told}");
    expect_next_task_works(&server);
}

#[test]
fn a_private_result_larger_than_the_room_for_copies_is_delivered() {
    let server = FakeServer::start();
    let (user, _disk) = user_on_disk(tally::agent(&server).config("[outputs]\nmax_file_mb = 20"), &[]);
    let _running = start(&user);
    // The disk isn't full: some 8 MiB are left, of which a copy may use 5 or 6.
    let script = "umask 077; head -c 12000000 /dev/zero > output/result.bin; umask 0
        while [ $(($(stat -f -c '%a * %S' .) / 1048576)) -ge 8 ]; do head -c 500000 /dev/zero >> output/fill; done
        [ $(stat -c %s output/fill) -gt 25000000 ]";
    let id = server.submit(TaskSpec::script(script));
    let task = server.wait_for(&id, Status::Completed, PATIENCE);
    let left_out = task.output["left_out"].to_string();
    assert_eq!(task.output["files"], serde_json::json!(["output/result.bin"]), "{left_out}");
    let removed = ledger::files(&user.agent.data_dir(), &id, "out", "removed");
    assert!(removed.len() == 1 && removed[0]["file"] == "output/fill", "{removed:?}");
    expect_next_task_works(&server);
}

#[test]
fn a_large_file_beside_readable_results_is_kept_on_a_full_disk() {
    let server = FakeServer::start();
    let (user, disk) = user_on_disk(tally::agent(&server).config("[outputs]\nmax_file_mb = 20"), &[]);
    let mut running = start(&user);
    server.fault(Match::path("upload"), Fault::status(503));
    let id = server.submit(TaskSpec::script("echo 1 > output/result.csv; head -c 22000000 /dev/zero > output/large"));
    tally::wait_phase(&user.agent, &id, "exited");
    running.kill9();
    // It has ended long ago.
    let path = user.agent.task_file(&id, "record.json");
    let mut record = user.agent.record(&id);
    record["ending"]["at"] = "2026-01-01T00:00:00Z".into();
    fs::write(&path, record.to_string()).expect("change the record");
    disk.filler()();
    server.clear_faults();
    let _running = user.start();
    let task = server.wait_for(&id, Status::Completed, PATIENCE);
    assert_eq!(server.output(&id, "output/result.csv").text(), "1\n");
    let left_out = task.output["left_out"].to_string();
    assert!(left_out.contains("output/large") && !left_out.contains("removed"), "{left_out}");
    let removed = ledger::files(&user.agent.data_dir(), &id, "out", "removed");
    assert!(removed.iter().all(|line| line["file"].is_null()), "{removed:?}");
}

#[test]
fn a_container_that_keeps_filling_the_disk_is_cancelled() {
    let server = FakeServer::start();
    let (user, disk) = user_on_disk(tally::agent(&server), &[]);
    let _running = start(&user);
    let id = server.submit(TaskSpec::script(HOG));
    wait_full(&disk);
    server.cancel(&id);
    let task = server.wait_for(&id, Status::Cancelled, secs(60));
    assert_eq!(task.completed_count, 1);
    assert_no_containers(&id);
    expect_next_task_works(&server);
}

#[test]
fn a_container_that_takes_every_file_is_cancelled_beside_another() {
    let server = FakeServer::start();
    let (user, disk) = user_on_disk(tally::agent(&server).capacity(2), &["-N", "800"]);
    let _running = start(&user);
    let victim = server.submit(tally::waiting_task("echo result > output/r.txt"));
    tally::wait_begun(&user.agent, &victim);
    fs::write(user.agent.workspace(&victim).join("output/r.txt"), "-").expect("write into the workspace");
    let hog = server.submit(TaskSpec::script(FILE_HOG));
    wait_full(&disk);
    tally::release(&user.agent, &victim);
    server.wait_for(&victim, Status::Completed, PATIENCE);
    assert_eq!(server.output(&victim, "output/r.txt").text(), "result\n");
    server.cancel(&hog);
    server.wait_for(&hog, Status::Cancelled, secs(60));
    assert_no_containers(&hog);
    expect_next_task_works(&server);
}

#[test]
fn a_container_that_fills_the_disk_is_stopped_after_its_time() {
    let server = FakeServer::start();
    let (user, disk) = user_on_disk(tally::agent(&server).config("[executor]\ntimeout_minutes = 1"), &[]);
    let _running = start(&user);
    let id = server.submit(TaskSpec::script(HOG));
    wait_full(&disk);
    let task = server.wait_for(&id, Status::Failed, PATIENCE);
    let message = task.error_message.expect("a message");
    assert!(message.starts_with("timed out after 1 minute"), "{message}");
    expect_next_task_works(&server);
}

#[test]
fn an_abort_stops_a_container_on_a_full_disk() {
    let server = FakeServer::start();
    let (user, disk) = user_on_disk(tally::agent(&server), &[]);
    let mut running = start(&user);
    let id = server.submit(TaskSpec::script(HOG));
    wait_full(&disk);
    // The next agent is started on the full disk.
    running.kill9();
    let mut running = user.start();
    running.wait_log("following the running container", secs(30));
    user.invoke(&["stop", "--abort"]).run().expect_code(0).expect_stdout("1 task(s) aborted.");
    let task = server.wait_for(&id, Status::Failed, secs(20));
    assert!(task.error_message.expect("a message").starts_with("stopped by the operator"));
    assert_no_containers(&id);
}

#[test]
fn a_container_without_a_reserve_is_stopped_on_a_full_disk() {
    let server = FakeServer::start();
    let (user, disk) = user_on_disk(tally::agent(&server), &[]);
    let running = start(&user);
    let id = server.submit(TaskSpec::script("trap '' TERM; while :; do sleep 1; done"));
    wait_until("the container to run", secs(30), || {
        container_state(&container_name(&id)).as_deref() == Some("running")
    });
    fs::remove_file(user.agent.task_file(&id, "reserve")).expect("remove the reserve");
    disk.filler()();
    server.cancel(&id);
    let has_ended = || container_state(&container_name(&id)).as_deref() != Some("running");
    wait_until("the container to be stopped", secs(30), has_ended);
    wait_until("a log line about the full disk", secs(30), || running.log().contains("can't be written"));
    disk.clear();
    server.wait_for(&id, Status::Cancelled, PATIENCE);
    assert_no_containers(&id);
}

/// What a container has written outside its workspace may be what fills the engine's disk.
#[test]
fn a_container_is_removed_before_its_results_are_fetched() {
    let server = FakeServer::start();
    let user = OrdinaryUser::new(Agent::builder(&server).with_engine());
    let _running = start(&user);
    let since = docker(&["info", "--format", "{{.SystemTime}}"]);
    let id = server.submit(TaskSpec::script("umask 077; echo result > output/r.txt"));
    server.wait_for(&id, Status::Completed, PATIENCE);
    assert_eq!(server.output(&id, "output/r.txt").text(), "result\n");
    let until = docker(&["info", "--format", "{{.SystemTime}}"]);
    let label = format!("label=open-aaas.task={id}");
    let format = "{{.Action}} {{.Actor.Attributes.name}}";
    let events = docker(&["events", "--since", &since, "--until", &until, "--filter", &label, "--format", format]);
    let at = |event: &str| events.lines().position(|line| line == event).unwrap_or_else(|| panic!("{event}: {events}"));
    let name = container_name(&id);
    assert!(at(&format!("destroy {name}")) < at(&format!("create open-aaas-view-of-{name}")), "{events}");
}

#[test]
fn status_stop_and_discard_work_on_a_full_disk() {
    let server = FakeServer::start();
    let (user, disk) = user_on_disk(tally::agent(&server), &[]);
    let mut running = start(&user);
    let id = server.submit(tally::waiting_task("echo result > output/r.txt"));
    tally::wait_begun(&user.agent, &id);
    server.stop_listening();
    tally::release(&user.agent, &id);
    tally::wait_phase(&user.agent, &id, "exited");
    running.kill9();
    disk.filler()();

    let running = user.start();
    let status = || user.invoke(&["status"]).run();
    wait_until("a status that knows of the full disk", secs(40), || {
        let said = status();
        said.status.code() == Some(0) && said.stdout.contains("less than 5 MiB left")
    });
    let said = user.invoke(&["discard", "--yes", &id]).run();
    said.expect_code(0).expect_stdout("Discarded");
    user.invoke(&["stop"]).run().expect_code(0).expect_stdout("Stopped");
    drop(running);
    let _running = user.start();
    wait_until("a status of the next agent", secs(40), || status().status.code() == Some(0));
    user.invoke(&["stop", "--drain"]).run().expect_code(0).expect_stdout("Drained and stopped");
    assert!(user.agent.task_file(&id, "reserve").exists(), "the record's last state is in there");
}
