//! `check` with a real engine: whether containers would see this machine's files, and whether one starts.

use crate::support::agent::{Agent, Builder, Finished};
use crate::support::docker::{containers_with_label, docker, remove_containers, wait_until};
use crate::support::ordinary_user::OrdinaryUser;
use crate::support::secs;
use crate::support::server::{FakeServer, Status, TaskSpec};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Command;

fn tidy(builder: Builder) -> Agent {
    let agent = builder.build();
    fs::set_permissions(agent.config_path(), Permissions::from_mode(0o600)).expect("close the file");
    agent
}

fn check(agent: &Agent) -> (Finished, Vec<Value>) {
    let done = agent.run(&["check", "--json"]);
    let whole: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"));
    (done, whole["checks"].as_array().expect("a list of checks").clone())
}

fn all<'c>(checks: &'c [Value], name: &str) -> Vec<&'c Value> {
    checks.iter().filter(|check| check["name"] == name).collect()
}

fn expect_failed(checks: &[Value], name: &str, words: &str) {
    let [one] = all(checks, name)[..] else { panic!("not exactly one {name}: {checks:#?}") };
    assert_eq!(one["status"], "failed", "{one:#}");
    assert!(one["detail"].to_string().contains(words), "{words:?}: {one:#}");
}

/// The docker calls of an agent's checks. Dropping the value removes the containers that they left.
struct Calls(Agent);

impl Calls {
    /// Installs a docker client that records each call and runs `body` before the real client.
    fn note(agent: &Agent, body: &str) -> Self {
        let calls = agent.path("calls");
        let script = format!("#!/bin/sh\necho \"$*\" >> '{}'\n{body}\nexec docker \"$@\"\n", calls.display());
        agent.write_script("docker", &script);
        agent.change_config("[executor]\ndocker = './docker'");
        fs::set_permissions(agent.config_path(), Permissions::from_mode(0o600)).expect("close the file");
        Self(agent.clone())
    }

    fn text(&self) -> String {
        fs::read_to_string(self.0.path("calls")).unwrap_or_default()
    }

    /// The labels of the containers that the calls created.
    fn labels(&self) -> BTreeSet<String> {
        let text = self.text();
        let words = text.split_ascii_whitespace().filter(|word| word.starts_with("open-aaas.check="));
        words.map(str::to_owned).collect()
    }

    /// The containers that still exist.
    fn left(&self) -> Vec<String> {
        let labels = self.labels();
        assert!(!labels.is_empty(), "no container was made");
        labels.iter().flat_map(|label| containers_with_label(label)).collect()
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        self.labels().iter().for_each(|label| remove_containers(&format!("label={label}")));
    }
}

/// An image with one file and no program. It is removed when the value is dropped.
struct BareImage(String);

impl BareImage {
    fn make(agent: &Agent) -> Self {
        agent.write("bare/only-file", "x");
        let tar = agent.path("bare.tar");
        let done = Command::new("tar").arg("-cf").arg(&tar).arg("-C").arg(agent.path("bare")).arg(".").status();
        assert!(done.expect("run tar").success());
        let name = format!("agent-core-test-bare:{}", std::process::id());
        docker(&["import", &tar.to_string_lossy(), &name]);
        Self(name)
    }
}

impl Drop for BareImage {
    fn drop(&mut self) {
        crate::support::docker::docker_if_there(&["image", "rm", "--force", &self.0]);
    }
}

#[test]
fn all_checks_pass_and_leave_no_container() {
    let server = FakeServer::start();
    let mounts = "[[paths.mounts]]\nhost = './a, \"b\"'\ncontainer = '/a'\n\
        [[paths.mounts]]\nhost = './file'\ncontainer = '/f'\nreadonly = true";
    let agent = tidy(Agent::builder(&server).with_engine().config(mounts));
    agent.write("a, \"b\"/large", vec![0; 3 << 20]);
    agent.write("file", "one");
    let calls = Calls::note(&agent, "");
    let (done, checks) = check(&agent);
    done.expect_code(0);
    let failed: Vec<&Value> = checks.iter().filter(|check| check["status"] == "failed").collect();
    assert_eq!(failed, [&Value::Null; 0]);
    for name in ["docker", "engine", "image", "program", "engine_data_dir", "start", "server", "credentials"] {
        assert!(all(&checks, name).iter().all(|check| check["status"] == "passed"), "{name}: {checks:#?}");
    }
    assert_eq!(all(&checks, "engine_mounts").iter().filter(|check| check["status"] == "passed").count(), 2);
    assert_eq!(calls.left(), [""; 0]);
    assert!(!agent.data_dir().exists(), "the temporary data_dir is removed");
    let text = calls.text();
    let started: Vec<&str> = text.lines().filter(|call| call.starts_with("run") || call.starts_with("start")).collect();
    let [probe] = started[..] else { panic!("not one container is started: {text}") };
    assert!(probe.contains(" --entrypoint sh "), "{probe}");
    agent.run(&["check"]).expect_code(0).expect_stdout(" 0 failed, ");
}

#[test]
fn an_image_without_a_shell_can_be_checked() {
    let server = FakeServer::start();
    let agent = tidy(Agent::builder(&server).with_engine());
    let image = BareImage::make(&agent);
    agent.change_config(&format!("[executor]\nimage = '{}'", image.0));
    let calls = Calls::note(&agent, "");
    let (done, checks) = check(&agent);
    done.expect_code(1);
    assert_eq!(all(&checks, "engine_data_dir")[0]["status"], "passed", "{checks:#?}");
    expect_failed(&checks, "program", "neither ENTRYPOINT nor CMD");
    assert_eq!(calls.left(), [""; 0]);
}

#[test]
fn an_engine_that_sees_other_folders_is_detected() {
    let server = FakeServer::start();
    let mounts = "[[paths.mounts]]\nhost = './share'\ncontainer = '/s'";
    let agent = tidy(Agent::builder(&server).with_engine().config(mounts));
    agent.write("share/x", "x");
    // This imitates a remote engine, which looks for the path on another machine.
    let elsewhere = agent.path("elsewhere");
    let moved = |make: &str| {
        format!(
            "if [ \"$1\" = create ]; then {make}; for word; do shift; \
             case $word in type=bind,*) word=\"type=bind,source={},target=/agent-core-check\";; esac; \
             set -- \"$@\" \"$word\"; done; fi",
            elsewhere.display()
        )
    };
    let _refusing = Calls::note(&agent, &moved(":"));
    let (done, checks) = check(&agent);
    done.expect_code(1);
    expect_failed(&checks, "engine_data_dir", "does not exist");
    expect_failed(&checks, "engine_mounts", "does not exist");
    let make = format!("mkdir -p '{0}'; echo other > '{0}/seen'; touch -d @1000000000 '{0}'", elsewhere.display());
    let calls = Calls::note(&agent, &moved(&make));
    let (_, checks) = check(&agent);
    expect_failed(&checks, "engine_data_dir", "another content");
    expect_failed(&checks, "engine_mounts", "something else at that path");
    assert_eq!(calls.left(), [""; 0]);
}

#[test]
fn a_missing_image_is_reported() {
    let server = FakeServer::start();
    let agent = tidy(Agent::builder(&server).with_engine().config("[executor]\nimage = 'agent-core-no-such:1'"));
    let (done, checks) = check(&agent);
    done.expect_code(1);
    expect_failed(&checks, "image", "`agent-core-no-such:1` isn't on this machine");
    assert_eq!(all(&checks, "engine_data_dir")[0]["status"], "skipped");
}

#[test]
fn a_script_is_searched_in_the_image() {
    let server = FakeServer::start();
    let with = |script: &str| {
        let config = format!("[executor]\nexecutor_type = 'bash'\nscript_path = '{script}'");
        let agent = tidy(Agent::builder(&server).with_engine().config(&config));
        let calls = Calls::note(&agent, "");
        let found = check(&agent).1;
        assert_eq!(calls.left(), [""; 0]);
        found
    };
    assert_eq!(all(&with("/copy-inputs"), "program")[0]["status"], "passed");
    expect_failed(&with("/no/such.sh"), "program", "has no script `/no/such.sh` (`executor.script_path`)");
    expect_failed(&with("/bin"), "program", "is a folder");
}

#[test]
fn a_container_created_after_the_timeout_is_removed() {
    let server = FakeServer::start();
    let agent = tidy(Agent::builder(&server).with_engine());
    // The client hangs, and the container is created one second after the call has timed out.
    let hang = "if [ \"$1\" = create ]; then setsid sh -c 'sleep 31; exec docker \"$@\"' sh \"$@\" >/dev/null 2>&1 & exec sleep 1000; fi";
    let calls = Calls::note(&agent, hang);
    let mut running = agent.invoke(&["check"]).start();
    let status = running.wait_exit(secs(120));
    assert_eq!(status.code(), Some(1));
    assert!(running.log().contains("create` gave no answer within 30 s"), "{}", running.log());
    wait_until("no process to be left", secs(20), || agent.processes().is_empty());
    assert_eq!(calls.left(), [""; 0]);
}

#[test]
fn ctrl_c_leaves_no_container_and_no_folder() {
    let server = FakeServer::start();
    let agent = tidy(Agent::builder(&server).with_engine());
    let (reached, go) = (agent.path("reached"), agent.path("go"));
    let wait = format!(
        "if [ \"$1\" = cp ]; then touch '{}'; while [ ! -e '{}' ]; do sleep 0.05; done; fi",
        reached.display(),
        go.display()
    );
    let calls = Calls::note(&agent, &wait);
    let mut running = agent.invoke(&["check"]).own_group().start();
    wait_until("a container to be looked into", secs(60), || reached.exists());
    assert_eq!(calls.left().len(), 1, "the check has created a container");
    running.signal_group(Signal::SIGINT);
    fs::write(go, "").unwrap();
    assert_eq!(running.wait_exit(secs(60)).code(), Some(130));
    assert!(running.log().contains("· credentials      interrupted"), "{}", running.log());
    assert_eq!(calls.left(), [""; 0]);
    assert!(!agent.data_dir().exists());
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn check_does_not_disturb_a_running_task() {
    let server = FakeServer::start();
    let agent = tidy(Agent::builder(&server).with_engine());
    let calls = Calls::note(&agent, "");
    let id = server.submit(TaskSpec::script("while [ ! -e go ]; do sleep 0.05; done; echo done"));
    let _running = agent.start();
    crate::support::docker::wait_container_state(&id, "running", secs(60));
    let (done, checks) = check(&agent);
    assert_eq!(all(&checks, "engine_data_dir")[0]["status"], "passed", "{checks:#?}");
    done.expect_code(0);
    fs::write(agent.workspace(&id).join("go"), "").unwrap();
    assert_eq!(server.wait_for(&id, Status::Completed, secs(60)).stdout(), "done\n");
    assert_eq!(server.task(&id).accepted_count, 1);
    assert_eq!(calls.left(), [""; 0]);
}

#[test]
fn a_program_missing_in_the_image_is_reported() {
    let server = FakeServer::start();
    for (settings, program) in [
        ("executor_type = 'custom'\ncustom_entrypoint = ['/bin/nothing']", "/bin/nothing"),
        ("executor_type = 'custom'\ncustom_entrypoint = ['no-such-program', 'x']", "no-such-program"),
    ] {
        let agent = Agent::builder(&server).with_engine().config(&format!("[executor]\n{settings}")).build();
        let done = agent.run(&["check"]);
        done.expect_code(1).expect_stdout(&format!("has no program `{program}` in its PATH"));
    }
}

#[test]
fn a_mount_that_others_can_write_to_is_a_warning_for_containers_of_root() {
    let server = FakeServer::start();
    let mount = "[[paths.mounts]]\nhost = './share'\ncontainer = '/share'\nreadonly = true\n";
    let config = |user: &str| format!("{mount}[executor]\nuser = '{user}'");
    for (user, mode, status) in [("0:0", 0o777, "warned"), ("0:0", 0o755, "passed"), ("52001:52001", 0o777, "passed")] {
        let agent = tidy(Agent::builder(&server).with_engine().config(&config(user)));
        fs::create_dir(agent.path("share")).expect("make a folder");
        fs::set_permissions(agent.path("share"), Permissions::from_mode(mode)).expect("change the mode");
        let (done, checks) = check(&agent);
        done.expect_code(0);
        assert_eq!(all(&checks, "container_user")[0]["status"], status, "{user} {mode:o}: {checks:#?}");
    }
}

#[test]
fn the_agents_own_uid_is_a_warning_for_containers() {
    let server = FakeServer::start();
    let user = OrdinaryUser::new(Agent::builder(&server).with_engine());
    let uid = fs::metadata(user.agent.config_path()).expect("look at the file").uid();
    let text = user.agent.config_text().replacen("[executor]", &format!("[executor]\nuser = '{uid}:{uid}'"), 1);
    fs::write(user.agent.config_path(), text).expect("change the configuration");
    let done = user.invoke(&["check"]).run();
    let words = if uid == 0 { "✓ container_user" } else { "is the agent's own user" };
    done.expect_stdout(words);
}
