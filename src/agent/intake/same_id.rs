//! Which task an offer is of, where tasks with its id are here already.

use std::io;

use super::Intake;
use crate::server::Offer;
use crate::task::record::OfferDigest;
use crate::task::{Phase, Record, TaskKey};

/// Which task an offer is of.
pub(super) enum Offered {
    /// A task that isn't here, which gets this name.
    New(TaskKey),
    /// One that isn't settled.
    Unfinished(TaskKey),
    /// One that is.
    Settled(TaskKey, Box<Record>),
}

impl Intake {
    /// Finds the task of an offer. An offer with other texts or files than those of the tasks here with its id is another
    /// task: it must not get their results.
    ///
    /// # Errors
    /// Why that can't be decided.
    pub(super) fn find_offered(&mut self, id: &str, first: &TaskKey, offer: &Offer) -> Result<Offered, String> {
        let keys = self.store.keys_of(id).map_err(|error| format!("its records here can't be read: {error}"))?;
        let is_first_here = keys.contains(first) || self.table.id(first).is_none();
        let keys: Vec<TaskKey> = if is_first_here { keys } else { [first.clone()].into_iter().chain(keys).collect() };
        if keys.is_empty() {
            return Ok(Offered::New(first.clone()));
        }
        // What isn't a valid task may be one of these all the same: it must not be begun a second time.
        let digest = offer.parse().ok().map(|task| OfferDigest::of(&task));
        let mut others = Vec::new();
        for key in &keys {
            match self.compare(key, digest).map_err(|error| format!("the record of `{key}` can't be read: {error}"))? {
                Some(offered) => return Ok(offered),
                None => others.push(key),
            }
        }
        for key in others {
            if self.table.id(key).is_some() {
                self.supersede(key).map_err(|error| format!("the task `{key}` has its id, and {error}"))?;
            }
        }
        let last = keys.iter().map(TaskKey::number).max().unwrap_or(0);
        let is_free = self.table.id(first).is_none() && !keys.contains(first);
        Ok(Offered::New(if is_free { first.clone() } else { first.with_number(last.saturating_add(1)) }))
    }

    /// The task with this key, if the offer is of it. One of another registration never is.
    fn compare(&self, key: &TaskKey, digest: Option<OfferDigest>) -> io::Result<Option<Offered>> {
        let files = self.store.task(key);
        let is_same = |ours: Option<OfferDigest>| digest.is_none() || ours.is_none() || ours == digest;
        if self.table.id(key).is_some() {
            // Where the disk can't be read now, the worker of the task notices that, too.
            let ours = files.offer_digest().unwrap_or_default();
            return Ok(is_same(ours).then(|| Offered::Unfinished(key.clone())));
        }
        let Some(record) = files.load()? else { return Ok(None) };
        if record.service_id != self.client.service_id || !is_same(files.offer_digest()?) {
            return Ok(None);
        }
        match record.phase {
            Phase::Settled => Ok(Some(Offered::Settled(key.clone(), Box::new(record)))),
            _ => Err(io::Error::other("it is in no state that this agent goes on from before its next start")),
        }
    }

    /// Gives up the delivery of a task whose id is another task's now: what is sent under this id would be the other's.
    fn supersede(&mut self, key: &TaskKey) -> io::Result<()> {
        let files = self.store.task(key);
        if files.is_superseded() {
            return Ok(());
        }
        if self.table.is_unconfirmed(key) {
            // It was never this agent's, or isn't any more, and nothing of it has run.
            log::warn!(task:% = key; "the Server has given its id to another task before it was accepted");
            self.reclaims.remove(key);
            self.table.remove(key);
            self.remove_record(key);
            return Ok(());
        }
        files.mark_superseded()?;
        log::error!(
            task:% = key;
            "the Server has given its id to another task; nothing more of this one is sent, and its results stay here"
        );
        self.reclaims.remove(key);
        self.table.supersede(key);
        Ok(())
    }

    /// The unfinished task that the Server means by an id.
    pub(super) fn unfinished(&self, id: &str) -> Option<TaskKey> {
        let is_it = |key: &TaskKey| self.table.id(key) == Some(id) && !self.store.task(key).is_superseded();
        self.table.keys().into_iter().find(is_it)
    }
}
