//! A start with many records of tasks that have ended.

use crate::agents::{self, ONE_OUTPUT, Site, UNLIMITED, first};
use crate::figure::{Figure, Unit};
use crate::run::Options;
use crate::support::agent::Agent;
use crate::support::secs;
use crate::support::server::FakeServer;
use crate::{process, stand_in};
use std::fs;
use std::path::Path;
use std::time::Instant;

pub fn row(options: &Options) -> Vec<Figure> {
    let (records, repeats) = options.size((10_000, 5), (1000, 2));
    let server = agents::unlimited_server();
    let agent = agents::builder(&server, ONE_OUTPUT, UNLIMITED).build();
    stand_in::install(&agent);
    let site = Site::start_built(server, agent);
    let id = site.warm_up();
    let Site { agent, mut running, server } = site;
    running.terminate(secs(30));
    let (mut empty, mut full) = (Starts::default(), Starts::default());
    empty.add(&server, &agent);
    empty = Starts::default();
    for _ in 0..repeats {
        empty.add(&server, &agent);
    }
    multiply(&agent, &id, records);
    for _ in 0..repeats {
        full.add(&server, &agent);
    }
    vec![
        Figure::new("start → first poll", Unit::Millis, full.millis)
            .difference("with 1 record", empty.millis)
            .goal("≤ 1 s")
            .note(format!("{records} records")),
        Figure::new("resident memory then", Unit::MebiBytes, full.mib).difference("with 1 record", empty.mib),
    ]
}

#[derive(Default)]
struct Starts {
    millis: Vec<f64>,
    mib: Vec<f64>,
}

impl Starts {
    /// Starts the agent until its first poll, and ends it.
    fn add(&mut self, server: &FakeServer, agent: &Agent) {
        let before = server.requests().len();
        let began = Instant::now();
        let mut running = agent.start();
        let polls = || server.requests().split_off(before);
        server.wait_until("a poll", secs(120), |_| polls().iter().any(|request| request.is("poll")));
        let polled = first(&polls(), "poll").at;
        self.millis.push((polled - began).as_secs_f64() * 1000.0);
        self.mib.push(process::resident_mib(running.pid()));
        running.terminate(secs(60));
    }
}

/// Copies what the agent keeps of a settled task, under other ids.
fn multiply(agent: &Agent, id: &str, records: usize) {
    for number in 0..records {
        let copy = format!("{id}-copy-{number:05}");
        for folder in ["tasks", "workspaces"] {
            let folder = agent.data_dir().join(folder);
            copy_folder(&folder.join(id), &folder.join(&copy), (id, &copy));
        }
    }
}

/// Copies a folder, with `ids.1` in place of `ids.0` in its files.
fn copy_folder(from: &Path, to: &Path, ids: (&str, &str)) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::create_dir(to).expect("make a folder");
    for entry in fs::read_dir(from).expect("list a folder").flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_folder(&path, &target, ids);
            continue;
        }
        let text = String::from_utf8(fs::read(&path).expect("read a file")).expect("text");
        fs::write(&target, text.replace(ids.0, ids.1)).expect("write a file");
        let mode = entry.metadata().expect("look at a file").permissions().mode();
        fs::set_permissions(&target, fs::Permissions::from_mode(mode)).expect("set a mode");
    }
    let mode = fs::metadata(from).expect("look at a folder").permissions().mode();
    fs::set_permissions(to, fs::Permissions::from_mode(mode)).expect("set a mode");
}
