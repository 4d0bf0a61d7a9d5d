//! Offers: which of them becomes a task of this agent, and what stands on the disk before the Server hears of it.

use std::time::{Duration, Instant};

use super::Intake;
use crate::agent::messages::NextPoll;
use crate::server::Task;
use crate::task::{Phase, Record, TaskKey, Workspace};
use crate::units::Bytes;

/// How much of an id from the Server is logged, in characters.
pub(super) const SHOWN_ID: usize = 80;

/// What is remembered of earlier offers.
#[derive(Default)]
pub(super) struct Offers {
    /// The id of the last task that another agent accepted first.
    lost_race: Option<String>,
    /// Why the last offer couldn't be used.
    unusable: Option<String>,
}

impl Offers {
    /// Logs why an offer can't be used, once for as long as the Server goes on offering it.
    pub(super) fn refuse(&mut self, id: &str, why: &str) -> NextPoll {
        if self.unusable.as_deref() != Some(why) {
            let shown: String = id.chars().take(SHOWN_ID).collect();
            log::error!("{why}; this offer blocks every task queued behind it (`{shown}`)");
            self.unusable = Some(why.to_owned());
        }
        NextPoll::AfterInterval
    }

    /// Another agent has accepted a task first. The next poll shows the task behind it; but a Server that offers the
    /// same task again is polled in the usual interval only.
    fn note_lost_race(&mut self, id: &str) -> NextPoll {
        let is_repeated = self.lost_race.as_deref() == Some(id);
        self.lost_race = Some(id.to_owned());
        if is_repeated { NextPoll::AfterInterval } else { NextPoll::Immediately }
    }
}

impl Intake {
    /// Accepts an offered task if it is this agent's to accept.
    pub(super) fn handle_offer(&mut self, task: Task) -> NextPoll {
        let Some(key) = TaskKey::from_id(&task.id) else {
            let length = task.id.len();
            let why = format!("the Server offers a task whose id, {length} bytes long, can't be one");
            return self.offers.refuse(&task.id, &why);
        };
        if self.table.id(&key).is_some() {
            // The Server has requeued it, and it hides everything behind it until an agent accepts it.
            let is_reclaimed = self.try_acquire() && self.reclaim(&key, Instant::now());
            // A Server that refuses the task that it offers is polled in the usual interval only.
            return if is_reclaimed { NextPoll::Immediately } else { NextPoll::AfterInterval };
        }
        match self.store.task(&key).load() {
            Ok(None) => {}
            Ok(Some(record)) if record.service_id == self.client.service_id && record.phase == Phase::Settled => {
                return self.deliver_again(&key, record);
            }
            Ok(Some(record)) => {
                let owner = record.service_id;
                let why = format!("task {key} is offered, but the task of this id here belongs to service {owner}");
                return self.offers.refuse(&task.id, &why);
            }
            Err(error) => {
                let why = format!("task {key} is offered, but its record here can't be read: {error}");
                return self.offers.refuse(&task.id, &why);
            }
        }
        let free = self.table.capacity().saturating_sub(self.table.slots_taken());
        if matches!(self.admission.check(free, Instant::now()), Ok(1..)) && self.try_acquire() {
            self.accept(&key, task)
        } else {
            NextPoll::AfterInterval
        }
    }

    /// Accepts a new task. The whole offer is on the disk before `accept` is sent, so that a crash right after the call
    /// doesn't leave the Server with a running task that has no record here.
    fn accept(&mut self, key: &TaskKey, task: Task) -> NextPoll {
        let id = task.id.clone();
        let mut record = Record::from_offer(task, &self.client.service_id, self.client.base_url());
        let workspace = Workspace::new(&self.context.config.paths.data_dir, key);
        let files = match workspace.remove().and_then(|()| self.store.create(key, &record)) {
            Ok(files) => files,
            Err(error) => {
                log::error!(task:% = key; "can't be accepted: its directories can't be prepared: {error}");
                self.remove_record(key);
                return NextPoll::AfterInterval;
            }
        };
        match self.client.accept(&id) {
            Ok(()) => {
                log_accepted(key, &record.task);
                self.offers.lost_race = None;
                self.table.insert(key, &id, Phase::Accepting, Duration::ZERO);
                record.set_phase(Phase::Accepted);
                if let Err(error) = files.save(&record) {
                    // The record on the disk says `accepting`, and a reclaim confirms the task.
                    log::error!(task:% = key; "its record can't be written: {error}; trying again");
                    self.reclaims.push_failed(key, None, Instant::now());
                    return NextPoll::AfterInterval;
                }
                self.dispatch(key, record);
                NextPoll::Immediately
            }
            Err(error) if error.may_have_arrived() => {
                log::warn!(task:% = key; "accept: {error}; asking again");
                self.table.insert(key, &id, Phase::Accepting, Duration::ZERO);
                self.reclaims.push_failed(key, error.retry_after(), Instant::now());
                NextPoll::AfterInterval
            }
            Err(error) => {
                self.remove_record(key);
                if error.is_wrong_state() {
                    log::debug!(task:% = key; "another agent accepted it first ({error})");
                    return self.offers.note_lost_race(&id);
                }
                log::warn!(task:% = key; "accept: {error}");
                NextPoll::AfterInterval
            }
        }
    }

    /// A task that was settled is offered again: the Server has lost its state. The record still has its end, so the report
    /// is sent again; the files are on the Server.
    fn deliver_again(&mut self, key: &TaskKey, mut record: Record) -> NextPoll {
        if !self.try_acquire() {
            return NextPoll::AfterInterval;
        }
        // On the disk before it is accepted: even if the answer is lost, the result is delivered.
        record.set_phase(Phase::Uploaded);
        record.settled_at = None;
        if let Err(error) = self.store.task(key).save(&record) {
            log::error!(task:% = key; "offered again although it was settled, but its record can't be written: {error}");
            return NextPoll::AfterInterval;
        }
        let accepted = self.client.accept(&record.task.id);
        match &accepted {
            Ok(()) => log::info!(task:% = key; "offered again although it was settled; reporting the stored result"),
            Err(error) => log::warn!(task:% = key; "offered again although it was settled; accept: {error}"),
        }
        self.table.insert(key, &record.task.id, Phase::Uploaded, Duration::ZERO);
        self.dispatch(key, record);
        if accepted.is_ok() { NextPoll::Immediately } else { NextPoll::AfterInterval }
    }

    pub(super) fn remove_record(&self, key: &TaskKey) {
        if let Err(error) = self.store.remove(key) {
            log::warn!(task:% = key; "its record can't be removed: {error}");
        }
    }
}

/// Logs an accepted task with the size of its input.
pub(super) fn log_accepted(key: &TaskKey, task: &Task) {
    let bytes = task.input_files.iter().map(|file| file.size_bytes).fold(0, u64::saturating_add);
    match task.input_files.len() {
        0 => log::info!(task:% = key; "accepted, without input files"),
        count => log::info!(task:% = key; "accepted, with {count} input file(s), {}", Bytes(bytes)),
    }
}
