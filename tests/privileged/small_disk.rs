//! A data folder on a full disk: records stay readable, results of finished containers are delivered, and other work
//! waits for free space.

use crate::disk::SmallDisk;
use crate::support::agent::{Agent, Running};
use crate::support::docker::{assert_no_containers, wait_until};
use crate::support::ledger;
use crate::support::secs;
use crate::support::server::{Control, FakeServer, Fault, Match, Moment, Status, Task, TaskSpec};
use crate::support::tally;
use serde_json::Value;
use std::fs;
use std::time::Duration;

/// The time limit for a task on a busy engine, with the agent's pauses between two tries.
const PATIENCE: Duration = Duration::from_secs(120);
const MIB: u64 = 1 << 20;
/// The system's error message.
const NO_SPACE: &str = "No space left on device";

/// An agent on a disk of `mib` MiB, with `min_free_disk_mb = 1`.
fn agent_on_disk(server: &FakeServer, mib: u64) -> (Agent, SmallDisk) {
    let agent = tally::agent(server).config("[paths]\nmin_free_disk_mb = 1").build();
    let disk = SmallDisk::mount(&agent, mib);
    (agent, disk)
}

/// Fails the test unless every record, every line of every `uploads.jsonl` and every line of the ledger can be read.
fn expect_whole_records(agent: &Agent) {
    assert!(ledger::lines(&agent.data_dir()).iter().all(|line| line["task"].is_string()));
    let records = fs::read_dir(agent.data_dir().join("tasks")).expect("list the records");
    for dir in records.flatten().map(|entry| entry.path()) {
        let record = fs::read(dir.join("record.json")).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        serde_json::from_slice::<Value>(&record).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        let ledger = fs::read_to_string(dir.join("uploads.jsonl")).unwrap_or_default();
        assert!(ledger.is_empty() || ledger.ends_with('\n'), "a line that isn't whole: {ledger:?}");
        for line in ledger.lines() {
            serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        }
    }
}

/// Runs a small task, which proves that the agent works normally again.
fn expect_next_task_works(server: &FakeServer, agent: &Agent) {
    let id = server.submit(TaskSpec::script("echo next > output/next.txt"));
    server.wait_for(&id, Status::Completed, PATIENCE);
    assert_eq!(server.output(&id, "output/next.txt").text(), "next\n");
    assert_no_containers(&id);
    expect_whole_records(agent);
}

/// Waits until the agent logs that it can't write to the full disk, and checks that all records are readable.
fn wait_for_trouble(running: &mut Running, agent: &Agent) {
    wait_until("a log line about the full disk", secs(30), || {
        let log = running.log();
        log.lines().any(|line| line.contains("can't be written") && line.contains(NO_SPACE))
    });
    assert!(running.is_running());
    expect_whole_records(agent);
}

fn expect_done_once(server: &FakeServer, agent: &Agent, id: &str) -> Task {
    server.wait_for(id, Status::Completed, PATIENCE);
    let task = tally::wait_done_once(server, agent, id);
    assert_eq!(server.output(id, "output/r.txt").text(), "result\n");
    assert_eq!(task.accepted_count, 1);
    wait_until("the record to be settled", PATIENCE, || agent.record(id)["phase"] == "settled");
    ledger::expect_what_left(&agent.data_dir(), server, id);
    // The agent may have settled the record twice, so the ledger may have two lines.
    assert!(!ledger::of_kind(&agent.data_dir(), id, "task").is_empty());
    expect_whole_records(agent);
    task
}

fn result_task() -> TaskSpec {
    tally::waiting_task("echo result > output/r.txt")
}

#[test]
fn results_of_a_container_that_fills_the_disk_are_delivered() {
    let server = FakeServer::start();
    let (agent, _disk) = agent_on_disk(&server, 26);
    let _running = agent.start();
    let fill = "dd if=/dev/zero of=output/big bs=64k 2>&1";
    let failing = server.submit(TaskSpec::script(format!("{fill} || exit 7")));
    let task = server.wait_for(&failing, Status::Failed, PATIENCE);
    let message = task.error_message.expect("a message");
    assert!(message.contains("disk") && message.contains("full") && message.contains("status 7"), "{message}");
    let big = server.output(&failing, "output/big").bytes.len() as u64;
    assert!(big > 20 * MIB && big < 26 * MIB, "{big}");
    assert_eq!(task.completed_count, 1);
    assert_no_containers(&failing);
    expect_whole_records(&agent);

    // At the next check of the disk the agent removes the delivered workspace and has free space again.
    let content = server.submit(TaskSpec::script(format!("{fill}; true")));
    let task = server.wait_for(&content, Status::Completed, PATIENCE);
    assert!(server.output(&content, "output/big").bytes.len() as u64 > 20 * MIB);
    assert_eq!((task.completed_count, task.accepted_count), (1, 1));
    expect_next_task_works(&server, &agent);
    assert!(server.longest_heartbeat_gap() < secs(30), "{:?}", server.longest_heartbeat_gap());
}

#[test]
fn an_input_too_large_for_the_disk_fails_its_task() {
    let server = FakeServer::start();
    let (agent, disk) = agent_on_disk(&server, 24);
    let _running = agent.start();
    let id = server.submit(TaskSpec::script("echo 1").input("huge.bin", vec![7; 30 << 20]));
    let task = server.wait_for(&id, Status::Failed, PATIENCE);
    let message = task.error_message.expect("a message");
    assert!(message.contains("more than this machine's disk takes"), "{message}");
    assert_eq!(server.requests_to("download").len(), 0);
    assert!(disk.free() > 20 * MIB, "{} bytes are free", disk.free());
    expect_next_task_works(&server, &agent);
}

/// The file fits when its download begins, and ends as a part that is removed.
#[test]
fn a_download_waits_while_something_else_fills_the_disk() {
    let server = FakeServer::start();
    let (agent, disk) = agent_on_disk(&server, 120);
    agent.change_config("[paths]\nmin_free_disk_mb = 10");
    let mut running = agent.start();
    running.wait_log("tasks are accepted", secs(20));
    let drip = Fault::DripAnswer { piece: 1 << 20, pause: Duration::from_millis(100) };
    server.fault(Match::path("download").file("large.bin").times(1), drip);
    let spec = TaskSpec::script("wc -c < input/large.bin > output/size").input("large.bin", vec![7; 60 << 20]);
    let id = server.submit(spec);
    server.wait_until("a download", PATIENCE, |_| disk.free() < 110 * MIB);
    disk.leave(20 * MIB);
    running.wait_log("the disk has no room for the input file `large.bin`", PATIENCE);
    assert!(disk.free() > 10 * MIB, "the part is removed: {} bytes are free", disk.free());
    disk.clear();
    server.wait_for(&id, Status::Completed, PATIENCE);
    assert_eq!(server.output(&id, "output/size").text().trim(), (60 << 20).to_string());
}

#[test]
fn a_workspace_waits_for_room_on_a_full_disk() {
    let server = FakeServer::start();
    let (agent, disk) = agent_on_disk(&server, 16);
    let mut running = agent.start();
    running.wait_log("tasks are accepted", secs(20));
    // The task has no inputs, so `task.json` is the file that doesn't fit. With this prompt it is larger than the rest
    // of the reserve.
    let fill = disk.filler();
    server.fault(Match::path("accept").times(1), Fault::call(Moment::Arrived, move |_| fill()));
    let id = server.submit(TaskSpec::new("x".repeat(100_000)));
    running.wait_log(&format!("the workspace can't be made: {NO_SPACE}"), PATIENCE);
    wait_until("a status that names the disk", secs(30), || {
        agent.run(&["status"]).stdout.lines().any(|line| line.starts_with("Accepting tasks: no"))
    });
    assert_eq!(server.task(&id).status, Status::Running);
    disk.clear();
    server.wait_for(&id, Status::Completed, PATIENCE);
    expect_next_task_works(&server, &agent);
}

#[test]
fn a_finished_task_is_settled_from_the_reserve_on_a_full_disk() {
    let server = FakeServer::start();
    let (agent, disk) = agent_on_disk(&server, 16);
    let running = agent.start();
    let id = server.submit(result_task());
    tally::wait_begun(&agent, &id);
    // The result needs space, too, so the file gets its page before the disk is full.
    fs::write(agent.workspace(&id).join("output/r.txt"), "-").expect("write into the workspace");
    disk.filler()();
    tally::release(&agent, &id);
    expect_done_once(&server, &agent, &id);
    assert!(!running.log().contains("can't be written"), "{}", running.log());
    disk.clear();
    expect_next_task_works(&server, &agent);
}

/// Removes the reserve and fills the disk when this request arrives, waits until the agent logs that it can't write,
/// frees the space, and expects that the task is done once.
fn full_when(call: &str) {
    let server = FakeServer::start();
    let (agent, disk) = agent_on_disk(&server, 16);
    let mut running = agent.start();
    let id = server.submit(result_task());
    let (kept, fill) = (agent.task_file(&id, "reserve"), disk.filler());
    let strike = move |_: &_| {
        fs::remove_file(&kept).expect("remove the reserve");
        fill();
    };
    server.fault(Match::path(call).task(&id).times(1), Fault::call(Moment::Arrived, strike));
    tally::release(&agent, &id);
    wait_for_trouble(&mut running, &agent);
    disk.clear();
    expect_done_once(&server, &agent, &id);
    expect_next_task_works(&server, &agent);
}

#[test]
fn a_disk_full_at_the_accept_loses_nothing() {
    full_when("accept");
}

#[test]
fn a_disk_full_at_the_file_list_loses_nothing() {
    full_when("list");
}

#[test]
fn a_disk_full_at_an_upload_loses_nothing() {
    full_when("upload");
}

#[test]
fn a_disk_full_at_the_report_loses_nothing() {
    full_when("complete");
}

#[test]
fn a_disk_full_at_the_containers_end_loses_nothing() {
    let server = FakeServer::start();
    let (agent, disk) = agent_on_disk(&server, 16);
    let mut running = agent.start();
    let id = server.submit(result_task());
    tally::wait_begun(&agent, &id);
    fs::write(agent.workspace(&id).join("output/r.txt"), "-").expect("write into the workspace");
    fs::remove_file(agent.task_file(&id, "reserve")).expect("remove the reserve");
    disk.filler()();
    tally::release(&agent, &id);
    wait_for_trouble(&mut running, &agent);
    let beats = server.heartbeats().len();
    server.wait_until("two more heartbeats", PATIENCE, |server| server.heartbeats().len() >= beats + 2);
    assert_eq!((server.task(&id).status, server.task(&id).completed_count), (Status::Running, 0));
    assert_eq!(agent.record(&id)["phase"], "prepared", "the record is unchanged");
    disk.clear();
    expect_done_once(&server, &agent, &id);
    assert!(server.longest_heartbeat_gap() < secs(30), "{:?}", server.longest_heartbeat_gap());
    let said = running.log().lines().filter(|line| line.contains("can't be written")).count();
    assert_eq!(said, 1, "{}", running.log());
}

#[test]
fn a_cancelled_task_is_stopped_on_a_full_disk() {
    let server = FakeServer::start();
    let (agent, disk) = agent_on_disk(&server, 16);
    let _running = agent.start();
    let id = server.submit(result_task());
    tally::wait_begun(&agent, &id);
    disk.filler()();
    server.cancel(&id);
    let task = server.wait_for(&id, Status::Cancelled, PATIENCE);
    assert_eq!(task.completed_count, 1);
    assert_no_containers(&id);
    expect_whole_records(&agent);
}

/// Kills the agent while a result waits for the Server, and fills the disk.
fn crash_with_a_result(server: &FakeServer, agent: &Agent, disk: &SmallDisk) -> String {
    let mut running = agent.start();
    let id = server.submit(result_task());
    tally::wait_begun(agent, &id);
    server.stop_listening();
    tally::release(agent, &id);
    tally::wait_phase(agent, &id, "exited");
    running.kill9();
    disk.filler()();
    id
}

#[test]
fn an_agent_started_on_a_full_disk_delivers_waiting_results() {
    let server = FakeServer::start();
    let (agent, disk) = agent_on_disk(&server, 16);
    let id = crash_with_a_result(&server, &agent, &disk);
    server.resume();
    let mut running = agent.start();
    expect_done_once(&server, &agent, &id);
    running.wait_log("no new task is accepted: the disk of", secs(30));
    let waiting = server.submit(TaskSpec::script("echo next"));
    disk.clear();
    server.wait_for(&waiting, Status::Completed, PATIENCE);
    expect_whole_records(&agent);
}

#[test]
fn an_agent_without_a_reserve_delivers_when_there_is_space() {
    let server = FakeServer::start();
    let (agent, disk) = agent_on_disk(&server, 16);
    let id = crash_with_a_result(&server, &agent, &disk);
    fs::remove_file(agent.task_file(&id, "reserve")).expect("remove the reserve");
    disk.filler()();
    server.resume();
    let mut running = agent.start();
    wait_for_trouble(&mut running, &agent);
    assert!(!server.task(&id).status.is_final());
    disk.clear();
    expect_done_once(&server, &agent, &id);
}

#[test]
fn a_first_start_on_a_full_disk_names_the_unwritable_file() {
    let server = FakeServer::start();
    let (agent, disk) = agent_on_disk(&server, 6);
    disk.filler()();
    let refused = agent.run(&["run"]);
    refused.expect_code(1).expect_stderr(NO_SPACE).expect_stderr(&agent.data_dir().display().to_string());
    disk.clear();
    agent.start().wait_log("tasks are accepted", secs(20));
}

#[test]
fn old_delivered_workspaces_are_removed_when_space_is_low() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).config("[paths]\nmin_free_disk_mb = 16").build();
    let disk = SmallDisk::mount(&agent, 48);
    let mut running = agent.start();
    let [first, second] = [(); 2].map(|()| {
        let id = server.submit(TaskSpec::script("head -c 6000000 /dev/zero > output/zeros"));
        server.wait_for(&id, Status::Completed, PATIENCE);
        tally::wait_phase(&agent, &id, "settled");
        id
    });
    // The third task runs, so its workspace must stay.
    let third = server.submit(tally::waiting_task("echo result > output/r.txt"));
    tally::wait_begun(&agent, &third);

    disk.leave(14 * MIB);
    let is_there = |id: &str| agent.workspace(id).exists();
    wait_until("the oldest workspace to be removed", secs(30), || !is_there(&first));
    running.wait_log(&format!("task {first}: its delivered workspace was removed"), secs(10));
    // Removing one workspace is enough; the agent checks the disk again before it removes another.
    let beats = server.heartbeats().len();
    server.wait_until("a heartbeat", secs(40), |server| server.heartbeats().len() > beats);
    assert!(is_there(&second) && is_there(&third), "{}", running.log());
    assert!(!running.log().contains("no new task is accepted"), "{}", running.log());
    assert_eq!(agent.record(&first)["phase"], "settled", "the record stays");

    disk.leave(MIB);
    running.wait_log("no new task is accepted: the disk of", secs(30));
    assert!(!is_there(&second) && is_there(&third));
    let waiting = server.submit(TaskSpec::script("echo next"));
    let polls = server.requests_to("poll").len();
    let asked = |server: &Control| server.requests_to("poll").len() >= polls + 12;
    server.wait_until("a dozen polls", secs(40), asked);
    let beat = server.heartbeats().pop().expect("a heartbeat");
    assert_eq!((&beat.body["status"], &beat.body["available_capacity"]), (&"busy".into(), &0.into()));
    assert_eq!(server.task(&waiting).status, Status::Pending);
    assert_eq!(running.log().matches("no new task is accepted").count(), 1, "{}", running.log());
    tally::release(&agent, &third);
    tally::wait_done_once(&server, &agent, &third);

    disk.clear();
    server.wait_for(&waiting, Status::Completed, PATIENCE);
    expect_whole_records(&agent);
}

#[test]
fn kept_back_workspaces_are_removed_when_nothing_else_makes_room() {
    let server = FakeServer::start();
    let config = "[paths]\nmin_free_disk_mb = 16\n[outputs]\nmax_file_mb = 1";
    let agent = tally::agent(&server).config(config).build();
    let disk = SmallDisk::mount(&agent, 48);
    let mut running = agent.start();
    let run = |script: &str| {
        let id = server.submit(TaskSpec::script(script));
        server.wait_for(&id, Status::Completed, PATIENCE);
        tally::wait_phase(&agent, &id, "settled");
        id
    };
    let kept = run("head -c 6000000 /dev/zero > output/large");
    let delivered = run("head -c 900000 /dev/zero > output/small");
    assert_eq!(agent.record(&kept)["kept_back"], true);
    disk.leave(12 * MIB);
    running.wait_log(&format!("task {kept}: its workspace was removed with files that the Server never got"), secs(40));
    assert!(!agent.workspace(&kept).exists() && !agent.workspace(&delivered).exists());
    assert!(running.log().contains(&format!("task {delivered}: its delivered workspace was removed")));
    let removed = ledger::of_kind(&agent.data_dir(), &kept, "file");
    let line = removed.iter().find(|line| line["outcome"] == "removed").expect("a line in the ledger");
    assert_eq!((&line["count"], &line["reason"]), (&1.into(), &"removed to make room on the disk".into()));
    expect_next_task_works(&server, &agent);
    assert!(!running.log().contains("no new task is accepted"), "{}", running.log());
}

#[test]
fn a_container_that_prints_to_a_full_disk_is_not_blocked() {
    let server = FakeServer::start();
    let (agent, disk) = agent_on_disk(&server, 16);
    let mut running = agent.start();
    // A pipe holds 64 KiB, so a container whose output is not read would block long before its end.
    let line = "line of output ".repeat(200);
    let id = server.submit(tally::waiting_task(&format!("yes '{line}' | head -c 30000000; : > /tally/printed")));
    tally::wait_begun(&agent, &id);
    disk.filler()();
    tally::release(&agent, &id);
    wait_until("the container's last command", PATIENCE, || agent.path("tally/printed").exists());
    let task = server.wait_for(&id, Status::Completed, PATIENCE);
    assert_eq!((task.completed_count, tally::times_begun(&agent, &id)), (1, 1));
    assert!(task.stdout().starts_with("begun\nreleased\nline of output"), "{:.100}", task.stdout());
    running.wait_log("bytes of output were not kept: No space left", secs(20));
    assert_no_containers(&id);
    for part in ["stdout.tail", "stdout.tail.1", "reserve"] {
        wait_until(part, secs(20), || !agent.task_file(&id, part).exists());
    }
    disk.clear();
    expect_next_task_works(&server, &agent);
}

/// A disk for 3000 files, of which a delivered task has nearly all.
#[test]
fn a_disk_without_free_files_loses_delivered_workspaces() {
    let server = FakeServer::start();
    let agent = tally::agent(&server).config("[paths]\nmin_free_disk_mb = 1").build();
    let _disk = SmallDisk::mount_with(&agent, "size=64m,nr_inodes=3000");
    let mut running = agent.start();
    let id = server.submit(TaskSpec::script("cd input; for i in $(seq 2900); do : > $i; done; true"));
    server.wait_for(&id, Status::Completed, PATIENCE);
    running.wait_log("its delivered workspace was removed, to make room on the disk", PATIENCE);
    expect_next_task_works(&server, &agent);
}
