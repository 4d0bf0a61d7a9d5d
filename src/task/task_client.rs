//! The Server for one step of one task: calls within the request budget, transfers that a command aborts, and the
//! ledger.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::beside::{Wake, Work};
use super::task_ledger::TaskLedger;
use super::{StepError, TaskHandle};
use crate::ledger::{Entry, Ledger, Peer};
use crate::logging::Reminder;
use crate::server::{Client, ClientError, Purpose};
use crate::units::{Bytes, Span};

/// A wait for the request budget that is logged at level `info`.
const LONG_WAIT: Duration = Duration::from_secs(10);
/// How often the progress of a transfer is logged.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// The Server for one step of one task. A step that has it has no Docker client.
pub struct TaskClient<'c> {
    /// For calls that are short enough to be waited for.
    pub client: &'c Client,
    pub ledger: &'c Ledger,
    /// How many bytes of the disk no download takes.
    pub keep_free: u64,
    /// Connections for transfers only, so that aborting one leaves other calls alone.
    transfers: Option<Client>,
}

/// A transfer that moves less than this in [`RATE_WINDOW`] is aborted and tried again: 1 kB a second.
const SLOWEST: u64 = 60_000;
const RATE_WINDOW: Duration = Duration::from_secs(60);
/// The same when all bytes of an upload are in the system's buffers: they, and the answer, need this long at most.
const LAST_WINDOW: Duration = Duration::from_secs(300);
const TOO_SLOW: &str = "the transfer was slower than 1 kB a second for a minute";

/// What the log says of a long transfer.
pub struct TransferProgress {
    /// The transfer with its file's name: "sending `a`".
    pub what: String,
    pub bytes: u64,
    pub moved: Arc<AtomicU64>,
}

impl<'c> TaskClient<'c> {
    pub fn new(client: &'c Client, ledger: &'c Ledger, keep_free: u64) -> Self {
        Self { client, ledger, keep_free, transfers: None }
    }

    /// Appends lines about the task to the ledger. The step fails where that fails: a transfer without its line must
    /// not count.
    pub fn append_to_ledger(&self, task: &TaskHandle, entries: Vec<Entry>) -> Result<(), StepError> {
        let peer = Peer { server: self.client.base_url(), service_id: &self.client.service_id };
        let ledger = TaskLedger { ledger: self.ledger, task_id: &task.record.task.id, key: task.key().as_str(), peer };
        ledger.append(entries).map_err(StepError::because("the ledger can't be written"))
    }

    /// Waits until the request budget has room for a file of the task, or until the task is cancelled.
    pub fn acquire_delivery(&self, task: &mut TaskHandle) -> Result<(), StepError> {
        self.acquire(task, Purpose::delivery(task.key().as_str()))
    }

    /// Waits until the request budget has room for a report, also of a cancelled task: a cancellation is reported like any
    /// other end.
    pub fn acquire_report(&self, task: &mut TaskHandle) -> Result<(), StepError> {
        self.acquire(task, Purpose::Report)
    }

    fn acquire(&self, task: &mut TaskHandle, purpose: Purpose) -> Result<(), StepError> {
        let mut reminder = Reminder::new();
        while let Err(time) = self.client.try_acquire(purpose) {
            if purpose != Purpose::Report && task.is_cancel_requested() {
                return Ok(());
            }
            if let Some(so_far) = reminder.due() {
                let is_long = time >= LONG_WAIT || !so_far.is_empty();
                let level = if is_long { log::Level::Info } else { log::Level::Debug };
                let time = Span(time);
                log::log!(level, task:% = task.key(); "waiting {time} for the request budget (`server.max_requests_per_minute`){so_far}");
            }
            task.wait(time)?;
        }
        Ok(())
    }

    /// Makes a call that a command aborts: a file may be large and the Server slow, and the Server offers no task to
    /// any agent while a cancellation is open (PROTOCOL 2). So does a transfer that hardly moves. The call's result is
    /// returned all the same, unless the command ends the step.
    pub fn transfer<T: Send + 'static>(
        &mut self,
        task: &mut TaskHandle,
        progress: TransferProgress,
        call: impl FnOnce(&Client) -> Result<T, ClientError> + Send + 'static,
    ) -> Result<Result<T, ClientError>, StepError> {
        let client = self.transfers.get_or_insert_with(|| self.client.with_own_connections()).clone();
        let began = Instant::now();
        let mut rate = Rate::new(progress.bytes, began);
        let mut is_too_slow = false;
        let own = client.clone();
        let done = task.run_beside(("transfer", PROGRESS_INTERVAL), move || call(&own), |task, wake| {
            let moved = progress.moved.load(Ordering::Relaxed);
            if wake == Wake::Interval {
                let (moved, all) = (Bytes(moved), Bytes(progress.bytes));
                log::info!(task:% = task.key(); "{}: {moved} of {all} after {}", progress.what, Span(began.elapsed()));
                is_too_slow |= rate.is_too_slow(moved.0, Instant::now());
            }
            if wake == Wake::Interval && !is_too_slow {
                return Work::GoesOn;
            }
            client.abort();
            self.transfers = None;
            Work::IsToEnd
        })?;
        Ok(done.map_err(|error| if is_too_slow { ClientError::Lost(TOO_SLOW.to_owned()) } else { error }))
    }
}

/// Whether a transfer moves fast enough: at [`SLOWEST`] bytes a minute. A single byte now and then, which is progress for
/// each read and write, would hold the task's slot for ever.
struct Rate {
    bytes: u64,
    since: Instant,
    moved: u64,
}

impl Rate {
    fn new(bytes: u64, now: Instant) -> Self {
        Self { bytes, since: now, moved: 0 }
    }

    fn is_too_slow(&mut self, moved: u64, now: Instant) -> bool {
        if moved >= self.moved.saturating_add(SLOWEST) {
            (self.since, self.moved) = (now, moved);
        }
        let limit = if moved < self.bytes { RATE_WINDOW } else { LAST_WINDOW };
        now.saturating_duration_since(self.since) >= limit
    }
}

#[cfg(test)]
mod tests {
    use super::{LAST_WINDOW, RATE_WINDOW, Rate, SLOWEST};
    use std::time::{Duration, Instant};

    #[test]
    fn a_transfer_of_less_than_a_kilobyte_a_second_is_too_slow() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut slow = Rate::new(1_000_000, start);
        let found = (10..).step_by(10).find(|second| slow.is_too_slow(second * 900, at(*second)));
        assert_eq!(found, Some(RATE_WINDOW.as_secs()));
        let mut steady = Rate::new(10_000_000, start);
        assert!((10..3600).step_by(10).all(|second| !steady.is_too_slow(second * 1100, at(second))));
        let mut stalled = Rate::new(1_000_000, start);
        assert!(!stalled.is_too_slow(999_999, at(10)));
        assert!(stalled.is_too_slow(999_999, at(70)));
    }

    #[test]
    fn an_upload_whose_last_bytes_are_on_their_way_has_more_time() {
        let start = Instant::now();
        let mut rate = Rate::new(SLOWEST, start);
        assert!(!rate.is_too_slow(SLOWEST, start) && !rate.is_too_slow(SLOWEST, start + RATE_WINDOW));
        assert!(rate.is_too_slow(SLOWEST, start + LAST_WINDOW));
    }
}
