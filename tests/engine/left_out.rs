//! Files that are not delivered are named with the reason, and don't change the task's outcome.

use crate::support::agent::Agent;
use crate::support::docker::{TEST_IMAGE, assert_no_containers, docker, docker_if_there};
use crate::support::secs;
use crate::support::server::{FakeServer, Options, Status, Task, TaskSpec};
use serde_json::json;

/// Names and reasons in the report.
fn left_out(task: &Task) -> Vec<(&str, &str)> {
    let entries = task.output["left_out"].as_array().expect("something is left out").iter();
    entries.map(|entry| ["file", "reason"].map(|key| entry[key].as_str().expect("a text"))).map(Into::into).collect()
}

#[test]
fn links_pipes_and_devices_are_not_sent() {
    let server = FakeServer::start();
    // A container can create a device only without isolation.
    let agent = Agent::builder(&server).with_engine().config("[executor]\nisolation = 'none'").build();
    let script = "set -e
        cd /workspace/output
        echo real > real
        ln -s /etc/passwd absolute
        ln -s real inside
        ln -s ../task.json task
        ln -s / folder
        ln -s nowhere dangling
        mkfifo pipe
        mknod null c 1 3
        echo hidden > .hidden";
    let id = server.submit(TaskSpec::script(script));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Completed, secs(60));
    let sent: Vec<_> = server.outputs(&id).into_iter().map(|file| (file.filename, file.bytes)).collect();
    let expected = [("output/.hidden", b"hidden\n".to_vec()), ("output/real", b"real\n".to_vec())];
    assert_eq!(sent, expected.map(|(name, bytes)| (name.to_owned(), bytes)));
    let (link, special) = ("a symbolic link", "not a regular file");
    let expected = [
        ("output/absolute", link),
        ("output/dangling", link),
        ("output/folder", link),
        ("output/inside", link),
        ("output/null", special),
        ("output/pipe", special),
        ("output/task", link),
    ];
    assert_eq!(left_out(&task), expected);
}

#[test]
fn folders_replaced_by_links_are_not_followed() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let script = "cd /workspace; rm -r output input task.json; ln -s /etc output; ln -s /etc input; ln -s /etc etc";
    let id = server.submit(TaskSpec::script(script));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Completed, secs(60));
    assert_eq!(task.output["files"], json!([]));
    assert_eq!(server.requests_to("upload").len(), 0);
    assert_eq!(left_out(&task), [("etc", "a symbolic link"), ("output", "a symbolic link")]);
}

#[test]
fn only_the_file_over_the_servers_limit_is_left_out() {
    let server = FakeServer::start_with(Options { max_upload_bytes: 100_000, ..Options::default() });
    let agent = Agent::builder(&server).with_engine().build();
    let script = "cd /workspace/output
        head -c 100001 /dev/zero > large
        head -c 100000 /dev/zero > just-right
        echo 1 > small";
    let id = server.submit(TaskSpec::script(script));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Completed, secs(240));
    assert_eq!(task.output["files"], json!(["output/small", "output/just-right"]));
    assert_eq!(server.output(&id, "output/just-right").bytes.len(), 100_000);
    let [(name, reason)] = left_out(&task)[..] else { panic!("not exactly one file is left out") };
    // The reason contains the status and the message of the Server.
    assert_eq!(name, "output/large");
    assert!(reason.contains("400") && reason.contains("文件过大"), "{reason}");
    assert!(task.error_message.is_none());
}

#[test]
fn a_proxys_413_for_a_file_leaves_that_file_out() {
    let server = FakeServer::start_with(Options { proxy_body_limit: Some(100_000), ..Options::default() });
    let agent = Agent::builder(&server).with_engine().build();
    let script = "cd /workspace/output; head -c 20000000 /dev/zero > large; echo 1 > small";
    let id = server.submit(TaskSpec::script(script));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Completed, secs(240));
    assert_eq!(task.output["files"], json!(["output/small"]));
    let [(name, reason)] = left_out(&task)[..] else { panic!("not exactly one file is left out") };
    assert_eq!(name, "output/large");
    assert!(reason.contains("413"), "{reason}");
}

#[test]
fn only_the_first_hundred_left_out_files_are_named() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let id = server.submit(TaskSpec::script("cd /workspace/output; for i in $(seq 100 249); do ln -s / $i; done"));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Completed, secs(60));
    let named = left_out(&task);
    assert_eq!((named.len(), named[99]), (100, ("output/199", "a symbolic link")));
    assert_eq!(task.output["left_out_count"], json!(150));
    // `uploads.jsonl` beside the record names all files.
    let ledger = std::fs::read_to_string(agent.task_file(&id, "uploads.jsonl")).unwrap();
    assert!(ledger.contains("output/249") && ledger.lines().count() == 150, "{ledger}");
}

/// Each name is nearly four kilobytes of characters that the log escapes.
#[test]
fn a_thousand_hostile_names_fill_little_of_the_log() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let running = agent.start();
    let script = "d=$(printf '\\001%.0s' $(seq 240)); p=output; for i in 1 2 3 4 5 6 7 8 9 10 11 12; do p=$p/$d; done; \
                  mkdir -p $p; for i in $(seq 1000); do ln -s x $p/$i; done";
    let id = server.submit(TaskSpec::script(script));
    let task = server.wait_for(&id, Status::Completed, secs(90));
    assert_eq!(task.output["left_out_count"], 1000);
    let log = running.log();
    assert!(log.len() < 100_000, "{} bytes", log.len());
    assert!(log.lines().all(|line| line.len() < 2200), "a long line");
    assert!(log.contains(" more file"), "{log}");
}

/// The test image with a volume in the workspace. It is removed when the value is dropped.
struct VolumeImage(String);

impl VolumeImage {
    fn make() -> Self {
        Self::with("volume", "true", "/workspace/output//vol/")
    }

    /// An image of the test image after this script, with this volume.
    fn with(tag: &str, script: &str, volume: &str) -> Self {
        let name = format!("agent-core-test-{tag}:{}", std::process::id());
        let container = docker(&["create", "--entrypoint", "sh", TEST_IMAGE, "-c", script]);
        docker(&["start", "--attach", container.trim()]);
        let entrypoint =
            docker(&["image", "inspect", "--format", "ENTRYPOINT {{json .Config.Entrypoint}}", TEST_IMAGE]);
        let command = docker(&["image", "inspect", "--format", "CMD {{json .Config.Cmd}}", TEST_IMAGE]);
        let changes = [format!("VOLUME {volume}"), entrypoint.trim().to_owned(), command.trim().to_owned()];
        let mut words = vec!["commit"];
        words.extend(changes.iter().filter(|change| !change.ends_with("null")).flat_map(|change| ["--change", change]));
        docker(&[words, vec![container.trim(), &name]].concat());
        docker(&["rm", container.trim()]);
        Self(name)
    }
}

impl Drop for VolumeImage {
    fn drop(&mut self) {
        docker_if_there(&["image", "rm", "--force", &self.0]);
    }
}

#[test]
fn an_image_whose_volume_hides_results_runs_no_task() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let image = VolumeImage::make();
    agent.change_config(&format!("[executor]\nimage = '{}'", image.0));
    let words = "declares the volume `/workspace/output/vol`";
    agent.run(&["check"]).expect_code(1).expect_stdout(words);
    let script = "echo 1 > output/vol/result.txt; echo 2 > output/other.txt";
    let id = server.submit(TaskSpec::script(script));
    let mut running = agent.start();
    let task = server.wait_for(&id, Status::Failed, secs(60));
    assert!(task.error_message.as_deref().is_some_and(|message| message.contains(words)), "{:?}", task.error_message);
    running.kill9();
    // An image whose volumes can't be told before the start is looked at afterwards.
    let ran = agent.path("ran");
    let client = format!(
        "#!/bin/sh\n[ \"$1\" != run ] || : > {ran}\ncase \"$*\" in *Config.Volumes*) [ -e {ran} ] || exit 1 ;; esac\n\
         exec docker \"$@\"\n",
        ran = ran.display()
    );
    let client = agent.write_script("docker", &client);
    agent.change_config(&format!("[executor]\ndocker = '{}'", client.display()));
    let id = server.submit(TaskSpec::script(script));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Completed, secs(60));
    assert_eq!(task.output["files"], json!(["output/other.txt"]));
    assert!(left_out(&task).iter().any(|(file, why)| *file == "output/vol/" && why.contains(words)));
}

#[test]
fn a_volume_that_a_link_of_the_image_leads_to_a_result_runs_no_task() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let images = [
        ("volume-out", "ln -s /workspace/output /res", "/res", "`/workspace/output`"),
        ("volume-new", "ln -s /workspace /ws", "/ws/new", "`/workspace/new`"),
        ("volume-all", "mkdir /d; ln -s /d /e; ln -s ../workspace /d/ws", "/e/ws", "`/workspace`"),
    ];
    for (tag, script, volume, words) in images {
        let image = VolumeImage::with(tag, script, volume);
        agent.change_config(&format!("[executor]\nimage = '{}'", image.0));
        agent.run(&["check"]).expect_code(1).expect_stdout(words);
        let mut running = agent.start();
        let id = server.submit(TaskSpec::script("echo 1 > output/one"));
        let task = server.wait_for(&id, Status::Failed, secs(60));
        let message = task.error_message.expect("a message");
        assert!(message.contains("that a link in the image leads to") && message.contains(words), "{message}");
        running.kill9();
    }
    // A volume elsewhere hides nothing.
    let image = VolumeImage::with("volume-else", "mkdir /else; ln -s /else /link", "/link/data");
    agent.change_config(&format!("[executor]\nimage = '{}'", image.0));
    // What an agent has left that was killed while it looked at an image is removed by `check`.
    let hidden = || {
        let all = std::fs::read_dir(agent.data_dir().join("workspaces")).expect("list the workspaces").flatten();
        let names = all.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with('.')).collect::<std::collections::BTreeSet<_>>()
    };
    let before = hidden();
    let _running = agent.start();
    let id = server.submit(TaskSpec::script("echo 1 > /link/data/x; echo 1 > output/one"));
    let task = server.wait_for(&id, Status::Completed, secs(60));
    assert_eq!((&task.output["files"], task.output.get("left_out")), (&json!(["output/one"]), None));
    assert_no_containers(&id);
    assert!(hidden().is_subset(&before), "{:?} and before {before:?}", hidden());
}
