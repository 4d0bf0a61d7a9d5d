//! The intake thread: everything of the agent that may have to wait for a disk, a lock or an `accept`.
//!
//! Its loop is the list of its parts: each has a time at which it is due, and the thread sleeps until the next of them
//! or until a message comes.

mod accept;
mod again;
mod cancel;
mod claim;
mod dispatch;
mod failed_offers;
mod host;
mod no_room;
mod operator;
mod reclaim;
mod recovery;
mod reload;
mod reports;
mod room;
mod said;
mod same_id;

use std::io;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Select, Sender, TryRecvError, unbounded};
use jiff::Timestamp;

use accept::Offers;
use cancel::Orphan;
use host::HostWatch;
use operator::OperatorRequests;
use reclaim::ReclaimQueue;
use reports::Reported;

use super::admission::{Admission, HOLD, Mode};
use super::health::{EngineLooks, HealthMonitor, HostHealth};
use super::messages::{IntakeRequest, NextPoll, ServerEvent};
use super::status::StatusReporter;
use super::task_table::TaskTable;
use super::workers::Workers;
use crate::data_dir::instance::LockWatch;
use crate::server::{Client, PollAnswer, Purpose, Way};
use crate::task::{Context, Phase, Store, TaskKey, TaskResult, WorkerEvent, WorkerMessage};

/// Why a cancellation isn't handled.
const KEY_CANCELLED: &str = "it cancels a task whose id contains the api_key of this agent, which would get into names and \
                             files, and offers no other task until a person ends that one on the Server";

/// What an agent is made of.
pub struct Parts {
    /// What the workers need.
    pub context: Context,
    /// The messages of the workers.
    pub messages: Receiver<WorkerMessage>,
    /// The intake thread's own connections to the Server, which a signal may abort.
    pub client: Client,
    /// The records.
    pub store: Store,
    /// What the agent works for.
    pub mode: Mode,
    /// Whether `agent.lock` is still this agent's.
    pub lock: LockWatch,
}

/// Where messages come from.
pub(super) struct Inbox {
    pub(super) events: Receiver<ServerEvent>,
    pub(super) messages: Receiver<WorkerMessage>,
    pub(super) health: Receiver<HostHealth>,
}

/// The state of the intake thread.
pub struct Intake {
    pub(super) context: Arc<Context>,
    client: Client,
    pub(super) store: Store,
    pub(super) table: TaskTable,
    workers: Workers,
    pub(super) inbox: Inbox,
    pub(super) admission: Admission,
    pub(super) reclaims: ReclaimQueue,
    offers: Offers,
    orphan: Option<Orphan>,
    pub(super) status: StatusReporter,
    operator: OperatorRequests,
    /// Settled tasks whose last state waits for room on the disk.
    reserves: Vec<TaskKey>,
    requests: Sender<IntakeRequest>,
    host: HostWatch,
    reported: Reported,
}

impl Intake {
    /// Takes up the tasks of an earlier run, and starts the workers and the health thread.
    ///
    /// # Errors
    /// The records can't be read, or a thread can't be started.
    pub fn start(parts: Parts, events: Receiver<ServerEvent>, requests: Sender<IntakeRequest>) -> io::Result<Self> {
        let Parts { context, messages, client, store, mode, lock } = parts;
        let context = Arc::new(context);
        let (health_reports, health) = unbounded();
        let (rechecks, recheck_queue) = unbounded();
        let looks = Arc::<EngineLooks>::default();
        let now = Instant::now();
        let mut intake = Self {
            client,
            table: TaskTable::new(context.config().executor.capacity),
            workers: Workers::new(&context),
            inbox: Inbox { events, messages, health },
            admission: Admission::new(mode, now),
            reclaims: ReclaimQueue::default(),
            offers: Offers::default(),
            orphan: None,
            status: StatusReporter::new(&context, store.clone(), now),
            operator: OperatorRequests::new(&context.config().paths.data_dir, lock, now),
            reserves: Vec::new(),
            requests,
            host: HostWatch::new(rechecks, Arc::clone(&looks)),
            reported: Reported::default(),
            store: store.clone(),
            context: Arc::clone(&context),
        };
        intake.check_pause();
        let unfinished = intake.recover()?;
        // Tasks that were accepted under a larger capacity need workers, too.
        let capacity = context.config().executor.capacity;
        intake.workers.start(capacity.max(unfinished), capacity)?;
        let monitor = HealthMonitor { context, store, looks };
        monitor.spawn(health_reports, recheck_queue)?;
        intake.reported.is_reclaiming = !intake.reclaims.is_asked();
        Ok(intake)
    }

    /// Works until the agent ends, and tells the main thread why.
    pub fn run(mut self) {
        loop {
            self.take_messages();
            let now = Instant::now();
            if self.is_drained(now) {
                return self.end_drained();
            }
            self.check_transfers(now);
            self.check_answering();
            self.note_wanted(now);
            self.report_load(now);
            self.report_status(now);
            match self.inbox.events.try_recv() {
                Ok(ServerEvent::Shutdown) | Err(TryRecvError::Disconnected) => return self.shut_down(),
                Ok(event) => self.handle_event(event),
                Err(TryRecvError::Empty) if self.status.due() <= now => {
                    self.put_back_waiting();
                    self.status.report(&self.table, now);
                }
                Err(TryRecvError::Empty) if self.operator.due() <= now => {
                    if let Err(why) = self.check_operator_requests(now) {
                        return self.request(IntakeRequest::Stopped(Err(why)));
                    }
                }
                Err(TryRecvError::Empty) if self.reclaim_due(now).is_some_and(|due| due <= now) => {
                    self.reclaim_next(now);
                    // Each `accept` may take seconds, and the workers don't wait for all of them.
                    self.dispatch_due(now);
                }
                Err(TryRecvError::Empty) if self.dispatch_due(now) => {}
                Err(TryRecvError::Empty) => self.wait(now),
            }
        }
    }

    /// Sleeps until a part is due or a message can be received.
    fn wait(&self, now: Instant) {
        let dues = [
            Some(self.status.due()),
            Some(self.operator.due()),
            self.reclaim_due(now),
            self.table.next_due(self.client.is_answering()),
            self.admission.due(now),
        ];
        let mut select = Select::new();
        select.recv(&self.inbox.events);
        select.recv(&self.inbox.messages);
        select.recv(&self.inbox.health);
        if let Some(due) = dues.into_iter().flatten().min() {
            // Whether a message came or the time is over, the loop looks for both.
            let _ = select.ready_deadline(due);
        }
    }

    fn take_messages(&mut self) {
        while let Ok(report) = self.inbox.health.try_recv() {
            self.note_health(report);
        }
        while let Ok(message) = self.inbox.messages.try_recv() {
            self.handle_message(message);
        }
    }

    fn handle_event(&mut self, event: ServerEvent) {
        match event {
            ServerEvent::HeartbeatAcknowledged { at, was_interrupted } => self.note_heartbeat(at, was_interrupted),
            ServerEvent::Trouble(trouble) => {
                self.orphan = None;
                self.admission.note_server(true);
                self.status.note_trouble(trouble);
            }
            ServerEvent::PollAnswered(answer) => {
                let next = self.handle_answer(answer);
                // The next poll reports what has changed by this one.
                self.report_load(Instant::now());
                self.request(IntakeRequest::AnswerHandled(next));
            }
            ServerEvent::PollFailed(error, pause) => {
                self.orphan = None;
                log::warn!("poll: {error}; trying again in {pause} s");
            }
            ServerEvent::PollWithoutRoom(time) => self.offers.no_room.note("the next poll", time, Instant::now()),
            ServerEvent::Shutdown => {}
        }
    }

    fn note_heartbeat(&mut self, at: Timestamp, was_interrupted: bool) {
        if was_interrupted {
            log::info!(
                "heartbeats were interrupted; reclaiming this agent's tasks; new ones are accepted after that, in {} s at the \
                 earliest",
                HOLD.as_secs()
            );
            self.reclaim_all();
            self.report_reclaiming();
        }
        self.admission.note_server(false);
        if self.status.note_heartbeat(at) {
            log::info!("the Server answers again");
            self.table.wake_waiting();
        }
    }

    /// While no file can be sent or fetched, a new task would only wait here, and its files might be given up.
    fn check_transfers(&mut self, now: Instant) {
        for (way, kept_out, over) in [
            (Way::Upload, "no new task is accepted", "results are sent again"),
            (Way::Download, "no new task with input files is accepted", "input files are fetched again"),
        ] {
            let trouble = self.client.patience().trouble(way, now);
            if self.admission.note_transfers(way, trouble.clone(), now) {
                match trouble {
                    Some(why) => log::warn!("{kept_out}: {why}"),
                    None => {
                        log::info!("{over}");
                        self.table.wake_waiting();
                    }
                }
            }
        }
    }

    /// Cancels and accepts what the answer to a poll names.
    fn handle_answer(&mut self, answer: PollAnswer) -> NextPoll {
        let has_key = answer.cancel.as_ref().is_some_and(|id| self.client.is_key_in(id));
        self.offers.note_flaw(answer.flaw.or_else(|| has_key.then(|| KEY_CANCELLED.to_owned())));
        match answer.cancel {
            Some(_) if has_key => {}
            Some(id) => self.cancel(&id),
            None => self.orphan = None,
        }
        let next = answer.offer.map_or(NextPoll::AfterInterval, |offer| self.handle_offer(offer));
        // The end of a task makes the agent poll again.
        if self.table.slots_taken() < self.table.capacity() { next } else { NextPoll::AfterInterval }
    }

    /// Takes in what a worker reports.
    pub(super) fn handle_message(&mut self, WorkerMessage { key, event }: WorkerMessage) {
        match event {
            WorkerEvent::PhaseReached(phase) => {
                let is_counted = !self.table.was_settled(&key);
                if let Some((before, time)) = self.table.set_phase(&key, phase).filter(|_| is_counted) {
                    self.status.metrics.observe(before.as_str(), time);
                }
                if phase == Phase::Prepared {
                    self.admission.note_written();
                }
            }
            WorkerEvent::StartFailed(why) => {
                self.status.note_error(format!("a container couldn't be started: {why}"));
                self.admission.note_failed_start(&why, Instant::now());
                self.recheck_starts();
            }
            WorkerEvent::WriteFailed(why) => {
                self.admission.note_failed_write(&why, Instant::now());
            }
            WorkerEvent::ProgramRan => self.admission.note_program_ran(),
            WorkerEvent::SilentEnd(code) => {
                if self.admission.note_silent_end(code, Instant::now()) {
                    self.note_closed();
                    self.recheck_starts();
                }
            }
            WorkerEvent::Requeued => self.reclaim_all(),
            WorkerEvent::Finished(TaskResult::Settled) => {
                if !self.table.was_settled(&key) {
                    self.status.count_settled(&key);
                }
                self.table.remove(&key);
                self.reserves.push(key);
                self.request(IntakeRequest::PollSoon);
            }
            WorkerEvent::Finished(TaskResult::NeedsFetch) => {
                self.table.hand_over(&key);
                self.request(IntakeRequest::PollSoon);
            }
            // Behind the others that are due.
            WorkerEvent::Finished(TaskResult::TurnOver) => self.table.make_due(&key),
            WorkerEvent::Finished(TaskResult::ServerAway(phase)) => self.table.await_server(&key, phase),
            WorkerEvent::Finished(TaskResult::Interrupted) => self.table.release(&key),
            WorkerEvent::Finished(TaskResult::Deferred { phase, why, pause, frees_slot, stop }) => {
                self.table.note_stop(&key, stop);
                self.table.defer(&key, phase, &why, pause);
                if frees_slot {
                    self.table.release_slot(&key);
                }
                if frees_slot || phase >= Phase::Exited {
                    self.request(IntakeRequest::PollSoon);
                }
            }
        }
    }

    /// Writes what has waited for room on the disk, where there is some by now.
    fn put_back_waiting(&mut self) {
        self.context.ledger.put_back();
        let (store, table) = (&self.store, &self.table);
        // One that was offered again has a worker, which does that.
        self.reserves.retain(|key| table.id(key).is_none() && !store.task(key).close_reserve());
    }

    pub(super) fn request(&self, request: IntakeRequest) {
        // An error means that the main thread has ended, and the process with it.
        let _ = self.requests.send(request);
    }

    /// Takes one call from the request budget. Returns whether there was one.
    pub(super) fn try_acquire(&self) -> bool {
        self.client.try_acquire(Purpose::Intake).is_ok()
    }
}
