//! How the agent ends: on a signal, within five seconds, or when a drain is done.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::intake::Intake;
use super::messages::{IntakeRequest, ServerEvent, Stopped};
use super::{Mode, Scheduler};
use crate::server::{AgentStatus, Client, Load};
use crate::task::{Phase, WorkerCommand};

/// How long containers that are about to end, and results that are being delivered, are waited for. Everything has to
/// fit into five seconds (`agent-core stop`).
const CONTAINER_PATIENCE: Duration = Duration::from_millis(3300);
const DELIVERY_PATIENCE: Duration = Duration::from_millis(3800);
/// How long the main thread waits for the intake thread, whose disk may hang.
const INTAKE_PATIENCE: Duration = Duration::from_millis(3950);
/// How long the last heartbeat may take.
const LAST_HEARTBEAT: Duration = Duration::from_millis(700);
/// After a signal, calls in progress go on for so long, and the process ends at the latest so long after that.
const CALL_PATIENCE: Duration = Duration::from_millis(400);
const EXIT_PATIENCE: Duration = Duration::from_millis(4250);
/// How long an agent whose work is done waits for the removal of its last containers: no later agent may come that does it.
const LAST_REMOVALS: Duration = Duration::from_secs(30);
const WARNING_PATIENCE: Duration = Duration::from_millis(50);

impl Scheduler {
    /// A signal came: has the intake thread stop the workers, and says goodbye to the Server.
    pub(super) fn shut_down(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + INTAKE_PATIENCE;
        self.send(ServerEvent::Shutdown);
        while let Ok(request) = self.requests.recv_deadline(deadline) {
            if let Some(stopped) = self.handle(request) {
                return self.finish(stopped);
            }
        }
        self.finish(Ok(Load { available: 0, ..self.load }))
    }

    /// Reports to the Server that the agent is offline, unless the data_dir may be another agent's.
    pub(super) fn finish(&mut self, stopped: Stopped) -> Result<(), String> {
        let load = stopped?;
        if self.heartbeat.was_ever_acknowledged() {
            if let Err(error) = self.last_client.heartbeat(AgentStatus::Offline, load, Some(LAST_HEARTBEAT)) {
                log::debug!("the last heartbeat failed: {error}");
            }
        }
        log::info!("stopped");
        Ok(())
    }
}

impl Intake {
    /// Whether a drain is done.
    pub(super) fn is_drained(&self, now: Instant) -> bool {
        match self.admission.mode() {
            Mode::Serve => false,
            Mode::Drain => self.table.is_empty(),
            Mode::Abort(deadline) => self.table.is_empty() || now >= deadline,
        }
    }

    /// Ends an agent whose drain is done.
    pub(super) fn end_drained(self) {
        self.context.removals.wait_for_all(LAST_REMOVALS);
        self.shut_down();
    }

    /// Stops the workers: containers that are about to end may do so, and results that are being delivered may arrive.
    /// Other containers run on.
    pub(super) fn shut_down(mut self) {
        let why = match self.admission.mode() {
            _ if !self.is_drained(Instant::now()) => "asked by a signal, as `stop` and Ctrl+C send it",
            Mode::Drain => "everything is delivered (`stop --drain`)",
            Mode::Serve | Mode::Abort(_) => "all tasks were stopped (`stop --abort`), or its time is over",
        };
        log::info!("shutting down: {why}");
        let start = Instant::now();
        for (phase, patience) in [(Phase::Prepared, CONTAINER_PATIENCE), (Phase::Exited, DELIVERY_PATIENCE)] {
            for commands in self.table.commands_before(phase) {
                // An error means that the worker has finished with its task already.
                let _ = commands.send(WorkerCommand::Shutdown);
            }
            while self.table.is_working() {
                let Ok(message) = self.inbox.messages.recv_deadline(start + patience) else { break };
                self.handle_message(message);
            }
        }
        self.context.removals.wait_for_all((start + DELIVERY_PATIENCE).saturating_duration_since(Instant::now()));
        let running = self.table.count(Phase::Prepared..Phase::Exited, |key| self.store.task(key).cid().exists());
        let undelivered = self.table.count(Phase::Exited..Phase::Settled, |_| true);
        if running > 0 {
            log::info!("{running} running container(s) go on; the next start follows them to their end");
        }
        if undelivered > 0 {
            log::info!("{undelivered} result(s) are not delivered yet; the next start delivers them");
        }
        self.status.write_final_metrics(&self.table);
        let load = Load { current: running, capacity: self.table.capacity(), available: 0 };
        self.request(IntakeRequest::Stopped(Ok(load)));
    }
}

/// Ends the process in time after a signal, also while a thread is held up: the records are always consistent.
///
/// Calls in progress of these clients are aborted first, so that the agent can report what it leaves behind.
pub fn guard_exit(clients: &[Client]) -> io::Result<()> {
    let clients = clients.to_vec();
    let guard = move || {
        thread::sleep(CALL_PATIENCE);
        clients.iter().for_each(Client::abort);
        thread::sleep(EXIT_PATIENCE);
        // The log's disk may be what hangs, so the process doesn't wait for the line.
        let warn = || log::warn!("shutdown timed out; the next start resumes from the task records");
        let _ = thread::Builder::new().name("exit-warning".to_owned()).spawn(warn);
        thread::sleep(WARNING_PATIENCE);
        std::process::exit(0);
    };
    thread::Builder::new().name("exit-guard".to_owned()).spawn(guard).map(drop)
}
