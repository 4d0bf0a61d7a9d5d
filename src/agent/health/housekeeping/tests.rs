//! Tests of what is removed, and in which order.

use super::Housekeeping;
use crate::agent::test_context::test_context;
use crate::server::protocol::Task;
use crate::task::record::{Phase, Record, TaskKey};
use jiff::{SignedDuration, Timestamp};
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

fn housekeeping(dir: &Path, paths: &str) -> Housekeeping {
    let (context, store) = test_context(dir, paths);
    Housekeeping::new(&context, store)
}

fn task(dir: &Path, id: &str, phase: Phase, hours_ago: i64) -> Record {
    let store = housekeeping(dir, "").janitor.store.clone();
    let task = Task { id: id.to_owned(), task_prompt: "p".repeat(100_000), ..Task::default() };
    let mut record = Record::from_offer(task, "s", "http://h");
    record.phase = phase;
    record.settled_at = (phase == Phase::Settled).then(|| Timestamp::now() - SignedDuration::from_hours(hours_ago));
    store.create(&TaskKey::from_id(id).unwrap(), &record).unwrap();
    fs::create_dir_all(dir.join("data/workspaces").join(id).join("output")).unwrap();
    record
}

fn left(dir: &Path, what: &str) -> Vec<String> {
    let entries = fs::read_dir(dir.join("data").join(what)).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn only_tasks_past_the_retention_time_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    task(dir.path(), "old", Phase::Settled, 200);
    task(dir.path(), "new", Phase::Settled, 100);
    task(dir.path(), "undelivered", Phase::Exited, 0);
    housekeeping(dir.path(), "retention_hours = 0").remove_expired();
    assert_eq!(left(dir.path(), "tasks"), ["new", "old", "undelivered"]);
    housekeeping(dir.path(), "").remove_expired();
    assert_eq!(left(dir.path(), "tasks"), ["new", "undelivered"]);
    assert_eq!(left(dir.path(), "workspaces"), ["new", "undelivered"]);
}

#[test]
fn a_task_that_is_offered_again_while_others_are_removed_keeps_its_files() {
    type Change = fn(&mut Record);
    let changes: [Change; 3] = [
        |record| record.set_phase(Phase::Exited),
        |record| record.settled_at = Some(Timestamp::now()),
        |record| record.has_undelivered = true,
    ];
    for change in changes {
        let dir = tempfile::tempdir().unwrap();
        let mut record = task(dir.path(), "old", Phase::Settled, 200);
        let janitor = housekeeping(dir.path(), "").janitor;
        let listed = janitor.settled(|_| true);
        change(&mut record);
        listed[0].files.save(&record).unwrap();
        assert!(!janitor.clear(&listed[0]));
        janitor.remove_task(&listed[0], 168);
        assert_eq!([left(dir.path(), "tasks"), left(dir.path(), "workspaces")], [["old"], ["old"]]);
    }
}

#[test]
fn a_full_disk_removes_what_settled_tasks_have_left_but_no_records() {
    let dir = tempfile::tempdir().unwrap();
    task(dir.path(), "delivered", Phase::Settled, 1);
    task(dir.path(), "undelivered", Phase::Uploaded, 0);
    let mut kept = task(dir.path(), "kept", Phase::Settled, 2);
    kept.has_undelivered = true;
    let files = housekeeping(dir.path(), "").janitor.store.task(&TaskKey::from_id("kept").unwrap());
    files.save(&kept).unwrap();
    fs::write(files.stdout(), "o".repeat(1_000_000) + "end").unwrap();

    let wrong = housekeeping(dir.path(), "min_free_disk_mb = 1000000000").make_room().unwrap_err();
    assert!(wrong.contains("min_free_disk_mb"), "{wrong}");
    assert_eq!(left(dir.path(), "workspaces"), ["undelivered"]);
    assert_eq!(left(dir.path(), "tasks"), ["delivered", "kept", "undelivered"]);
    let ledger = fs::read_to_string(dir.path().join("data/ledger.jsonl")).unwrap();
    assert!(ledger.lines().count() == 1 && ledger.contains(r#""task":"kept""#), "{ledger}");
    assert!(ledger.contains(r#""outcome":"removed""#) && ledger.contains("to make room on the disk"), "{ledger}");
    let output = fs::read_to_string(files.stdout()).unwrap();
    assert!(output.len() < 70_000 && output.starts_with("[…") && output.ends_with("oend"), "{} bytes", output.len());
    for (id, is_there) in [("delivered", false), ("kept", false), ("undelivered", true)] {
        let folder = dir.path().join("data/tasks").join(id);
        assert_eq!(folder.join("offer.json").exists(), is_there);
        let record = fs::read_to_string(folder.join("record.json")).unwrap();
        assert_eq!(record.len() > 100_000, is_there, "{id}");
    }
    assert_eq!(housekeeping(dir.path(), "min_free_disk_mb = 0").make_room(), Ok(()));
}

#[test]
fn the_size_of_an_offer_removes_nothing_undelivered() {
    let dir = tempfile::tempdir().unwrap();
    task(dir.path(), "delivered", Phase::Settled, 1);
    let mut kept = task(dir.path(), "kept", Phase::Settled, 2);
    kept.has_undelivered = true;
    let mut housekeeping = housekeeping(dir.path(), "");
    housekeeping.janitor.store.task(&TaskKey::from_id("kept").unwrap()).save(&kept).unwrap();
    housekeeping.make_room_for_task(u64::MAX).unwrap();
    assert_eq!(left(dir.path(), "workspaces"), ["kept"]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_host_whose_folder_of_workspaces_can_not_be_written_is_not_ready() {
    let dir = tempfile::tempdir().unwrap();
    for paths in ["min_free_disk_mb = 0", "min_free_disk_mb = 1"] {
        assert_eq!(housekeeping(dir.path(), paths).make_room(), Ok(()), "without that folder, and with one");
        let workspaces = dir.path().join("data/workspaces");
        fs::create_dir_all(&workspaces).unwrap();
        assert_eq!(housekeeping(dir.path(), paths).make_room(), Ok(()));
        fs::remove_dir(&workspaces).unwrap();
        fs::write(&workspaces, "no folder").unwrap();
        let why = housekeeping(dir.path(), paths).make_room().unwrap_err();
        assert!(why.contains("workspaces`: "), "{why}");
        fs::remove_file(&workspaces).unwrap();
    }
}

#[test]
fn folders_that_a_killed_agent_or_check_has_left_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let mut housekeeping = housekeeping(dir.path(), "retention_hours = 0");
    let workspaces = dir.path().join("data/workspaces");
    for (name, age) in [(".check-0a", 3600), (".check-0b", 60), ("task", 3600)] {
        fs::create_dir_all(workspaces.join(name)).unwrap();
        fs::write(workspaces.join(name).join("seen"), "x").unwrap();
        let at = SystemTime::now() - Duration::from_secs(age);
        File::open(workspaces.join(name)).and_then(|dir| dir.set_modified(at)).unwrap();
    }
    housekeeping.remove_expired();
    assert_eq!(left(dir.path(), "workspaces"), [".check-0b", "task"], "a young one may be in use");
}
