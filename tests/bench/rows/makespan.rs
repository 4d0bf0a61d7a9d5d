//! How long many small tasks take together.

use crate::agents::{self, ONE_OUTPUT, Site, UNLIMITED};
use crate::bare::Bare;
use crate::figure::{Figure, Unit};
use crate::run::Options;
use crate::support::secs;
use crate::support::server::TaskSpec;

const AT_ONCE: usize = 8;

pub fn row(options: &Options) -> Vec<Figure> {
    let (tasks, repeats) = options.size((200, 5), (16, 2));
    let mut seconds = Repeats::default();
    for _ in 0..repeats {
        seconds.add(tasks);
    }
    let figure = Figure::new("time", Unit::Seconds, seconds.agent).ratio("bare docker", seconds.bare);
    vec![figure.goal("≤ 1.10 ×").note(format!("{tasks} tasks"))]
}

/// The seconds of some repeats, of which each is the agent's and then bare docker's.
#[derive(Default)]
pub struct Repeats {
    pub agent: Vec<f64>,
    pub bare: Vec<f64>,
}

impl Repeats {
    /// Measures so many tasks once more.
    pub fn add(&mut self, tasks: usize) {
        let server = agents::unlimited_server();
        let builder = agents::builder(&server, ONE_OUTPUT, UNLIMITED).capacity(AT_ONCE);
        let site = Site::start(server, builder);
        let bare = Bare::of(&site, &site.warm_up());
        bare.makespan("warm-up", 1, 1);
        let ids = site.queue(tasks, || TaskSpec::new("none"));
        site.wait_all(&ids, secs(900));
        self.agent.push(site.makespan(&ids).as_secs_f64());
        site.wait_removed();
        self.bare.push(bare.makespan("bare", tasks, AT_ONCE).as_secs_f64());
        site.stop();
    }
}
