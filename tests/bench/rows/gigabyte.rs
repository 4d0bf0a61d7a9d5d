//! A large input and a large output.

use crate::agents::{self, Site, UNLIMITED, about, first};
use crate::figure::{Figure, Unit, median};
use crate::process;
use crate::run::Options;
use crate::support::secs;
use crate::support::server::{Control, FakeServer, Options as ServerOptions, Request, Status, TaskSpec};
use std::path::Path;
use std::process::{Command, Stdio};

pub fn row(options: &Options) -> Vec<Figure> {
    let (mib, repeats) = options.size((1024, 3), (64, 3));
    let mut values = Values::default();
    for _ in 0..repeats {
        values.add(mib);
    }
    let note = |seconds: &[f64]| format!("{mib} MiB, {:.0} MB/s", mib as f64 * 1.048_576 / median(seconds));
    vec![
        Figure::new("download", Unit::Seconds, values.download.clone())
            .note(note(&values.download))
            .ratio("curl", values.curl_download)
            .goal("≤ 1.11 ×"),
        Figure::new("upload", Unit::Seconds, values.upload.clone())
            .note(note(&values.upload))
            .ratio("curl", values.curl_upload)
            .goal("≤ 1.11 ×"),
        Figure::new("peak memory", Unit::MebiBytes, values.memory).goal("≤ 10 MiB"),
    ]
}

/// Seconds as the Server saw them, and MiB.
#[derive(Default)]
struct Values {
    download: Vec<f64>,
    curl_download: Vec<f64>,
    upload: Vec<f64>,
    curl_upload: Vec<f64>,
    memory: Vec<f64>,
}

impl Values {
    fn add(&mut self, mib: usize) {
        let server = FakeServer::start_with(ServerOptions {
            max_upload_bytes: u64::MAX / 2,
            body_deadline: secs(600),
            ..agents::options()
        });
        let limits = "[outputs]\nmax_file_mb = 2000\nmax_total_mb = 4000";
        let builder = agents::builder(&server, "mv input/data output/data", &format!("{UNLIMITED}\n{limits}"));
        let site = Site::start(server, builder);
        let id = site.server.submit(TaskSpec::new("move").input("data", vec![b'x'; mib << 20]));
        site.server.wait_for(&id, Status::Completed, secs(900));
        let requests = about(site.server.requests(), std::slice::from_ref(&id));
        self.download.push(seconds(first(&requests, "download")));
        self.upload.push(seconds(first(&requests, "upload")));
        self.memory.push(process::peak_mib(site.running.pid()));
        let (download, upload) = by_curl(&site.server, &site.agent.path("curl"), &id);
        self.curl_download.push(download);
        self.curl_upload.push(upload);
        site.stop();
    }
}

fn seconds(request: &Request) -> f64 {
    (request.answered.expect("it was answered") - request.at).as_secs_f64()
}

/// Fetches the task's input by curl, as the agent does, and uploads it as another result.
fn by_curl(server: &Control, file: &Path, id: &str) -> (f64, f64) {
    let (service, key) = server.service();
    let before = server.requests().len();
    let curl = |arguments: &[&str], path: &str| {
        let headers =
            [format!("X-Service-ID: {service}"), format!("X-API-Key: {key}"), format!("Authorization: Bearer {key}")];
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--fail", "--noproxy", "*"]).stdout(Stdio::null());
        headers.iter().for_each(|header| {
            command.args(["--header", header]);
        });
        let url = format!("{}/api/v1/files/agent/{service}/files/{path}", server.url());
        let status = command.args(arguments).arg(url).status().expect("run curl");
        assert!(status.success(), "curl: {status}");
    };
    let input = server.files(id).into_iter().find(|file| file.created_by == "client").expect("the input").id;
    let file = file.to_string_lossy();
    curl(&["--output", &file], &format!("{input}/download"));
    curl(&["--form", &format!("task_id={id}"), "--form", &format!("file=@{file};filename=copy")], "upload");
    let mut requests = Vec::new();
    // curl may end before the Server has noted that its answer is written.
    server.wait_until("the end of both answers", secs(20), |server| {
        requests = server.requests().split_off(before);
        requests.retain(|request| request.answered.is_some());
        ["download", "upload"].iter().all(|call| requests.iter().any(|request| request.is(call)))
    });
    (seconds(first(&requests, "download")), seconds(first(&requests, "upload")))
}
