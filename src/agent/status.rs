//! What the agent reports of itself: `status.json`, `metrics.prom`, and an error about results that wait for long.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::status_file::{EngineState, LastError, Program, Reload, ServerTrouble, State};
use super::task_table::TaskTable;
use crate::data_dir::METRICS;
use crate::metrics::{Gauges, Metrics};
use crate::os::platform;
use crate::task::{Context, Phase, Store, TaskKey};
use crate::text::gist;

/// How often the metrics are written: Prometheus scrapes about as often.
const METRICS_INTERVAL: Duration = Duration::from_secs(15);
/// How often results are looked for that have waited for long, and how soon after a start.
const OVERDUE_INTERVAL: Duration = Duration::from_secs(600);
const FIRST_OVERDUE: Duration = Duration::from_secs(10);
/// A result that has waited for so long is overdue.
const OVERDUE: SignedDuration = SignedDuration::from_hours(24);

/// The reporter of one agent.
pub struct StatusReporter {
    state: State,
    /// What the file holds.
    published: Option<State>,
    /// Whether a heartbeat of this run was acknowledged.
    is_acknowledged: bool,
    /// What has happened since the start.
    pub metrics: Metrics,
    metrics_due: Instant,
    overdue_due: Instant,
    context: Arc<Context>,
    store: Store,
}

impl StatusReporter {
    /// A reporter of an agent that starts now. The time of the last heartbeat is that of the earlier run.
    pub fn new(context: &Arc<Context>, store: Store, now: Instant) -> Self {
        let last_heartbeat_at = State::load(&context.config().paths.data_dir).and_then(|state| state.last_heartbeat_at);
        let pid = std::process::id();
        let state = State {
            pid,
            started_at: Timestamp::now(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            program: Program::of_process(),
            last_heartbeat_at,
            ..State::default()
        };
        Self {
            state,
            published: None,
            is_acknowledged: false,
            metrics: Metrics::new(Arc::clone(&context.counters)),
            metrics_due: now,
            overdue_due: now + FIRST_OVERDUE,
            context: Arc::clone(context),
            store,
        }
    }

    /// When the metrics are to be written, or overdue results to be looked for.
    pub fn due(&self) -> Instant {
        self.metrics_due.min(self.overdue_due)
    }

    /// Does what is due.
    pub fn report(&mut self, table: &TaskTable, now: Instant) {
        if self.metrics_due <= now {
            self.write_metrics(table, now);
        } else {
            self.log_overdue(table, now);
        }
    }

    /// When the Server last acknowledged a heartbeat, in an earlier run too.
    pub fn last_heartbeat_at(&self) -> Option<Timestamp> {
        self.state.last_heartbeat_at
    }

    /// Whether the Server has acknowledged the last heartbeat.
    pub fn is_server_reached(&self) -> bool {
        self.is_acknowledged && self.state.server_trouble.is_none()
    }

    /// A heartbeat was acknowledged. Returns whether that ends a trouble.
    pub fn note_heartbeat(&mut self, at: Timestamp) -> bool {
        self.is_acknowledged = true;
        self.state.server_tried = true;
        self.state.last_heartbeat_at = Some(at);
        self.state.server_trouble.take().is_some()
    }

    /// A call to the Server failed. That is logged once for as long as it says the same.
    pub fn note_trouble(&mut self, trouble: ServerTrouble) {
        self.state.server_tried = true;
        let says = |trouble: &ServerTrouble| (trouble.unauthorized, gist(&trouble.message));
        if self.state.server_trouble.as_ref().map(says) != Some(says(&trouble)) {
            log::warn!("{}; trying again", trouble.message);
            self.note_error(trouble.message.clone());
            self.state.server_trouble = Some(trouble);
        }
    }

    /// The configuration file was read again.
    pub fn note_reload(&mut self, reload: Reload) {
        self.state.last_reload = Some(reload);
    }

    /// Something that keeps tasks from being worked on; `status` shows the last one.
    pub fn note_error(&mut self, message: String) {
        self.state.last_error = Some(LastError { at: Timestamp::now(), message });
    }

    /// Whether the Docker engine answers.
    pub fn note_engine(&mut self, engine: EngineState) {
        self.state.engine = engine;
    }

    /// Counts a settled task and has the metrics written soon.
    pub fn count_settled(&mut self, key: &TaskKey) {
        // A record that can't be read isn't counted.
        let record = self.store.task(key).load().ok().flatten();
        if let Some(ending) = record.and_then(|record| record.ending) {
            self.metrics.count_task(ending.status.as_str());
        }
        self.metrics_due = Instant::now();
    }

    /// Brings `status.json` up to date.
    pub fn publish(&mut self, not_accepting: Option<String>, table: &TaskTable) {
        // An alert shouldn't see a state that is over.
        if self.state.not_accepting.is_some() != not_accepting.is_some() {
            self.metrics_due = Instant::now();
        }
        self.state.not_accepting = not_accepting;
        self.state.deferred = table.reasons();
        self.state.without_worker = table.without_worker();
        self.state.slots_taken = Some(table.slots_taken());
        if self.published.as_ref() == Some(&self.state) {
            return;
        }
        // A failed write is tried again with the next change: on a disk in trouble every round of the loop would fail.
        self.published = Some(self.state.clone());
        if let Err(error) = self.state.save(&self.context.folder) {
            log::debug!("status.json can't be written: {error}");
        }
    }

    fn write_metrics(&mut self, table: &TaskTable, now: Instant) {
        self.metrics_due = now + METRICS_INTERVAL;
        let gauges = Gauges {
            running: table.slots_taken(),
            capacity: table.capacity(),
            undelivered: table.count(Phase::Exited..Phase::Settled, |_| true),
            accepting: self.state.not_accepting.is_none(),
            is_server_up: self.is_server_reached(),
            is_engine_up: self.state.engine == EngineState::Ready,
            held_up: self.state.deferred.len(),
            free_disk: platform::free_disk(&self.context.config().paths.data_dir).ok(),
            last_heartbeat_at: self.state.last_heartbeat_at,
            started_at: self.state.started_at,
        };
        if let Err(error) = self.metrics.write(&self.context.folder, METRICS, &gauges) {
            log::debug!("metrics.prom can't be written: {error}");
        }
    }

    /// Writes the metrics of an agent that ends.
    pub fn write_final_metrics(&mut self, table: &TaskTable) {
        self.state.not_accepting = Some("the agent isn't running".to_owned());
        self.write_metrics(table, Instant::now());
    }

    /// Logs results that have waited for over a day: each is kept for as long as it takes, but a person should look why
    /// it takes so long.
    fn log_overdue(&mut self, table: &TaskTable, now: Instant) {
        self.overdue_due = now + OVERDUE_INTERVAL;
        let now = Timestamp::now();
        let waiting = table.keys().into_iter().filter(|key| table.phase(key) >= Phase::Exited);
        let overdue = waiting.filter_map(|key| {
            // Unreadable records are logged when the task is dispatched.
            let ended = self.store.task(&key).load().ok()??.ending?.at;
            (now.duration_since(ended) >= OVERDUE).then_some((ended, key))
        });
        let overdue: Vec<(Timestamp, TaskKey)> = overdue.collect();
        if let Some((ended, key)) = overdue.iter().min() {
            log::error!(
                "{} result(s) have been waiting for delivery for over a day; the oldest is that of task {key}, for {} h{}",
                overdue.len(),
                now.duration_since(*ended).as_hours(),
                table.reason(key).map(|why| format!(": {why}")).unwrap_or_default()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::StatusReporter;
    use crate::agent::status_file::{ServerTrouble, State};
    use crate::agent::task_table::TaskTable;
    use crate::agent::test_context::test_context;
    use crate::task::{Phase, TaskKey};
    use jiff::Timestamp;
    use std::path::Path;
    use std::time::{Duration, Instant};

    fn reporter(dir: &Path) -> StatusReporter {
        let (context, store) = test_context(dir, "");
        StatusReporter::new(&context, store, Instant::now())
    }

    #[test]
    fn heartbeats_and_trouble_set_whether_the_server_is_reached() {
        let dir = tempfile::tempdir().unwrap();
        let mut status = reporter(dir.path());
        assert!(!status.is_server_reached());
        assert!(!status.note_heartbeat(Timestamp::now()) && status.is_server_reached());
        status.note_trouble(ServerTrouble { unauthorized: false, message: "503".to_owned() });
        assert!(!status.is_server_reached());
        assert!(status.note_heartbeat(Timestamp::now()), "it ends the trouble");
        assert!(status.is_server_reached());
    }

    #[test]
    fn trouble_that_differs_in_ids_only_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let mut status = reporter(dir.path());
        let message = |id: &str| format!("503 Service Unavailable (request {id})");
        for id in ["8f14e45fceea167a", "c9f0f895fb98ab91"] {
            status.note_trouble(ServerTrouble { unauthorized: false, message: message(id) });
            assert_eq!(status.state.last_error.as_ref().unwrap().message, message("8f14e45fceea167a"));
        }
        status.note_trouble(ServerTrouble { unauthorized: false, message: "502".to_owned() });
        assert_eq!(status.state.last_error.as_ref().unwrap().message, "502");
    }

    #[test]
    fn status_json_is_written_only_when_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let mut status = reporter(dir.path());
        let data_dir = status.context.config().paths.data_dir.clone();
        let at = Timestamp::now();
        let mut table = TaskTable::new(2);
        status.note_heartbeat(at);
        status.publish(Some("full".to_owned()), &table);
        let written = State::load(&data_dir).unwrap();
        assert_eq!((written.last_heartbeat_at, written.not_accepting.as_deref()), (Some(at), Some("full")));
        std::fs::remove_file(data_dir.status_file()).unwrap();
        status.publish(Some("full".to_owned()), &table);
        assert!(State::load(&data_dir).is_none(), "nothing has changed");
        let keys = ["t", "u"].map(|id| TaskKey::from_id(id).unwrap());
        keys.iter().for_each(|key| table.insert(key, key.as_str(), Phase::Prepared, Duration::ZERO));
        table.defer(&keys[0], Phase::Uploaded, "503", crate::task::Pause::Backoff);
        // Its worker goes on with the delivery, in its slot.
        table.set_phase(&keys[1], Phase::Uploaded);
        status.publish(None, &table);
        let written = State::load(&data_dir).unwrap();
        assert_eq!((written.deferred["t"].as_str(), written.slots_taken), ("503", Some(1)));
        assert_eq!(written.without_worker.into_iter().collect::<Vec<_>>(), ["t", "u"]);
        let _commands = table.start_work(&keys[0], Phase::Uploaded);
        status.publish(None, &table);
        assert!(!State::load(&data_dir).unwrap().without_worker.contains("t"));
        assert_eq!(reporter(dir.path()).last_heartbeat_at(), Some(at));
    }
}
