//! The keys of `[executor]` that limit a container, checked inside the container and at the engine.

use crate::support::agent::Agent;
use crate::support::docker::{container_name, docker, docker_output, wait_container_state};
use crate::support::secs;
use crate::support::server::{FakeServer, Status, TaskSpec};
use serde_json::{Value, json};
use std::fs;

/// Runs `script` in a container, and returns its output and the engine's `HostConfig`.
fn seen(config: &str, script: &str) -> (String, Value) {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().config(&format!("[executor]\n{config}")).build();
    let hold = "until [ -e /workspace/go ]; do sleep 0.1; done";
    let id = server.submit(TaskSpec::script(format!("{script}\n{hold}")));
    let _running = agent.start();
    wait_container_state(&id, "running", secs(60));
    let inspected = docker(&["inspect", "--format", "{{json .HostConfig}}", &container_name(&id)]);
    fs::write(agent.workspace(&id).join("go"), "").expect("release the container");
    let task = server.wait_for(&id, Status::Completed, secs(60));
    (task.stdout().to_owned(), serde_json::from_str(&inspected).expect("JSON"))
}

#[test]
fn limits_user_and_docker_args_apply_to_the_container() {
    let config = "cpus = 0.5\nshm_size = '8m'\nuser = '1000:100'\nenable_host_access = true\npids_limit = 100\n\
                  docker_args = ['--hostname=lab', '--env=EXTRA=$HOME it''s', '--tmpfs=/workspace/scratch']";
    let script = "id -u; id -g; hostname; echo \"$EXTRA\"; df -k /dev/shm | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2
        grep -c host.docker.internal /etc/hosts; echo x > /workspace/scratch/x";
    let config = config.replace("it''s", "it is");
    let (stdout, host) = seen(&config, script);
    assert_eq!(stdout, "1000\n100\nlab\n$HOME it is\n8192\n1\n");
    assert_eq!((&host["NanoCpus"], &host["PidsLimit"]), (&json!(500_000_000), &json!(100)));
    assert_eq!(host["ExtraHosts"], json!(["host.docker.internal:host-gateway"]));
}

#[test]
fn dockers_defaults_apply_without_the_keys() {
    let (stdout, host) = seen("", "id -u; ls /sys/class/net | grep -c eth0");
    assert_eq!(stdout, "0\n1\n");
    assert_eq!((&host["NanoCpus"], &host["ShmSize"]), (&json!(0), &json!(64 << 20)));
    assert_eq!((&host["ExtraHosts"], &host["Devices"]), (&json!(null), &json!([])));
}

#[test]
fn network_none_leaves_only_the_loopback_interface() {
    let (stdout, host) = seen("network = 'none'", "ls /sys/class/net | grep -c eth0; echo done");
    assert_eq!((stdout.as_str(), &host["NetworkMode"]), ("0\ndone\n", &json!("none")));
}

#[test]
fn a_forbidden_docker_argument_prevents_the_start() {
    let server = FakeServer::start();
    let config = "[executor]\ndocker_args = ['--init', '-dit']";
    let agent = Agent::builder(&server).without_engine().config(config).build();
    agent.run(&["run"]).expect_code(2).expect_stderr("`executor.docker_args` must not hold `--detach`");
}

/// A flag that takes a value would take `--help` for it. Each of the flags can be refused, but by its name only.
#[test]
fn docker_reads_no_value_after_flags_without_one() {
    let flags = "--disable-content-trust --init --no-healthcheck --oom-kill-disable --privileged --publish-all --quiet \
                 --read-only --use-api-socket";
    for flag in flags.split_whitespace() {
        let done = docker_output(&["run", flag, "--help"]);
        let stderr = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success() || stderr.contains(&format!("unknown flag: {flag}")), "{flag}: {stderr}");
    }
}

#[test]
fn a_docker_args_mount_of_the_data_dir_prevents_the_start() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    let words = json!([format!("--volume={}:/all:ro", agent.dir().display())]);
    agent.change_config(&format!("[executor]\ndocker_args = {words}"));
    agent.run(&["run"]).expect_code(1).expect_stderr("would show the configuration file");
}
