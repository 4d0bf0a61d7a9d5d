//! One task of the table.

use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::agent::workers::{FETCHERS, Queue};
use crate::server::Backoff;
use crate::task::{Phase, StopReason, WorkerCommand};

/// Whether a worker has a task.
pub enum Stage {
    /// No worker has it: its `accept` is unconfirmed, or the agent is shutting down.
    Unassigned,
    /// A worker of this kind has it, and receives its commands here.
    Working(Sender<WorkerCommand>, Queue),
    /// It is dispatched again at a later time.
    Waiting {
        /// When it is to be dispatched.
        until: Instant,
        /// Whether the task is due at once when a trouble of the Server or of this machine ends.
        may_be_woken: bool,
    },
}

/// What a task needs of this machine until its workspace is complete.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// The announced bytes of its input files, and what is written of its offer.
    pub disk: u64,
    /// About how many bytes its offer takes in memory.
    pub memory: usize,
}

/// What the table knows of a task.
pub struct Entry {
    /// The Server's id.
    pub id: String,
    pub phase: Phase,
    pub needs: Needs,
    /// Since when it has been in this phase, as far as is known.
    pub since: Instant,
    pub stage: Stage,
    pub holds_slot: bool,
    /// Whether it had been settled when it was offered again. The metrics have counted it.
    pub was_settled: bool,
    /// Whether its results are to be fetched, or are being fetched and then delivered, by a worker that may do so.
    pub needs_fetch: bool,
    pub cancelled: bool,
    /// Why it is being stopped, as far as a worker has said so: on a full disk the record may lack it.
    pub stop: Option<StopReason>,
    /// Whether nothing more of it is to be sent, and its worker knows that, if it has one.
    pub is_broken_off: bool,
    /// Whether it waits until the Server acknowledges a heartbeat.
    pub awaits_server: bool,
    pub backoff: Backoff,
    /// Why it was deferred last in this phase; empty if it wasn't.
    pub last_reason: String,
}

impl Entry {
    /// A task that has been in this phase for this long, and that no worker has.
    pub fn new(id: &str, phase: Phase, time: Duration) -> Self {
        let now = Instant::now();
        Self {
            id: id.to_owned(),
            phase,
            needs: Needs::default(),
            // The clock of a machine that has just started may not reach back so far.
            since: now.checked_sub(time).unwrap_or(now),
            stage: Stage::Unassigned,
            holds_slot: phase < Phase::Exited,
            was_settled: false,
            needs_fetch: false,
            cancelled: false,
            stop: None,
            is_broken_off: false,
            awaits_server: false,
            backoff: Backoff::default(),
            last_reason: String::new(),
        }
    }

    /// Has the task's worker look at once at what was asked of it.
    pub fn break_off(&mut self) {
        match &mut self.stage {
            // A worker that doesn't receive it has finished with the task; the next call finds that waiting.
            Stage::Working(commands, _) if !self.is_broken_off => drop(commands.send(WorkerCommand::Discard)),
            Stage::Waiting { until, .. } => *until = Instant::now(),
            Stage::Working(..) | Stage::Unassigned => {}
        }
        self.is_broken_off = true;
    }

    /// What it needs a worker for.
    pub fn queue(&self) -> Queue {
        let is_cancelled = self.cancelled || self.stop == Some(StopReason::Cancel);
        if self.phase < Phase::Exited {
            // A cancelled task may have no slot, and no worker for tasks may be free for hours.
            return if self.cancelled { Queue::Reports } else { Queue::Jobs };
        }
        if self.phase >= Phase::Uploaded || self.is_broken_off {
            Queue::Reports
        } else if self.needs_fetch {
            // A worker has returned it for that. Another one that may not fetch would return it at once, again and again.
            Queue::Fetches
        } else if is_cancelled {
            Queue::Reports
        } else {
            Queue::Deliveries
        }
    }

    /// Whether its next step is known to be in vain until a heartbeat is acknowledged.
    pub fn is_held(&self, is_server_reached: bool) -> bool {
        let is_local = self.is_broken_off || (self.cancelled && self.phase < Phase::Exited);
        self.awaits_server && !is_server_reached && !is_local
    }
}

/// How many workers of each kind have a task.
pub struct Busy {
    couriers: usize,
    deliveries: usize,
    reports: usize,
    fetches: usize,
}

impl Busy {
    /// Counts those of an agent with so many couriers for deliveries.
    pub fn count<'e>(couriers: usize, entries: impl Iterator<Item = &'e Entry>) -> Self {
        let mut busy = Self { couriers, deliveries: 0, reports: 0, fetches: 0 };
        for entry in entries {
            match entry.stage {
                Stage::Working(_, Queue::Deliveries) => busy.deliveries += 1,
                Stage::Working(_, Queue::Reports) => busy.reports += 1,
                Stage::Working(_, Queue::Fetches) => busy.fetches += 1,
                Stage::Working(_, Queue::Jobs) | Stage::Unassigned | Stage::Waiting { .. } => {}
            }
        }
        busy
    }

    /// Whether a worker is free for this.
    pub fn has_room(&self, queue: Queue) -> bool {
        match queue {
            // The slots are fewer than the workers.
            Queue::Jobs => true,
            Queue::Fetches => self.fetches < FETCHERS,
            // One courier is left to reports.
            Queue::Deliveries => self.deliveries + self.reports < self.couriers,
            Queue::Reports => self.deliveries + self.reports <= self.couriers,
        }
    }
}
