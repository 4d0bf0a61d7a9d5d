//! How the agent ends: when it is drained, and on a signal in time.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::{Mode, Scheduler};
use crate::server::Client;
use crate::server::protocol::{AgentStatus, Load};
use crate::task::WorkerCommand;
use crate::task::record::Phase;

/// How long a container may take to end, and a result to be delivered, when the agent has to leave.
const ENDING_PATIENCE: Duration = Duration::from_millis(3300);
const LEAVE_PATIENCE: Duration = Duration::from_millis(3800);
/// How long the last heartbeat may take: all has to fit into five seconds (README, "Stop service").
const LAST_HEARTBEAT: Duration = Duration::from_millis(800);

impl Scheduler {
    /// Whether a drain has come to its end.
    pub(super) fn is_drained(&self) -> bool {
        match self.mode {
            Mode::Serve => false,
            Mode::Drain(deadline) => {
                self.table.is_empty() || deadline.is_some_and(|deadline| Instant::now() >= deadline)
            }
        }
    }

    pub(super) fn leave(mut self) {
        log::info!("leaving");
        let begun = Instant::now();
        // Containers that are about to end may do so, and results that are being delivered may arrive.
        for (phase, patience) in [(Phase::Prepared, ENDING_PATIENCE), (Phase::Exited, LEAVE_PATIENCE)] {
            for order in self.table.commands_before(phase) {
                // A worker that doesn't listen has put its task down already.
                let _ = order.send(WorkerCommand::Shutdown);
            }
            while self.table.is_working() {
                let Ok(messages) = self.messages.recv_deadline(begun + patience) else { break };
                self.hear(messages);
            }
        }
        let running = self.table.count(Phase::Prepared..Phase::Exited, |key| self.store.task(key).cid().exists());
        let undelivered = self.table.count(Phase::Exited..Phase::Settled, |_| true);
        if running > 0 {
            log::info!("{running} running container(s) go on; the next start follows them to their end");
        }
        if undelivered > 0 {
            log::info!("{undelivered} result(s) are not delivered yet; the next start delivers them");
        }
        let load = Load { current: running, capacity: self.table.capacity(), available: 0 };
        if self.acknowledged.is_some() {
            // The desk's connections may have been aborted, so the workers' are used.
            if let Err(error) = self.context.client.heartbeat(AgentStatus::Offline, load, Some(LAST_HEARTBEAT)) {
                log::debug!("the last heartbeat: {error}");
            }
        }
        self.state.not_accepting = Some("the agent isn't running".to_owned());
        self.write_metrics();
        log::info!("stopped");
    }
}

/// Ends the process in time after a signal, whatever the main thread is held up by.
///
/// After a second, calls of the scheduler in progress are aborted, so that it can say what it leaves behind; a little
/// before five seconds are over the process ends, since the records are always consistent (README, "Stop service").
pub fn guard_exit(client: &Client) -> io::Result<()> {
    let client = client.clone();
    let guard = move || {
        thread::sleep(Duration::from_millis(400));
        client.abort();
        thread::sleep(Duration::from_millis(4300));
        log::warn!("not everything could be put down in time; the next start goes on from the records");
        std::process::exit(0);
    };
    thread::Builder::new().name("exit-guard".to_owned()).spawn(guard).map(drop)
}
