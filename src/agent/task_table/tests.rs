//! Tests of the table.

use super::{FETCHERS, Needs, TaskTable};
use crate::agent::workers::Queue;
use crate::task::record::{Phase, TaskKey};
use crate::task::{Pause, StopReason, WorkerCommand};
use std::time::{Duration, Instant};

fn key() -> TaskKey {
    TaskKey::from_id("t").unwrap()
}

#[test]
fn a_task_whose_containers_name_is_taken_needs_a_slot_only_to_go_on() {
    let (now, other) = (Instant::now() + Duration::from_secs(60), TaskKey::from_id("u").unwrap());
    let mut table = TaskTable::new(1);
    table.insert(&key(), "t", Phase::Prepared, Duration::ZERO);
    table.start_work(&key(), Phase::Prepared);
    table.defer(&key(), Phase::Prepared, "name taken", Pause::Due(Duration::from_secs(10)));
    assert_eq!(table.slots_taken(), 1);
    table.release_slot(&key());
    assert_eq!((table.slots_taken(), table.due(true, now)), (0, Some(key())));
    table.insert(&other, "u", Phase::Prepared, Duration::ZERO);
    assert_eq!((table.due(true, now), table.next_due(true)), (None, None));
    table.cancel(&key());
    assert_eq!(table.due(true, now), Some(key()), "a cancellation needs no slot");
    table.remove(&other);
    table.start_work(&key(), Phase::Prepared);
    assert_eq!(table.slots_taken(), 1);
}

#[test]
fn a_task_needs_room_until_its_workspace_is_complete() {
    let mut table = TaskTable::new(1);
    table.insert(&key(), "t", Phase::Accepting, Duration::ZERO);
    let needs = Needs { disk: u64::MAX, memory: 7 };
    table.set_needs(&key(), needs);
    assert_eq!(table.needs(), needs);
    table.release_slot(&key());
    assert_eq!(table.needs(), Needs::default(), "it may wait for a larger disk than this one is");
    table.set_phase(&key(), Phase::Prepared);
    assert_eq!(table.needs(), Needs::default());
}

#[test]
fn a_slot_is_free_while_a_delivery_waits() {
    let mut table = TaskTable::new(1);
    table.insert(&key(), "t", Phase::Accepted, Duration::ZERO);
    table.start_work(&key(), Phase::Accepted);
    table.set_phase(&key(), Phase::Exited);
    assert_eq!(table.slots_taken(), 1, "its worker is still busy with it");
    table.defer(&key(), Phase::Exited, "server away", Pause::Backoff);
    assert_eq!(table.slots_taken(), 0);
    table.defer(&key(), Phase::Accepted, "disk full", Pause::Backoff);
    assert_eq!(table.slots_taken(), 1);
}

#[test]
fn tasks_that_wait_for_a_fetch_take_slots_and_those_that_are_fetched_do_not() {
    let mut table = TaskTable::new(4);
    let keys = keys(FETCHERS + 1);
    let mut commands = Vec::new();
    for (number, key) in keys.iter().enumerate() {
        table.insert(key, key.as_str(), Phase::Accepted, Duration::ZERO);
        assert_eq!(table.start_work(key, Phase::Prepared).0, Queue::Jobs);
        table.set_phase(key, Phase::Exited);
        assert_eq!(table.slots_taken(), 1);
        table.hand_over(key);
        let is_free = number < FETCHERS;
        assert_eq!(table.due(true, Instant::now()), is_free.then(|| key.clone()));
        if is_free {
            let (queue, listener) = table.start_work(key, Phase::Exited);
            commands.push(listener);
            assert_eq!((queue, table.slots_taken()), (Queue::Fetches, 0));
        }
    }
    let last = &keys[FETCHERS];
    assert_eq!((table.slots_taken(), table.next_due(true)), (1, None));
    assert!(table.is_worker_wanted(Queue::Fetches, Instant::now()));
    table.make_due(&keys[0]);
    assert_eq!(table.due(true, Instant::now()).as_ref(), Some(last), "it has waited for longer");
    table.defer(&keys[0], Phase::Exited, "engine away", Pause::Backoff);
    assert_eq!(table.start_work(&keys[0], Phase::Exited).0, Queue::Deliveries);
}

#[test]
fn a_cancelled_task_waits_for_no_fetch_and_is_returned_for_one_once() {
    let mut table = TaskTable::new(1);
    table.insert(&key(), "t", Phase::Exited, Duration::ZERO);
    table.hand_over(&key());
    table.cancel(&key());
    assert_eq!(table.start_work(&key(), Phase::Exited).0, Queue::Reports);
    // Its worker had not heard of the cancellation, or goes by another reason.
    table.hand_over(&key());
    assert_eq!(table.start_work(&key(), Phase::Exited).0, Queue::Fetches);
}

fn keys(count: usize) -> Vec<TaskKey> {
    (0..count).map(|number| TaskKey::from_id(&format!("t{number}")).unwrap()).collect()
}

/// A table with this capacity, and with so many results that are due.
fn with_results(capacity: usize, count: usize) -> (TaskTable, Vec<TaskKey>) {
    let (mut table, keys) = (TaskTable::new(capacity), keys(count));
    for key in &keys {
        table.insert(key, key.as_str(), Phase::Exited, Duration::ZERO);
        table.make_due(key);
    }
    (table, keys)
}

/// Hands tasks to workers until none is due for which one is free.
fn dispatch_all(table: &mut TaskTable) -> Vec<(TaskKey, Queue)> {
    let next = |table: &mut TaskTable| {
        let key = table.due(true, Instant::now())?;
        let (queue, _) = table.start_work(&key, table.phase(&key));
        Some((key, queue))
    };
    std::iter::from_fn(|| next(table)).collect()
}

#[test]
fn as_many_results_are_sent_at_a_time_as_there_are_slots() {
    let (mut table, keys) = with_results(2, 4);
    let sent = dispatch_all(&mut table);
    assert_eq!(sent, [(keys[0].clone(), Queue::Deliveries), (keys[1].clone(), Queue::Deliveries)]);
    assert!(table.is_worker_wanted(Queue::Deliveries, Instant::now()));
    assert_eq!(table.without_worker().into_iter().collect::<Vec<_>>(), ["t2", "t3"]);
    table.remove(&keys[1]);
    assert_eq!(dispatch_all(&mut table), [(keys[2].clone(), Queue::Deliveries)]);
    table.make_due(&keys[0]);
    assert_eq!(dispatch_all(&mut table), [(keys[3].clone(), Queue::Deliveries)], "its turn is over");
    assert!(table.is_worker_wanted(Queue::Deliveries, Instant::now()));
    table.remove(&keys[2]);
    dispatch_all(&mut table);
    assert!(!table.is_worker_wanted(Queue::Deliveries, Instant::now()));
}

#[test]
fn a_report_or_a_cancellation_waits_for_no_upload() {
    type Change = fn(&mut TaskTable, &TaskKey);
    let reports: [(&str, Change); 4] = [
        ("a report", |table, key| _ = table.set_phase(key, Phase::Uploaded)),
        ("a cancellation", |table, key| _ = table.cancel(key)),
        ("a discard", |table, key| _ = table.discard(key)),
        ("a cancellation before a restart", |table, key| table.note_stop(key, Some(StopReason::Cancel))),
    ];
    for (what, change) in reports {
        let (mut table, keys) = with_results(2, 5);
        assert_eq!(dispatch_all(&mut table).len(), 2);
        change(&mut table, &keys[4]);
        assert_eq!(dispatch_all(&mut table), [(keys[4].clone(), Queue::Reports)], "{what}");
        change(&mut table, &keys[3]);
        assert_eq!(dispatch_all(&mut table), [], "{what}: every courier is busy");
        table.remove(&keys[0]);
        assert_eq!(dispatch_all(&mut table), [(keys[3].clone(), Queue::Reports)], "{what}: it is the next");
    }
}

/// Its cancellation would wait until a container has ended.
#[test]
fn a_cancelled_task_without_a_slot_waits_for_no_container() {
    let (mut table, keys) = (TaskTable::new(1), keys(2));
    for key in &keys {
        table.insert(key, key.as_str(), Phase::Accepted, Duration::ZERO);
        table.start_work(key, Phase::Accepted);
        if *key == keys[0] {
            table.defer(key, Phase::Accepted, "an input file fails", Pause::Due(Duration::from_secs(60)));
            table.release_slot(key);
        }
    }
    table.cancel(&keys[0]);
    assert_eq!(dispatch_all(&mut table), [(keys[0].clone(), Queue::Reports)]);
}

#[test]
fn what_needs_the_server_waits_for_a_heartbeat() {
    let (mut table, keys) = with_results(4, 3);
    dispatch_all(&mut table);
    table.await_server(&keys[0], Phase::Exited);
    table.await_server(&keys[1], Phase::Exited);
    table.await_server(&keys[2], Phase::Accepted);
    let now = Instant::now();
    assert_eq!((table.due(false, now), table.next_due(false)), (None, None));
    assert_eq!(table.reason(&keys[0]), Some("the Server doesn't acknowledge this agent's heartbeats"));
    table.discard(&keys[1]);
    assert_eq!(table.due(false, Instant::now()), Some(keys[1].clone()), "a discard needs no Server");
    table.remove(&keys[1]);
    table.cancel(&keys[2]);
    assert_eq!(table.due(false, Instant::now()), Some(keys[2].clone()), "nor does the end of what hasn't run");
    assert_eq!(table.due(true, now), Some(keys[0].clone()));
}

#[test]
fn waiting_tasks_are_due_when_the_server_is_back() {
    let mut table = TaskTable::new(1);
    table.insert(&key(), "t", Phase::Exited, Duration::ZERO);
    table.defer(&key(), Phase::Exited, "away", Pause::Backoff);
    assert!(table.due(true, Instant::now()).is_none() && table.next_due(true).is_some());
    table.wake_waiting();
    assert_eq!(table.due(true, Instant::now()), Some(key()));
    table.defer(&key(), Phase::Exited, "429", Pause::Asked(Duration::from_secs(60)));
    table.wake_waiting();
    assert!(table.due(true, Instant::now()).is_none(), "a pause that the Server asked for is kept");
}

#[test]
fn a_cancellation_reaches_the_worker_exactly_once() {
    let mut table = TaskTable::new(1);
    assert!(!table.cancel(&key()));
    table.insert(&key(), "t", Phase::Accepting, Duration::ZERO);
    assert!(table.cancel(&key()) && table.cancel(&key()));
    let (_, commands) = table.start_work(&key(), Phase::Accepted);
    assert_eq!(commands.try_iter().collect::<Vec<_>>(), [WorkerCommand::Cancel]);
    assert!(table.cancel(&key()));
    assert!(commands.try_recv().is_err());
}

#[test]
fn a_discarded_result_is_due_at_once_and_ordered_once() {
    let mut table = TaskTable::new(1);
    assert!(!table.discard(&key()));
    table.insert(&key(), "t", Phase::Prepared, Duration::ZERO);
    let (_, commands) = table.start_work(&key(), Phase::Prepared);
    assert!(table.discard(&key()));
    assert!(commands.try_recv().is_err(), "its container has no result yet");
    table.set_phase(&key(), Phase::Exited);
    assert!(table.discard(&key()) && table.discard(&key()));
    assert_eq!(commands.try_iter().collect::<Vec<_>>(), [WorkerCommand::Discard]);
    table.defer(&key(), Phase::Exited, "429", Pause::Asked(Duration::from_secs(60)));
    assert!(table.due(true, Instant::now()).is_none());
    assert!(table.discard(&key()));
    assert_eq!(table.due(true, Instant::now()), Some(key()));
}

#[test]
fn a_task_is_left_to_its_worker_while_that_reports_it() {
    let mut table = TaskTable::new(1);
    table.insert(&key(), "t", Phase::Exited, Duration::ZERO);
    let (_, _commands) = table.start_work(&key(), Phase::Exited);
    assert!(!table.is_reporting(&key()));
    table.set_phase(&key(), Phase::Uploaded);
    assert!(table.is_reporting(&key()));
    table.defer(&key(), Phase::Uploaded, "the Server can't be reached", Pause::Backoff);
    assert!(!table.is_reporting(&key()));
}

/// A file's pause has the length that the file needs, and ends with the trouble that made it fail.
#[test]
fn a_task_is_due_when_its_file_is_and_at_once_when_a_trouble_ends() {
    let (secs, mut table) = (Duration::from_secs, TaskTable::new(1));
    table.insert(&key(), "t", Phase::Exited, Duration::ZERO);
    for pause in [1, 5, 300, 300, 300] {
        table.defer(&key(), Phase::Exited, "`a`: 502", Pause::Due(secs(pause)));
        let (now, due) = (Instant::now(), table.next_due(true).unwrap());
        assert!(due <= now + secs(pause) && due + secs(1) > now + secs(pause), "{pause} s");
    }
    table.wake_waiting();
    assert_eq!(table.due(true, Instant::now()), Some(key()));
}

#[test]
fn that_the_server_was_away_is_no_reason_once_the_task_goes_on() {
    let mut table = TaskTable::new(1);
    table.insert(&key(), "t", Phase::Exited, Duration::ZERO);
    table.await_server(&key(), Phase::Exited);
    assert!(table.reason(&key()).is_some_and(|reason| reason.contains("heartbeats")));
    let _commands = table.start_work(&key(), Phase::Exited);
    assert_eq!(table.reason(&key()), None);
    // What else has held it up stays, until it gets to the next phase.
    table.defer(&key(), Phase::Exited, "`a`: 502", Pause::Backoff);
    table.await_server(&key(), Phase::Exited);
    let _commands = table.start_work(&key(), Phase::Exited);
    assert_eq!(table.reason(&key()), Some("`a`: 502"));
}
