//! Tasks that leave many files.

use crate::agents::{self, DEFAULT_INTERVAL, Site, UNLIMITED, about, last};
use crate::figure::{Figure, Unit};
use crate::marks::Marks;
use crate::process;
use crate::run::Options;
use crate::support::secs;
use crate::support::server::{FakeServer, Request, Status, TaskSpec};
use std::time::Duration;

fn script(files: usize) -> String {
    format!("for i in $(seq {files}); do echo \"$i\" > output/$i; done; : > \"/marks/ended-$TASK_ID\"")
}

/// 400 outputs as an archive, with the Server's limit of calls.
pub fn limited_row(_options: &Options) -> Vec<Figure> {
    let config = format!("{DEFAULT_INTERVAL}\n[outputs]\narchive = \"many\"");
    let site = start(agents::real_server(), 400, &config);
    let delivery = deliver(&site);
    site.stop();
    let seconds = Figure::new("container's end → `complete`", Unit::Seconds, vec![delivery.time.as_secs_f64()]);
    let uploads = Figure::new("uploads", Unit::Count, vec![delivery.uploads as f64]);
    vec![seconds.goal("≤ 10 s"), uploads.goal("1")]
}

/// 10,000 outputs, without any limit; and a tenth of that, for the memory.
pub fn many_row(options: &Options) -> Vec<Figure> {
    let files = options.size(10_000, 1000);
    let config = format!("{UNLIMITED}\n[outputs]\nmax_files = {files}");
    let [few, many] = [files / 10, files].map(|files| {
        let site = start(agents::unlimited_server(), files, &config);
        let delivery = deliver(&site);
        assert_eq!(delivery.uploads, files);
        let memory = process::peak_mib(site.running.pid());
        site.stop();
        (delivery, memory)
    });
    let a_file = |time: Duration| vec![time.as_secs_f64() * 1000.0 / files as f64];
    vec![
        Figure::new("time of a file", Unit::Millis, a_file(many.0.time))
            .difference("in the Server", a_file(many.0.in_server))
            .goal("≤ +2 ms")
            .note(format!("{files} files")),
        Figure::new("peak memory", Unit::MebiBytes, vec![many.1])
            .ratio("with a tenth of the files", vec![few.1])
            .goal("flat"),
    ]
}

fn start(server: FakeServer, files: usize, config: &str) -> Site {
    let builder = agents::builder(&server, &script(files), config);
    Site::start(server, builder)
}

struct Delivery {
    time: Duration,
    uploads: usize,
    /// The time in which the Server worked on an upload: from its head's arrival to the end of its answer.
    in_server: Duration,
}

/// Runs a task, and returns what it took from its container's end to its report.
fn deliver(site: &Site) -> Delivery {
    let marks = Marks::watch(&site.marks());
    let id = site.server.submit(TaskSpec::new("many"));
    site.server.wait_for(&id, Status::Completed, secs(1800));
    let requests = about(site.server.requests(), std::slice::from_ref(&id));
    let uploads: Vec<&Request> = requests.iter().filter(|request| request.is("upload")).collect();
    let took = |request: &&Request| request.answered.map_or(Duration::ZERO, |answered| answered - request.at);
    Delivery {
        time: last(&requests, "complete") - marks.at(&format!("ended-{id}")),
        uploads: uploads.len(),
        in_server: uploads.iter().map(took).sum(),
    }
}
