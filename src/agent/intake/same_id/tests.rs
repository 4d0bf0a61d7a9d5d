//! Tests of which task an offer is of, in an intake thread without workers, Server and engine.

use super::Offered;
use crate::agent::admission::{Admission, Mode};
use crate::agent::intake::accept::Offers;
use crate::agent::intake::operator::OperatorRequests;
use crate::agent::intake::reclaim::{ReclaimQueue, UNCONFIRMED_MAX};
use crate::agent::intake::{HostWatch, Inbox, Intake, Reported};
use crate::agent::status::StatusReporter;
use crate::agent::task_table::TaskTable;
use crate::agent::test_context::test_context;
use crate::agent::workers::Workers;
use crate::data_dir::holder::Role;
use crate::data_dir::instance::Instance;
use crate::os::trust::make_folder;
use crate::server::protocol::Task;
use crate::server::{ClientError, Failure, FinalStatus, Item, Offer, PollAnswer, Way};
use crate::task::record::{Before, Discarded, Ending, Record};
use crate::task::{Pause, Phase, TaskKey, TaskResult, WorkerCommand, WorkerEvent, WorkerMessage, Workspace};
use crossbeam_channel::{Receiver, Sender, unbounded};
use jiff::Timestamp;
use serde_json::json;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The intake thread, and the sender of what workers report.
fn intake(dir: &Path) -> (Intake, Sender<WorkerMessage>) {
    let (context, store) = test_context(dir, "");
    make_folder(&context.config().paths.data_dir).unwrap();
    let instance = Instance::acquire(&context.config().paths.data_dir, Role::Agent).unwrap();
    let (messages, received) = unbounded();
    let now = Instant::now();
    let intake = Intake {
        client: context.client.clone(),
        store: store.clone(),
        table: TaskTable::new(4),
        workers: Workers::new(&context),
        inbox: Inbox { events: unbounded().1, messages: received, health: unbounded().1 },
        admission: Admission::new(Mode::Serve, now),
        reclaims: ReclaimQueue::default(),
        offers: Offers::default(),
        orphan: None,
        status: StatusReporter::new(&context, store, now),
        operator: OperatorRequests::new(&context.config().paths.data_dir, instance.watch().clone(), now),
        reserves: Vec::new(),
        requests: unbounded().0,
        host: HostWatch::new(unbounded().0, Arc::default()),
        reported: Reported::default(),
        context: Arc::clone(&context),
    };
    (intake, messages)
}

fn key(name: &str) -> TaskKey {
    TaskKey::parse(name).unwrap()
}

fn offer(prompt: &str) -> Offer {
    let answer = json!({"has_task": true, "task": {"id": "t", "task_prompt": prompt}});
    PollAnswer::read(answer.to_string().into_bytes()).unwrap().offer.unwrap()
}

/// What an offer of the id `t` with this prompt is of, in short.
fn found(intake: &mut Intake, prompt: &str) -> String {
    match intake.find_offered("t", &key("t"), &offer(prompt)).unwrap() {
        Offered::New(key) => format!("new {key}"),
        Offered::Unfinished(key) => format!("unfinished {key}"),
        Offered::Settled(key, _) => format!("settled {key}"),
        Offered::Later => "later".to_owned(),
    }
}

/// Writes the record of a task with the id `t`.
fn record(intake: &Intake, name: &str, prompt: &str, phase: Phase) -> Record {
    let task = Task { id: "t".to_owned(), task_prompt: prompt.to_owned(), ..Task::default() };
    let mut record = Record::from_offer(task, "s", "http://h");
    let files = intake.store.create(&key(name), &record).unwrap();
    record.set_phase(phase);
    files.save(&record).unwrap();
    record
}

/// The same for a task that a worker has. Returns the worker's commands.
fn at_work(intake: &mut Intake, name: &str, prompt: &str, phase: Phase) -> Receiver<WorkerCommand> {
    record(intake, name, prompt, phase);
    intake.table.insert(&key(name), "t", phase, Duration::ZERO);
    intake.table.start_work(&key(name), phase).1
}

fn is_superseded(intake: &Intake, name: &str) -> bool {
    intake.store.task(&key(name)).is_superseded()
}

#[test]
fn another_task_is_accepted_only_when_nothing_can_be_sent_for_the_first() {
    for phase in [Phase::Exited, Phase::Uploaded] {
        let dir = tempfile::tempdir().unwrap();
        let (mut intake, messages) = intake(dir.path());
        let commands = at_work(&mut intake, "t", "first", phase);
        assert_eq!(found(&mut intake, "second"), "later");
        assert!(is_superseded(&intake, "t") && commands.try_recv() == Ok(WorkerCommand::Discard));
        // Its worker is still in the middle of a call.
        assert_eq!(found(&mut intake, "second"), "later");
        let event = WorkerEvent::Finished(TaskResult::Settled);
        messages.send(WorkerMessage { key: key("t"), event }).unwrap();
        intake.take_messages();
        assert_eq!(found(&mut intake, "second"), "new __r2-t");
    }
}

#[test]
fn a_container_that_ends_when_its_id_is_another_tasks_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let (mut intake, messages) = intake(dir.path());
    let _commands = at_work(&mut intake, "t", "first", Phase::Prepared);
    // It had ended before the mark was made, so that its worker may not have seen that.
    messages.send(WorkerMessage { key: key("t"), event: WorkerEvent::PhaseReached(Phase::Exited) }).unwrap();
    assert_eq!(found(&mut intake, "second"), "later");
    intake.take_messages();
    assert_eq!(found(&mut intake, "second"), "later");
    intake.table.defer(&key("t"), Phase::Exited, "disk full", Pause::Backoff);
    assert_eq!(found(&mut intake, "second"), "new __r2-t");
}

#[test]
fn a_running_container_keeps_no_other_task_with_its_id_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let (mut intake, _messages) = intake(dir.path());
    let commands = at_work(&mut intake, "t", "first", Phase::Prepared);
    assert_eq!(found(&mut intake, "second"), "later");
    assert_eq!(found(&mut intake, "second"), "new __r2-t");
    assert!(commands.try_recv().is_err(), "the container is left alone");
}

#[test]
fn the_server_knows_one_task_of_an_id_and_all_others_are_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let (mut intake, _messages) = intake(dir.path());
    let _first = at_work(&mut intake, "t", "first", Phase::Prepared);
    let _second = at_work(&mut intake, "__r2-t", "second", Phase::Prepared);
    assert_eq!(found(&mut intake, "second"), "later");
    assert!(is_superseded(&intake, "t") && !is_superseded(&intake, "__r2-t"));
    assert_eq!(found(&mut intake, "second"), "unfinished __r2-t");
    assert_eq!(intake.unfinished("t"), Some(key("__r2-t")), "what a cancellation means");
    // The Server gives the id back to the first one, whose container is still running.
    assert_eq!(found(&mut intake, "first"), "later");
    assert_eq!(found(&mut intake, "first"), "unfinished t");
    assert!(!is_superseded(&intake, "t") && is_superseded(&intake, "__r2-t"));
    assert_eq!(intake.unfinished("t"), Some(key("t")));
}

#[test]
fn a_cancellation_means_the_latest_task_of_an_id() {
    let dir = tempfile::tempdir().unwrap();
    let (mut intake, _messages) = intake(dir.path());
    let _commands = ["__r10-t", "__r11-t", "t"].map(|name| at_work(&mut intake, name, "first", Phase::Prepared));
    assert_eq!(intake.unfinished("t"), Some(key("__r11-t")));
}

#[test]
fn an_offer_that_is_no_valid_task_gives_no_task_up() {
    let answer = json!({"has_task": true, "task": {"id": "t", "input_files": 7}}).to_string();
    for [settled, unfinished] in [["t", "__r2-t"], ["__r2-t", "t"]] {
        let dir = tempfile::tempdir().unwrap();
        let (mut intake, _messages) = intake(dir.path());
        record(&intake, settled, "first", Phase::Settled);
        let _commands = at_work(&mut intake, unfinished, "second", Phase::Prepared);
        let offer = PollAnswer::read(answer.clone().into_bytes()).unwrap().offer.unwrap();
        let offered = intake.find_offered("t", &key("t"), &offer).unwrap();
        assert!(matches!(&offered, Offered::Unfinished(found) if *found == key(unfinished)), "{offered:?}");
        assert!(!is_superseded(&intake, unfinished));
    }
}

/// Its record has nothing of the offer but the id, so no digest tells that it is the same.
#[test]
fn an_offer_that_can_not_be_done_is_no_new_task_when_it_is_offered_again() {
    for phase in [Phase::Uploaded, Phase::Settled] {
        let dir = tempfile::tempdir().unwrap();
        let (mut intake, _messages) = intake(dir.path());
        let mut unusable = Record::from_unusable("t".to_owned(), "it has the key".to_owned(), "s", "http://h");
        let files = intake.store.create(&key("t"), &unusable).unwrap();
        unusable.set_phase(phase);
        files.save(&unusable).unwrap();
        let expected = if phase == Phase::Settled {
            "settled t"
        } else {
            intake.table.insert(&key("t"), "t", phase, Duration::ZERO);
            "unfinished t"
        };
        assert_eq!(found(&mut intake, "the key"), expected);
        assert!(!is_superseded(&intake, "t"));
    }
}

#[test]
fn a_task_that_gets_its_id_back_as_its_container_ends_is_ended_first() {
    let dir = tempfile::tempdir().unwrap();
    let (mut intake, messages) = intake(dir.path());
    let commands = at_work(&mut intake, "t", "first", Phase::Prepared);
    assert_eq!(found(&mut intake, "second"), "later");
    messages.send(WorkerMessage { key: key("t"), event: WorkerEvent::PhaseReached(Phase::Exited) }).unwrap();
    assert_eq!(found(&mut intake, "first"), "later");
    assert!(is_superseded(&intake, "t") && commands.try_recv() == Ok(WorkerCommand::Discard));
    assert_eq!(found(&mut intake, "first"), "later");
    messages.send(WorkerMessage { key: key("t"), event: WorkerEvent::Finished(TaskResult::Settled) }).unwrap();
    let mut ended = intake.store.task(&key("t")).load().unwrap().unwrap();
    ended.set_phase(Phase::Settled);
    intake.store.task(&key("t")).save(&ended).unwrap();
    intake.take_messages();
    assert_eq!(found(&mut intake, "first"), "settled t");
}

#[test]
fn a_task_that_was_given_up_goes_on_with_its_own_ending() {
    let dir = tempfile::tempdir().unwrap();
    let (mut intake, _messages) = intake(dir.path());
    let ending = |status| Ending {
        status,
        exit_code: Some(0),
        error_message: None,
        duration_secs: 1.0,
        at: Timestamp::UNIX_EPOCH,
    };
    let mut given_up = record(&intake, "t", "first", Phase::Settled);
    let before = Some(Before { phase: Phase::Exited, ending: Some(ending(FinalStatus::Completed)) });
    given_up.discarded = Some(Discarded { unreported: Some("another task's".to_owned()), before });
    given_up.ending = Some(ending(FinalStatus::Failed));
    let files = intake.store.task(&key("t"));
    files.save(&given_up).unwrap();
    files.mark_superseded().unwrap();
    let Offered::Settled(found, saved) = intake.find_offered("t", &key("t"), &offer("first")).unwrap() else {
        panic!("a settled task")
    };
    // Without its workspace, nothing of its results is left to deliver.
    intake.deliver_again(&found, (*saved).clone());
    let loaded = || files.load().unwrap().unwrap();
    assert_eq!((loaded().phase, loaded().ending.unwrap().status), (Phase::Uploaded, FinalStatus::Failed));
    intake.table.remove(&found);
    intake.offers = Offers::default();
    Workspace::new(&intake.context.config().paths.data_dir, &found).create().unwrap();
    intake.deliver_again(&found, (*saved).clone());
    assert_eq!((loaded().phase, loaded().ending), (Phase::Exited, Some(ending(FinalStatus::Completed))));
    assert!(loaded().discarded.is_none() && !files.is_superseded());
    assert_eq!(intake.table.phase(&found), Phase::Exited);
    // The Server offers it at once again.
    intake.table.remove(&found);
    files.save(&saved).unwrap();
    intake.deliver_again(&found, *saved);
    assert_eq!(intake.table.phase(&found), Phase::Settled, "it isn't handed in again so soon");
}

#[test]
fn a_task_that_was_given_up_before_it_began_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (mut intake, _messages) = intake(dir.path());
    let mut given_up = record(&intake, "t", "first", Phase::Settled);
    let before = Some(Before { phase: Phase::Accepted, ending: None });
    given_up.discarded = Some(Discarded { unreported: None, before });
    intake.store.task(&key("t")).save(&given_up).unwrap();
    assert_eq!(found(&mut intake, "first"), "new t");
    assert_eq!(found(&mut intake, "second"), "new __r2-t");
}

#[test]
fn what_has_failed_for_a_task_does_not_count_for_another_with_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let (mut intake, _messages) = intake(dir.path());
    let _commands = at_work(&mut intake, "t", "first", Phase::Exited);
    let item = Item::new(Way::Upload, "t", "output/a");
    let error = ClientError::Local(io::Error::other("refused"));
    let failure = Failure { error: &error, is_unsent: false, began: Instant::now() };
    intake.client.patience().note_failure(&item, failure, Instant::now());
    assert!(intake.client.patience().why(&item).is_some());
    assert_eq!(found(&mut intake, "second"), "later");
    assert!(intake.client.patience().why(&item).is_none());
}

/// A Server that offers ever new tasks, and confirms none of them, would fill the disk with their records.
#[test]
fn unconfirmed_tasks_without_a_slot_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let (mut intake, _) = intake(dir.path());
    let lost = || Err::<(), _>(ClientError::Lost("reset".to_owned()));
    for number in 0..UNCONFIRMED_MAX + 3 {
        let key = key(&format!("t{number}"));
        intake.table.insert(&key, key.as_str(), Phase::Accepting, Duration::ZERO);
        for _ in 0..9 {
            intake.ask_again(&key, &lost(), Instant::now());
        }
    }
    assert_eq!((intake.table.unconfirmed_without_slot(), intake.table.slots_taken()), (UNCONFIRMED_MAX, 3));
    // One that is confirmed leaves its place to another.
    intake.table.set_phase(&key("t0"), Phase::Accepted);
    let waiting = key(&format!("t{UNCONFIRMED_MAX}"));
    intake.ask_again(&waiting, &lost(), Instant::now());
    assert_eq!((intake.table.unconfirmed_without_slot(), intake.table.slots_taken()), (UNCONFIRMED_MAX, 2));
}
