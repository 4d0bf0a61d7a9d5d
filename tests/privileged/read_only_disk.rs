//! A disk that its system has mounted read-only after an error: no task is lost, and the agent says what is wrong.

use crate::disk::unmount;
use crate::support::agent::Agent;
use crate::support::docker::{assert_no_containers, wait_until};
use crate::support::secs;
use crate::support::server::{FakeServer, Status, TaskSpec};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An ext4 file system for an agent's data_dir, which a test can make read-only. Dropping the value unmounts it.
struct FailingDisk {
    agent: Agent,
    place: PathBuf,
}

impl FailingDisk {
    /// Mounts the disk as the data_dir of an agent that hasn't run yet.
    fn mount(agent: &Agent) -> Self {
        crate::require_root();
        let image = agent.path("disk.img");
        fs::File::create(&image).and_then(|file| file.set_len(64 << 20)).expect("make the disk's image");
        system("mkfs.ext4", &["-q"], &image);
        let place = agent.data_dir();
        fs::create_dir(&place).expect("make the data_dir");
        system("mount", &["-o", "loop,errors=remount-ro", &image.to_string_lossy()], &place);
        Self { agent: agent.clone(), place }
    }

    /// What the kernel does after an error of the disk. Files may be open meanwhile, which keep an administrator from it.
    fn fail(&self) {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("list the mounts");
        let place = self.place.to_string_lossy().into_owned();
        let device = mounts.lines().filter_map(|line| line.split_once(' ')).find(|(_, rest)| rest.starts_with(&place));
        let (device, _) = device.expect("the mounted device");
        let name = Path::new(device).file_name().expect("a device has a name").to_string_lossy().into_owned();
        fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "test").expect("report an error to the kernel");
    }
}

impl Drop for FailingDisk {
    fn drop(&mut self) {
        unmount(&self.agent, &self.place);
    }
}

fn system(program: &str, words: &[&str], last: &Path) {
    let output = Command::new(program).args(words).arg(last).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_read_only_disk_costs_no_task_and_status_says_so() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().config("[paths]\nmin_free_disk_mb = 1").build();
    let disk = FailingDisk::mount(&agent);
    let mut running = agent.start();
    running.wait_log("tasks are accepted", secs(20));
    let lines_before = running.log().lines().count();
    disk.fail();
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
