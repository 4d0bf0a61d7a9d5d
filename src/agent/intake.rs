//! Which tasks become ours: offers, ids that may have been requeued, and cancellations.

use std::time::{Duration, Instant};

use serde::Deserialize;

use super::Scheduler;
use super::task_table::Stage;
use crate::ledger::{Entry, Line, Outcome, Peer};
use crate::server::budget::Purpose;
use crate::server::protocol::{CompleteRequest, FinalStatus, Output, PollAnswer, Task};
use crate::server::retry::Backoff;
use crate::task::record::{Phase, Record, TaskKey};
use crate::task::workspace::Workspace;
use crate::task::{failed_report, report_entry};
use crate::units::Bytes;

/// How long a cancellation is asked for that no unsettled task here answers to, before we answer in its owner's place.
/// A twin that owns the task needs some seconds to stop it (PROTOCOL 2).
const ORPHAN_PATIENCE: Duration = Duration::from_secs(60);

/// A cancellation of a task that isn't here.
pub(super) struct Orphan {
    id: String,
    since: Instant,
}

/// When to poll again.
enum Next {
    Now,
    InTime,
}

impl Scheduler {
    pub(super) fn poll(&mut self) {
        let answer = self.client.poll(self.load());
        if answer.is_err() {
            // "Without a break" can't be said of a time in which nothing was heard.
            self.orphan = None;
        }
        match answer {
            Ok(answer) => {
                self.poll_backoff = Backoff::default();
                let next = self.consider(answer);
                let pause = match next {
                    Next::Now => Duration::ZERO,
                    Next::InTime => self.context.config.server.poll_interval,
                };
                self.poll_due = Instant::now() + pause;
            }
            // No other call would fare better, and the pauses here would outgrow a short outage.
            Err(error) if error.is_unauthorized() || error.is_unreachable() => self.note_server_trouble(&error),
            Err(error) => {
                let pause = self.poll_backoff.next(error.retry_after()).max(self.context.config.server.poll_interval);
                log::warn!("poll: {error}; trying again in {} s", pause.as_secs());
                self.poll_not_before = Instant::now() + pause;
                self.poll_due = self.poll_not_before;
            }
        }
    }

    fn consider(&mut self, answer: PollAnswer) -> Next {
        match answer.cancel_task_id.filter(|_| answer.should_cancel) {
            Some(id) => self.cancel(&id),
            None => self.orphan = None,
        }
        match answer.task.filter(|_| answer.has_task).map(Task::deserialize) {
            Some(Ok(task)) => self.consider_offer(task),
            Some(Err(error)) => {
                self.refuse("", &format!("the Server offers a task that isn't one: {error}"));
                Next::InTime
            }
            None => Next::InTime,
        }
    }

    /// Says once why an offer can't be taken, for as long as it is the one that is offered.
    fn refuse(&mut self, id: &str, why: &str) {
        if self.refused_offer.as_deref() != Some(why) {
            let shown: String = id.chars().take(80).collect();
            log::error!("{why}; what waits behind it on the Server is hidden by it `{shown}`");
            self.refused_offer = Some(why.to_owned());
        }
    }

    fn consider_offer(&mut self, task: Task) -> Next {
        let Some(key) = TaskKey::from_id(&task.id) else {
            let length = task.id.len();
            self.refuse(&task.id, &format!("the Server offers a task whose id, {length} bytes long, can't be one"));
            return Next::InTime;
        };
        if self.table.id(&key).is_some() {
            // The Server has requeued it, and everything behind it is hidden until somebody takes it.
            if self.client.try_acquire(Purpose::Intake).is_err() {
                return Next::InTime;
            }
            // A Server that says otherwise than it offers is not asked in a circle.
            return if self.reclaim(&key) { Next::Now } else { Next::InTime };
        }
        match self.store.task(&key).load() {
            Ok(Some(record)) if record.service_id == self.client.service_id() && record.phase == Phase::Settled => {
                return self.hand_in_again(&key, record);
            }
            Ok(Some(record)) => {
                let owner = record.service_id;
                let why = format!("task {key} is offered, but here is a task of service {owner} with this id");
                self.refuse(&task.id, &why);
                return Next::InTime;
            }
            Ok(None) => {}
            Err(error) => {
                self.refuse(&task.id, &format!("task {key} is offered, but its record here can't be read: {error}"));
                return Next::InTime;
            }
        }
        let is_held = self.hold_until.is_some_and(|until| Instant::now() < until);
        if self.load().available == 0 || is_held {
            return Next::InTime;
        }
        self.accept(&key, task)
    }

    /// Takes a new task. The whole offer is on the disk before `accept` is sent, so that a crash right after it
    /// doesn't leave the Server with a task that nobody knows.
    fn accept(&mut self, key: &TaskKey, task: Task) -> Next {
        if self.client.try_acquire(Purpose::Intake).is_err() {
            return Next::InTime;
        }
        let id = task.id.clone();
        let mut record = Record::from_offer(task, self.client.service_id(), self.client.base_url());
        let workspace = Workspace::new(&self.context.config.paths.data_dir, key);
        let files = match workspace.remove().and_then(|()| self.store.create(key, &record)) {
            Ok(files) => files,
            Err(error) => {
                log::error!("task {key} can't be accepted: its place on the disk can't be prepared: {error}");
                self.forget(key);
                return Next::InTime;
            }
        };
        let error = match self.client.accept(&id) {
            Ok(()) => {
                say_accepted(key, &record.task);
                self.lost_race = None;
                self.table.insert(key, &id, Phase::Accepting, Stage::InDoubt);
                record.set_phase(Phase::Accepted);
                if let Err(error) = files.save(&record) {
                    // On disk it is in doubt, and asking for it again settles that.
                    log::error!(task:% = key; "its record can't be written: {error}; trying again");
                    self.reclaim.push_back(key.clone());
                    self.reclaim_due = Instant::now() + self.reclaim_backoff.next(None);
                    return Next::InTime;
                }
                self.hand_over(key, record);
                return Next::Now;
            }
            Err(error) => error,
        };
        if error.may_have_arrived() {
            log::warn!(task:% = key; "accept: {error}; asking again");
            self.table.insert(key, &id, Phase::Accepting, Stage::InDoubt);
            self.reclaim.push_back(key.clone());
            self.reclaim_due = Instant::now() + self.reclaim_backoff.next(error.retry_after());
            return Next::InTime;
        }
        self.forget(key);
        if error.is_wrong_state() {
            log::debug!(task:% = key; "somebody else was faster ({error})");
            let again = self.lost_race.as_ref() == Some(&id);
            self.lost_race = Some(id);
            // The next poll shows what is behind it; but a Server that goes on offering it is not asked in a circle.
            return if again { Next::InTime } else { Next::Now };
        }
        log::warn!(task:% = key; "accept: {error}");
        Next::InTime
    }

    /// A task that was settled is offered again: the Server has lost what it knew. The result is still here.
    fn hand_in_again(&mut self, key: &TaskKey, mut record: Record) -> Next {
        if self.client.try_acquire(Purpose::Intake).is_err() {
            return Next::InTime;
        }
        // On the disk before it is accepted: whoever loses the answer, the result is handed in.
        record.set_phase(Phase::Uploaded);
        record.settled_at = None;
        if let Err(error) = self.store.task(key).save(&record) {
            log::error!(task:% = key; "offered again although it was settled, but its record can't be written: {error}");
            return Next::InTime;
        }
        let accepted = self.client.accept(&record.task.id);
        match &accepted {
            Ok(()) => log::info!(task:% = key; "offered again although it was settled; handing in the stored result"),
            Err(error) => log::warn!(task:% = key; "offered again although it was settled; accept: {error}"),
        }
        self.table.insert(key, &record.task.id, Phase::Uploaded, Stage::InDoubt);
        self.hand_over(key, record);
        if accepted.is_ok() { Next::Now } else { Next::InTime }
    }

    /// Asks for the next task of ours that may have been requeued.
    pub(super) fn reclaim_next(&mut self) {
        if let Some(key) = self.reclaim.pop_front() {
            self.reclaim(&key);
        }
    }

    /// Accepts an id of ours again: 200 means that it had been requeued, 400 that it runs here or has ended
    /// (PROTOCOL 3 and 5). Where an earlier `accept` is in doubt, 400 means that it had arrived. Returns whether the
    /// Server gave it to us just now.
    fn reclaim(&mut self, key: &TaskKey) -> bool {
        let Some(id) = self.table.id(key).map(str::to_owned) else { return false };
        let answer = self.client.accept(&id);
        let taken = answer.is_ok();
        match answer {
            Ok(()) => {
                self.reclaim_backoff = Backoff::default();
                if self.table.is_in_doubt(key) {
                    self.begin(key);
                } else {
                    log::info!(task:% = key; "had been requeued and is ours again");
                }
            }
            Err(error) if error.is_wrong_state() => {
                self.reclaim_backoff = Backoff::default();
                if self.table.is_in_doubt(key) {
                    self.begin(key);
                }
            }
            Err(error) if error.is_retryable() || error.is_unauthorized() => {
                let pause = self.reclaim_backoff.next(error.retry_after());
                log::warn!(task:% = key; "accept: {error}; asking again in {} s", pause.as_secs());
                self.reclaim_due = Instant::now() + pause;
                if !self.reclaim.contains(key) {
                    self.reclaim.push_back(key.clone());
                }
            }
            Err(error) if self.table.is_in_doubt(key) => {
                log::error!(task:% = key; "accept: {error}; it isn't ours");
                self.table.remove(key);
                self.forget(key);
            }
            Err(error) => log::warn!(task:% = key; "accept: {error}"),
        }
        taken
    }

    /// A task in doubt turned out to be ours.
    fn begin(&mut self, key: &TaskKey) {
        let files = self.store.task(key);
        let begun = files.load().and_then(|record| {
            let mut record = record.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound))?;
            record.set_phase(record.phase.max(Phase::Accepted));
            files.save(&record)?;
            Ok(record)
        });
        match begun {
            Ok(record) => {
                say_accepted(key, &record.task);
                self.hand_over(key, record);
            }
            Err(error) => {
                log::error!(task:% = key; "its record can't be written: {error}; trying again");
                self.reclaim_due = Instant::now() + self.reclaim_backoff.next(None);
                self.reclaim.push_back(key.clone());
            }
        }
    }

    fn cancel(&mut self, id: &str) {
        let key = TaskKey::from_id(id);
        if key.as_ref().is_some_and(|key| self.table.id(key) == Some(id) && self.table.cancel(key)) {
            self.orphan = None;
            return;
        }
        let since = match &self.orphan {
            Some(orphan) if orphan.id == id => orphan.since,
            _ => {
                log::debug!("the Server asks for the end of a task that isn't here; perhaps another agent's");
                let since = Instant::now();
                self.orphan = Some(Orphan { id: id.to_owned(), since });
                since
            }
        };
        if since.elapsed() < ORPHAN_PATIENCE {
            return;
        }
        if self.client.try_acquire(Purpose::Intake).is_err() {
            return;
        }
        let output = Output::default();
        let status = FinalStatus::Cancelled;
        let report =
            CompleteRequest { task_id: id, status, output, error_message: None, file_ids: Vec::new() }.encode();
        let entry = match self.client.complete(&report) {
            Ok(()) => {
                let shown: String = id.chars().take(80).collect();
                log::info!(task:% = shown; "nobody has stopped it for a minute, so it is reported as cancelled");
                Some(report_entry(&report, Outcome::Sent, Some("nobody has stopped the task for a minute")))
            }
            Err(error) => {
                log::warn!("a cancellation that nobody answers: {error}");
                failed_report(&report, &error)
            }
        };
        if let Some(entry) = entry {
            self.enter(id, entry);
        }
        self.orphan = None;
    }

    /// Adds a line about a task that isn't here to the ledger.
    fn enter(&self, id: &str, entry: Entry) {
        let peer = Peer { server: self.client.base_url(), service_id: self.client.service_id() };
        if let Err(error) = self.context.ledger.append(&[Line::now(id, peer, entry)]) {
            log::error!("a report of nothing but the id of a cancelled task isn't in the ledger: {error}");
        }
    }

    fn forget(&self, key: &TaskKey) {
        if let Err(error) = self.store.remove(key) {
            log::warn!(task:% = key; "its record can't be removed: {error}");
        }
    }
}

fn say_accepted(key: &TaskKey, task: &Task) {
    let bytes = task.input_files.iter().map(|file| file.size_bytes).fold(0, u64::saturating_add);
    match task.input_files.len() {
        0 => log::info!(task:% = key; "accepted, without input files"),
        count => log::info!(task:% = key; "accepted, with {count} input file(s), {}", Bytes(bytes)),
    }
}
