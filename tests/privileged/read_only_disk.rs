//! A disk that its system has mounted read-only after an error: no task is lost, and the agent says what is wrong.

use crate::disk::Ext4Disk;
use crate::support::agent::Agent;
use crate::support::docker::{assert_no_containers, wait_until};
use crate::support::secs;
use crate::support::server::{FakeServer, Status, TaskSpec};
use std::fs;
use std::path::Path;

/// What the kernel does after an error of the disk. Files may be open meanwhile, which keep an administrator from it.
fn fail(disk: &Ext4Disk) {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("list the mounts");
    let place = disk.place.to_string_lossy().into_owned();
    let device = mounts.lines().filter_map(|line| line.split_once(' ')).find(|(_, rest)| rest.starts_with(&place));
    let (device, _) = device.expect("the mounted device");
    let name = Path::new(device).file_name().expect("a device has a name").to_string_lossy().into_owned();
    fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "test").expect("report an error to the kernel");
}

#[test]
fn a_read_only_disk_costs_no_task_and_status_says_so() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().config("[paths]\nmin_free_disk_mb = 1").build();
    let disk = Ext4Disk::mount(&agent, ",errors=remount-ro");
    let mut running = agent.start();
    running.wait_log("tasks are accepted", secs(20));
    let lines_before = running.log().lines().count();
    fail(&disk);
    let tasks: Vec<String> = (0..3).map(|_| server.submit(TaskSpec::script("echo 1"))).collect();
    let (service, _) = server.service();
    wait_until("the Server to be told", secs(60), || server.service_state(&service).status == "busy");
    wait_until("a status that names the disk", secs(60), || {
        let status = agent.run(&["status"]);
        status.expect_code(0);
        status
            .stdout
            .lines()
            .any(|line| line.starts_with("Accepting tasks: no") && line.contains("Read-only file system"))
    });
    for id in &tasks {
        assert_eq!((server.task(id).status, server.task(id).accepted_count), (Status::Pending, 0));
        assert_no_containers(id);
    }
    let log = running.log();
    assert!(log.lines().count() - lines_before <= 4, "{log}");
}

#[test]
fn a_read_only_open_configuration_gets_a_remedy_that_helps() {
    crate::require_root();
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    // As a Secret or a configuration of a container.
    let script = r#"mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@""#;
    let config = agent.config_path().to_string_lossy().into_owned();
    let wrapper = ["unshare", "--mount", "sh", "-c", script, &config];
    let refused = agent.invoke(&["run"]).through(&wrapper).run();
    refused.expect_code(1).expect_stderr("its mode can't be changed (Read-only file system");
    refused.expect_stderr("or with the mode 0600 and the agent's user as the owner");
    assert!(!refused.stderr.contains("chmod"), "{}", refused.stderr);
}
