//! Numbers for monitoring: `{data_dir}/metrics.prom`, in the text format of Prometheus, for node_exporter's textfile
//! collector (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
//!
//! Counters begin at zero with each start of the agent, as Prometheus expects.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;

use crate::os::folder::Folder;

/// Upper bounds of the histogram's buckets, in seconds: from a tenth of a second to a day.
const BOUNDS: [f64; 10] = [0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0, 21_600.0, 86_400.0];

/// Counters of the Server's client and of the ledger, shared by all threads.
#[derive(Debug, Default)]
pub struct Counters {
    retries: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
}

impl Counters {
    /// Counts a call to the Server that failed and is repeated.
    pub fn count_retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts received bytes of an input file.
    pub fn count_received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes of a result or report that the Server has.
    pub fn count_sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// The current state of the agent.
pub struct Gauges {
    /// Tasks that use a slot.
    pub running: usize,
    pub capacity: usize,
    /// Results that are not delivered.
    pub undelivered: usize,
    pub accepting: bool,
    /// Whether the Server has acknowledged the last heartbeat.
    pub is_server_up: bool,
    /// Whether the Docker engine answered when it was looked at last.
    pub is_engine_up: bool,
    /// Tasks that wait for something, such as the Server or the engine.
    pub held_up: usize,
    /// Free bytes of the data_dir's disk, where they can be found out.
    pub free_disk: Option<u64>,
    /// When the Server last acknowledged a heartbeat.
    pub last_heartbeat_at: Option<Timestamp>,
    pub started_at: Timestamp,
}

#[derive(Default)]
struct Histogram {
    buckets: [u64; BOUNDS.len()],
    count: u64,
    sum: f64,
}

/// All numbers since the agent's start.
#[derive(Default)]
pub struct Metrics {
    counters: Arc<Counters>,
    /// Settled tasks by the word for their outcome.
    tasks: BTreeMap<&'static str, u64>,
    /// Times by the word for the phase.
    phases: BTreeMap<&'static str, Histogram>,
}

impl Metrics {
    /// Numbers of an agent whose threads share these counters.
    pub fn new(counters: Arc<Counters>) -> Self {
        Self { counters, ..Self::default() }
    }

    /// Counts a settled task: `completed`, `failed` or `cancelled`.
    pub fn count_task(&mut self, outcome: &'static str) {
        *self.tasks.entry(outcome).or_default() += 1;
    }

    /// Adds the time that a task was in a phase.
    pub fn observe(&mut self, phase: &'static str, time: Duration) {
        let histogram = self.phases.entry(phase).or_default();
        let seconds = time.as_secs_f64();
        histogram.count += 1;
        histogram.sum += seconds;
        for (bucket, bound) in histogram.buckets.iter_mut().zip(BOUNDS) {
            *bucket += u64::from(seconds <= bound);
        }
    }

    /// Replaces the file in one step, so that the collector never reads a part of it.
    pub fn write(&self, folder: &Folder, name: &str, gauges: &Gauges) -> io::Result<()> {
        folder.replace_text(name, self.render(gauges).as_bytes())
    }

    fn render(&self, gauges: &Gauges) -> String {
        let seconds = |at: Timestamp| at.as_millisecond() as f64 / 1000.0;
        let mut text = Text::default();
        text.family("build_info", "gauge", "The version of the agent, as a label.");
        text.sample("build_info", concat!("{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1.0);
        text.one("start_timestamp_seconds", "gauge", "When the agent was started.", seconds(gauges.started_at));
        text.family("tasks_total", "counter", "Tasks whose end the Server knows, by outcome.");
        for outcome in ["completed", "failed", "cancelled"] {
            let count = self.tasks.get(outcome).copied().unwrap_or_default();
            text.sample("tasks_total", &format!("{{outcome=\"{outcome}\"}}"), count as f64);
        }
        text.one("tasks_running", "gauge", "Tasks that hold a slot.", gauges.running as f64);
        text.one("capacity", "gauge", "Slots (executor.capacity).", gauges.capacity as f64);
        text.one("tasks_undelivered", "gauge", "Results that wait for their delivery.", gauges.undelivered as f64);
        let accepting = f64::from(u8::from(gauges.accepting));
        text.one("accepting", "gauge", "Whether new tasks are accepted (1) or not (0).", accepting);
        let up = |is_up: bool| f64::from(u8::from(is_up));
        text.one(
            "server_up",
            "gauge",
            "Whether the Server took the last heartbeat (1) or not (0).",
            up(gauges.is_server_up),
        );
        text.one("engine_up", "gauge", "Whether the Docker engine answers (1) or not (0).", up(gauges.is_engine_up));
        text.one("tasks_held_up", "gauge", "Tasks that wait for something to be in order.", gauges.held_up as f64);
        if let Some(free) = gauges.free_disk {
            text.one("free_disk_bytes", "gauge", "Free bytes of the disk of the data_dir.", free as f64);
        }
        let loaded = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let retries = loaded(&self.counters.retries);
        text.one("retries_total", "counter", "Calls to the Server that failed and are made again.", retries);
        text.one("received_bytes_total", "counter", "Bytes of input files.", loaded(&self.counters.received));
        text.one("sent_bytes_total", "counter", "Bytes of results and reports.", loaded(&self.counters.sent));
        if let Some(at) = gauges.last_heartbeat_at {
            let help = "When the Server last took a heartbeat.";
            text.one("last_heartbeat_timestamp_seconds", "gauge", help, seconds(at));
        }
        if !self.phases.is_empty() {
            text.family("task_phase_seconds", "histogram", "How long tasks were in each phase.");
        }
        for (phase, histogram) in &self.phases {
            let bounds = BOUNDS.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
            for (bound, count) in bounds.zip(histogram.buckets.iter().chain([&histogram.count])) {
                let labels = format!("{{phase=\"{phase}\",le=\"{bound}\"}}");
                text.sample("task_phase_seconds_bucket", &labels, *count as f64);
            }
            let labels = format!("{{phase=\"{phase}\"}}");
            text.sample("task_phase_seconds_sum", &labels, histogram.sum);
            text.sample("task_phase_seconds_count", &labels, histogram.count as f64);
        }
        text.0
    }
}

/// A text in the format of Prometheus.
#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string can't fail.
        let _ = writeln!(self.0, "# HELP agent_core_{name} {help}\n# TYPE agent_core_{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: f64) {
        let _ = writeln!(self.0, "agent_core_{name}{labels} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.family(name, kind, help);
        self.sample(name, "", value);
    }
}
