//! The running agent: a main thread that polls and heartbeats, and an intake thread for everything that may have to wait.
//!
//! The main thread, [`Scheduler`], makes calls to the Server and nothing else: while it runs, it touches no disk, writes
//! no log and takes no lock that a disk write can hold, so that no slow disk, no slow `accept` and no task delays a
//! heartbeat (P5).
//! What the Server says goes over a channel to the intake thread, [`Intake`]: it accepts and reclaims tasks, passes
//! cancellations on, keeps the table of what runs where, and writes status, metrics and the records of tasks that no
//! worker has. Accepted tasks go over another channel to the workers ([`crate::task`]).

mod admission;
pub mod health;
mod heartbeat;
mod intake;
mod messages;
mod poller;
mod serve;
mod shutdown;
mod status;
pub mod status_file;
mod task_table;
#[cfg(test)]
mod test_context;
mod workers;

use std::io;
use std::thread;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, select, unbounded};
use jiff::Timestamp;

pub use admission::Mode;
use heartbeat::Heartbeat;
use intake::{Intake, Parts};
use messages::{IntakeRequest, ServerEvent, Stopped};
use poller::Poller;
pub use serve::{catch_hang_up, serve};
use status_file::ServerTrouble;

use crate::server::{AgentStatus, Client, ClientError, Load, Purpose, REQUEST_TIMEOUT};
use crate::shell::{Earlier, register_command};

/// The main thread.
struct Scheduler {
    client: Client,
    heartbeat: Heartbeat,
    poller: Poller,
    /// The load that the intake thread reported last.
    load: Load,
    events: Sender<ServerEvent>,
    requests: Receiver<IntakeRequest>,
    signals: Receiver<()>,
    /// The command that registers the agent again, for the log and `status`.
    register_command: String,
    /// A client whose calls the end of the agent doesn't abort, for the last heartbeat.
    last_client: Client,
    /// How often in a row the Server itself has refused the key, or a call as after a new registration.
    refusals: u32,
}

/// So often the Server refuses the key in its own words before the operator is asked to register again: that abandons
/// the work of the old registration.
const REFUSALS: u32 = 3;

impl Scheduler {
    /// Takes up the tasks of an earlier run, then starts the intake thread, the health thread and the workers.
    ///
    /// # Errors
    /// The records can't be read, or a thread can't be started.
    pub fn start(parts: Parts, client: Client, signals: Receiver<()>) -> io::Result<Self> {
        let now = Instant::now();
        let config = parts.context.config().clone();
        let last_client = parts.context.client.clone();
        let (events, event_queue) = unbounded();
        let (request_sender, requests) = unbounded();
        let intake = Intake::start(parts, event_queue, request_sender)?;
        let scheduler = Self {
            client,
            heartbeat: Heartbeat::new(intake.status.last_heartbeat_at(), now),
            poller: Poller::new(config.server.poll_interval, !intake.reclaims.is_asked(), now),
            load: intake.load(now),
            events,
            requests,
            signals,
            register_command: register_command(&config.file, Earlier::Replaced),
            last_client,
            refusals: 0,
        };
        thread::Builder::new().name("intake".to_owned()).spawn(move || intake.run())?;
        Ok(scheduler)
    }

    /// Works until a signal comes, or until a drain is done. Running containers go on running.
    ///
    /// # Errors
    /// The agent has to end at once: its data_dir may be another agent's now, or can't be used.
    pub fn run(mut self) -> Result<(), String> {
        loop {
            while let Ok(request) = self.requests.try_recv() {
                if let Some(stopped) = self.handle(request) {
                    return self.finish(stopped);
                }
            }
            if self.signals.try_recv().is_ok() {
                return self.shut_down();
            }
            let now = Instant::now();
            let is_poll_due = self.heartbeat.is_acknowledged() && self.poller.due().is_some_and(|due| due <= now);
            if self.heartbeat.due() <= now || (is_poll_due && self.heartbeat.precedes_calls(now)) {
                self.send_heartbeat();
            } else if is_poll_due {
                self.poll();
            } else if let Some(end) = self.wait() {
                return end;
            }
        }
    }

    /// Sleeps until a call is due or a message comes. Returns how the agent ended, if it did.
    fn wait(&mut self) -> Option<Result<(), String>> {
        let poll_due = self.poller.due().filter(|_| self.heartbeat.is_acknowledged());
        let due = poll_due.into_iter().fold(self.heartbeat.due(), Instant::min);
        select! {
            recv(self.signals) -> _ => Some(self.shut_down()),
            recv(self.requests) -> request => match request {
                Ok(request) => self.handle(request).map(|stopped| self.finish(stopped)),
                Err(_) => Some(Err("the intake thread ended without a word".to_owned())),
            },
            default(due.saturating_duration_since(Instant::now())) => None,
        }
    }

    /// Does what the intake thread asks for. Returns how it ended, if it did.
    fn handle(&mut self, request: IntakeRequest) -> Option<Stopped> {
        let now = Instant::now();
        match request {
            IntakeRequest::Load(load) => self.load = load,
            IntakeRequest::AnswerHandled(next) => self.poller.note_handled(next, now),
            IntakeRequest::PollSoon => self.poller.hurry(now),
            IntakeRequest::PollInterval(interval) => self.poller.set_interval(interval),
            IntakeRequest::HeartbeatNow => self.heartbeat.hurry(now),
            IntakeRequest::ServerInDoubt => self.heartbeat.note_doubt(now),
            IntakeRequest::Reclaiming(is_reclaiming) => self.poller.note_reclaiming(is_reclaiming, now),
            IntakeRequest::Stopped(stopped) => return Some(stopped),
        }
        None
    }

    fn send_heartbeat(&mut self) {
        let now = Instant::now();
        let load = self.load(now);
        let status = if load.available == 0 { AgentStatus::Busy } else { AgentStatus::Online };
        self.heartbeat.note_sent(now);
        match self.client.heartbeat(status, load, None) {
            Ok(()) => self.note_acknowledged(),
            Err(error) => self.note_trouble(&error),
        }
    }

    fn note_acknowledged(&mut self) {
        let (now, at) = (Instant::now(), Timestamp::now());
        if self.heartbeat.is_in_trouble() {
            self.poller.reset(now);
        }
        self.refusals = 0;
        let was_interrupted = self.heartbeat.note_acknowledged(now, at);
        if was_interrupted {
            // Before any poll: the intake thread says when the reclaims are done.
            self.poller.note_reclaiming(true, now);
        }
        self.send(ServerEvent::HeartbeatAcknowledged { at, was_interrupted });
    }

    fn poll(&mut self) {
        let now = Instant::now();
        let purpose = self.poller.purpose(now);
        if let Err(time) = self.client.try_acquire(purpose) {
            self.poller.defer(time, now);
            if purpose == Purpose::Poll {
                self.send(ServerEvent::PollWithoutRoom(time));
            }
            return;
        }
        self.poller.note_sent(now);
        let answer = self.client.poll(self.load(now), self.heartbeat.call_limit(REQUEST_TIMEOUT, now));
        let now = Instant::now();
        match answer {
            Ok(answer) => {
                self.poller.note_answered(now);
                self.send(ServerEvent::PollAnswered(answer));
            }
            // Other calls would fail, too, and the pauses between polls would become longer than a short outage.
            Err(error) if error.is_unauthorized() || error.is_unreachable() => self.note_trouble(&error),
            Err(error) => {
                let pause = self.poller.note_failed(error.retry_after(), now);
                self.send(ServerEvent::PollFailed(error, pause.as_secs()));
            }
        }
    }

    /// The load for the Server. While the intake thread is stuck, no task can be accepted.
    fn load(&self, now: Instant) -> Load {
        let available = if self.poller.is_intake_stuck(now) { 0 } else { self.load.available };
        Load { available, ..self.load }
    }

    fn note_trouble(&mut self, error: &ClientError) {
        let may_need_registration = error.may_need_registration();
        self.refusals = if may_need_registration { self.refusals.saturating_add(1) } else { 0 };
        let is_certain = self.refusals >= REFUSALS;
        let is_key_refused = is_certain && error.is_key_refused();
        self.heartbeat.note_trouble(is_key_refused, Instant::now());
        let remedy = error.remedy(&self.register_command).filter(|_| is_certain || !may_need_registration);
        let message = match remedy {
            Some(remedy) => format!("{error}; {remedy}"),
            None => error.to_string(),
        };
        self.send(ServerEvent::Trouble(ServerTrouble { unauthorized: is_key_refused, message }));
    }

    fn send(&self, event: ServerEvent) {
        // An error means that the intake thread has ended; its last request says why.
        let _ = self.events.send(event);
    }
}

#[cfg(test)]
mod properties;
