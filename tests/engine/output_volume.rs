//! Large output: bounded on the disk and in memory.

use crate::support::agent::{Agent, Running};
use crate::support::docker::assert_no_containers;
use crate::support::secs;
use crate::support::server::{FakeServer, Status, TaskSpec};
use std::fs;

const MIB: u64 = 1 << 20;
/// The number of bytes that the container prints.
const VOLUME: u64 = 300 * MIB;

/// The program's peak memory so far, in KiB.
fn peak_memory(running: &Running) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the program runs");
    line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
}

#[test]
fn output_of_300_mb_is_cut_in_the_middle_with_little_memory() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let running = agent.start();
    let small = server.submit(TaskSpec::script("echo 1; echo 1 > /workspace/output/x"));
    server.wait_for(&small, Status::Completed, secs(60));
    let before = peak_memory(&running);

    // The engine is slow with many short lines. The first and the last line are checked below.
    let line = "line of output ".repeat(200);
    let script = format!("echo first; yes '{line}' | head -c {}; echo last", VOLUME - 6 - 5);
    let id = server.submit(TaskSpec::script(script));
    let task = server.wait_for(&id, Status::Completed, secs(180));
    let after = peak_memory(&running);
    assert!(after - before < 15 * 1024, "from {before} to {after} KiB");

    let log = fs::read(agent.task_file(&id, "stdout.log")).unwrap();
    let size = log.len() as u64;
    assert!((5 * MIB..=10 * MIB + 100).contains(&size), "{size}");
    assert!(log.starts_with(b"first\nline of output ") && log.ends_with(b"last\n"));
    // The note between the two ends has the exact number of missing bytes.
    let middle = String::from_utf8_lossy(&log[MIB as usize..][..100]).into_owned();
    let note = middle.lines().find(|line| line.starts_with('[')).unwrap_or_else(|| panic!("no note in {middle:?}"));
    let cut: u64 = note.split(' ').find_map(|word| word.parse().ok()).unwrap_or_else(|| panic!("no number in {note}"));
    assert!(note.contains("cut"), "{note}");
    assert_eq!(size - note.len() as u64 - 2 + cut, VOLUME, "{note}");
    assert_eq!(task.stdout().len(), 64 * 1024);
    assert!(log.ends_with(task.stdout().as_bytes()));
    assert_no_containers(&id);
    let beside = fs::read_dir(agent.task_file(&id, "")).unwrap().flatten().map(|entry| entry.file_name());
    let mut beside: Vec<_> = beside.map(|name| name.to_string_lossy().into_owned()).collect();
    beside.sort_unstable();
    assert_eq!(
        beside,
        ["cid", "command.sh", "offer.digest", "offer.json", "record.json", "stderr.log", "stdout.log"],
        "no other file is left"
    );
}

#[test]
fn output_of_a_failed_container_is_not_replaced_by_less() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    // The engine keeps 10 MB of both streams together, and what it has kept begins like the whole.
    let script = "x() { head -c $1 /dev/zero | tr '\\0' x; }
        x 8192; echo SOMETHING; x 15000000
        head -c 12000000 /dev/zero >&2
        exit 3";
    let id = server.submit(TaskSpec::script(script));
    let _running = agent.start();
    server.wait_for(&id, Status::Failed, secs(120));
    let stdout = fs::read(agent.task_file(&id, "stdout.log")).expect("read the output");
    let begin: Vec<u8> = [&[b'x'; 8192][..], b"SOMETHING\n"].concat();
    assert!(stdout.starts_with(&begin) && stdout.len() > 5_000_000, "{} bytes", stdout.len());
    let stderr = fs::read(agent.task_file(&id, "stderr.log")).expect("read the output");
    assert!(stderr.iter().filter(|byte| **byte == 0).count() > 5_000_000, "{} bytes", stderr.len());
    let told = String::from_utf8_lossy(&stdout);
    assert!(!told.contains("the agent was not running"), "its client was there all the time");
}

/// An engine whose disk is full loses lines, and its copy has other bytes in place of what is no UTF-8.
#[test]
fn lines_that_the_engine_has_lost_stay_in_a_failed_tasks_log() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let client = "#!/bin/sh\n\
                  if [ \"$1\" = logs ]; then { docker \"$@\" 2>&1 1>&3 | head -n 1 >&2; } 3>&1\n\
                  else exec docker \"$@\"; fi\n";
    let client = agent.write_script("docker", client);
    agent.change_config(&format!("[executor]\ndocker = '{}'", client.display()));
    let script =
        "printf 'caf\\351\\n'; for i in 1 2 3; do echo line $i >&2; done; echo 'ERROR: the reason' >&2; exit 1";
    let id = server.submit(TaskSpec::script(script));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Failed, secs(60));
    let stderr = "line 1\nline 2\nline 3\nERROR: the reason\n";
    assert_eq!(fs::read_to_string(agent.task_file(&id, "stderr.log")).expect("read the output"), stderr);
    assert_eq!(fs::read(agent.task_file(&id, "stdout.log")).expect("read the output"), b"caf\xe9\n");
    assert_eq!(task.error_message.as_deref(), Some(stderr.trim()));
}
