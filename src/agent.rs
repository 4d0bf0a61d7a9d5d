//! The main thread: heartbeats, polls, signals, and the table of what runs where.
//!
//! Nothing here waits for anything but one bounded call at a time; pauses are due times, and the loop sleeps until the
//! next of them or until a channel has something. What happens to single tasks stands in [`intake`] and [`task_table`].

pub mod health;
mod heartbeat;
mod host_health;
mod intake;
mod operator;
mod recovery;
mod serve;
mod shutdown;
mod status;
pub mod status_file;
mod task_table;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, select, unbounded};
use jiff::Timestamp;

use crate::agent::health::{HostHealth, Monitor, RecheckRequest};
use crate::agent::status_file::{EngineState, ServerTrouble, State, StatusFile};
use crate::data_dir::instance::LockWatch;
use crate::metrics::Metrics;
use crate::os::platform;
use crate::server::Client;
use crate::server::budget::Purpose;
use crate::server::protocol::Load;
use crate::server::retry::Backoff;
use crate::task::record::{Phase, Record, Store, TaskKey};
use crate::task::{self, Context, Job, TaskResult, WorkerEvent, WorkerMessage};
use intake::Orphan;
pub use serve::{ServeError, serve};
use shutdown::guard_exit;
use task_table::Table;

/// How often a Server is asked that doesn't know our key, and a record read that can't be.
const UNAUTHORIZED: Duration = Duration::from_secs(30);
/// How often results are looked for that have waited for long (after a start, soon).
const OVERDUE_LOOK: Duration = Duration::from_secs(600);
const FIRST_OVERDUE_LOOK: Duration = Duration::from_secs(10);
/// How long no new task is taken after a container that couldn't be started; it doubles with each in a row.
const AFTER_FAILED_START: Duration = Duration::from_secs(10);
const LONGEST_AFTER_FAILED_STARTS: Duration = Duration::from_secs(300);
/// How often numbers for monitoring are written: node_exporter is asked about as often.
const METRICS: Duration = Duration::from_secs(15);
/// How often it is looked what the operator's commands want.
const WISHES: Duration = Duration::from_secs(1);

/// What the scheduler is made of.
struct Parts {
    /// What workers need, but for the channel to us.
    pub context: Context,
    /// What they say.
    pub messages: Receiver<WorkerMessage>,
    /// Our own connections to the Server, which a signal may abort.
    pub client: Client,
    /// The records.
    pub store: Store,
    /// SIGINT and SIGTERM.
    pub signals: Receiver<()>,
    /// What to work for.
    pub mode: Mode,
    /// Tells whether the data_dir is still ours.
    pub lock: LockWatch,
}

/// What the agent works for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Whatever the Server has, until a signal comes or somebody asks for a [`Mode::Drain`].
    Serve,
    /// Nothing new: it ends when all that is here is delivered, or at this time.
    Drain(Option<Instant>),
}

/// See the module.
struct Scheduler {
    context: Arc<Context>,
    client: Client,
    store: Store,
    table: Table,
    jobs: Sender<Job>,
    deliveries: Sender<Job>,
    messages: Receiver<WorkerMessage>,
    machines: Receiver<HostHealth>,
    recheck_requests: Sender<RecheckRequest>,
    signals: Receiver<()>,
    state: State,
    /// What the file holds.
    published: Option<State>,
    state_file: StatusFile,
    /// Why no new task is accepted, if so.
    closed: Option<String>,
    heartbeat_due: Instant,
    acknowledged: Option<Instant>,
    server_trouble: Option<ServerTrouble>,
    /// When results that wait for long are looked for.
    overdue_due: Instant,
    poll_due: Instant,
    polled: Instant,
    /// Before this the Server doesn't want to be polled, whatever happens here.
    poll_not_before: Instant,
    poll_backoff: Backoff,
    reclaim: VecDeque<TaskKey>,
    reclaim_due: Instant,
    reclaim_backoff: Backoff,
    hold_until: Option<Instant>,
    orphan: Option<Orphan>,
    lost_race: Option<String>,
    refused_offer: Option<String>,
    /// What kept a result last from being discarded.
    undiscarded: Option<(TaskKey, String)>,
    mode: Mode,
    lock: LockWatch,
    metrics: Metrics,
    metrics_due: Instant,
    /// When it is looked again what the operator's commands want.
    wishes_due: Instant,
    /// How many containers in a row could not be started, and until when that keeps new tasks away.
    start_failures: u32,
    /// When the monitor last said anything.
    health_at: Instant,
    closed_until: Option<Instant>,
}

impl Scheduler {
    /// Starts workers and monitor, and takes up what an earlier run has left.
    pub fn start(parts: Parts) -> io::Result<Self> {
        let Parts { context, messages, client, store, signals, mode, lock } = parts;
        let context = Arc::new(context);
        let config = Arc::clone(&context.config);
        let (jobs, job_queue) = unbounded();
        let (deliveries, delivery_queue) = unbounded();
        let (machine_reports, machines) = unbounded();
        let (recheck_requests, recheck_queue) = unbounded();
        let state_file = StatusFile::new(&config.paths.data_dir);
        let last_heartbeat_at = state_file.load().and_then(|state| state.last_heartbeat_at);
        let now = Instant::now();
        let mut scheduler = Self {
            client,
            table: Table::new(config.executor.capacity),
            jobs,
            deliveries,
            messages,
            machines,
            recheck_requests,
            signals,
            state: State {
                pid: std::process::id(),
                started_at: Timestamp::now(),
                last_heartbeat_at,
                server_tried: false,
                server_trouble: None,
                last_error: None,
                engine: EngineState::Unknown,
                not_accepting: None,
                deferred: BTreeMap::new(),
            },
            published: None,
            state_file,
            closed: Some("engine, mounts and disk haven't been looked at yet".to_owned()),
            heartbeat_due: now,
            acknowledged: None,
            server_trouble: None,
            overdue_due: now + FIRST_OVERDUE_LOOK,
            poll_due: now,
            polled: now,
            poll_not_before: now,
            poll_backoff: Backoff::default(),
            reclaim: VecDeque::new(),
            reclaim_due: now,
            reclaim_backoff: Backoff::default(),
            hold_until: None,
            orphan: None,
            lost_race: None,
            refused_offer: None,
            undiscarded: None,
            mode,
            lock,
            metrics: Metrics::new(Arc::clone(&context.counters)),
            metrics_due: now,
            wishes_due: now,
            start_failures: 0,
            health_at: now,
            closed_until: None,
            store: store.clone(),
            context: Arc::clone(&context),
        };
        let unfinished = scheduler.recover()?;
        // Tasks that were taken under a larger capacity have to go on all the same.
        for number in 1..=config.executor.capacity.max(unfinished) {
            task::spawn(&format!("worker-{number}"), &context, &job_queue)?;
        }
        // Results whose delivery was interrupted don't wait for a slot.
        task::spawn("courier", &context, &delivery_queue)?;
        let monitor =
            Monitor { config, docker: context.docker.clone(), instance_id: context.instance_id.clone(), store };
        monitor.spawn(machine_reports, recheck_queue)?;
        Ok(scheduler)
    }

    /// Works until a signal comes, or until all is drained; then leaves. Running containers go on running.
    ///
    /// # Errors
    /// `agent.lock` was removed or replaced, so that another agent may work on the data_dir: this one has to end at once.
    pub fn run(mut self) -> Result<(), String> {
        loop {
            self.take_messages();
            if self.signals.try_recv().is_ok() || self.is_drained() {
                break;
            }
            self.publish();
            let now = Instant::now();
            if self.metrics_due <= now {
                self.metrics_due = now + METRICS;
                self.write_metrics();
            } else if self.wishes_due <= now {
                self.wishes_due = now + WISHES;
                if self.lock.is_lost() {
                    let why = "`agent.lock` was removed or replaced, so that another agent may have been started on this \
                               data_dir; this one ends, and its containers go on";
                    return Err(why.to_owned());
                }
                self.look_at_wishes();
            } else if self.heartbeat_due <= now {
                self.heartbeat();
            } else if self.overdue_due <= now {
                self.overdue_due = now + OVERDUE_LOOK;
                self.say_overdue();
            } else if self.may_reclaim() && self.reclaim_due <= now {
                match self.client.try_acquire(Purpose::Intake) {
                    Ok(()) => self.reclaim_next(),
                    Err(time) => self.reclaim_due = now + time,
                }
            } else if self.may_poll() && self.poll_due <= now {
                let is_regular = now.duration_since(self.polled) >= self.context.config.server.poll_interval;
                let purpose = if is_regular { Purpose::Poll } else { Purpose::Intake };
                match self.client.try_acquire(purpose) {
                    Ok(()) => {
                        self.polled = now;
                        self.poll();
                    }
                    Err(time) => self.poll_due = now + time,
                }
            } else if self.dispatch_due() {
                // Something was handed over; look again.
            } else if self.wait() {
                break;
            }
        }
        self.leave();
        Ok(())
    }

    /// Sleeps until something is due or comes. Returns whether it was a signal.
    fn wait(&mut self) -> bool {
        let mut next = self.heartbeat_due.min(self.overdue_due).min(self.wishes_due).min(self.metrics_due);
        if self.may_reclaim() {
            next = next.min(self.reclaim_due);
        }
        if self.may_poll() {
            next = next.min(self.poll_due);
        }
        if let Some(due) = self.table.next_due() {
            next = next.min(due);
        }
        select! {
            recv(self.signals) -> _ => return true,
            recv(self.messages) -> messages => if let Ok(messages) = messages { self.hear(messages) },
            recv(self.machines) -> machine => if let Ok(machine) = machine { self.note_machine(machine) },
            default(next.saturating_duration_since(Instant::now())) => {}
        }
        false
    }

    fn take_messages(&mut self) {
        while let Ok(machine) = self.machines.try_recv() {
            self.note_machine(machine);
        }
        while let Ok(messages) = self.messages.try_recv() {
            self.hear(messages);
        }
    }

    fn hear(&mut self, WorkerMessage { key, event }: WorkerMessage) {
        match event {
            WorkerEvent::PhaseReached(phase) => {
                if let Some((before, time)) = self.table.set_phase(&key, phase) {
                    self.metrics.observe(before.as_str(), time);
                }
            }
            WorkerEvent::StartFailed => {
                self.closed.get_or_insert_with(|| {
                    "a container couldn't be started; image and mounts are looked at".to_owned()
                });
                // The monitor is gone only when we are.
                let _ = self.recheck_requests.send(RecheckRequest);
                // Where image and mounts are in order, something else is not, and it would eat the whole queue.
                let pause = AFTER_FAILED_START.saturating_mul(2u32.saturating_pow(self.start_failures));
                self.start_failures = self.start_failures.saturating_add(1);
                self.closed_until = Some(Instant::now() + pause.min(LONGEST_AFTER_FAILED_STARTS));
            }
            WorkerEvent::ContainerExited => {
                self.start_failures = 0;
                self.closed_until = None;
            }
            WorkerEvent::Requeued => self.reclaim_all(),
            WorkerEvent::Finished(TaskResult::Settled) => {
                self.table.remove(&key);
                // What can't be read isn't counted.
                let record = self.store.task(&key).load().ok().flatten();
                if let Some(ending) = record.and_then(|record| record.ending) {
                    self.metrics.count_task(ending.status.as_str());
                }
                self.metrics_due = Instant::now();
                platform::trim_heap();
                self.poll_soon();
            }
            WorkerEvent::Finished(TaskResult::Interrupted) => self.table.release(&key),
            WorkerEvent::Finished(TaskResult::Deferred { phase, why, retry_after }) => {
                if phase >= Phase::Exited {
                    self.poll_soon();
                }
                self.table.defer(&key, phase, &why, retry_after);
            }
        }
    }

    /// Hands tasks over whose pause is over. Returns whether there was one.
    fn dispatch_due(&mut self) -> bool {
        let Some(key) = self.table.due(Instant::now()) else { return false };
        match self.store.task(&key).load() {
            Ok(Some(record)) => self.hand_over(&key, record),
            Ok(None) => {
                log::error!(task:% = key; "its record has disappeared; it is given up");
                self.table.remove(&key);
            }
            Err(error) => {
                let why = format!("its record can't be read: {error}");
                self.table.defer(&key, self.table.phase(&key), &why, Some(UNAUTHORIZED));
            }
        }
        true
    }

    fn hand_over(&mut self, key: &TaskKey, record: Record) {
        let files = self.store.task(key);
        let queue = if record.phase >= Phase::Exited { &self.deliveries } else { &self.jobs };
        let commands = self.table.start_work(key, record.phase);
        if queue.send(Job { files, record, commands }).is_err() {
            log::error!(task:% = key; "no worker is left to take it");
        }
    }

    fn load(&self) -> Load {
        let current = self.table.slots_taken();
        let capacity = self.table.capacity();
        let is_closed = self.mode != Mode::Serve
            || self.closed.is_some()
            || self.monitor_is_silent()
            || self.closed_until.is_some_and(|until| Instant::now() < until);
        // After a failed start one task at a time is tried.
        let at_most = if self.start_failures > 0 { 1 } else { capacity };
        let available = if is_closed { 0 } else { at_most.saturating_sub(current) };
        Load { current, capacity, available }
    }

    /// There may be something to accept, or room for it. A pause after a failed poll is kept all the same.
    fn poll_soon(&mut self) {
        self.poll_due = self.poll_not_before.max(Instant::now());
    }
}
