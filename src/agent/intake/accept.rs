//! Offers: which of them becomes a task of this agent, and what stands on the disk before the Server hears of it.

use std::io;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Intake;
use super::again::AcceptedAgain;
use super::claim::{Answer, Claim, Verdict, decide};
use super::failed_offers::FailedOffers;
use super::no_room::NoRoom;
use super::room::{Room, Wanted};
use super::said::Said;
use super::same_id::Offered;
use crate::agent::health::RecheckRequest;
use crate::agent::messages::NextPoll;
use crate::agent::task_table::Needs;
use crate::server::{ClientError, Offer, Purpose, Task};
use crate::task::{Phase, Record, TaskKey, Workspace};
use crate::text::{gist, quote_foreign};
use crate::units::{Bytes, Files};

/// How much memory the offers of tasks in preparation may take together, unless there is only one.
const OFFERS_MEMORY: usize = 4 * 1024 * 1024;
/// An offer of this size at most is accepted beside any other: even one for each slot takes little memory.
const SMALL_OFFER: usize = 64 * 1024;
/// How often a byte of an offer is written, at most: in the record and the file that replaces it, in `offer.json`, and
/// in `task.json`, which has the prompt twice; and one for the marks around each value.
const WRITTEN: u64 = 6;
const KEY_OFFERED: &str = "the Server offers a task that contains the api_key of this agent, which would get into names, files and the container";
const INVALID: &str = "the Server's offer is not a valid task";

/// What is remembered of earlier offers.
#[derive(Default)]
pub(super) struct Offers {
    /// The id of the last task that another agent accepted first.
    lost_race: Option<String>,
    /// The tasks of this agent that were offered and accepted again.
    again: AcceptedAgain,
    /// What was said of the last offer that wasn't accepted.
    refused: Said,
    /// What was said of the last answer with a wrong field.
    flaw: Said,
    /// The offered tasks whose `accept` failed and left no doubt.
    failed: FailedOffers,
    /// Which offer the disk has no room for.
    pub(super) room: Room,
    /// Whether the request budget keeps a free slot empty.
    pub(super) no_room: NoRoom,
}

impl Offers {
    /// Logs why an offer isn't accepted, once until another reason comes or a task is accepted: the next offer may have the
    /// same fault.
    fn refuse(&mut self, id: &str, why: &str) -> NextPoll {
        let level = if self.note_refusal(id, why) { log::Level::Error } else { log::Level::Debug };
        log::log!(level, "{why}; this offer blocks every task queued behind it ({})", quote_foreign(id));
        NextPoll::AfterInterval
    }

    /// Returns whether the log doesn't say it yet.
    fn note_refusal(&mut self, id: &str, why: &str) -> bool {
        self.refused.is_new(&gist(&why.replace(id, "")), Instant::now())
    }

    /// Logs what of an answer can't be read, once for as long as the answers have it.
    pub(super) fn note_flaw(&mut self, flaw: Option<String>) {
        match flaw {
            Some(flaw) if self.flaw.is_new(&gist(&flaw), Instant::now()) => {
                log::error!("a part of the Server's answer to a poll can't be read: {flaw}");
            }
            Some(_) => {}
            None => self.flaw.forget(),
        }
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
    pub(super) fn handle_offer(&mut self, offer: Offer) -> NextPoll {
        let id = match offer.id() {
            Ok(id) => id,
            Err(error) => return self.offers.refuse("", &format!("{INVALID}: {error}")),
        };
        let Some(key) = TaskKey::from_id(&id) else {
            return self.offers.refuse("", &format!("{INVALID}: its id is empty"));
        };
        if self.client.is_key_in(&id) {
            return self.offers.refuse("", KEY_OFFERED);
        }
        if self.offers.failed.is_paused(&id, Instant::now()) {
            return NextPoll::AfterInterval;
        }
        let key = match self.find_offered(&id, &key, &offer) {
            Ok(Offered::New(key)) => key,
            Ok(Offered::Unfinished(key)) => return self.reclaim_offered(&key),
            Ok(Offered::Settled(key, record)) => return self.deliver_again(&key, *record),
            Ok(Offered::Later) => return NextPoll::AfterInterval,
            Err(why) => return self.offers.refuse(&id, &format!("the task `{key}` is offered, but {why}")),
        };
        let free = self.table.capacity().saturating_sub(self.table.slots_taken());
        let now = Instant::now();
        match self.admission.check(free, now) {
            Ok(1..) if self.host.is_known(now) => self.accept_new(&key, id, offer),
            _ => NextPoll::AfterInterval,
        }
    }

    /// The Server has requeued a task of this agent, and it hides everything behind it until an agent accepts it.
    fn reclaim_offered(&mut self, key: &TaskKey) -> NextPoll {
        let now = Instant::now();
        // The pause after a failed `accept`, perhaps one of the Server's, isn't cut short by the Server's offer. While the task
        // is being reported, its worker accepts it again.
        let is_reclaimed = !self.offers.again.is_too_soon(key, now)
            && !self.reclaims.is_paused(key, now)
            && !self.table.is_reporting(key)
            && self.try_acquire()
            && self.reclaim(key, now);
        // A Server that refuses the task that it offers is polled in the usual interval only.
        if !is_reclaimed {
            return NextPoll::AfterInterval;
        }
        self.offers.again.note(key, now);
        NextPoll::Immediately
    }

    /// Accepts a new task for which this machine has room.
    fn accept_new(&mut self, key: &TaskKey, id: String, offer: Offer) -> NextPoll {
        let (memory, needed) = (offer.size(), self.table.needs());
        if memory > SMALL_OFFER && needed.memory > 0 && needed.memory.saturating_add(memory) > OFFERS_MEMORY {
            let size = Bytes(memory as u64);
            let why = format!(
                "the offered task `{key}` has {size} of texts and names, and waits until fewer tasks are being prepared"
            );
            // That is over within seconds as a rule.
            if self.offers.note_refusal(key.as_str(), &why) {
                log::info!("{why}");
            }
            return NextPoll::AfterInterval;
        }
        let record = self.record_of(key, id, &offer);
        // The record holds all of it.
        drop(offer);
        let (task, memory) = (&record.task, if record.ending.is_some() { 0 } else { memory });
        if !task.input_files.is_empty() && self.admission.check_inputs(Instant::now()).is_err() {
            return NextPoll::AfterInterval;
        }
        if let Err(error) = self.set_workspace_aside(key) {
            return self.note_failed_write(key, &format!("an earlier workspace can't be moved: {error}"));
        }
        let (announced, texts) = (task.input_size(), WRITTEN.saturating_mul(memory as u64));
        let needs = Needs { disk: announced.saturating_add(texts), memory };
        let wanted = Wanted { id: &record.task.id, announced, texts, others: needed.disk };
        if let Err(why) = self.check_room(&wanted) {
            return self.offers.refuse(key.as_str(), &format!("the offered task `{key}` waits: {why}"));
        }
        match self.client.try_acquire(Purpose::Intake) {
            Ok(()) => {
                self.offers.no_room = NoRoom::default();
                self.accept(key, record, needs)
            }
            Err(time) => {
                self.offers.no_room.note(&format!("the offered task `{key}`"), time, Instant::now());
                NextPoll::AfterInterval
            }
        }
    }

    /// The record of an offer. What can't be a task here is accepted all the same, and fails with the reason: until an agent
    /// has it, it hides every task queued behind it (PROTOCOL 1). Nothing but its id gets into the record then.
    fn record_of(&self, key: &TaskKey, id: String, offer: &Offer) -> Record {
        let task = if key.is_digest() {
            Err(format!("{INVALID}: an id of {} bytes is too long for the names of its files and container", id.len()))
        } else {
            offer.parse().map_err(|error| format!("{INVALID}: {error}"))
        };
        let has_key = |task: &Task| task.texts().any(|text| self.client.is_key_in(text));
        let task = task.and_then(|task| if has_key(&task) { Err(KEY_OFFERED.to_owned()) } else { Ok(task) });
        let (service_id, base_url) = (&self.client.service_id, self.client.base_url());
        match task {
            Ok(task) => Record::from_offer(task, service_id, base_url),
            Err(why) => Record::from_unusable(id, why, service_id, base_url),
        }
    }

    /// An offered task can't be accepted for want of a disk. It isn't this task's fault, so none is accepted for a while.
    fn note_failed_write(&mut self, key: &TaskKey, why: &str) -> NextPoll {
        if self.admission.note_failed_write(why, Instant::now()) {
            log::error!("the offered task `{key}` can't be accepted: {why}");
        }
        self.request_heartbeat();
        NextPoll::AfterInterval
    }

    /// Moves what an earlier task of this name has left to where the health thread removes it. That may take long, and a
    /// task that waits for room on the disk needs it done all the more.
    fn set_workspace_aside(&self, key: &TaskKey) -> io::Result<()> {
        if Workspace::new(&self.context.config().paths.data_dir, key).set_aside()? {
            log::info!("the workspace of an earlier task `{key}` is removed");
            // The health thread ends only with the agent.
            let _ = self.host.rechecks.send(RecheckRequest::Clean);
        }
        Ok(())
    }

    /// Accepts a new task. The whole offer is on the disk before `accept` is sent, so that a crash right after the call
    /// doesn't leave the Server with a running task that has no record here.
    fn accept(&mut self, key: &TaskKey, mut record: Record, needs: Needs) -> NextPoll {
        let id = record.task.id.clone();
        let files = match self.store.create(key, &record) {
            Ok(files) => files,
            Err(error) => {
                self.remove_record(key);
                return self.note_failed_write(key, &format!("its directories can't be prepared: {error}"));
            }
        };
        let result = self.client.accept(&id);
        let answer = answer_of(&result);
        match (decide(Claim::New, answer), result) {
            (Verdict::Begin | Verdict::GoOn, result) => {
                record.offered.note_accepted(result.ok().flatten(), Timestamp::now());
                log_accepted(key, &record.task);
                self.admission.note_accepted(!record.task.input_files.is_empty(), Instant::now());
                self.offers.lost_race = None;
                self.offers.refused.forget();
                self.offers.failed.forget(&id);
                self.table.insert(key, &id, Phase::Accepting, Duration::ZERO);
                self.table.set_needs(key, needs);
                record.set_phase(Phase::Accepted);
                // A power cut may leave `accepting`, which a reclaim confirms: the container starts after the next save.
                if let Err(error) = files.save_step(&record) {
                    // The record on the disk says `accepting`, and a reclaim confirms the task.
                    log::error!(task:% = key; "its record can't be written: {error}; trying again");
                    self.reclaims.push_failed(key, None, Instant::now());
                    return NextPoll::AfterInterval;
                }
                self.dispatch(key, record);
                NextPoll::Immediately
            }
            (Verdict::AskAgain, result) => {
                let error = result.err();
                let why = error.as_ref().map(ToString::to_string).unwrap_or_default();
                log::warn!(task:% = key; "accept: {why}; asking again");
                self.table.insert(key, &id, Phase::Accepting, Duration::ZERO);
                self.table.set_needs(key, needs);
                self.reclaims.push_failed(key, error.and_then(|error| error.retry_after()), Instant::now());
                NextPoll::AfterInterval
            }
            (Verdict::Forget, result) => {
                self.remove_record(key);
                let Err(error) = result else { return NextPoll::AfterInterval };
                if answer == Answer::NotPending {
                    self.offers.failed.forget(&id);
                    log::debug!("another agent accepted the task `{key}` first ({error})");
                    return self.offers.note_lost_race(&id);
                }
                let pause = self.offers.failed.note(&id, error.retry_after(), Instant::now());
                log::warn!(
                    "accept of the task `{key}`: {error}; asking again in {} s at the earliest",
                    pause.as_secs()
                );
                NextPoll::AfterInterval
            }
        }
    }

    /// A task that was settled is offered again: the Server has lost its state. The record still has its end, so the
    /// report is sent again; the files are on the Server. One whose delivery was given up goes on from there, as far as its
    /// results are still here. The record keeps the time when the task was settled first, or a Server that offers it again
    /// and again would keep it here for ever.
    pub(super) fn deliver_again(&mut self, key: &TaskKey, mut record: Record) -> NextPoll {
        let now = Instant::now();
        if self.offers.again.is_too_soon(key, now) || !self.try_acquire() {
            return NextPoll::AfterInterval;
        }
        self.offers.again.note_settled(key, now);
        let has_workspace = Workspace::new(&self.context.config().paths.data_dir, key).dir().exists();
        // On the disk before it is accepted: even if the answer is lost, the result is delivered.
        let before = if has_workspace { record.take_back() } else { None };
        let phase = before.unwrap_or(Phase::Uploaded);
        record.set_phase(phase);
        let files = self.store.task(key);
        if let Err(error) = files.unmark_superseded().and_then(|()| files.save(&record)) {
            log::error!(
                task:% = key;
                "offered again although it was settled, but its record can't be written: {error}"
            );
            return NextPoll::AfterInterval;
        }
        let accepted = self.client.accept(&record.task.id);
        match &accepted {
            Ok(_) => log::info!(task:% = key; "offered again although it was settled; reporting the stored result"),
            Err(error) => log::warn!(task:% = key; "offered again although it was settled; accept: {error}"),
        }
        self.table.insert(key, &record.task.id, phase, Duration::ZERO);
        self.table.note_settled_before(key);
        self.table.make_due(key);
        if accepted.is_ok() { NextPoll::Immediately } else { NextPoll::AfterInterval }
    }

    pub(super) fn remove_record(&self, key: &TaskKey) {
        if let Err(error) = self.store.remove(key) {
            log::warn!(task:% = key; "its record can't be removed: {error}");
        }
    }
}

/// What the result of an `accept` says.
pub(super) fn answer_of<T>(result: &Result<T, ClientError>) -> Answer {
    match result {
        Ok(_) => Answer::Given,
        Err(error) if error.is_wrong_state() => Answer::NotPending,
        Err(error) if error.may_have_arrived() => Answer::Lost,
        Err(error) if error.is_retryable() || error.is_unauthorized() => Answer::NotNow,
        Err(_) => Answer::Refused,
    }
}

/// Logs an accepted task with the size of its input.
pub(super) fn log_accepted(key: &TaskKey, task: &Task) {
    let bytes = task.input_size();
    match task.input_files.len() {
        0 => log::info!(task:% = key; "accepted, without input files"),
        count => log::info!(task:% = key; "accepted, with {}, {}", Files(count, "input"), Bytes(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::Offers;

    #[test]
    fn offers_with_the_same_fault_are_logged_once() {
        let mut offers = Offers::default();
        let mut room =
            |id: &str, size: &str| offers.note_refusal(id, &format!("the offered task `{id}` waits: it needs {size}"));
        let logged = [("one", "3 MiB"), ("one", "3 MiB"), ("other", "4.5 GiB"), ("7d444840-9dc0-11d1", "1 B")]
            .map(|(id, size)| room(id, size));
        assert_eq!(logged, [true, false, false, false]);
        assert!(offers.note_refusal("one", "the Server's offer is not a valid task"));
    }
}
