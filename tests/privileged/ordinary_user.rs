//! The agent as an ordinary user with access to the engine, and containers that run as root.

use crate::support::agent::{Agent, Running};
use crate::support::docker::{self, assert_no_containers, wait_until};
use crate::support::ordinary_user::{OrdinaryUser, USER};
use crate::support::secs;
use crate::support::server::{FakeServer, Status, TaskSpec};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::process::{Command, Stdio};

/// An agent of the ordinary user.
struct User(OrdinaryUser);

impl User {
    fn new(server: &FakeServer) -> Self {
        crate::require_root();
        Self(OrdinaryUser::new(Agent::builder(server).with_engine()))
    }

    fn start(&self) -> Running {
        self.0.start()
    }

    /// Runs a task and returns its id when its record is settled.
    fn complete(&self, server: &FakeServer, spec: TaskSpec) -> String {
        let id = server.submit(spec);
        server.wait_for(&id, Status::Completed, secs(90));
        wait_until("the record to be settled", secs(90), || self.0.agent.record(&id)["phase"] == "settled");
        assert_no_containers(&id);
        id
    }

    /// Changes the record so that the retention time is over.
    fn make_old(&self, id: &str) {
        let mut record = self.0.agent.record(id);
        record["settled_at"] = json!(jiff::Timestamp::now() - jiff::SignedDuration::from_hours(200));
        fs::write(self.0.agent.task_file(id, "record.json"), record.to_string()).expect("write the record");
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions().mode() & 0o7777
}

/// A task that leaves folders and files that only root can read or remove.
fn closed_leftovers() -> TaskSpec {
    TaskSpec::script("umask 077; mkdir -p output/deep/er; echo 1 > output/deep/er/file; echo 2 > beside; mkdir empty")
}

/// What the Server gets to know of this folder that only root can list.
fn closed(folder: &str) -> Value {
    json!({"file": folder, "reason": "only the engine can list it; sockets in it, if any, are not named"})
}

/// An image without any file.
struct EmptyImage(String);

impl EmptyImage {
    fn new(server: &FakeServer) -> Self {
        let name = format!("agent-core-test-empty:{}", server.task_prefix());
        // A tar file without entries is two blocks of zeros.
        let folder = tempfile::tempdir().expect("make a folder for the image");
        let tar = folder.path().join("empty.tar");
        fs::write(&tar, [0; 1024]).expect("write the image's tar file");
        docker::docker(&["import", &tar.to_string_lossy(), &name]);
        Self(name)
    }
}

impl Drop for EmptyImage {
    fn drop(&mut self) {
        docker::docker_if_there(&["rmi", &self.0]);
    }
}

#[test]
fn an_ordinary_users_agent_completes_a_task() {
    let server = FakeServer::start();
    let user = User::new(&server);
    let _running = user.start();
    let id = user.complete(&server, TaskSpec::new("copy").input("data.csv", "1,2\n"));
    assert_eq!(server.output(&id, "output/data.csv").text(), "1,2\n");
    // The test image writes `task.json` after a line of its own.
    let result = server.output(&id, "output/result.txt");
    let (_, told) = result.text().split_once('\n').expect("two lines");
    let told: Value = serde_json::from_str(told).expect("task.json");
    assert_eq!(
        (&told["task_prompt"], &told["input_files"][0]["local_path"]),
        (&json!("copy"), &json!("input/data.csv"))
    );
    let task = server.task(&id);
    assert_eq!(task.stdout(), "copied 1 inputs\n");
    assert_eq!(task.output.get("left_out"), None);

    let agent = &user.0.agent;
    let data_dir = fs::metadata(agent.data_dir()).expect("look at the data folder");
    assert_eq!((data_dir.uid(), mode(&agent.data_dir())), (USER, 0o700));
    assert_eq!(mode(&agent.workspace(&id)), 0o777);
    assert_eq!(mode(&agent.task_file(&id, "record.json")), 0o600);
    assert_eq!(fs::metadata(agent.workspace(&id).join("output/data.csv")).expect("look at a result").uid(), 0);
}

/// Starts the agent, which must refuse to run, and returns its log.
fn refused(user: &User, server: &FakeServer) -> String {
    let mut running = user.start();
    assert_eq!(running.wait_exit(secs(20)).code(), Some(1), "{}", running.log());
    assert!(server.requests().is_empty(), "the key isn't used: {}", server.report());
    running.log()
}

#[test]
fn open_files_of_root_are_refused_with_a_command_to_close_them() {
    let server = FakeServer::start();
    let user = User::new(&server);
    let agent = &user.0.agent;
    let config = agent.config_path();
    chown(&config, Some(0), Some(0)).expect("give the file to root");
    fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).expect("open the file");
    let said = refused(&user, &server);
    let shown = config.display();
    assert!(said.contains(&format!("the configuration file with the key `{shown}` is open to other users")), "{said}");
    assert!(said.contains(&format!("run `sudo chown {USER} {shown} && sudo chmod go= {shown}`")), "{said}");
    assert_eq!(mode(&config), 0o644);
    user.0.own_everything();

    let data_dir = agent.data_dir();
    fs::create_dir_all(&data_dir).expect("make the folder");
    chown(&data_dir, Some(0), Some(0)).expect("give the folder to root");
    fs::set_permissions(&data_dir, fs::Permissions::from_mode(0o777)).expect("open the folder");
    let said = refused(&user, &server);
    let shown = data_dir.display();
    let command = format!("sudo mkdir -m 700 {shown}.new && sudo chown {USER} {shown}.new");
    assert!(
        said.contains("belongs to user 0") && said.contains(&format!("new folder, as `{command}` makes it")),
        "{said}"
    );

    // The agent starts after the command from the message. The tests run as root, possibly without `sudo`.
    let made = Command::new("sh").args(["-c", &command.replace("sudo ", "")]).status();
    assert!(made.expect("run the command").success(), "{command}");
    agent.change_config("[paths]\ndata_dir = './data.new'");
    user.0.own_everything();
    let _running = user.start();
    server.wait_until("a heartbeat", secs(20), |server| !server.heartbeats().is_empty());
    let new = agent.path("data.new");
    assert_eq!((mode(&config), mode(&new), fs::metadata(new).expect("look at it").uid()), (0o600, 0o700, USER));
}

#[test]
fn results_that_only_root_can_read_are_delivered() {
    let server = FakeServer::start();
    let user = User::new(&server);
    let _running = user.start();
    // A private file, a private folder with files of all kinds, and a readable file.
    let script = "umask 077
        mkdir -p output/closed/er '/workspace/odd \"name\"'
        echo 1 > output/closed/er/file
        ln output/closed/er/file output/closed/same
        ln -s /etc/passwd output/closed/link
        mkfifo output/closed/pipe
        head -c 3000000 /dev/zero > output/large
        echo 2 > '/workspace/odd \"name\"/ü'
        umask 022
        echo 3 > output/open";
    let id = user.complete(&server, TaskSpec::script(script));
    let outputs: Vec<(String, usize)> =
        server.outputs(&id).into_iter().map(|file| (file.filename, file.bytes.len())).collect();
    let expected = [
        ("odd %22name%22/ü", 2),
        ("output/closed/er/file", 2),
        ("output/closed/same", 2),
        ("output/large", 3_000_000),
        ("output/open", 2),
    ];
    assert_eq!(outputs, expected.map(|(name, size)| (name.to_owned(), size)));
    assert_eq!(server.output(&id, "output/closed/er/file").bytes, b"1\n");
    assert_eq!(server.output(&id, "output/closed/same").bytes, b"1\n");
    let left_out = &server.task(&id).output["left_out"];
    let named: Vec<&str> =
        left_out.as_array().expect("a list").iter().filter_map(|left| left["file"].as_str()).collect();
    assert_eq!(named, ["output/closed/link", "output/closed/pipe", "output/closed/"]);
    assert!(!user.0.agent.task_file(&id, "fetched").exists(), "the copies are removed after the delivery");
}

#[test]
fn results_in_a_workspace_closed_by_root_are_delivered() {
    let server = FakeServer::start();
    let user = User::new(&server);
    let _running = user.start();
    let script = "echo 1 > output/file; echo 2 > beside; chown 0:0 /workspace; chmod 700 /workspace";
    let id = user.complete(&server, TaskSpec::script(script).input("data.csv", "1,2\n"));
    let outputs: Vec<String> = server.outputs(&id).into_iter().map(|file| file.filename).collect();
    assert_eq!(outputs, ["beside", "output/file"], "the inputs are no results");
    assert_eq!(server.output(&id, "output/file").bytes, b"1\n");
    assert_eq!(server.task(&id).output["left_out"], json!([closed("output/")]));
}

#[test]
fn leftovers_of_root_are_removed_after_the_retention_time() {
    let server = FakeServer::start();
    let user = User::new(&server);
    let mut running = user.start();
    let id = user.complete(&server, closed_leftovers());
    let left = user.0.agent.workspace(&id).join("output/deep");
    assert_eq!((fs::metadata(&left).expect("look at the leftovers").uid(), mode(&left)), (0, 0o700));
    running.kill9();
    user.make_old(&id);
    let mut running = user.start();
    running.wait_log(&format!("task {id}: removed"), secs(60));
    assert!(!user.0.agent.workspace(&id).exists() && !user.0.agent.task_file(&id, "").exists());
    assert!(!running.log().contains("can't be removed"), "{}", running.log());
    // The container that removed the files is removed, too. It has no label, so the test finds it by its mount.
    let mount = format!("volume={}", user.0.agent.data_dir().join("workspaces").display());
    wait_until("its container to be removed", secs(20), || {
        docker::docker(&["ps", "-aq", "--filter", &mount]).is_empty()
    });
}

#[test]
fn private_files_of_a_strict_container_are_sent_and_removed() {
    let server = FakeServer::start();
    let user = User::new(&server);
    user.0.agent.change_config("[executor]\nisolation = 'strict'");
    let mut running = user.start();
    let id = user.complete(&server, closed_leftovers());
    assert_eq!(server.output(&id, "output/deep/er/file").bytes, b"1\n");
    assert_eq!(server.output(&id, "beside").bytes, b"2\n");
    assert_eq!(server.task(&id).output["left_out"], json!([closed("output/deep/")]));
    running.kill9();
    user.make_old(&id);
    let mut running = user.start();
    running.wait_log(&format!("task {id}: removed"), secs(60));
    assert!(!user.0.agent.workspace(&id).exists() && !user.0.agent.task_file(&id, "").exists());
}

#[test]
fn an_unremovable_workspace_is_logged_once_with_a_command() {
    let server = FakeServer::start();
    let image = EmptyImage::new(&server);
    let user = User::new(&server);
    let mut running = user.start();
    let id = user.complete(&server, closed_leftovers());
    running.kill9();
    user.make_old(&id);

    // A mount that disappears and returns makes the agent try the removal again.
    let (share, moved) = (user.0.agent.path("share"), user.0.agent.path("moved"));
    fs::create_dir(&share).expect("make the mount's folder");
    user.0.agent.change_config(&format!(
        "[executor]\nimage = '{}'\n[[paths.mounts]]\nhost = '{}'\ncontainer = '/share'",
        image.0,
        share.display()
    ));
    let mut running = user.start();
    let said = format!("task {id}: its workspace can't be removed");
    running.wait_log(&said, secs(60));
    fs::rename(&share, &moved).expect("move the mount's folder");
    running.wait_log("no new task is accepted: the mount's host path", secs(40));
    fs::rename(&moved, &share).expect("move the mount's folder back");
    let in_order = |running: &Running| running.log().matches("tasks are accepted").count();
    wait_until("the mount to be found", secs(40), || in_order(&running) == 2);
    let polls = server.requests_to("poll").len();
    server.wait_until("five polls", secs(40), |server| server.requests_to("poll").len() >= polls + 5);
    let log = running.log();
    assert_eq!(log.matches(&said).count(), 1, "{log}");
    assert_eq!(user.0.agent.record(&id)["phase"], "settled", "the record stays as long as its workspace");

    // The command can be pasted. The tests run as root, possibly without `sudo`.
    let (_, rest) = log.split_once("; run `sudo ").unwrap_or_else(|| panic!("no command in {log}"));
    let (command, _) = rest.split_once('`').expect("the end of the command");
    let done = Command::new("sh").args(["-c", command]).stdin(Stdio::null()).status().expect("run the command");
    assert!(done.success() && !user.0.agent.workspace(&id).exists(), "{command}");
    running.kill9();
    let mut running = user.start();
    running.wait_log(&format!("task {id}: removed"), secs(60));
}

#[test]
fn a_trial_copies_and_removes_files_that_only_root_can_read() {
    let server = FakeServer::start();
    let user = User::new(&server);
    let agent = &user.0.agent;
    let script = "umask 077; mkdir -p output/deep/er; echo one > output/deep/er/file; echo 2 > beside; mkdir empty";
    agent.write("run.sh", script);
    user.0.own_everything();
    let done = user.0.invoke(&["try", "--prompt", "p", "--input", "run.sh", "--out", "results"]).run();
    done.expect_code(0)
        .expect_stderr("Would be sent: 2 files, 6 bytes\n  beside  2 bytes\n  output/deep/er/file  4 bytes\n");
    let copy = agent.path("results/output/deep/er/file");
    assert_eq!(fs::read_to_string(&copy).expect("read the copy"), "one\n");
    assert_eq!(fs::metadata(copy).expect("look at the copy").uid(), USER);
    assert!(!agent.data_dir().join("try").exists(), "{}", agent.report());
}

#[test]
fn check_names_a_data_dir_of_another_user_and_a_new_one() {
    let server = FakeServer::start();
    let user = User::new(&server);
    let agent = &user.0.agent;
    fs::set_permissions(agent.config_path(), fs::Permissions::from_mode(0o600)).expect("close the file");
    user.0.invoke(&["check"]).run().expect_code(0).expect_stdout("✓ engine_data_dir  ");
    fs::create_dir(agent.data_dir()).expect("make the data folder");
    fs::set_permissions(agent.data_dir(), fs::Permissions::from_mode(0o700)).expect("close the data folder");
    let shown = agent.data_dir();
    let done = user.0.invoke(&["check"]).run();
    done.expect_code(1).expect_stdout(&format!("✗ data_dir         `{}` can't be used", shown.display()));
    done.expect_stdout(&format!(
        "as `sudo mkdir -m 700 {0}.new && sudo chown {USER} {0}.new` makes it",
        shown.display()
    ));
    done.expect_stdout("· engine_data_dir  the data_dir can't be used\n").expect_stdout("✓ credentials ");
}

#[test]
fn root_does_not_take_over_files_of_an_ordinary_users_agent() {
    let server = FakeServer::start();
    let user = User::new(&server);
    let agent = &user.0.agent;
    let mut running = user.start();
    let id = user.complete(&server, TaskSpec::new("copy"));
    let commands: [&[&str]; 8] = [
        &["stop", "--drain"],
        &["try", "--prompt", "p"],
        &["status"],
        &["stop"],
        &["run"],
        &["run-detached"],
        &["stop", "--abort"],
        &["register", "--replace", "--token", "rt_again"],
    ];
    for arguments in commands {
        let refused = agent.run(arguments);
        refused
            .expect_code(2)
            .expect_stderr(&format!("belongs to user {USER}"))
            .expect_stderr("run this as that account");
    }
    assert!(running.is_running());
    user.0.invoke(&["stop"]).run().expect_code(0).expect_stdout("Stopped");
    let file = fs::metadata(agent.config_path()).expect("look at the configuration file");
    assert_eq!((file.uid(), mode(&agent.config_path())), (USER, 0o600));
    for entry in walkdir::WalkDir::new(agent.data_dir()).into_iter().flatten() {
        let is_roots = entry.metadata().is_ok_and(|metadata| metadata.uid() == 0);
        // The task's container ran as root.
        let is_results = entry.path().starts_with(agent.workspace(&id));
        assert!(!is_roots || is_results, "{} became root's", entry.path().display());
    }
    let _running = user.start();
    user.complete(&server, TaskSpec::new("copy"));
}
