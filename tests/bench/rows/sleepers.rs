//! What an agent uses that waits for many containers.

use crate::agents::{self, Site, UNLIMITED};
use crate::figure::{Figure, Unit};
use crate::marks::Marks;
use crate::process;
use crate::run::Options;
use crate::support::docker::wait_until;
use crate::support::secs;
use crate::support::server::TaskSpec;
use std::thread;
use std::time::Duration;

pub fn row(options: &Options) -> Vec<Figure> {
    let (tasks, time) = options.size((64, secs(60)), (8, secs(10)));
    let server = agents::unlimited_server();
    let builder = agents::builder(&server, ": > \"/marks/$TASK_ID\"; exec sleep 3600", UNLIMITED).capacity(tasks);
    let site = Site::start(server, builder);
    let marks = Marks::watch(&site.marks());
    let agent = site.running.pid();
    let idle_threads = process::threads(agent);
    site.queue(tasks, || TaskSpec::new("sleep"));
    wait_until("all containers", secs(300), || marks.count("") == tasks);
    thread::sleep(secs(5));

    let clients = || -> Vec<u32> { site.agent.processes().into_iter().filter(|one| *one != agent).collect() };
    let before = process::cpu(&site.agent.processes());
    thread::sleep(time);
    let cpu = process::cpu(&site.agent.processes()).saturating_sub(before);
    let own = [process::resident_mib(agent)];
    let threads = (process::threads(agent) - idle_threads) / tasks as f64;
    let clients = clients();
    let theirs: f64 = clients.iter().map(|&client| process::resident_mib(client)).sum();
    vec![
        Figure::new("resident memory", Unit::MebiBytes, own.to_vec()).goal("≤ 24 MiB").note(format!("{tasks} tasks")),
        Figure::new("threads a task", Unit::Count, vec![threads]).goal("≤ 3"),
        Figure::new("CPU, docker clients included", Unit::Percent, vec![percent(cpu, time)]).goal("≤ 1 % of a core"),
        Figure::new("docker clients", Unit::Count, vec![clients.len() as f64]).goal("stated"),
        Figure::new("their resident memory, shared pages counted in each", Unit::MebiBytes, vec![theirs])
            .goal("stated"),
    ]
}

fn percent(cpu: Duration, time: Duration) -> f64 {
    cpu.as_secs_f64() / time.as_secs_f64() * 100.0
}
