//! What the agent adds before a container starts and after it has ended.

use crate::agents::{self, Site, UNLIMITED, about, first, last};
use crate::bare::Bare;
use crate::figure::{Figure, Unit};
use crate::marks::Marks;
use crate::run::Options;
use crate::support::secs;
use crate::support::server::{Status, TaskSpec};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Marks its first and its last instruction, and leaves a result.
const SCRIPT: &str = ": > \"/marks/begun-$TASK_ID\"; echo result > output/result; : > \"/marks/ended-$TASK_ID\"";

pub fn start_row(options: &Options) -> Vec<Figure> {
    let gaps = measure(options);
    let figure = Figure::new("accept's answer → first instruction", Unit::Millis, gaps.agent_start.clone());
    vec![figure.difference("bare docker", gaps.bare_start.clone()).goal("≤ +10 ms")]
}

pub fn end_row(options: &Options) -> Vec<Figure> {
    let gaps = measure(options);
    let figure = Figure::new("last instruction → `complete`", Unit::Millis, gaps.agent_end.clone());
    vec![figure.difference("bare docker", gaps.bare_end.clone()).goal("≤ +20 ms")]
}

/// Milliseconds, one value for each repeat.
#[derive(Default)]
struct Gaps {
    agent_start: Vec<f64>,
    agent_end: Vec<f64>,
    bare_start: Vec<f64>,
    bare_end: Vec<f64>,
}

/// Both rows come from the same tasks.
fn measure(options: &Options) -> &'static Gaps {
    static MEASURED: OnceLock<Gaps> = OnceLock::new();
    MEASURED.get_or_init(|| run(options.size(40, 5)))
}

fn run(repeats: usize) -> Gaps {
    let server = agents::unlimited_server();
    let builder = agents::builder(&server, SCRIPT, UNLIMITED).capacity(1);
    let site = Site::start(server, builder);
    let marks = Marks::watch(&site.marks());
    let warm = site.warm_up();
    let bare = Bare::of(&site, &warm);
    bare.start("warm-up").0.wait().expect("wait for docker");
    let mut gaps = Gaps::default();
    for number in 0..repeats {
        let id = site.server.submit(TaskSpec::new("none"));
        site.server.wait_for(&id, Status::Completed, secs(60));
        let requests = about(site.server.requests(), std::slice::from_ref(&id));
        let accepted = first(&requests, "accept").answered.expect("accept was answered");
        gaps.agent_start.push(millis(accepted, marks.at(&format!("begun-{id}"))));
        gaps.agent_end.push(millis(marks.at(&format!("ended-{id}")), last(&requests, "complete")));
        site.wait_removed();

        let id = format!("bare-{number}");
        let (mut client, began) = bare.start(&id);
        assert!(client.wait().expect("wait for docker").success());
        let ended = Instant::now();
        gaps.bare_start.push(millis(began, marks.at(&format!("begun-{id}"))));
        gaps.bare_end.push(millis(marks.at(&format!("ended-{id}")), ended));
    }
    site.stop();
    gaps
}

/// Negative when `to` comes first.
fn millis(from: Instant, to: Instant) -> f64 {
    let ahead = |from: Instant, to: Instant| to.saturating_duration_since(from);
    let millis = |time: Duration| time.as_secs_f64() * 1000.0;
    millis(ahead(from, to)) - millis(ahead(to, from))
}
