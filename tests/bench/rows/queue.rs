//! A long queue of tasks that take no time: what the agent itself takes for each, and whether that grows.

use crate::agents::{self, ONE_OUTPUT, Site, UNLIMITED};
use crate::figure::{Figure, Unit};
use crate::run::Options;
use crate::support::docker::wait_until;
use crate::support::secs;
use crate::support::server::TaskSpec;
use crate::{process, stand_in};
use std::time::{Duration, Instant};

pub fn row(options: &Options) -> Vec<Figure> {
    let tasks = options.size(5000, 200);
    let server = agents::unlimited_server();
    let agent = agents::builder(&server, ONE_OUTPUT, UNLIMITED).capacity(32).build();
    stand_in::install(&agent);
    let site = Site::start_built(server, agent);
    site.warm_up();
    let process = site.running.pid();
    let ids = site.queue(tasks, || TaskSpec::new("none"));
    // Each fifth of the queue: when it was done, and the memory then.
    let looks: Vec<(Instant, f64)> = (0..=5)
        .map(|fifth| {
            let left = tasks - tasks * fifth / 5;
            let is_done = || site.server.open_tasks() <= left && (fifth > 0 || site.server.open_tasks() < tasks);
            wait_until("a part of the queue", secs(1800), is_done);
            (Instant::now(), process::resident_mib(process))
        })
        .collect();
    site.wait_all(&ids, secs(60));
    let whole = site.makespan(&ids);
    site.stop();
    let of_task = |time: Duration, tasks: usize| time.as_secs_f64() * 1000.0 / tasks as f64;
    // The first fifth warms up.
    let [early, late] = [1, 4].map(|fifth| of_task(looks[fifth + 1].0 - looks[fifth].0, tasks / 5));
    vec![
        Figure::new("time of a task", Unit::Millis, vec![of_task(whole, tasks)]).note(format!("{tasks} tasks")),
        Figure::new("time of a task, late beside early", Unit::Millis, vec![late])
            .ratio("second fifth", vec![early])
            .goal("flat"),
        Figure::new("memory, late beside early", Unit::MebiBytes, vec![looks[5].1])
            .ratio("after a fifth", vec![looks[1].1])
            .goal("flat"),
    ]
}
