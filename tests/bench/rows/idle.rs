//! What an agent uses that has nothing to do.

use crate::agents::{self, DEFAULT_INTERVAL, ONE_OUTPUT, Site};
use crate::figure::{Figure, Unit};
use crate::process;
use crate::run::Options;
use std::thread;
use std::time::Duration;

/// How long an agent runs before it counts as idle: its start is over.
const START: Duration = Duration::from_secs(10);

pub fn row(options: &Options) -> Vec<Figure> {
    let (repeats, seconds) = options.size((3, 60), (1, 20));
    let idle = Duration::from_secs(seconds);
    let mut looks = Vec::new();
    let mut millis = Vec::new();
    for _ in 0..repeats {
        // Of a running agent the time of its children is known in ticks of 10 ms only, of one that has ended exactly. So
        // the start is measured by itself, and taken off.
        let start = run(START);
        let whole = run(START + idle);
        let used = whole.cpu.as_secs_f64() - start.cpu.as_secs_f64();
        millis.push(used * 1000.0 * 60.0 / idle.as_secs_f64());
        looks.push(whole);
    }
    let values = |of: fn(&Look) -> f64| looks.iter().map(of).collect();
    vec![
        Figure::new("CPU in a minute, docker clients included", Unit::Millis, millis).goal("≤ 30 ms"),
        Figure::new("resident memory", Unit::MebiBytes, values(|look| look.resident_mib)).goal("≤ 5 MiB"),
        Figure::new("threads", Unit::Count, values(|look| look.threads)),
        Figure::new("calls in a minute", Unit::Count, values(|look| look.calls_a_minute)),
    ]
}

struct Look {
    cpu: Duration,
    resident_mib: f64,
    threads: f64,
    calls_a_minute: f64,
}

/// An agent's run of this length, and what it has used.
fn run(time: Duration) -> Look {
    let server = agents::real_server();
    let builder = agents::builder(&server, ONE_OUTPUT, DEFAULT_INTERVAL);
    let before = process::ended_children_cpu();
    let mut site = Site::start(server, builder);
    thread::sleep(time);
    let process = site.running.pid();
    let (resident_mib, threads) = (process::resident_mib(process), process::threads(process));
    let calls = site.server.requests().len() as f64;
    site.running.terminate(Duration::from_secs(30));
    let cpu = process::ended_children_cpu() - before;
    Look { cpu, resident_mib, threads, calls_a_minute: calls * 60.0 / time.as_secs_f64() }
}
