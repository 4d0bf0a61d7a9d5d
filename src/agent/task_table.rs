//! The table of unfinished tasks: the phase of each, its worker, and when it is due.

mod entry;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::workers::{FETCHERS, Queue};
use crate::server::Backoff;
use crate::task::{Pause, Phase, StopReason, TaskKey, WorkerCommand};
use crate::text::gist;
pub use entry::Needs;
use entry::{Busy, Entry, Stage};

/// The table of one agent.
pub struct TaskTable {
    entries: BTreeMap<TaskKey, Entry>,
    capacity: usize,
}

/// Why a task waits that needs the Server.
const SERVER_AWAY: &str = "the Server doesn't acknowledge this agent's heartbeats";

impl TaskTable {
    /// An empty table of an agent with this capacity, which is also the number of its couriers.
    pub fn new(capacity: usize) -> Self {
        Self { entries: BTreeMap::new(), capacity }
    }

    /// Another capacity from now on. Tasks beyond it keep their slots; there are as many couriers already.
    pub fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many slots are taken: by tasks whose container hasn't ended, and by those whose worker goes on to deliver them.
    /// A task that waits between two deliveries takes no slot, nor does one whose results are being fetched. Those that
    /// wait for that take one each, or a submitter could have any number of them.
    pub fn slots_taken(&self) -> usize {
        let fetches = self.entries.values().filter(|entry| entry.needs_fetch).count();
        self.entries.values().filter(|entry| entry.holds_slot).count() + fetches.saturating_sub(FETCHERS)
    }

    /// Adds a task that has been in this phase for this long, and that no worker has.
    pub fn insert(&mut self, key: &TaskKey, id: &str, phase: Phase, time: Duration) {
        self.entries.insert(key.clone(), Entry::new(id, phase, time));
    }

    /// Notes that a task had been settled before it was added.
    pub fn note_settled_before(&mut self, key: &TaskKey) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.was_settled = true;
        }
    }

    /// Whether a task had been settled before it was added.
    pub fn was_settled(&self, key: &TaskKey) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.was_settled)
    }

    /// Notes why a task is being stopped: its worker knows the last reason.
    pub fn note_stop(&mut self, key: &TaskKey, stop: Option<StopReason>) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.stop = stop.or(entry.stop);
        }
    }

    /// Why a task is being stopped, as far as that was noted.
    pub fn stop(&self, key: &TaskKey) -> Option<StopReason> {
        self.entries.get(key)?.stop
    }

    pub fn set_needs(&mut self, key: &TaskKey, needs: Needs) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.needs = needs;
        }
    }

    /// What all tasks together need whose workspace isn't complete. The offer of one without a slot is on the disk only, and
    /// that may be one that waits for a larger disk than this one is: no other task waits for it.
    pub fn needs(&self) -> Needs {
        let preparing = self.entries.values().filter(|entry| entry.phase < Phase::Prepared && entry.holds_slot);
        preparing.fold(Needs::default(), |sum, Entry { needs, .. }| Needs {
            disk: sum.disk.saturating_add(needs.disk),
            memory: sum.memory.saturating_add(needs.memory),
        })
    }

    pub fn remove(&mut self, key: &TaskKey) {
        self.entries.remove(key);
    }

    pub fn keys(&self) -> Vec<TaskKey> {
        self.entries.keys().cloned().collect()
    }

    /// Whether every task is settled.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The Server's id of a task.
    pub fn id(&self, key: &TaskKey) -> Option<&str> {
        self.entries.get(key).map(|entry| entry.id.as_str())
    }

    /// Whether the `accept` of a task is unconfirmed.
    pub fn is_unconfirmed(&self, key: &TaskKey) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.phase == Phase::Accepting)
    }

    /// How many tasks whose `accept` is unconfirmed have no slot.
    pub fn unconfirmed_without_slot(&self) -> usize {
        self.entries.values().filter(|entry| entry.phase == Phase::Accepting && !entry.holds_slot).count()
    }

    /// Whether a worker reports a task. It finds out by itself whether the task was requeued, and accepts it again then.
    pub fn is_reporting(&self, key: &TaskKey) -> bool {
        self.phase_at_work(key).is_some_and(|phase| phase >= Phase::Uploaded)
    }

    /// The phase of a task that a worker has, or will take from its queue.
    pub fn phase_at_work(&self, key: &TaskKey) -> Option<Phase> {
        let entry = self.entries.get(key)?;
        matches!(entry.stage, Stage::Working(..)).then_some(entry.phase)
    }

    /// The phase of a task; a task that isn't here is settled.
    pub fn phase(&self, key: &TaskKey) -> Phase {
        self.entries.get(key).map_or(Phase::Settled, |entry| entry.phase)
    }

    /// Notes the phase of a task. Returns the phase before, and how long it lasted.
    pub fn set_phase(&mut self, key: &TaskKey, phase: Phase) -> Option<(Phase, Duration)> {
        let entry = self.entries.get_mut(key)?;
        let before = (entry.phase, entry.since.elapsed());
        (entry.phase, entry.since) = (phase, Instant::now());
        entry.last_reason.clear();
        Some(before)
    }

    /// Notes that a task is dispatched to a worker, and returns what for, and the commands for that worker.
    pub fn start_work(&mut self, key: &TaskKey, phase: Phase) -> (Queue, Receiver<WorkerCommand>) {
        let (commands, listener) = unbounded();
        let mut queue = Queue::Jobs;
        if let Some(entry) = self.entries.get_mut(key) {
            entry.phase = phase;
            queue = entry.queue();
            entry.holds_slot |= phase < Phase::Exited;
            entry.is_broken_off = false;
            entry.awaits_server = false;
            if entry.last_reason == SERVER_AWAY {
                entry.last_reason.clear();
            }
            if entry.cancelled {
                // Both ends are here, so this can't fail.
                let _ = commands.send(WorkerCommand::Cancel);
            }
            entry.stage = Stage::Working(commands, queue);
        }
        (queue, listener)
    }

    /// Has a task dispatched as soon as a worker is free.
    pub fn make_due(&mut self, key: &TaskKey) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.stage = Stage::Waiting { until: Instant::now(), may_be_woken: false };
        }
    }

    /// Passes a cancellation on, once. Returns false if the task isn't here.
    pub fn cancel(&mut self, key: &TaskKey) -> bool {
        let Some(entry) = self.entries.get_mut(key) else { return false };
        if !entry.cancelled {
            entry.cancelled = true;
            match &mut entry.stage {
                // A worker that doesn't receive it has finished with the task, and its message is on the way.
                Stage::Working(commands, _) => drop(commands.send(WorkerCommand::Cancel)),
                Stage::Waiting { until, .. } => {
                    *until = Instant::now();
                    // Its results aren't wanted any more, so no worker for fetches is waited for.
                    entry.needs_fetch = false;
                }
                Stage::Unassigned => {}
            }
        }
        true
    }

    /// Orders the discard of a result that waits for its delivery. It may be called again until that is done. Returns
    /// false if the task isn't here.
    pub fn discard(&mut self, key: &TaskKey) -> bool {
        let Some(entry) = self.entries.get_mut(key) else { return false };
        if entry.phase >= Phase::Exited {
            entry.break_off();
        }
        true
    }

    /// Orders the end of a task whose id is another task's now. A container that runs is left alone.
    pub fn supersede(&mut self, key: &TaskKey) {
        if let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.phase != Phase::Prepared) {
            entry.break_off();
        }
    }

    /// Notes that a worker has deferred a task, and frees its slot if the container has ended. The reason is logged when it
    /// is a new one.
    pub fn defer(&mut self, key: &TaskKey, phase: Phase, why: &str, pause: Pause) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let may_be_woken = !matches!(pause, Pause::Asked(_));
        let pause = match pause {
            Pause::Backoff => entry.backoff.next(None),
            Pause::Asked(time) => entry.backoff.next(Some(time)),
            Pause::Due(time) => time,
        };
        let is_new = gist(&entry.last_reason) != gist(why);
        let level = if is_new { log::Level::Warn } else { log::Level::Debug };
        // Rounded up: a pause of less than a second isn't none.
        log::log!(level, task:% = key; "{why}; going on in {} s", pause.as_millis().div_ceil(1000));
        entry.last_reason = why.to_owned();
        entry.phase = phase;
        entry.needs_fetch = false;
        entry.holds_slot = phase < Phase::Exited;
        entry.stage = Stage::Waiting { until: Instant::now() + pause, may_be_woken };
    }

    /// Notes that a worker has returned a task whose results have to be fetched, and frees its slot. It is due at once.
    pub fn hand_over(&mut self, key: &TaskKey) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.needs_fetch = true;
            entry.holds_slot = false;
            entry.stage = Stage::Waiting { until: Instant::now(), may_be_woken: false };
        }
    }

    /// Notes that a worker has returned a task that goes on when the Server acknowledges a heartbeat, and frees its slot if
    /// the container has ended.
    pub fn await_server(&mut self, key: &TaskKey, phase: Phase) {
        self.make_due(key);
        if let Some(entry) = self.entries.get_mut(key) {
            entry.phase = phase;
            entry.needs_fetch = false;
            entry.holds_slot = phase < Phase::Exited;
            entry.awaits_server = true;
            if entry.last_reason.is_empty() {
                SERVER_AWAY.clone_into(&mut entry.last_reason);
            }
        }
    }

    /// Frees the slot of a deferred task until it is dispatched again.
    pub fn release_slot(&mut self, key: &TaskKey) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.holds_slot = false;
        }
    }

    /// Every task that was deferred in its phase, and why.
    pub fn reasons(&self) -> BTreeMap<String, String> {
        let deferred = self.entries.iter().filter(|(_, entry)| !entry.last_reason.is_empty());
        deferred.map(|(key, entry)| (key.to_string(), entry.last_reason.clone())).collect()
    }

    /// Why a task was deferred in its phase, if it was.
    pub fn reason(&self, key: &TaskKey) -> Option<&str> {
        self.entries.get(key).map(|entry| entry.last_reason.as_str()).filter(|reason| !reason.is_empty())
    }

    /// Makes every waiting task due, except where the Server has asked for the pause.
    pub fn wake_waiting(&mut self) {
        for entry in self.entries.values_mut() {
            if let Stage::Waiting { until, may_be_woken: true } = &mut entry.stage {
                *until = Instant::now();
                entry.backoff = Backoff::default();
            }
        }
    }

    /// Notes that a worker has interrupted its work on a task because the agent is shutting down.
    pub fn release(&mut self, key: &TaskKey) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.stage = Stage::Unassigned;
        }
    }

    /// How many tasks are in these phases and match the condition.
    pub fn count(&self, phases: Range<Phase>, matches: impl Fn(&TaskKey) -> bool) -> usize {
        self.entries.iter().filter(|(key, entry)| phases.contains(&entry.phase) && matches(key)).count()
    }

    /// Whether a task has a slot or finds a free one, or needs none.
    fn has_slot(&self) -> impl Fn(&Entry) -> bool + use<> {
        let is_free = self.slots_taken() < self.capacity;
        move |entry| is_free || entry.holds_slot || entry.cancelled || entry.phase >= Phase::Exited
    }

    /// The tasks that wait for a worker, what for, and since or until when. While the Server isn't reached, those that need
    /// it aren't among them.
    fn waiting(&self, is_server_reached: bool) -> impl Iterator<Item = (&TaskKey, Queue, Instant)> {
        let has_slot = self.has_slot();
        self.entries.iter().filter_map(move |(key, entry)| match entry.stage {
            Stage::Waiting { until, .. } if has_slot(entry) && !entry.is_held(is_server_reached) => {
                Some((key, entry.queue(), until))
            }
            _ => None,
        })
    }

    fn busy(&self) -> Busy {
        Busy::count(self.capacity, self.entries.values())
    }

    /// A task that is due and for which a worker is free, if there is one: the most urgent, and of these the one that has
    /// been due for the longest time.
    pub fn due(&self, is_server_reached: bool, now: Instant) -> Option<TaskKey> {
        let busy = self.busy();
        let due = self.waiting(is_server_reached).filter(|(_, queue, until)| *until <= now && busy.has_room(*queue));
        due.min_by_key(|(_, queue, until)| (*queue, *until)).map(|(key, ..)| key.clone())
    }

    /// When the next task is due for which a worker is free.
    pub fn next_due(&self, is_server_reached: bool) -> Option<Instant> {
        let busy = self.busy();
        self.waiting(is_server_reached).filter(|(_, queue, _)| busy.has_room(*queue)).map(|(.., until)| until).min()
    }

    /// Whether a task is due for this and finds no worker.
    pub fn is_worker_wanted(&self, queue: Queue, now: Instant) -> bool {
        !self.busy().has_room(queue) && self.waiting(true).any(|(_, wanted, until)| wanted == queue && until <= now)
    }

    /// The tasks that no worker has.
    pub fn without_worker(&self) -> BTreeSet<String> {
        let without = self.entries.iter().filter(|(_, entry)| !matches!(entry.stage, Stage::Working(..)));
        without.map(|(key, _)| key.to_string()).collect()
    }

    /// Whether any worker has a task.
    pub fn is_working(&self) -> bool {
        self.entries.values().any(|entry| matches!(entry.stage, Stage::Working(..)))
    }

    /// The commands of the workers whose task is in an earlier phase than this.
    pub fn commands_before(&self, phase: Phase) -> Vec<Sender<WorkerCommand>> {
        let early = self.entries.values().filter(|entry| entry.phase < phase);
        early
            .filter_map(|entry| match &entry.stage {
                Stage::Working(commands, _) => Some(commands.clone()),
                _ => None,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
