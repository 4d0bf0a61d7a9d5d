//! Which task an offer is of, where tasks with its id are here already.

use std::io;

use super::Intake;
use crate::server::Offer;
use crate::task::record::OfferDigest;
use crate::task::{Phase, Record, TaskKey};

/// Which task an offer is of.
#[derive(Debug)]
pub(super) enum Offered {
    /// A task that isn't here, which gets this name.
    New(TaskKey),
    /// One that isn't settled.
    Unfinished(TaskKey),
    /// One that is.
    Settled(TaskKey, Box<Record>),
    /// A worker may still send something under its id for another task, or is about to end this one.
    Later,
}

/// How a task here compares to an offer with its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Likeness {
    Other,
    /// The offer is no valid task, or nothing is left of the task's own offer.
    Unknown,
    Same,
}

/// A task here with the offer's id.
struct Candidate {
    key: TaskKey,
    likeness: Likeness,
    /// The record of a settled task.
    settled: Option<Box<Record>>,
}

impl Intake {
    /// Finds the task of an offer. An offer with other texts or files than those of the tasks here with its id is another
    /// task: it must not get their results. The Server knows one task of this id, so every other one here is given up.
    ///
    /// # Errors
    /// Why that can't be decided.
    pub(super) fn find_offered(&mut self, id: &str, first: &TaskKey, offer: &Offer) -> Result<Offered, String> {
        let keys = self.store.keys_of(id).map_err(|error| format!("its records here can't be read: {error}"))?;
        let is_first_here = keys.contains(first) || self.table.id(first).is_none();
        let keys: Vec<TaskKey> = if is_first_here { keys } else { [first.clone()].into_iter().chain(keys).collect() };
        if keys.is_empty() {
            // A large offer isn't parsed for nothing.
            return Ok(Offered::New(first.clone()));
        }
        // What isn't a valid task may be one of these all the same: it must not be begun a second time.
        let digest = offer.parse().ok().map(|task| OfferDigest::of(&task));
        let mut candidates = Vec::new();
        for key in &keys {
            candidates.push(
                self.compare(key, digest).map_err(|error| format!("the record of `{key}` can't be read: {error}"))?,
            );
        }
        let found = self.take_most_alike(&mut candidates);
        if self.supersede_others(found.as_ref(), &candidates)? {
            return Ok(Offered::Later);
        }
        let Some(Candidate { key, settled, .. }) = found else {
            let last = keys.iter().map(TaskKey::number).max().unwrap_or(0);
            let is_free = self.table.id(first).is_none() && !keys.contains(first);
            return Ok(Offered::New(if is_free { first.clone() } else { first.with_number(last.saturating_add(1)) }));
        };
        match settled {
            // It was given up before anything of it had run.
            Some(record) if record.was_never_begun() => Ok(Offered::New(key)),
            Some(record) => Ok(Offered::Settled(key, record)),
            None if !self.store.task(&key).is_superseded() => Ok(Offered::Unfinished(key)),
            None => match self.take_back(&key) {
                Ok(true) => Ok(Offered::Unfinished(key)),
                Ok(false) => Ok(Offered::Later),
                Err(error) => Err(format!("the mark that its id was another task's can't be changed: {error}")),
            },
        }
    }

    /// Compares a task here to an offer. One of another registration is never the offer's.
    fn compare(&self, key: &TaskKey, digest: Option<OfferDigest>) -> io::Result<Candidate> {
        let files = self.store.task(key);
        let candidate = |likeness, settled| Candidate { key: key.clone(), likeness, settled };
        let compared = |ours: Option<OfferDigest>| match (ours, digest) {
            (Some(ours), Some(offered)) if ours == offered => Likeness::Same,
            (Some(_), Some(_)) => Likeness::Other,
            _ => Likeness::Unknown,
        };
        if self.table.id(key).is_some() {
            // Where the disk can't be read now, the worker of the task notices that, too.
            return Ok(candidate(compared(files.offer_digest().unwrap_or_default()), None));
        }
        let Some(record) = files.load()?.filter(|record| record.service_id == self.client.service_id) else {
            return Ok(candidate(Likeness::Other, None));
        };
        match compared(files.offer_digest()?) {
            Likeness::Other => Ok(candidate(Likeness::Other, None)),
            likeness if record.phase == Phase::Settled => Ok(candidate(likeness, Some(Box::new(record)))),
            _ => Err(io::Error::other("it is in no state that this agent goes on from before its next start")),
        }
    }

    /// Takes the task that the offer is of. Among those of which that isn't certain it is one that goes on, then the latest.
    fn take_most_alike(&self, candidates: &mut Vec<Candidate>) -> Option<Candidate> {
        let goes_on = |key: &TaskKey| self.table.id(key).is_some() && !self.store.task(key).is_superseded();
        let most_alike = candidates
            .iter()
            .enumerate()
            .filter(|(_, candidate)| candidate.likeness > Likeness::Other)
            .max_by_key(|(_, Candidate { key, likeness, .. })| (*likeness, goes_on(key), key.number()))?;
        let at = most_alike.0;
        Some(candidates.remove(at))
    }

    /// Gives up the unfinished tasks whose id is that of the task found, or of a new one. Returns whether one of them has to
    /// end first.
    fn supersede_others(&mut self, found: Option<&Candidate>, others: &[Candidate]) -> Result<bool, String> {
        let is_certain = found.is_some_and(|found| found.likeness == Likeness::Same);
        let mut must_wait = false;
        for Candidate { key, likeness, .. } in others {
            if self.table.id(key).is_some() && (is_certain || *likeness == Likeness::Other) {
                must_wait |=
                    self.supersede(key).map_err(|error| format!("the task `{key}` has its id, and {error}"))?;
            }
        }
        Ok(must_wait)
    }

    /// Gives up the delivery of a task whose id is another task's now: what is sent under this id would be the other's.
    /// Returns whether its worker may still do so.
    ///
    /// A worker looks for the mark after it has reported each phase. So what it does is known when all is heard that it has
    /// reported until the mark was made, which is so at the next offer.
    fn supersede(&mut self, key: &TaskKey) -> io::Result<bool> {
        let files = self.store.task(key);
        if files.is_superseded() {
            return Ok(self.table.phase_at_work(key).is_some_and(|phase| phase >= Phase::Exited));
        }
        if self.table.is_unconfirmed(key) {
            // It was never this agent's, or isn't any more, and nothing of it has run.
            log::warn!(task:% = key; "the Server has given its id to another task before it was accepted");
            self.reclaims.remove(key);
            self.table.remove(key);
            self.remove_record(key);
            return Ok(false);
        }
        self.mark_superseded(key)?;
        log::error!(
            task:% = key;
            "the Server has given its id to another task; nothing more of this one is sent, and its results stay here"
        );
        Ok(true)
    }

    fn mark_superseded(&mut self, key: &TaskKey) -> io::Result<()> {
        self.store.task(key).mark_superseded()?;
        self.reclaims.remove(key);
        if let Some(id) = self.table.id(key) {
            // What has failed under this id says nothing of the other task.
            self.client.patience().forget(id);
        }
        self.table.supersede(key);
        Ok(())
    }

    /// Goes on with a task that had been given up, since the Server has given the id back to it. Returns false where its
    /// worker ends it, or may do so: then it goes on from its record at a later offer.
    fn take_back(&mut self, key: &TaskKey) -> io::Result<bool> {
        if self.table.phase_at_work(key).is_some_and(|phase| phase != Phase::Prepared) {
            return Ok(false);
        }
        self.store.task(key).unmark_superseded()?;
        // Whether its container had ended before that, so that the worker may have looked for the mark.
        self.take_messages();
        if self.table.phase_at_work(key).is_some_and(|phase| phase >= Phase::Exited) {
            self.mark_superseded(key)?;
            return Ok(false);
        }
        log::warn!(task:% = key; "the Server has given the id back to this task, which goes on");
        Ok(self.table.id(key).is_some())
    }

    /// The unfinished task that the Server means by an id: the latest one whose id isn't another task's now.
    pub(super) fn unfinished(&self, id: &str) -> Option<TaskKey> {
        let is_it = |key: &TaskKey| self.table.id(key) == Some(id) && !self.store.task(key).is_superseded();
        self.table.keys().into_iter().filter(is_it).max_by_key(TaskKey::number)
    }
}

#[cfg(test)]
mod tests;
