//! Tests of the table.

use super::{FETCHERS, Needs, Queue, TaskTable};
use crate::task::record::{Phase, TaskKey};
use crate::task::{Pause, WorkerCommand};
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
    assert_eq!((table.slots_taken(), table.due(now)), (0, Some(key())));
    table.insert(&other, "u", Phase::Prepared, Duration::ZERO);
    assert_eq!((table.due(now), table.next_due()), (None, None));
    table.cancel(&key());
    assert_eq!(table.due(now), Some(key()), "a cancellation needs no slot");
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
    for number in 0..FETCHERS + 1 {
        let key = TaskKey::from_id(&format!("t{number}")).unwrap();
        table.insert(&key, key.as_str(), Phase::Accepted, Duration::ZERO);
        table.start_work(&key, Phase::Prepared);
        assert_eq!(table.queue(&key), Queue::Jobs);
        table.set_phase(&key, Phase::Exited);
        assert_eq!(table.slots_taken(), 1);
        table.hand_over(&key);
        assert_eq!((table.queue(&key), table.due(Instant::now())), (Queue::Fetches, Some(key.clone())));
        table.start_work(&key, Phase::Exited);
        assert_eq!(table.slots_taken(), usize::from(number == FETCHERS));
    }
    let first = TaskKey::from_id("t0").unwrap();
    table.end_turn(&first);
    assert_eq!((table.slots_taken(), table.queue(&first)), (1, Queue::Fetches), "it goes on as it was");
    assert_eq!(table.due(Instant::now()), Some(first.clone()));
    table.defer(&first, Phase::Exited, "engine away", Pause::Backoff);
    assert_eq!((table.slots_taken(), table.queue(&first)), (0, Queue::Deliveries));
}

#[test]
fn waiting_tasks_are_due_when_the_server_is_back() {
    let mut table = TaskTable::new(1);
    table.insert(&key(), "t", Phase::Exited, Duration::ZERO);
    table.defer(&key(), Phase::Exited, "away", Pause::Backoff);
    assert!(table.due(Instant::now()).is_none() && table.next_due().is_some());
    table.wake_waiting();
    assert_eq!(table.due(Instant::now()), Some(key()));
    table.defer(&key(), Phase::Exited, "429", Pause::Asked(Duration::from_secs(60)));
    table.wake_waiting();
    assert!(table.due(Instant::now()).is_none(), "a pause that the Server asked for is kept");
}

#[test]
fn a_cancellation_reaches_the_worker_exactly_once() {
    let mut table = TaskTable::new(1);
    assert!(!table.cancel(&key()));
    table.insert(&key(), "t", Phase::Accepting, Duration::ZERO);
    assert!(table.cancel(&key()) && table.cancel(&key()));
    let commands = table.start_work(&key(), Phase::Accepted);
    assert_eq!(commands.try_iter().collect::<Vec<_>>(), [WorkerCommand::Cancel]);
    assert!(table.cancel(&key()));
    assert!(commands.try_recv().is_err());
}

#[test]
fn a_discarded_result_is_due_at_once_and_ordered_once() {
    let mut table = TaskTable::new(1);
    assert!(!table.discard(&key()));
    table.insert(&key(), "t", Phase::Prepared, Duration::ZERO);
    let commands = table.start_work(&key(), Phase::Prepared);
    assert!(table.discard(&key()));
    assert!(commands.try_recv().is_err(), "its container has no result yet");
    table.set_phase(&key(), Phase::Exited);
    assert!(table.discard(&key()) && table.discard(&key()));
    assert_eq!(commands.try_iter().collect::<Vec<_>>(), [WorkerCommand::Discard]);
    table.defer(&key(), Phase::Exited, "429", Pause::Asked(Duration::from_secs(60)));
    assert!(table.due(Instant::now()).is_none());
    assert!(table.discard(&key()));
    assert_eq!(table.due(Instant::now()), Some(key()));
}

#[test]
fn a_task_is_left_to_its_worker_while_that_reports_it() {
    let mut table = TaskTable::new(1);
    table.insert(&key(), "t", Phase::Exited, Duration::ZERO);
    let _commands = table.start_work(&key(), Phase::Exited);
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
        let (now, due) = (Instant::now(), table.next_due().unwrap());
        assert!(due <= now + secs(pause) && due + secs(1) > now + secs(pause), "{pause} s");
    }
    table.wake_waiting();
    assert_eq!(table.due(Instant::now()), Some(key()));
}
