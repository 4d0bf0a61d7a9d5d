//! A data_dir in which another user may have prepared something, also where its own mode is closed by now.

use crate::foreign_paths::{Attacker, agent, give_away, said, set_mode};
use crate::support::agent::Agent;
use crate::support::docker::wait_until;
use crate::support::ordinary_user::USER;
use crate::support::secs;
use crate::support::server::{FakeServer, Status, TaskSpec};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

/// Makes a folder with a mode that isn't the umask's.
fn folder(path: &Path, mode: u32) {
    fs::create_dir_all(path).expect("make a folder");
    set_mode(path, mode);
}

fn file(path: &Path, mode: u32) {
    fs::write(path, "{}\n").expect("write a file");
    set_mode(path, mode);
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("look at the file").mode() & 0o7777
}

/// What another user can have left in a data_dir, and the words for it.
type Plant = (&'static str, &'static str, fn(&Path));

const PLANTS: [Plant; 11] = [
    ("workspaces", "a folder that others can write to", |path| {
        folder(path, 0o777);
        folder(&path.join("t1"), 0o777);
    }),
    ("tasks", "a folder that others can write to", |path| {
        folder(path, 0o2777);
        folder(&path.join("t1"), 0o700);
    }),
    ("discard", "a folder that others can write to", |path| {
        folder(path, 0o1777);
        file(&path.join("t1"), 0o600);
    }),
    ("tasks/t1", "a folder that others can write to", |path| folder(path, 0o777)),
    ("tasks/t1", "another user's", |path| {
        folder(path, 0o700);
        give_away(path);
    }),
    ("tasks/t1/record.json", "a file that others can write to", |path| file(path, 0o666)),
    ("tasks/t1/stdout.log", "another user's", |path| {
        file(path, 0o644);
        give_away(path);
    }),
    ("tasks/t1/cid", "a symbolic link", |path| symlink("/etc/passwd", path).expect("make a link")),
    ("instance_id", "a file that others can write to", |path| file(path, 0o646)),
    ("ledger.jsonl.1", "a file that has a second name elsewhere", |path| {
        let victim = path.with_file_name("../victim");
        file(&victim, 0o600);
        fs::hard_link(victim, path).expect("make a link");
    }),
    ("try/t1", "another user's", |path| {
        folder(path, 0o700);
        give_away(path);
    }),
];

/// Words of commands that would leave to another user what that user has prepared.
fn assert_advises_a_new_folder(said: &str, data_dir: &Path) {
    assert!(
        said.contains(&format!("let `paths.data_dir` be a new folder, such as `{}.new`", data_dir.display())),
        "{said}"
    );
    for command in ["chmod", "chown", "sudo", "rm -"] {
        assert!(!said.contains(command), "{said}");
    }
}

#[test]
fn what_others_prepared_in_a_closed_data_dir_is_refused() {
    let server = FakeServer::start();
    let agent = agent(&server, "");
    for data_dir_mode in [0o700, 0o755] {
        for (name, what, plant) in PLANTS {
            let path = agent.data_dir().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("make folders");
            for part in path.ancestors().skip(1).take_while(|part| *part != agent.data_dir()) {
                set_mode(part, 0o755);
            }
            set_mode(&agent.data_dir(), data_dir_mode);
            plant(&path);
            let before = mode(&path);
            for command in
                [&["run"][..], &["run-detached"], &["stop", "--abort"], &["try", "--prompt", "p"], &["tasks"]]
            {
                let refused = agent.run(command);
                refused.expect_code(1).expect_stderr(&format!("`{name}` in it is {what}"));
                assert_advises_a_new_folder(&refused.stderr, &agent.data_dir());
            }
            agent.run(&["check"]).expect_code(1).expect_stdout(&format!("`{name}` in it is {what}"));
            assert_eq!((mode(&path), mode(&agent.data_dir())), (before, data_dir_mode), "the next start looks again");
            fs::remove_dir_all(agent.data_dir()).expect("remove the folder");
        }
    }
    assert!(server.heartbeats().is_empty() && server.requests_to("poll").is_empty(), "{}", server.report());
}

#[test]
fn empty_folders_that_others_can_write_are_made_anew() {
    let server = FakeServer::start();
    let agent = agent(&server, "");
    for name in ["tasks", "workspaces", "try", "discard"] {
        folder(&agent.data_dir().join(name), 0o777);
    }
    set_mode(&agent.data_dir(), 0o755);
    let workspaces = agent.data_dir().join("workspaces");
    // The other user is in the folder before the agent starts, and stays in it.
    folder(&agent.path("shared"), 0o777);
    let shared = |name: &str| agent.path("shared").join(name);
    let script = r#"cd "$1/../data/workspaces" && touch "$1/in" && while [ ! -e "$1/go" ]; do sleep 0.05; done
        mkdir planted; touch "$1/tried"; sleep 60"#;
    let _attacker = Attacker::start(script, &agent.path("shared"));
    wait_until("the other user to be in the folder", secs(20), || shared("in").exists());
    let before = fs::metadata(&workspaces).expect("look at the folder").ino();
    let mut running = agent.start();
    server.wait_until("a heartbeat", secs(20), |server| !server.heartbeats().is_empty());
    file(&shared("go"), 0o644);
    wait_until("the other user's try", secs(20), || shared("tried").exists());
    assert_ne!(fs::metadata(&workspaces).expect("look at the folder").ino(), before, "{}", running.log());
    for name in ["tasks", "workspaces", "try", "discard"] {
        assert_eq!(mode(&agent.data_dir().join(name)), 0o700, "{name}");
    }
    assert_eq!(fs::read_dir(&workspaces).expect("look into the folder").count(), 0);
    running.kill9();
}

#[test]
fn a_data_dir_of_the_usual_umasks_is_closed_with_all_in_it() {
    let server = FakeServer::start();
    let agent = agent(&server, "");
    let inside = ["tasks", "tasks/t1", "workspaces", "workspaces/t1"];
    for usual in [0o755, 0o775] {
        for name in inside {
            folder(&agent.data_dir().join(name), usual);
        }
        set_mode(&agent.data_dir(), usual);
        // What a container had as its workspace.
        set_mode(&agent.data_dir().join("workspaces/t1"), 0o777);
        file(&agent.data_dir().join("tasks/t1/stdout.log"), usual & 0o666);
        file(&agent.data_dir().join("agent.log"), usual & 0o666);
        agent.run(&["status"]).expect_code(3);
        let heartbeats = server.heartbeats().len();
        let mut running = agent.start();
        server.wait_until("a heartbeat", secs(20), |server| server.heartbeats().len() > heartbeats);
        for name in ["", "tasks", "tasks/t1", "workspaces"] {
            let now = fs::symlink_metadata(agent.data_dir().join(name)).map(|found| found.mode() & 0o7777);
            assert!(now.as_ref().map_or(true, |now| *now == 0o700), "{usual:o} {name}: {now:?}");
        }
        running.wait_log("and could read and change what is in `t1`", secs(20));
        running.kill9();
        fs::remove_dir_all(agent.data_dir()).expect("remove the folder");
    }
}

#[test]
fn workspaces_on_another_disk_by_a_link_of_ours_are_used() {
    let server = FakeServer::start();
    let agent = agent(&server, "");
    folder(&agent.data_dir(), 0o700);
    folder(&agent.path("large"), 0o755);
    symlink(agent.path("large"), agent.data_dir().join("workspaces")).expect("make a link");
    agent.run(&["check"]).expect_stdout("✓ data_dir_rights");
    let mut running = agent.start();
    server.wait_until("a heartbeat", secs(20), |server| !server.heartbeats().is_empty());
    assert_eq!(mode(&agent.path("large")), 0o700);
    running.kill9();
    // The place behind the link is looked at as the folder itself.
    set_mode(&agent.path("large"), 0o777);
    file(&agent.path("large/planted"), 0o644);
    let refused = agent.run(&["run"]);
    refused.expect_code(1).expect_stderr("`workspaces` in it is a folder that others can write to");
    give_away(&agent.path("large"));
    agent.run(&["run"]).expect_code(1).expect_stderr(&format!("belongs to user {USER}"));
}

#[test]
fn no_container_is_started_in_a_folder_that_others_can_write() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).folder_in(&std::env::temp_dir()).build();
    for folder in agent.dir().ancestors().take(2) {
        set_mode(folder, 0o755);
    }
    set_mode(&agent.config_path(), 0o600);
    let mut running = agent.start();
    server.wait_until("a heartbeat", secs(20), |server| !server.heartbeats().is_empty());
    wait_until("the folder of workspaces", secs(20), || agent.data_dir().join("tasks").exists());
    let workspaces = agent.data_dir().join("workspaces");
    folder(&workspaces, 0o777);
    let id = server.submit(TaskSpec::new("copy"));
    running.wait_log(&format!("other users may write to `{}`", workspaces.display()), secs(20));
    assert!(!agent.task_file(&id, "cid").exists(), "a container was started");
    // Nothing is lost: it goes on in a safe place.
    set_mode(&workspaces, 0o700);
    server.wait_for(&id, Status::Completed, secs(60));
    assert!(said(&agent.run(&["tasks"])).contains(&id));
}

#[test]
fn a_folder_of_another_user_with_the_id_is_not_the_original() {
    let server = FakeServer::start();
    let agent = agent(&server, "[paths]\ndata_dir = './shared/data'");
    folder(&agent.path("shared"), 0o1777);
    let mut running = agent.start();
    server.wait_until("a heartbeat", secs(20), |server| !server.heartbeats().is_empty());
    running.kill9();
    fs::rename(agent.path("shared/data"), agent.path("moved")).expect("move the data_dir");
    // Every user sees the id in the list of processes.
    folder(&agent.path("shared/data"), 0o755);
    fs::copy(agent.path("moved/instance_id"), agent.path("shared/data/instance_id")).expect("copy the id");
    give_away(&agent.path("shared/data/instance_id"));
    give_away(&agent.path("shared/data"));
    agent.change_config("[paths]\ndata_dir = './moved'");
    let heartbeats = server.heartbeats().len();
    let mut running = agent.start();
    server.wait_until("a heartbeat", secs(20), |server| server.heartbeats().len() > heartbeats);
    assert!(!running.log().contains("is a copy"), "{}", running.log());
    running.kill9();
}

#[test]
fn a_file_name_of_another_user_is_no_command_to_a_terminal() {
    let server = FakeServer::start();
    let agent = agent(&server, "");
    folder(&agent.data_dir(), 0o1777);
    let forged = "agent.log\u{1b}]0;title\u{7}\u{1b}[2K\r\n✓ all well";
    file(&agent.data_dir().join(forged), 0o644);
    give_away(&agent.data_dir().join(forged));
    let commands: [&[&str]; 10] = [
        &["run"],
        &["run-detached"],
        &["status"],
        &["stop"],
        &["stop", "--abort"],
        &["tasks"],
        &["ledger"],
        &["logs", "t"],
        &["discard", "--yes", "t"],
        &["try", "--prompt", "p"],
    ];
    for command in commands {
        let refused = agent.run(command);
        refused.expect_code(1).expect_stderr("`agent.log\\u{1b}]0;title\\u{7}\\u{1b}[2K\\r\\n✓ all well` in it is");
        let shown = said(&refused);
        assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{command:?}: {shown:?}");
    }
    agent.run(&["check"]).expect_code(1).expect_stdout("`agent.log\\u{1b}]0;title");
}
