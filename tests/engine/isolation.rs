//! What each level of `executor.isolation` stops. Each attack must succeed at a level that allows it, which proves
//! that the attack works.

use crate::support::agent::Agent;
use crate::support::docker::{container_name, docker, docker_if_there, test_image, wait_container_state};
use crate::support::secs;
use crate::support::server::{FakeServer, Status, Task, TaskSpec};
use serde_json::json;
use std::fs;

/// Runs a task with this configuration to its completion.
fn done(config: &str, script: &str) -> (FakeServer, Task) {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().config(&format!("[executor]\n{config}")).build();
    let id = server.submit(TaskSpec::script(script).input("data.csv", "1,2"));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Completed, secs(60));
    (server, task)
}

/// Runs a command in a container and returns its output and `through` if it succeeds, else `stopped`.
fn attempt(config: &str, command: &str) -> String {
    let script = format!("if ({command}) 2>/dev/null; then echo through; else echo stopped; fi");
    done(config, &script).1.stdout().trim().replace('\n', " ")
}

const LEVELS: [&str; 3] = ["standard", "strict", "none"];

/// The results of an attack at each level, in the order of [`LEVELS`].
fn attempts(command: &str, also: &str) -> [String; 3] {
    LEVELS.map(|level| attempt(&format!("isolation = '{level}'\n{also}"), command))
}

#[test]
fn the_level_is_standard_without_the_key() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let id = server.submit(TaskSpec::script("until [ -e /workspace/go ]; do sleep 0.1; done"));
    let _running = agent.start();
    wait_container_state(&id, "running", secs(60));
    let format = "{{json .HostConfig.SecurityOpt}} {{json .HostConfig.CapDrop}} {{.HostConfig.PidsLimit}} \
                  {{.HostConfig.ReadonlyRootfs}}";
    let seen = docker(&["inspect", "--format", format, &container_name(&id)]);
    // Some engines write a capability with the prefix `CAP_`.
    let words: Vec<_> = seen.split(['"', '[', ']', ',', ' ']).filter(|word| !word.is_empty()).collect();
    let words: Vec<_> = words.iter().map(|word| word.trim_start_matches("CAP_")).collect();
    assert_eq!(words.join(" "), "no-new-privileges MKNOD NET_RAW 4096 false");
    fs::write(agent.workspace(&id).join("go"), "").unwrap();
    server.wait_for(&id, Status::Completed, secs(60));
}

#[test]
fn raw_sockets_are_stopped_by_standard_and_strict() {
    let raw_socket = "traceroute -m 1 -w 1 127.0.0.1 > /dev/null";
    assert_eq!(attempts(raw_socket, ""), ["stopped", "stopped", "through"]);
}

#[test]
fn device_nodes_are_stopped_by_standard_and_strict() {
    let node = "mknod /tmp/zero c 1 5 && [ -c /tmp/zero ]";
    assert_eq!(attempts(node, ""), ["stopped", "stopped", "through"]);
}

#[test]
fn strict_makes_the_images_files_read_only() {
    let write = "echo mallory::0:0::/:/bin/sh >> /etc/passwd";
    assert_eq!(attempts(write, ""), ["through", "stopped", "through"]);
    assert_eq!(attempts("echo x > /new", ""), ["through", "stopped", "through"]);
}

/// An image with a setuid `su` that asks for no password.
struct SetuidImage(String);

impl SetuidImage {
    fn make() -> Self {
        let server = FakeServer::start();
        let name = format!("agent-core-setuid-{}", server.task_prefix());
        let image = Self(name.clone());
        let make =
            "rm /bin/su && cp /bin/busybox /bin/su && chmod 4755 /bin/su && echo root::0:0::/:/bin/sh > /etc/passwd";
        docker(&["run", "--name", &name, "--network", "none", "--entrypoint", "/bin/sh", test_image(), "-c", make]);
        docker(&["commit", "--change", "ENTRYPOINT [\"/entry\"]", &name, &name]);
        image
    }
}

impl Drop for SetuidImage {
    fn drop(&mut self) {
        docker_if_there(&["rm", "--force", &self.0]);
        docker_if_there(&["image", "rm", &self.0]);
    }
}

#[test]
fn setuid_programs_have_no_effect_under_standard_and_strict() {
    let image = SetuidImage::make();
    let also = format!("user = '1000'\nimage = '{}'", image.0);
    assert_eq!(attempts("id -u; /bin/su root -c 'id -u'", &also), ["1000 stopped", "1000 stopped", "1000 0 through"]);
}

#[test]
fn a_fork_bomb_ends_at_the_limit() {
    let limit = "cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max";
    assert_eq!(attempts(limit, ""), ["4096 through", "512 through", "max through"]);
    let bomb = |processes| format!("i=0; while [ $i -lt {processes} ]; do sleep 60 & i=$((i + 1)); done");
    assert_eq!(attempt("isolation = 'strict'", &bomb(600)), "stopped");
    assert_eq!(attempt("isolation = 'none'", &bomb(600)), "through");
    // `pids_limit` overrides the level.
    assert_eq!(attempt("pids_limit = 50", &bomb(60)), "stopped");
    assert_eq!(attempt("isolation = 'none'\npids_limit = 50", &bomb(60)), "stopped");
    assert_eq!(attempt("isolation = 'strict'\npids_limit = 0", &bomb(600)), "through");
}

#[test]
fn a_strict_container_can_do_its_task() {
    for user in ["", "user = '1000'", "user = '1000:1000'"] {
        let script = "set -e
            grep -E 'CapBnd|NoNewPrivs' /proc/self/status
            echo temporary > /tmp/file
            cp /tmp/file output/open
            cat input/data.csv task.json > /dev/null
            echo more >> input/data.csv
            umask 077
            mkdir output/deep
            echo private > output/deep/private
            echo top > top";
        let (server, task) = done(&format!("isolation = 'strict'\n{user}"), &format!("cd /workspace\n{script}"));
        assert_eq!(task.stdout(), "CapBnd:\t0000000000000000\nNoNewPrivs:\t1\n");
        assert_eq!(task.output["files"], json!(["top", "output/deep/private", "output/open"]), "{user}");
        let private = server.output(&task.id, "output/deep/private");
        assert_eq!((private.text(), server.output(&task.id, "output/open").text()), ("private\n", "temporary\n"));
    }
}

#[test]
fn strict_uses_a_tmp_that_is_mounted() {
    let server = FakeServer::start();
    let config = "[executor]\nisolation = 'strict'\n[[paths.mounts]]\nhost = './scratch'\ncontainer = '/tmp'";
    let agent = Agent::builder(&server).with_engine().config(config).build();
    let id = server.submit(TaskSpec::script("echo x > /tmp/kept"));
    let _running = agent.start();
    server.wait_for(&id, Status::Completed, secs(60));
    assert_eq!(fs::read_to_string(agent.path("scratch/kept")).unwrap(), "x\n");
    let sized = "isolation = 'strict'\ndocker_args = ['--tmpfs=/tmp:size=1m']";
    assert_eq!(attempt(sized, "df -k /tmp | grep -q ' 1024 '"), "through");
}
