//! When a refusal is final. A gateway before the Server, a full disk there, or a restart refuse for a while what the
//! Server takes again later, so that no loss is decided on one answer or on a number of tries: leaving a file out,
//! failing a task for its input, or settling a task as ended on the Server needs refusals over some time, with a
//! heartbeat acknowledged meanwhile. The time of an outage doesn't count, nor what was refused before it.
//!
//! All of it is kept in memory only: after a restart of the agent, the times begin anew.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::error::{ClientError, Weight};

/// How long the Server itself must go on refusing a call, in its own words: it may be starting, or being restored.
const CLEAR: Duration = Duration::from_secs(120);
/// How long every other failure must last.
const DOUBTFUL_UPLOAD: Duration = Duration::from_secs(6 * 3600);
const DOUBTFUL_DOWNLOAD: Duration = Duration::from_secs(3600);
/// Between how many of its tries another file of the same direction must have arrived, or the cause is not the file.
const BESIDE: u32 = 3;
/// For so long without an acknowledged heartbeat, the Server was away (PROTOCOL 3).
const OUTAGE: Duration = Duration::from_secs(60);
/// How long a list of files can't be used, before the first upload of its task and later.
const FIRST_LIST: Duration = Duration::from_secs(120);
const LIST: Duration = Duration::from_secs(600);
/// The pause after a first failure; it doubles with each, up to [`LONGEST`].
const FIRST: Duration = Duration::from_secs(1);
const FIRST_UPLOAD: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(60);
/// What has failed for so long doesn't keep others waiting, and is tried every five minutes only.
const OLD: Duration = Duration::from_secs(300);
/// A direction in which nothing has succeeded since a failure so long ago, and files of two tasks have failed, is in
/// trouble. Those of one task may have a cause of their own.
const TROUBLE: Duration = Duration::from_secs(30);
/// A trouble of which nothing was heard for so long is forgotten.
const TROUBLE_KNOWN: Duration = Duration::from_secs(900);
/// How many failing files and calls are remembered. What is beyond that is tried for as long as it takes.
const ITEMS_MAX: usize = 1000;

/// What fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// A result to the Server.
    Upload,
    /// An input file from the Server.
    Download,
    /// The report of a task's end. It is never given up.
    Report,
    /// The same, where the Server says that the task has ended or isn't this agent's.
    End,
    /// The list of a task's files before its first upload.
    FirstList,
    /// The list of a task's files later.
    List,
}

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is tried again after this pause.
    TryAgain(Duration),
    /// The same, and it has failed for so long that others go first.
    LetOthersPass(Duration),
    /// It was refused for long enough.
    GiveUp,
}

/// What remains of the pause after a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    pub left: Duration,
    /// Whether it has failed for so long that others go first.
    pub lets_others_pass: bool,
    /// Why it failed.
    pub why: String,
}

/// One file or call of a task.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Item {
    pub way: Way,
    /// The Server's id of the task.
    pub task: String,
    /// The name of a result, or the Server's id of an input file; empty for calls.
    pub name: String,
}

impl Item {
    pub fn new(way: Way, task: &str, name: &str) -> Self {
        Self { way, task: task.to_owned(), name: name.to_owned() }
    }
}

/// A try that failed.
#[derive(Debug, Clone, Copy)]
pub struct Failure<'e> {
    pub error: &'e ClientError,
    /// Whether the other side closed the connection before it got anything of the file.
    pub is_unsent: bool,
    /// When the try began.
    pub began: Instant,
}

#[derive(Debug)]
struct Failing {
    /// When it failed first. What has failed for long lets others go first.
    first: Instant,
    /// The failures whose time counts: those since the last outage.
    counted: Option<Counted>,
    next: Instant,
    why: String,
}

/// Failures that say something, without an outage in between.
#[derive(Debug)]
struct Counted {
    since: Instant,
    last: Instant,
    tries: u32,
    /// Between how many of these tries another file has arrived.
    beside: u32,
    /// When the Server refused it first in its own words.
    refused_since: Option<Instant>,
}

/// Files in one direction, of all tasks.
#[derive(Debug, Default)]
struct Direction {
    succeeded_at: Option<Instant>,
    trouble: Option<Trouble>,
}

#[derive(Debug)]
struct Trouble {
    since: Instant,
    last: Instant,
    /// The Server's id of the task whose file failed first.
    task: String,
    /// Whether a file of another task has failed, too.
    is_common: bool,
    why: String,
}

#[derive(Debug, Default)]
struct State {
    heartbeat_at: Option<Instant>,
    uploads: Direction,
    downloads: Direction,
    failing: HashMap<Item, Failing>,
}

/// What has failed at the Server, and for how long: shared by all tasks of an agent.
#[derive(Debug, Default)]
pub struct Patience(Mutex<State>);

impl Patience {
    /// The Server has acknowledged a heartbeat. After an outage everything is tried at once.
    pub fn note_heartbeat(&self, now: Instant) {
        let mut state = self.state();
        let before = state.heartbeat_at.replace(now);
        if before.is_some_and(|at| now.saturating_duration_since(at) >= OUTAGE) {
            state.failing.values_mut().for_each(|failing| failing.note_outage(now));
        }
    }

    /// A call of a task didn't reach the Server.
    pub fn note_unreached(&self, task: &str, now: Instant) {
        let mut state = self.state();
        state
            .failing
            .iter_mut()
            .filter(|(item, _)| item.task == task)
            .for_each(|(_, failing)| failing.note_outage(now));
    }

    /// A file has arrived, or a call has succeeded.
    pub fn note_success(&self, item: &Item, now: Instant) {
        let mut state = self.state();
        state.failing.remove(item);
        let Some(direction) = state.direction(item.way) else { return };
        let was_in_trouble = direction.trouble.is_some();
        *direction = Direction { succeeded_at: Some(now), trouble: None };
        if was_in_trouble {
            // What has failed meanwhile needn't wait for its time.
            state
                .failing
                .iter_mut()
                .filter(|(other, _)| other.way == item.way)
                .for_each(|(_, failing)| failing.next = now);
        }
    }

    /// Something has failed. What is given up is forgotten.
    pub fn note_failure(&self, item: &Item, failure: Failure<'_>, now: Instant) -> Verdict {
        let weight = failure.error.weight();
        let mut state = self.state();
        let succeeded_at = state.direction(item.way).and_then(|direction| direction.succeeded_at);
        if state.failing.len() >= ITEMS_MAX && !state.failing.contains_key(item) {
            return Verdict::LetOthersPass(OLD);
        }
        let heartbeat_at = state.heartbeat_at;
        let new = || Failing { first: now, counted: None, next: now, why: String::new() };
        let failing = state.failing.entry(item.clone()).or_insert_with(new);
        if weight == Weight::Nothing && failure.error.status().is_none() {
            failing.note_outage(now);
            failing.why = failure.error.to_string();
            return failing.try_again(Duration::ZERO, now);
        }
        // An answer that the end of its connection has overtaken is the one that came before.
        let is_refused_again = failure.is_unsent && weight == Weight::Doubtful && failing.is_refused();
        let weight = if is_refused_again {
            Weight::Clear
        } else {
            failing.why = failure.error.to_string();
            weight
        };
        let verdict = failing.judge(item.way, weight, Known { heartbeat_at, succeeded_at, began: failure.began }, now);
        let since = failing.counted.as_ref().map(|counted| counted.since);
        if verdict == Verdict::GiveUp && item.way != Way::End {
            state.failing.remove(item);
        }
        // What had failed before another file arrived is its own trouble.
        let is_new = succeeded_at.is_none_or(|at| since.is_some_and(|since| at < since));
        if let Some(direction) = state.direction(item.way).filter(|_| weight == Weight::Doubtful && is_new) {
            direction.note_trouble(&item.task, failure.error, now);
        }
        verdict
    }

    /// How long something that failed still waits for its next try.
    pub fn waits(&self, item: &Item, now: Instant) -> Option<Wait> {
        let state = self.state();
        let failing = state.failing.get(item)?;
        let left = failing.next.checked_duration_since(now).filter(|left| !left.is_zero())?;
        Some(Wait { left, lets_others_pass: failing.lets_others_pass(now), why: failing.why.clone() })
    }

    /// Why something failed last.
    pub fn why(&self, item: &Item) -> Option<String> {
        self.state().failing.get(item).map(|failing| failing.why.clone())
    }

    /// For how long something has been failing, without an outage in between.
    pub fn failing_for(&self, item: &Item, now: Instant) -> Option<Duration> {
        let state = self.state();
        let counted = state.failing.get(item)?.counted.as_ref()?;
        Some(now.saturating_duration_since(counted.since))
    }

    /// Forgets a task that is settled or given up.
    pub fn forget(&self, task: &str) {
        self.state().failing.retain(|item, _| item.task != task);
    }

    /// Why no file can be sent or fetched, while none can: `way` says which.
    pub fn trouble(&self, way: Way, now: Instant) -> Option<String> {
        let mut state = self.state();
        let trouble = state.direction(way)?.trouble.as_ref()?;
        let is_long = trouble.is_common && now.saturating_duration_since(trouble.since) >= TROUBLE;
        let is_known = now.saturating_duration_since(trouble.last) < TROUBLE_KNOWN;
        let what = if way == Way::Upload { "no result can be sent" } else { "no input file can be fetched" };
        (is_long && is_known).then(|| format!("{what}: {}", trouble.why))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is consistent after every statement.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn direction(&mut self, way: Way) -> Option<&mut Direction> {
        match way {
            Way::Upload => Some(&mut self.uploads),
            Way::Download => Some(&mut self.downloads),
            Way::Report | Way::End | Way::FirstList | Way::List => None,
        }
    }
}

impl Direction {
    fn note_trouble(&mut self, task: &str, error: &ClientError, now: Instant) {
        let why = error.to_string();
        match &mut self.trouble {
            Some(trouble) if now.saturating_duration_since(trouble.last) < TROUBLE_KNOWN => {
                (trouble.last, trouble.why) = (now, why);
                trouble.is_common |= trouble.task != task;
            }
            _ => {
                let task = task.to_owned();
                self.trouble = Some(Trouble { since: now, last: now, task, is_common: false, why });
            }
        }
    }
}

/// What else is known at a failure.
#[derive(Clone, Copy)]
struct Known {
    heartbeat_at: Option<Instant>,
    /// When a file of the same direction arrived last.
    succeeded_at: Option<Instant>,
    began: Instant,
}

impl Failing {
    /// The Server was away: what was counted says nothing any more, and the next try is due.
    fn note_outage(&mut self, now: Instant) {
        (self.counted, self.next) = (None, now);
    }

    fn judge(&mut self, way: Way, weight: Weight, known: Known, now: Instant) -> Verdict {
        let new = || Counted { since: now, last: now, tries: 0, beside: 0, refused_since: None };
        let counted = self.counted.get_or_insert_with(new);
        let is_beside = known.succeeded_at.is_some_and(|at| counted.last < at && at < known.began);
        counted.beside = counted.beside.saturating_add(u32::from(is_beside));
        counted.tries = counted.tries.saturating_add(1);
        counted.last = now;
        let is_clear = weight == Weight::Clear;
        if is_clear {
            counted.refused_since.get_or_insert(now);
        }
        let lasts = |since: Instant, patience: Duration| {
            known.began.saturating_duration_since(since) >= patience && known.heartbeat_at.is_some_and(|at| at > since)
        };
        let is_its_fault = is_beside && counted.beside >= BESIDE;
        let is_over = match way {
            Way::Upload => is_its_fault && lasts(counted.since, DOUBTFUL_UPLOAD),
            Way::Download => is_its_fault && lasts(counted.since, DOUBTFUL_DOWNLOAD),
            Way::FirstList => lasts(counted.since, FIRST_LIST),
            Way::List => lasts(counted.since, LIST),
            Way::Report | Way::End => false,
        };
        let is_refused = is_clear && counted.refused_since.is_some_and(|since| lasts(since, CLEAR));
        if is_over || (is_refused && way != Way::Report) {
            return Verdict::GiveUp;
        }
        let pause = match weight {
            Weight::Clear => CLEAR,
            Weight::Doubtful => counted.pause(way, now),
            // The caller's pause is that of the whole Server.
            Weight::Nothing => Duration::ZERO,
        };
        self.next = now + pause;
        self.try_again(pause, now)
    }

    fn is_refused(&self) -> bool {
        self.counted.as_ref().is_some_and(|counted| counted.refused_since.is_some())
    }

    fn lets_others_pass(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.first) >= OLD || self.is_refused()
    }

    fn try_again(&self, pause: Duration, now: Instant) -> Verdict {
        if self.lets_others_pass(now) { Verdict::LetOthersPass(pause) } else { Verdict::TryAgain(pause) }
    }
}

impl Counted {
    fn pause(&self, way: Way, now: Instant) -> Duration {
        let first = if way == Way::Upload { FIRST_UPLOAD } else { FIRST };
        if now.saturating_duration_since(self.since) >= OLD {
            return OLD;
        }
        first.saturating_mul(2u32.saturating_pow(self.tries.saturating_sub(1))).min(LONGEST)
    }
}

#[cfg(test)]
mod tests;
