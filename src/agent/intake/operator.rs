//! What the operator's commands ask of a running agent. The commands leave requests in the data_dir, since not every
//! system has signals for them.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Intake;
use crate::agent::admission::Mode;
use crate::agent::messages::IntakeRequest;
use crate::data_dir::DataDir;
use crate::data_dir::instance::{self, LockWatch};
use crate::data_dir::pause::Pause;
use crate::task;
use crate::task::record::{DiscardRequests, Phase, TaskKey};

/// How often requests are looked for.
const INTERVAL: Duration = Duration::from_secs(1);
const LOCK_LOST: &str = "`agent.lock` was removed or replaced, so that another agent may have been started on this \
                         data_dir; this one ends, and its containers go on";

/// The requests in one data_dir.
pub struct OperatorRequests {
    due: Instant,
    lock: LockWatch,
    discards: DiscardRequests,
    /// The last request that failed, and why: the same failure isn't logged twice in a row.
    failed: Option<(TaskKey, String)>,
    /// The id of the last request to read the configuration again.
    reloaded: Option<String>,
}

impl OperatorRequests {
    /// They are looked for now, and every second from then on.
    pub fn new(data_dir: &DataDir, lock: LockWatch, now: Instant) -> Self {
        let discards = DiscardRequests::new(data_dir);
        if let Err(error) = discards.prepare() {
            log::warn!("`discard` may not work on a full disk: {error}");
        }
        Self { due: now, lock, discards, failed: None, reloaded: None }
    }

    /// When requests are looked for again.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Notes a request to read the configuration again. Returns whether it is a new one.
    pub(super) fn note_reload(&mut self, id: &str) -> bool {
        self.reloaded.replace(id.to_owned()).is_none_or(|last| last != id)
    }

    fn log_failed(&mut self, key: &TaskKey, why: String) {
        let failed = (key.clone(), why);
        if self.failed.as_ref() != Some(&failed) {
            log::warn!(task:% = key; "can't be discarded: {}; the agent tries again every second", failed.1);
            self.failed = Some(failed);
        }
    }
}

impl Intake {
    /// Looks for requests and for a lost lock.
    ///
    /// # Errors
    /// The agent has to end at once, for this reason.
    pub(super) fn check_operator_requests(&mut self, now: Instant) -> Result<(), String> {
        self.operator.due = now + INTERVAL;
        if self.operator.lock.is_lost() {
            return Err(LOCK_LOST.to_owned());
        }
        self.check_drain_request();
        self.check_pause();
        self.check_reload_request(now);
        match self.operator.discards.all() {
            Ok(keys) => keys.iter().for_each(|key| self.handle_discard_request(key)),
            Err(error) => log::debug!("the requests of `discard` can't be read: {error}"),
        }
        Ok(())
    }

    fn check_drain_request(&mut self) {
        let config = self.context.config();
        let requested = instance::is_drain_requested(&config.paths.data_dir, std::process::id());
        // A file that can't be read takes no drain back, and begins none.
        let is_requested = requested.unwrap_or(self.admission.mode() == Mode::Drain);
        if self.admission.mode() == Mode::Drain && !is_requested {
            self.admission.end_drain();
            log::info!("the drain was taken back: the agent goes on");
            self.request_heartbeat();
        }
        if self.admission.mode() == Mode::Serve && is_requested {
            self.admission.drain();
            log::info!(
                "draining: no new task is accepted, and the agent ends when what is here is delivered: {} task(s)",
                self.table.keys().len()
            );
            // The Server shows whether the agent accepts tasks.
            self.request_heartbeat();
        }
    }

    /// Takes in what `pause` and `resume` have left. The file of a pause whose time is over is left to them: another one may
    /// take its place at any moment.
    pub(super) fn check_pause(&mut self) {
        let config = self.context.config();
        let (data_dir, now) = (&config.paths.data_dir, Timestamp::now());
        let pause = Pause::load(data_dir, now).map(|pause| pause.to_string());
        if self.admission.note_pause(pause.clone()) {
            match pause {
                Some(pause) => log::info!("{pause}: no new task is accepted; running ones go on"),
                None => log::info!("resumed: the agent isn't paused any more"),
            }
            self.request_heartbeat();
            self.request(IntakeRequest::PollSoon);
        }
    }

    fn handle_discard_request(&mut self, key: &TaskKey) {
        if self.table.discard(key) {
            return;
        }
        // It is settled, or the task of another registration, which no worker has.
        let files = self.store.task(key);
        let discarded = files.load().and_then(|record| match record {
            Some(mut record) if (Phase::Exited..Phase::Settled).contains(&record.phase) => {
                task::discard(&self.context.ledger, Err(task::OTHER_REGISTRATION), &files, &mut record)?;
                log::info!(task:% = key; "task of another registration, discarded by the operator");
                Ok(())
            }
            _ => Ok(()),
        });
        if let Err(error) = discarded.and_then(|()| self.operator.discards.remove(key)) {
            self.operator.log_failed(key, error.to_string());
        }
    }
}
