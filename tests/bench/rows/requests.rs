//! How many calls to the Server a task takes.

use crate::agents::{self, DEFAULT_INTERVAL, Site, first, last};
use crate::figure::{Figure, Unit};
use crate::run::Options;
use crate::support::secs;
use crate::support::server::{Request, TaskSpec};
use std::collections::BTreeMap;

/// Copies the input, if there is one.
const COPY: &str = "[ ! -e input/data ] || cp input/data output/data";

pub fn row(options: &Options) -> Vec<Figure> {
    let tasks = options.size(40, 12);
    let with = measure("with an input and an output", tasks, || TaskSpec::new("copy").input("data", "1,2,3\n"));
    let without = measure("without", tasks, || TaskSpec::new("none"));
    vec![with.goal("≤ 5.1"), without.goal("≤ 3.0")]
}

fn measure(what: &'static str, tasks: usize, spec: impl Fn() -> TaskSpec) -> Figure {
    let server = agents::unlimited_server();
    let config = format!("{DEFAULT_INTERVAL}\nmax_requests_per_minute = 0");
    let builder = agents::builder(&server, COPY, &config).capacity(4);
    // They wait when the agent begins, which saves the time until the next poll.
    let ids: Vec<String> = (0..tasks).map(|_| server.submit(spec())).collect();
    let site = Site::start(server, builder);
    site.wait_all(&ids, secs(300));
    let requests = site.server.requests();
    site.stop();
    // Polls count from the one that the first task came with up to the one that the last task came with.
    let (from, to) = (first(&requests, "accept").at, last(&requests, "accept"));
    let before = requests.iter().rposition(|request| request.at < from && request.is("poll")).expect("a poll");
    let counts = |request: &&Request| !request.is("heartbeat") && (!request.is("poll") || request.at < to);
    let counted = requests[before..].iter().filter(counts);
    let mut calls: BTreeMap<String, usize> = BTreeMap::new();
    for request in counted {
        *calls.entry(call(request)).or_default() += 1;
    }
    let of_task = |count: usize| count as f64 / tasks as f64;
    let parts: Vec<String> = calls.iter().map(|(call, &count)| format!("{call} {:.1}", of_task(count))).collect();
    Figure::new(what, Unit::Count, vec![of_task(calls.values().sum())]).note(parts.join(", "))
}

fn call(request: &Request) -> String {
    let calls = ["poll", "accept", "download", "upload", "list", "complete"];
    let found = calls.into_iter().find(|call| request.is(call));
    found.map_or_else(|| request.path.clone(), str::to_owned)
}
