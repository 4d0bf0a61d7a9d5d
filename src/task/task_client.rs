//! The Server for one step of one task: calls within the request budget, transfers that a command aborts, and the
//! ledger.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::handle::Wake;
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
    /// Connections for transfers only, so that aborting one leaves other calls alone.
    transfers: Option<Client>,
}

/// What the log says of a long transfer.
pub struct TransferProgress<'a> {
    /// The transfer with its file's name: "sending `a`".
    pub what: String,
    pub bytes: u64,
    pub moved: &'a AtomicU64,
}

impl<'c> TaskClient<'c> {
    pub fn new(client: &'c Client, ledger: &'c Ledger) -> Self {
        Self { client, ledger, transfers: None }
    }

    /// Appends lines about the task to the ledger. The step fails where that fails: a transfer without its line must
    /// not count.
    pub fn append_to_ledger(&self, task: &TaskHandle, entries: Vec<Entry>) -> Result<(), StepError> {
        let peer = Peer { server: self.client.base_url(), service_id: &self.client.service_id };
        let ledger = TaskLedger { ledger: self.ledger, files: &task.files, task_id: &task.record.task.id, peer };
        ledger.append(entries).map_err(StepError::because("the ledger can't be written"))
    }

    /// Waits until the request budget has room for a call. A wait for a file ends when the task is cancelled. A wait for
    /// a report doesn't: a cancellation is reported like any other end.
    pub fn acquire(&self, task: &mut TaskHandle, purpose: Purpose) -> Result<(), StepError> {
        let mut reminder = Reminder::new();
        while let Err(time) = self.client.try_acquire(purpose) {
            if purpose == Purpose::Delivery && task.is_cancel_requested() {
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
    /// any agent while a cancellation is open (PROTOCOL 2). The call's result is returned all the same, unless the
    /// command ends the step.
    pub fn transfer<T: Send>(
        &mut self,
        task: &mut TaskHandle,
        progress: TransferProgress<'_>,
        call: impl FnOnce(&Client) -> Result<T, ClientError> + Send,
    ) -> Result<Result<T, ClientError>, StepError> {
        let client = self.transfers.get_or_insert_with(|| self.client.with_own_connections()).clone();
        let began = Instant::now();
        task.run_beside("transfer", PROGRESS_INTERVAL, || call(&client), |task, wake| match wake {
            Wake::Command => {
                client.abort();
                self.transfers = None;
            }
            Wake::Interval => {
                let (moved, all) = (Bytes(progress.moved.load(Ordering::Relaxed)), Bytes(progress.bytes));
                log::info!(task:% = task.key(); "{}: {moved} of {all} after {}", progress.what, Span(began.elapsed()));
            }
        })
    }
}
