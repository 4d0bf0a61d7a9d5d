//! No file of a task is ever open to other users, apart from its workspace below the private data_dir.

use crate::support::agent::{Agent, Invocation};
use crate::support::docker::wait_until;
use crate::support::secs;
use crate::support::server::{FakeServer, Fault, Match, Status, TaskSpec};
use crate::support::watcher::Watcher;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// What containers see, and where a person wants results.
fn is_for_others(path: &Path) -> bool {
    let parts: Vec<_> = path.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    let name = parts.last().expect("a path has a name");
    // A download is opened before it moves to its workspace, whose removal moves folders out of it.
    let is_moved = name == "download.part" || parts.iter().any(|part| part.starts_with(".removed-"));
    let is_in_workspace = parts.iter().skip_while(|part| *part != "workspaces").nth(1).is_some();
    is_moved || is_in_workspace || parts[0] == "results"
}

fn with_umask_0(run: Invocation) -> Invocation {
    run.through(&["sh", "-c", r#"umask 0; exec "$@""#, "sh"])
}

#[test]
fn files_of_a_task_are_private_from_their_creation() {
    let server = FakeServer::start();
    let config = "[executor.env]\nMODEL_KEY = 'sk-secret'\n[[paths.mounts]]\nhost = './share/x'\ncontainer = '/share'";
    let agent = Agent::builder(&server).with_engine().config(config).build();
    fs::set_permissions(agent.config_path(), fs::Permissions::from_mode(0o600)).expect("close the configuration");
    fs::create_dir_all(agent.path("share/x")).expect("make the mount's folder");
    let closed = fs::Permissions::from_mode(0o700);
    for folder in ["share", "share/x"] {
        fs::set_permissions(agent.path(folder), closed.clone()).expect("close the mount's folder");
    }
    let watcher = Watcher::start(agent.dir(), is_for_others);
    let mut running = with_umask_0(agent.invoke(&["run"])).start();
    let script = "umask 0; cat input/* > output/copy; yes | head -c 3000000; echo err >&2";
    let id = server.submit(TaskSpec::script(script).input("data.csv", "1,2\n"));
    server.wait_for(&id, Status::Completed, secs(60));
    wait_until("the record to be settled", secs(30), || agent.record(&id)["phase"] == "settled");
    // The uploads of this one are refused, until it is discarded.
    server.fault(Match::path("upload"), Fault::status(503));
    let other = server.submit(TaskSpec::script("echo 1 > output/file"));
    let is_there = || agent.task_file(&other, "record.json").exists();
    wait_until("the task to end", secs(60), || is_there() && agent.record(&other)["phase"] == "exited");
    with_umask_0(agent.invoke(&["discard", "--yes", &other])).run().expect_code(0);
    running.terminate(secs(20));
    with_umask_0(agent.invoke(&["check"])).run();
    let trial = ["try", "--prompt", "p", "--input", "config.toml", "--out", "results", "--keep"];
    with_umask_0(agent.invoke(&trial)).run();
    with_umask_0(agent.invoke(&["try", "--replay", &id])).run();
    watcher.finish();
    let workspace = fs::metadata(agent.workspace(&id)).expect("look at the workspace").permissions().mode();
    assert_eq!(workspace & 0o7777, 0o777, "containers of any user write there");
}
