//! Downloads and uploads, made so that an order needn't wait for their end.
//!
//! A file may be large and a Server slow, and while a cancellation is open the Server offers nothing to anybody
//! (PROTOCOL 2).

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, select};

use super::{StepError, TaskRunner};
use crate::server::{Client, ClientError};
use crate::units::{Bytes, Span};

/// How often the log shows how far a long transfer is.
const PROGRESS: Duration = Duration::from_secs(10);

/// What the log says of a transfer that takes long.
pub(super) struct Shown<'a> {
    /// What is being done, with the file's name.
    pub what: String,
    /// How many bytes are to be moved.
    pub bytes: u64,
    /// How many have been.
    pub moved: &'a AtomicU64,
}

impl TaskRunner<'_> {
    /// Makes a call in a thread of its own, on connections of this task's own. An order that comes meanwhile is taken
    /// in and ends the call; what the call came to is returned all the same, unless the order was to leave.
    pub(super) fn transfer<T: Send>(
        &mut self,
        shown: Shown<'_>,
        call: impl FnOnce(&Client) -> Result<T, ClientError> + Send,
    ) -> Result<Result<T, ClientError>, StepError> {
        let client = self.transfers.clone();
        let commands = self.commands.clone();
        let (done, result) = bounded(1);
        thread::scope(|scope| {
            thread::Builder::new()
                .name("transfer".to_owned())
                // There is always somebody to take the result, or nobody needs it any more.
                .spawn_scoped(scope, || drop(done.send(call(&client))))
                .map_err(|error| StepError::retry(format!("no thread for a transfer: {error}")))?;
            let began = Instant::now();
            loop {
                select! {
                    default(PROGRESS) => {
                        let (moved, all) = (Bytes(shown.moved.load(Ordering::Relaxed)), Bytes(shown.bytes));
                        let time = Span(began.elapsed());
                        log::info!(task:% = self.key(); "{}: {moved} of {all} after {time}", shown.what);
                    }
                    recv(result) -> result => {
                        return result.map_err(|_| StepError::retry("a transfer ended without a result"));
                    }
                    recv(commands) -> order => {
                        let obeyed = order.map_err(|_| StepError::Shutdown).and_then(|order| self.obey(order));
                        client.abort();
                        self.transfers = self.context.client.with_own_connections();
                        obeyed?;
                    }
                }
            }
        })
    }
}
