//! Reclaims: tasks of this agent that the Server may have requeued are accepted again, and so are those whose `accept` had
//! no answer, or whose record couldn't be written after it.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use log::Level;

use super::Intake;
use super::accept::{answer_of, log_accepted};
use super::claim::{Answer, Claim, Verdict, decide};
use crate::server::{Backoff, ClientError, Purpose};
use crate::task::{Phase, TaskKey};

/// The tasks to reclaim, each with its own pause after a failure.
#[derive(Debug, Default)]
pub struct ReclaimQueue {
    waiting: VecDeque<Reclaim>,
    /// When the request budget has room again.
    not_before: Option<Instant>,
}

/// One task to reclaim.
#[derive(Debug)]
pub struct Reclaim {
    key: TaskKey,
    due: Option<Instant>,
    backoff: Backoff,
    failures: u32,
}

/// After so many failures, a task whose `accept` is unconfirmed needs no slot until it is confirmed: it may never be.
const FAILURES_WITH_SLOT: u32 = 4;
/// So many such tasks have no slot. A Server offers its oldest task until an agent has it (PROTOCOL 1), so there are few; one
/// that offers ever new ones, and confirms none, must not fill this machine with their records, nor keep it at work on them
/// when it has recovered.
pub(super) const UNCONFIRMED_MAX: usize = 16;

impl Reclaim {
    fn new(key: &TaskKey) -> Self {
        Self { key: key.clone(), due: None, backoff: Backoff::default(), failures: 0 }
    }
}

impl ReclaimQueue {
    /// Whether no task is left that wasn't asked for yet. One whose `accept` failed is tried again beside the polls: a
    /// Server that refuses one id for ever must not keep cancellations and other tasks from this agent.
    pub fn is_asked(&self) -> bool {
        self.waiting.iter().all(|reclaim| reclaim.due.is_some())
    }

    /// Whether a task waits for its pause after a failure to end.
    pub fn is_paused(&self, key: &TaskKey, now: Instant) -> bool {
        self.waiting.iter().any(|reclaim| reclaim.key == *key && reclaim.due.is_some_and(|due| due > now))
    }

    /// Adds a task, unless it is here already.
    pub fn push(&mut self, key: &TaskKey) {
        if !self.waiting.iter().any(|reclaim| reclaim.key == *key) {
            self.waiting.push_back(Reclaim::new(key));
        }
    }

    /// Adds a task that is to be tried again after a pause. Returns how long that is.
    pub fn push_failed(&mut self, key: &TaskKey, retry_after: Option<Duration>, now: Instant) -> Duration {
        let mut reclaim = self.remove(key).unwrap_or_else(|| Reclaim::new(key));
        let pause = reclaim.backoff.next(retry_after);
        reclaim.failures = reclaim.failures.saturating_add(1);
        reclaim.due = Some(now + pause);
        self.waiting.push_back(reclaim);
        pause
    }

    /// How often a task couldn't be reclaimed.
    pub fn failures(&self, key: &TaskKey) -> u32 {
        self.waiting.iter().find(|reclaim| reclaim.key == *key).map_or(0, |reclaim| reclaim.failures)
    }

    /// Replaces the queue: every task is due now.
    pub fn replace(&mut self, keys: Vec<TaskKey>) {
        self.waiting.clear();
        keys.iter().for_each(|key| self.push(key));
    }

    /// Removes a task, if it is here.
    pub fn remove(&mut self, key: &TaskKey) -> Option<Reclaim> {
        let at = self.waiting.iter().position(|reclaim| reclaim.key == *key)?;
        self.waiting.remove(at)
    }

    /// When the next reclaim is due.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let next = self.waiting.iter().map(|reclaim| reclaim.due.unwrap_or(now)).min()?;
        Some(self.not_before.map_or(next, |at| next.max(at)))
    }

    /// A task that is due. It stays in the queue until it is removed.
    pub fn next(&self, now: Instant) -> Option<TaskKey> {
        let next = self.waiting.iter().find(|reclaim| reclaim.due.is_none_or(|due| due <= now));
        next.map(|reclaim| reclaim.key.clone())
    }

    /// The request budget has no room until then.
    pub fn defer(&mut self, until: Instant) {
        self.not_before = Some(until);
    }
}

impl Intake {
    /// When the next reclaim is due. A Server that doesn't acknowledge heartbeats isn't asked.
    pub(super) fn reclaim_due(&self, now: Instant) -> Option<Instant> {
        self.reclaims.due(now).filter(|_| self.status.is_server_reached())
    }

    /// The Server may have requeued every task of this agent: each is reclaimed before a new one is accepted.
    pub(super) fn reclaim_all(&mut self) {
        self.admission.hold(Instant::now());
        self.reclaims.replace(self.table.keys());
    }

    /// Reclaims the next task, if the request budget has room.
    pub(super) fn reclaim_next(&mut self, now: Instant) {
        match self.client.try_acquire(Purpose::Intake) {
            Ok(()) => {
                if let Some(key) = self.reclaims.next(now) {
                    self.reclaim(&key, now);
                }
            }
            Err(time) => self.reclaims.defer(now + time),
        }
    }

    /// Accepts a task of this agent again: 200 means that it had been requeued, 400 that it runs here or has ended
    /// (PROTOCOL 3 and 5). Where an earlier `accept` is unconfirmed, 200 means that the task is accepted only now, and 400
    /// that the earlier call had arrived. Returns whether the Server gave the task to this agent just now.
    ///
    /// A task that is being reported is left to its worker: that takes a refused report and a refused `accept` for the
    /// task's end, which an `accept` of this thread would be mistaken for. Nor is one accepted whose id is another task's now.
    pub(super) fn reclaim(&mut self, key: &TaskKey, now: Instant) -> bool {
        let is_left = self.table.is_reporting(key) || self.store.task(key).is_superseded();
        let id = self.table.id(key).filter(|_| !is_left).map(str::to_owned);
        let Some(id) = id else {
            self.reclaims.remove(key);
            return false;
        };
        let claim = if self.table.is_unconfirmed(key) { Claim::Unconfirmed } else { Claim::Confirmed };
        let result = self.client.accept(&id);
        let answer = answer_of(&result);
        let is_given = answer == Answer::Given;
        let verdict = decide(claim, answer);
        if verdict == Verdict::AskAgain {
            self.ask_again(key, &result, now);
            return false;
        }
        match (verdict, &result) {
            (Verdict::Begin, Err(error)) => log::debug!(task:% = key; "accept: {error}; the first accept had arrived"),
            (Verdict::GoOn, Ok(_)) => self.note_requeued(key),
            (Verdict::GoOn, Err(error)) if answer == Answer::NotPending => {
                log::debug!(task:% = key; "accept: {error}; not requeued");
            }
            (Verdict::GoOn, Err(error)) => log::warn!(task:% = key; "accept: {error}"),
            // A record of a task that may be this agent's is never removed for what a call was answered.
            (Verdict::AskAgain | Verdict::Begin | Verdict::Forget, _) => {}
        }
        if verdict == Verdict::Begin && !self.confirm_accepted(key, now) {
            return is_given;
        }
        self.reclaims.remove(key);
        is_given
    }

    fn note_requeued(&self, key: &TaskKey) {
        log::info!(task:% = key; "had been requeued and is this agent's again");
        if let Err(error) = self.store.task(key).mark_requeued() {
            log::warn!(task:% = key; "that it was requeued can't be noted: {error}");
        }
    }

    pub(super) fn ask_again<T>(&mut self, key: &TaskKey, result: &Result<T, ClientError>, now: Instant) {
        let Err(error) = result else { return };
        let pause = self.reclaims.push_failed(key, error.retry_after(), now);
        // A Server that refuses the calls of many tasks for long must not fill the log.
        let level = if self.reclaims.failures(key) <= 1 { Level::Warn } else { Level::Debug };
        log::log!(level, task:% = key; "accept: {error}; asking again in {} s", pause.as_secs());
        let is_given_up = self.table.is_unconfirmed(key) && self.reclaims.failures(key) >= FAILURES_WITH_SLOT;
        if is_given_up && self.table.unconfirmed_without_slot() < UNCONFIRMED_MAX {
            self.table.release_slot(key);
        }
    }

    /// A task whose `accept` was unconfirmed is this agent's. Returns whether its record says so; otherwise the reclaim is
    /// tried again.
    pub(super) fn confirm_accepted(&mut self, key: &TaskKey, now: Instant) -> bool {
        let files = self.store.task(key);
        let accepted = files.load().and_then(|record| {
            let mut record = record.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
            record.set_phase(record.phase.max(Phase::Accepted));
            files.save(&record)?;
            Ok(record)
        });
        match accepted {
            Ok(record) => {
                log_accepted(key, &record.task);
                self.table.set_phase(key, record.phase);
                self.table.make_due(key);
                true
            }
            Err(error) => {
                log::error!(task:% = key; "its record can't be written: {error}; trying again");
                self.reclaims.push_failed(key, None, now);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ReclaimQueue;
    use crate::task::record::TaskKey;
    use std::time::{Duration, Instant};

    fn key(id: &str) -> TaskKey {
        TaskKey::from_id(id).unwrap()
    }

    #[test]
    fn a_failed_reclaim_pauses_without_holding_up_the_others() {
        let now = Instant::now();
        let mut queue = ReclaimQueue::default();
        assert_eq!((queue.due(now), queue.next(now)), (None, None));
        queue.replace(vec![key("a"), key("b")]);
        assert_eq!((queue.due(now), queue.next(now)), (Some(now), Some(key("a"))));
        assert!(!queue.is_asked());
        let pause = queue.push_failed(&key("a"), Some(Duration::from_secs(60)), now);
        assert!(!queue.is_asked() && queue.is_paused(&key("a"), now) && !queue.is_paused(&key("b"), now));
        assert!(pause >= Duration::from_secs(60), "{pause:?}");
        assert_eq!(queue.next(now), Some(key("b")));
        queue.remove(&key("b"));
        assert_eq!((queue.due(now), queue.next(now), queue.is_asked()), (Some(now + pause), None, true));
        assert!(!queue.is_paused(&key("a"), now + pause));
        assert_eq!(queue.next(now + pause), Some(key("a")));
        queue.remove(&key("a"));
        assert!(queue.waiting.is_empty());
    }

    #[test]
    fn a_task_is_queued_once_and_an_exhausted_budget_delays_all() {
        let now = Instant::now();
        let mut queue = ReclaimQueue::default();
        queue.push(&key("a"));
        queue.push(&key("a"));
        queue.defer(now + Duration::from_secs(3));
        assert_eq!(queue.due(now), Some(now + Duration::from_secs(3)));
        queue.remove(&key("a"));
        assert!(queue.waiting.is_empty());
    }
}
