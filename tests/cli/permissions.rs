//! Files with secrets are made unreadable for other users of the machine.

use crate::folder::{mode, set_mode};
use crate::support::agent::{Agent, COMMANDS, Running};
use crate::support::secs;
use crate::support::server::FakeServer;
use std::fs;

/// Starts the agent and waits until it is up.
fn up(server: &FakeServer, agent: &Agent) -> Running {
    let before = server.heartbeats().len();
    let running = agent.start();
    server.wait_until("a heartbeat", secs(20), |server| server.heartbeats().len() > before);
    running
}

#[test]
fn an_open_configuration_file_is_closed_and_logged_once() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    for (open, closed) in [(0o644, 0o600), (0o640, 0o600), (0o440, 0o400)] {
        set_mode(&agent.config_path(), open);
        let mut running = up(&server, &agent);
        assert_eq!(mode(&agent.config_path()), closed);
        let line = format!(
            "the configuration file with the key `{}` was open to other users (mode {open:o})",
            agent.config_path().display()
        );
        assert_eq!(running.log().matches(&line).count(), 1, "{}", running.log());
        assert!(running.terminate(secs(20)).success());
        let mut running = up(&server, &agent);
        assert!(!running.log().contains("open to other users"), "{}", running.log());
        assert!(running.terminate(secs(20)).success());
    }
}

/// Runs commands that must end with an error before they do anything.
fn assert_refused(agent: &Agent, server: &FakeServer, words: &[&str]) {
    let marker = agent.path("docker-ran");
    agent.write_script("docker", &format!("#!/bin/sh\necho >> {}\n", marker.display()));
    for command in COMMANDS {
        let refused = agent.run(command);
        assert!(!refused.status.success(), "{command:?} succeeded: {}", refused.stdout);
        let said = refused.stderr.clone() + &refused.stdout;
        words.iter().for_each(|words| assert!(said.contains(words), "{command:?} lacks {words:?}: {said}"));
    }
    assert!(!marker.exists(), "a program of the configuration was run");
    assert!(server.requests().is_empty(), "{}", server.report());
}

#[test]
fn a_configuration_that_others_can_write_is_refused() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().config("[executor]\ndocker = './docker'").build();
    let file = agent.config_path();
    for open in [0o602, 0o666, 0o622] {
        set_mode(&file, open);
        let words = format!("other users may write to `{}` (mode {open:o})", file.display());
        assert_refused(&agent, &server, &[&words, "use a new place"]);
        let said = agent.run(&["run"]).stderr;
        assert!(!said.contains("chmod") && !said.contains("sudo"), "the file may be theirs: {said}");
        assert_eq!(mode(&file), open);
    }
    set_mode(&file, 0o600);
    set_mode(agent.dir(), 0o777);
    assert_refused(&agent, &server, &[&format!("other users may write to `{}`", agent.dir().display())]);
    let init = agent.run(&["--config", "new.toml", "init"]);
    init.expect_code(1).expect_stderr("other users may write to");
    assert!(!agent.path("new.toml").exists());
    // The sticky bit keeps others from replacing the file, as in /tmp.
    set_mode(agent.dir(), 0o1777);
    let _running = up(&server, &agent);
}

#[test]
fn a_fifo_in_place_of_a_file_is_an_error_and_blocks_nothing() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    let fifo = |name: &str| {
        let made = std::process::Command::new("mkfifo").arg(agent.path(name)).status();
        assert!(made.expect("make a FIFO").success());
    };
    let text = agent.config_text();
    fs::remove_file(agent.config_path()).unwrap();
    fifo("config.toml");
    for command in ["run", "status", "check"] {
        let refused = agent.run(&[command]);
        assert!(!refused.status.success() && (refused.stderr + &refused.stdout).contains("isn't a regular file"));
    }
    fs::remove_file(agent.config_path()).unwrap();
    agent.write("config.toml", text);
    set_mode(&agent.config_path(), 0o600);
    fs::create_dir(agent.data_dir()).unwrap();
    set_mode(&agent.data_dir(), 0o700);
    for (name, command) in [("agent.lock", "run"), ("agent.log", "run-detached"), ("instance_id", "run")] {
        fifo(&format!("data/{name}"));
        agent.run(&[command]).expect_code(1).expect_stderr("isn't a regular file");
        fs::remove_file(agent.data_dir().join(name)).unwrap();
    }
    fs::create_dir_all(agent.data_dir().join("tasks/t")).unwrap();
    fifo("data/status.json");
    fifo("data/tasks/t/record.json");
    agent.run(&["status"]).expect_code(3);
    agent.run(&["tasks"]).expect_code(1).expect_stderr("isn't a regular file");
    agent.run(&["logs", "t"]).expect_code(1).expect_stderr("isn't a regular file");
    fs::remove_file(agent.data_dir().join("tasks/t/record.json")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", agent.data_dir().join("tasks/t/record.json")).unwrap();
    agent.run(&["tasks"]).expect_code(1).expect_stderr("it is a symbolic link");
    fs::remove_file(agent.data_dir().join("tasks/t/record.json")).unwrap();
    fs::File::create(agent.data_dir().join("tasks/t/record.json")).unwrap().set_len(1 << 40).unwrap();
    agent.run(&["tasks"]).expect_code(1).expect_stderr("larger than 64 MiB");
    fifo("data/ledger.jsonl");
    let ledger = agent.run(&["ledger"]);
    ledger.expect_code(1).expect_stderr("isn't a regular file");
}

#[test]
fn links_in_a_private_data_dir_are_not_followed() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    let victim = agent.write("victim", "kept");
    set_mode(&victim, 0o644);
    fs::create_dir(agent.data_dir()).unwrap();
    set_mode(&agent.data_dir(), 0o700);
    for name in ["agent.lock", "agent.log", "instance_id", "agent.pid", "status.json", "metrics.prom"] {
        let path = agent.data_dir().join(name);
        let _ = fs::remove_file(&path);
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        agent.run(&["run-detached"]);
        agent.run(&["stop"]);
        assert_eq!((mode(&victim), fs::read_to_string(&victim).unwrap().as_str()), (0o644, "kept"), "{name}");
        let _ = fs::remove_file(&path);
    }
}

#[test]
fn a_docker_client_that_others_can_replace_is_not_run() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().config("[executor]\ndocker = 'docker'").build();
    set_mode(&agent.config_path(), 0o600);
    let marker = agent.path("docker-ran");
    let script = format!("#!/bin/sh\necho >> {}\n", marker.display());
    for (folder, name) in [("bin", "docker"), ("empty", "another"), ("own", "docker")] {
        agent.write_script(&format!("{folder}/{name}"), &script);
        set_mode(&agent.path(folder), if folder == "own" { 0o755 } else { 0o777 });
    }
    let usual = std::env::var("PATH").unwrap();
    let at = |folder: &str| agent.path(folder).display().to_string();
    for path in [at("bin"), format!("{}:{}", at("bin"), at("own")), format!("{}:{}", at("none"), at("bin"))] {
        let path = format!("{path}:{usual}");
        for command in [&["run"][..], &["try", "--prompt", "p"], &["stop", "--abort"], &["check"]] {
            let refused = agent.invoke(command).env("PATH", path.clone()).run();
            let said = refused.stderr + &refused.stdout;
            assert!(!refused.status.success() && said.contains("isn't safe from other users"), "{command:?}: {said}");
        }
    }
    assert!(!marker.exists());
    let check = |path: String| agent.invoke(&["check"]).env("PATH", format!("{path}:{usual}")).run();
    let safe = check(format!("{}:{}", at("none"), at("own")));
    assert!(marker.exists(), "{}", safe.stdout);
    // An open folder without a client delays nothing, but another user could put a client into it later.
    fs::remove_file(&marker).unwrap();
    agent.write_script("own/docker", &format!("{script}echo Docker version 1\n"));
    let warned = check(format!("{}:{}", at("empty"), at("own")));
    warned.expect_stdout("! docker ").expect_stdout(&format!("put a `docker` into `{}`", at("empty")));
    assert!(marker.exists());
}

#[test]
fn a_program_that_others_can_replace_is_not_started_in_the_background() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    set_mode(&agent.config_path(), 0o600);
    fs::create_dir(agent.path("open")).unwrap();
    let copy = agent.path("open/agent-core");
    let copied = std::process::Command::new("cp").arg(env!("CARGO_BIN_EXE_agent-core")).arg(&copy).status();
    assert!(copied.expect("copy the program").success());
    let wrapper = ["sh", "-c", r#"own=$1; shift 2; exec "$own" "$@""#, "sh", &copy.display().to_string()];
    set_mode(&agent.path("open"), 0o777);
    let refused = agent.invoke(&["run-detached"]).through(&wrapper).run();
    refused.expect_code(1).expect_stderr("isn't safe from other users").expect_stderr("use a new place");
    set_mode(&agent.path("open"), 0o755);
    agent.invoke(&["run-detached"]).through(&wrapper).run().expect_code(0);
    agent.run(&["stop"]).expect_code(0);
}

#[test]
fn a_data_dir_below_a_folder_that_others_can_write_is_refused() {
    let server = FakeServer::start();
    let config = "[paths]\ndata_dir = './in/../open/data'";
    let agent = Agent::builder(&server).without_engine().config(config).build();
    set_mode(&agent.config_path(), 0o600);
    for folder in ["open", "in"] {
        fs::create_dir(agent.path(folder)).unwrap();
    }
    set_mode(&agent.path("open"), 0o777);
    let words = format!("other users may write to `{}`", agent.path("open").display());
    for command in [&["run"][..], &["run-detached"], &["try", "--prompt", "p"], &["stop", "--abort"], &["stop"]] {
        agent.run(command).expect_code(1).expect_stderr(&words);
    }
    agent.run(&["check"]).expect_code(1).expect_stdout("✗ data_dir_rights").expect_stdout(&words);
    assert!(!agent.path("open/data").exists());
    set_mode(&agent.path("open"), 0o1777);
    let mut running = up(&server, &agent);
    assert_eq!(mode(&agent.path("open/data")), 0o700);
    assert!(running.terminate(secs(20)).success());
}

#[test]
fn a_path_through_too_many_links_is_refused() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    std::os::unix::fs::symlink("loop", agent.path("loop")).unwrap();
    agent.run(&["--config", "loop", "run"]).expect_code(2).expect_stderr("too many links");
    std::os::unix::fs::symlink("config.toml", agent.path("link")).unwrap();
    agent.run(&["--config", "link", "status"]).expect_code(3);
}

#[test]
fn an_open_data_dir_is_closed_and_logged_once() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    set_mode(&agent.config_path(), 0o600);
    let mut running = up(&server, &agent);
    assert_eq!(mode(&agent.data_dir()), 0o700);
    assert!(!running.log().contains("open to other users"), "a new data_dir is private from the start");
    assert!(running.terminate(secs(20)).success());
    set_mode(&agent.data_dir(), 0o755);
    let mut running = up(&server, &agent);
    assert_eq!(mode(&agent.data_dir()), 0o700);
    assert_eq!(running.log().matches("was open to other users (mode 755)").count(), 1);
    assert!(running.terminate(secs(20)).success());
}

#[test]
fn a_shared_folder_is_refused_as_data_dir() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    agent.write("data/somebody/elses", "hi");
    set_mode(&agent.data_dir(), 0o1777);
    for arguments in [&["run"][..], &["run-detached"]] {
        let refused = agent.run(arguments);
        refused
            .expect_code(1)
            .expect_stderr("holds `somebody`, which is no agent's")
            .expect_stderr("such as `")
            .expect_stderr("data/agent-core`");
        assert_eq!(mode(&agent.data_dir()), 0o1777);
    }
    agent.run(&["check"]).expect_code(1).expect_stdout("✗ data_dir_rights");
    // A folder that its owner has closed may hold other files.
    set_mode(&agent.data_dir(), 0o700);
    let _running = up(&server, &agent);
}

#[test]
fn a_file_in_place_of_the_data_dir_is_left_unchanged() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    let file = agent.write("data", "mine");
    set_mode(&file, 0o644);
    agent.run(&["run"]).expect_code(1).expect_stderr("`paths.data_dir` must be a folder");
    assert_eq!((mode(&file), fs::read_to_string(&file).unwrap().as_str()), (0o644, "mine"));
}

/// The lines of the manual's section that copy a data_dir.
fn copy_commands() -> String {
    let page = include_str!("../../src/manual/operate.md");
    let (_, section) = page.split_once("## A data directory that others could change").expect("a section");
    let (_, block) = section.split_once("```bash\n").expect("commands");
    block.split_once("```").expect("their end").0.to_owned()
}

#[test]
fn the_manuals_copy_of_an_open_data_dir_can_be_used() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    assert!(up(&server, &agent).terminate(secs(20)).success());
    let id = fs::read_to_string(agent.data_dir().join("instance_id")).unwrap();
    agent.write("data/workspaces/t1/output/result", "kept");
    agent.write("data/tasks/t1/command.sh", "true");
    // As a backup of a system without rights is restored.
    for entry in walkdir::WalkDir::new(agent.data_dir()).into_iter().flatten() {
        set_mode(entry.path(), if entry.file_type().is_dir() { 0o777 } else { 0o666 });
    }
    agent.run(&["run"]).expect_code(1).expect_stderr("A data directory that others could change");
    let commands = copy_commands().replace("/var/lib/agent-core", &agent.data_dir().display().to_string());
    assert!(std::process::Command::new("sh").args(["-ec", &commands]).status().unwrap().success(), "{commands}");
    let mut running = up(&server, &agent);
    assert!(running.terminate(secs(20)).success() && !running.log().contains("other users"), "{}", running.log());
    assert_eq!(fs::read_to_string(agent.data_dir().join("instance_id")).unwrap(), id);
    assert_eq!(fs::read_to_string(agent.data_dir().join("workspaces/t1/output/result")).unwrap(), "kept");
    assert_eq!(mode(&agent.data_dir().join("workspaces/t1/output")), 0o777, "a container may write there as any user");
    assert_eq!(mode(&agent.data_dir().join("tasks/t1")), 0o700);
}
