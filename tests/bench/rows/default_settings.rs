//! A handful of tasks at default settings, where the Server's limit of calls counts.

use crate::agents::{self, DEFAULT_INTERVAL, ONE_OUTPUT, Site};
use crate::figure::{Figure, Unit};
use crate::run::Options;
use crate::support::secs;
use crate::support::server::TaskSpec;

pub fn row(options: &Options) -> Vec<Figure> {
    let repeats = options.size(3, 1);
    let seconds = (0..repeats).map(|_| {
        let server = agents::real_server();
        let builder = agents::builder(&server, ONE_OUTPUT, DEFAULT_INTERVAL).capacity(4);
        let site = Site::start(server, builder);
        let ids = site.queue(20, || TaskSpec::new("none"));
        site.wait_all(&ids, secs(600));
        let took = site.makespan(&ids).as_secs_f64();
        site.stop();
        took
    });
    vec![Figure::new("time", Unit::Seconds, seconds.collect()).goal("≤ 12 s")]
}
