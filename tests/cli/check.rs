//! The part of `check` that needs no engine: the configuration file and this machine.

use crate::folder::{mode, names_in, set_mode};
use crate::support::agent::{Agent, Builder, Finished};
use crate::support::docker::wait_until;
use crate::support::secs;
use crate::support::server::FakeServer;
use serde_json::Value;
use std::fs::{self, File};
use std::time::{Duration, SystemTime};

/// The names of the checks in their order (manual/check.md).
const NAMES: [&str; 23] = [
    "config",
    "config_rights",
    "data_dir",
    "data_dir_rights",
    "disk",
    "mounts",
    "processes",
    "docker",
    "engine",
    "image",
    "container_user",
    "program",
    "engine_data_dir",
    "engine_mounts",
    "start",
    "address",
    "proxy",
    "dns",
    "tcp",
    "tls",
    "server",
    "credentials",
    "clock",
];

/// An agent that reaches no engine.
pub fn builder(server: &FakeServer) -> Builder {
    Agent::builder(server).without_engine()
}

/// An agent whose configuration file only its owner can read.
pub fn tidy(builder: Builder) -> Agent {
    let agent = builder.build();
    set_mode(&agent.config_path(), 0o600);
    agent
}

/// The same with a script as the docker client, so that the test machine needs none.
fn with_client(server: &FakeServer) -> Agent {
    let agent = tidy(builder(server).config("[executor]\ndocker = './docker'"));
    agent.write_script("docker", "#!/bin/sh\n[ \"$1\" = --version ] && exec echo 'Docker version 28'\nexit 1\n");
    agent
}

/// The result of `check --json`.
pub struct Checked {
    pub done: Finished,
    pub checks: Vec<Value>,
}

impl Checked {
    pub fn of(agent: &Agent) -> Self {
        let done = agent.run(&["check", "--json"]);
        let whole: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"));
        let checks = whole["checks"].as_array().expect("a list of checks").clone();
        let is_failed = checks.iter().any(|check| check["status"] == "failed");
        assert_eq!((whole["ok"].as_bool(), done.status.success()), (Some(!is_failed), !is_failed), "{whole:#}");
        for check in &checks {
            let has_remedy = ["failed", "warned"].iter().any(|status| check["status"] == *status);
            assert_eq!(check["remedy"].is_string(), has_remedy, "{check}");
        }
        Self { done, checks }
    }

    pub fn all(&self, name: &str) -> Vec<&Value> {
        self.checks.iter().filter(|check| check["name"] == name).collect()
    }

    pub fn one(&self, name: &str) -> &Value {
        let [one] = self.all(name)[..] else { panic!("not exactly one {name}: {:#?}", self.checks) };
        one
    }

    pub fn status(&self, name: &str) -> &str {
        self.one(name)["status"].as_str().expect("a status")
    }

    /// Fails the test unless this check failed and its detail or remedy contains `words`.
    pub fn expect_failed(&self, name: &str, words: &str) {
        let one = self.one(name);
        assert_eq!(one["status"], "failed", "{one:#}");
        let said = format!("{} {}", one["detail"], one["remedy"]);
        assert!(said.contains(words), "{name} lacks {words:?}: {said}");
    }

    /// Fails the test unless the checks have these statuses.
    pub fn expect(&self, expected: &[(&str, &str)]) {
        for (name, status) in expected {
            assert_eq!(self.status(name), *status, "{name}: {:#?}", self.checks);
        }
    }
}

#[test]
fn check_reports_every_item_once_in_order_without_an_engine() {
    let server = FakeServer::start();
    let agent = with_client(&server);
    let checked = Checked::of(&agent);
    checked.done.expect_code(1);
    let names: Vec<&str> = checked.checks.iter().map(|check| check["name"].as_str().unwrap()).collect();
    assert_eq!(names, NAMES);
    let passed = ["config", "config_rights", "data_dir", "disk", "mounts", "docker"];
    for name in passed.iter().chain(&["proxy", "dns", "tcp", "server", "credentials"]) {
        assert_eq!(checked.status(name), "passed", "{name}");
    }
    checked.expect_failed("engine", "systemctl start docker");
    // The fake Server listens on a high port of this machine.
    assert_eq!(checked.status("address"), "warned");
    checked.expect(&[
        ("image", "skipped"),
        ("container_user", "skipped"),
        ("engine_data_dir", "skipped"),
        ("engine_mounts", "skipped"),
    ]);
    // The address is http://, and the fake Server sends no `Date`.
    checked.expect(&[("tls", "skipped"), ("clock", "skipped")]);
    // The data_dir existed only during the check.
    checked.expect(&[("data_dir_rights", "skipped")]);
}

#[test]
fn check_prints_one_line_per_item_with_mark_and_remedy() {
    let server = FakeServer::start();
    let agent = with_client(&server);
    let done = agent.run(&["check"]);
    done.expect_code(1)
        .expect_stdout("✓ docker           Docker version 28\n")
        .expect_stdout("✓ config           `")
        .expect_stdout("✗ engine           ");
    done.expect_stdout("asked at `unix:///nonexistent.sock`, which DOCKER_HOST names");
    done.expect_stdout("set DOCKER_HOST or DOCKER_CONTEXT for the agent as the shell has them: cron,");
    done.expect_stdout("→ start the engine").expect_stdout("· image            the engine doesn't answer\n");
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert_eq!(lines.len(), NAMES.len() + 3 + 6, "{lines:#?}");
    let (failed, end) = (&lines[lines.len() - 6..lines.len() - 3], &lines[lines.len() - 2..]);
    assert!(failed[0] == "Failed:" && failed[1].starts_with("✗ engine  "), "the failure once more: {failed:#?}");
    assert_eq!(end[0], "12 passed, 1 with a warning, 1 failed, 8 not tried, 1 not needed");
    assert!(end[1].starts_with("Next: mend what is marked ✗") && end[1].ends_with(" check` again."), "{}", end[1]);
    assert_eq!(done.stderr, "");
}

#[test]
fn a_file_with_mistakes_ends_the_check_behind_them() {
    let server = FakeServer::start();
    let agent = tidy(builder(&server).config("[executor]\ncapacity = \"2\"\n[executor.env]\nKEY = 3"));
    let done = agent.run(&["check"]);
    done.expect_code(2).expect_stdout("`executor.capacity` must be").expect_stdout(" | capacity = \"2\"\n");
    let caret = done.stdout.lines().find(|line| line.trim_start() == "|            ^");
    assert!(caret.is_some(), "{}", done.stdout);
    assert!(!done.stdout.contains("KEY = 3"), "the value of a variable is shown: {}", done.stdout);
    assert!(!done.stdout.contains("· ") && !done.stdout.contains("→"), "{}", done.stdout);
    done.expect_stdout("\nNext: correct that, and run `agent-core --config ").expect_stdout("nothing else was tried.");
}

#[test]
fn a_wanted_proxy_that_is_not_there_is_wrong() {
    let server = FakeServer::start();
    let agent = tidy(builder(&server).config("[server]\nuse_system_proxy = true"));
    agent.run(&["check"]).expect_code(1).expect_stdout("✗ proxy            `server.use_system_proxy = true`, and no");
}

#[test]
fn check_only_reads_from_the_server_and_leaves_no_file() {
    let server = FakeServer::start();
    let agent = tidy(builder(&server));
    let before = names_in(agent.dir());
    Checked::of(&agent);
    assert_eq!(names_in(agent.dir()), before, "no file or folder is created, not even the data_dir");
    let asked = server.requests();
    let is_list = |path: &str| path.contains("/files/list/agent-core-check-");
    assert!(asked.iter().all(|request| request.method == "GET" && is_list(&request.path)), "{asked:?}");
    let statuses: Vec<_> = asked.iter().filter_map(|request| request.status).collect();
    assert_eq!(statuses, [401, 404], "once without the key, once with it");
}

#[test]
fn check_exits_with_2_and_all_problems_of_a_wrong_file() {
    let server = FakeServer::start();
    let agent = builder(&server)
        .config("[executor]\ncapacity = 0\ntimeout_minute = 1\n[server]\npoll_interval_secs = 0")
        .build();
    let done = agent.run(&["check", "--json"]);
    done.expect_code(2);
    let whole: Value = serde_json::from_str(&done.stdout).unwrap();
    let checks = whole["checks"].as_array().unwrap();
    let problems: Vec<&Value> = checks.iter().filter(|check| check["name"] == "config").collect();
    let details: Vec<&str> = problems.iter().map(|check| check["detail"].as_str().unwrap()).collect();
    let file = agent.config_path().display().to_string();
    for key in ["`server.poll_interval_secs`", "`executor.capacity`", "did you mean `executor.timeout_minutes`?"] {
        assert!(details.iter().any(|detail| detail.contains(key) && detail.starts_with(&file)), "{key}: {details:#?}");
    }
    assert_eq!(problems.len(), 3);
    assert!(problems.iter().all(|check| check["line"].is_u64() && check["column"].is_u64()), "{problems:#?}");
    assert!(checks.iter().filter(|check| check["name"] != "config").all(|check| check["status"] == "skipped"));
    assert_eq!(checks.len(), NAMES.len() + 2);
    agent.run(&["check"]).expect_code(2).expect_stdout("✗ config           ").expect_stdout("`executor.capacity`");
    assert_eq!(server.requests().len(), 0);
    assert!(!agent.data_dir().exists());
}

#[test]
fn a_missing_configuration_file_is_reported() {
    let agent = builder(&FakeServer::start()).without_config().build();
    agent.run(&["check"]).expect_code(2).expect_stdout("there is no configuration file").expect_stdout(" init`");
}

#[test]
fn an_unknown_key_fails_but_the_other_checks_run() {
    let server = FakeServer::start();
    let agent = tidy(builder(&server).config("[executor]\nisolatoin = 'strict'"));
    let checked = Checked::of(&agent);
    checked.expect_failed("config", "did you mean `executor.isolation`?");
    checked.expect(&[("data_dir", "passed"), ("credentials", "passed")]);
}

#[test]
fn open_permissions_are_reported_and_left_unchanged() {
    let server = FakeServer::start();
    let agent = tidy(builder(&server));
    fs::create_dir(agent.data_dir()).unwrap();
    set_mode(&agent.data_dir(), 0o755);
    set_mode(&agent.config_path(), 0o640);
    let checked = Checked::of(&agent);
    checked.expect_failed("config_rights", "(mode 640)");
    checked.expect_failed("config_rights", &format!("chmod go= {}", agent.config_path().display()));
    checked.expect_failed("data_dir_rights", "start the agent, which closes it");
    assert_eq!((mode(&agent.config_path()), mode(&agent.data_dir())), (0o640, 0o755));
    assert_eq!(names_in(&agent.data_dir()), [""; 0]);
}

#[test]
fn an_unusable_data_dir_is_reported() {
    let server = FakeServer::start();
    let agent = tidy(builder(&server));
    fs::write(agent.data_dir(), "a file").unwrap();
    let checked = Checked::of(&agent);
    checked.expect_failed("data_dir", &format!("`{}` can't be used", agent.data_dir().display()));
    checked.expect_failed("data_dir", "paths.data_dir");
    assert_eq!(fs::read_to_string(agent.data_dir()).unwrap(), "a file");
}

#[test]
fn too_little_disk_space_is_reported() {
    let server = FakeServer::start();
    let agent = tidy(builder(&server).config("[paths]\nmin_free_disk_mb = 1000000000"));
    Checked::of(&agent).expect_failed("disk", "at least 1000000000 wanted");
}

#[test]
fn every_mount_is_checked_and_none_is_created() {
    let server = FakeServer::start();
    let mounts = "[[paths.mounts]]\nhost = './there'\ncontainer = '/a'\n\
        [[paths.mounts]]\nhost = './later'\ncontainer = '/b'\n\
        [[paths.mounts]]\nhost = '/nonexistent/drive'\ncontainer = '/c'\n\
        [[paths.mounts]]\nhost = '.'\ncontainer = '/d'\nreadonly = true";
    let agent = tidy(builder(&server).config(mounts));
    fs::create_dir(agent.path("there")).unwrap();
    let checked = Checked::of(&agent);
    let found: Vec<(&str, &str)> = checked
        .all("mounts")
        .iter()
        .map(|check| (check["status"].as_str().unwrap(), check["detail"].as_str().unwrap()))
        .collect();
    assert_eq!(found.iter().map(|(status, _)| *status).collect::<Vec<_>>(), ["passed", "passed", "failed", "failed"]);
    for (place, words) in [(0, "is there"), (1, "`run` makes it"), (2, "`/nonexistent/drive`"), (3, "would show")] {
        assert!(found[place].1.contains(words), "{words}: {found:#?}");
    }
    assert!(!agent.path("later").exists());
}

#[test]
fn a_script_hidden_by_the_workspace_is_reported() {
    let server = FakeServer::start();
    let agent = tidy(builder(&server).config("[executor]\nexecutor_type = 'bash'"));
    Checked::of(&agent).expect_failed("program", "`/workspace/run.sh` (`executor.script_path`) can't be there");
    let mut running = agent.start();
    running.wait_log("the script `/workspace/run.sh` (`executor.script_path`) can't be there", secs(20));
    server.wait_until("a heartbeat", secs(20), |server| !server.heartbeats().is_empty());
}

#[test]
fn a_missing_docker_client_is_reported() {
    let server = FakeServer::start();
    let agent = tidy(builder(&server).config("[executor]\ndocker = '/nonexistent/docker'"));
    let checked = Checked::of(&agent);
    checked.expect_failed("docker", "executor.docker");
    checked.expect(&[("engine", "skipped"), ("image", "skipped"), ("program", "skipped")]);
}

#[test]
fn a_hanging_docker_client_is_ended_after_10_seconds() {
    let server = FakeServer::start();
    let agent = tidy(builder(&server).config("[executor]\ndocker = './docker'"));
    agent.write_script("docker", "#!/bin/sh\nexec sleep 1000\n");
    let checked = Checked::of(&agent);
    checked.expect_failed("docker", "gave no answer within 10 s");
    checked.expect(&[("credentials", "passed")]);
    assert_eq!(agent.processes(), [0; 0]);
}

#[test]
fn old_leftovers_of_a_killed_check_are_removed() {
    let server = FakeServer::start();
    let agent = tidy(builder(&server));
    let folder = |name: &str| agent.data_dir().join("workspaces").join(name);
    for (name, age) in [(".check-old", 3600), (".check-new", 60), ("task", 3600)] {
        agent.write(&format!("data/workspaces/{name}/seen"), "x");
        let at = SystemTime::now() - Duration::from_secs(age);
        File::open(folder(name)).and_then(|dir| dir.set_modified(at)).unwrap();
    }
    set_mode(&agent.data_dir(), 0o700);
    Checked::of(&agent).expect(&[("data_dir", "passed")]);
    assert_eq!(names_in(&folder("")), [".check-new", "task"]);
}

#[test]
fn check_does_not_disturb_a_running_agent() {
    let server = FakeServer::start();
    let agent = tidy(builder(&server));
    let mut running = agent.start();
    server.wait_until("a heartbeat", secs(20), |server| !server.heartbeats().is_empty());
    // Without temporary files, which the agent makes while it replaces a file.
    let names = || {
        let names = names_in(&agent.data_dir());
        names.into_iter().filter(|name| !name.ends_with("tmp")).collect::<Vec<_>>()
    };
    wait_until("the agent's own files", secs(20), || {
        ["status.json", "metrics.prom"].iter().all(|name| names().contains(&(*name).to_owned()))
    });
    let before = names();
    let polls = |server: &FakeServer| server.requests_to("poll").len();
    Checked::of(&agent).expect(&[("data_dir", "passed"), ("credentials", "passed")]);
    assert_eq!(names(), before);
    let polled = polls(&server);
    server.wait_until("another poll", secs(20), |server| server.requests_to("poll").len() > polled);
    assert!(running.is_running());
    agent.run(&["status"]).expect_code(0);
}

#[test]
fn an_engine_that_maps_users_is_named() {
    let server = FakeServer::start();
    let agent = tidy(builder(&server).config("[executor]\ndocker = './docker'"));
    agent.write_script(
        "docker",
        "#!/bin/sh\ncase \"$*\" in --version) echo 'Docker version 28';; version*) echo 28.0;;\n\
         'image inspect'*Config.User*) echo;; 'image inspect'*) echo sha256:1;;\n\
         info*SecurityOptions*) echo '[\"name=seccomp,profile=builtin\",\"name=userns\"]';; *) exit 1;; esac\n",
    );
    let checked = Checked::of(&agent);
    assert_eq!(checked.status("container_user"), "passed", "{:#?}", checked.checks);
    checked.done.expect_stdout("which the engine maps to a user of `/etc/subuid` (userns-remap)");
}

#[test]
fn keys_of_the_file_stand_for_the_variables_of_a_shell() {
    let server = FakeServer::start();
    let keys = "[server]\nproxy = 'http://u:secret@127.0.0.1:1'\n[executor]\ndocker = './docker'\n\
                docker_host = 'unix:///run/of-the-file.sock'";
    let agent = tidy(builder(&server).config(keys));
    let client =
        "#!/bin/sh\n[ \"$1\" = --version ] && exec echo 'Docker version 28'\necho \"at $DOCKER_HOST\" >&2\nexit 1\n";
    agent.write_script("docker", client);
    let done = agent.run(&["check"]);
    done.expect_code(1).expect_stdout("✓ proxy            http://127.0.0.1:1, from server.proxy\n");
    done.expect_stdout(
        ": at unix:///run/of-the-file.sock (asked at `unix:///run/of-the-file.sock`, which executor.docker_host names)",
    );
    assert!(!done.stdout.contains("secret"), "{}", done.stdout);
    let wrong =
        tidy(builder(&server).config("[server]\nproxy = 'proxy:secret'\n[executor]\ndocker_host = '/run/x.sock'"));
    let done = wrong.run(&["check"]);
    done.expect_code(2).expect_stdout("`server.proxy` must be the address of a proxy");
    done.expect_stdout("`executor.docker_host` must be an address as in DOCKER_HOST");
    assert!(!done.stdout.contains("secret"), "{}", done.stdout);
}
