//! What containers leave is removed, or the agent names a command that removes it.

use crate::disk::unmount;
use crate::support::agent::{Agent, Running};
use crate::support::docker::{self, wait_until};
use crate::support::ordinary_user::OrdinaryUser;
use crate::support::secs;
use crate::support::server::{FakeServer, Status, TaskSpec};
use crate::support::tally;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Makes a chain of folders for root only.
fn chain(top: &Path, name: &str, depth: usize) {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut at = openat(AT_FDCWD, top, flags, Mode::empty()).expect("open the folder");
    for _ in 0..depth {
        mkdirat(&at, name, Mode::S_IRWXU).expect("make a folder");
        at = openat(&at, name, flags, Mode::empty()).expect("open the folder");
    }
}

/// Runs a command, which must succeed.
fn sh(command: &str) {
    let done = Command::new("sh").args(["-c", command]).stdin(Stdio::null()).output().expect("run a command");
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Whether this machine can have such a file system; the test says so where it can't.
fn has(system: &str, package: &str) -> bool {
    let _ = Command::new("modprobe").arg(system).output();
    let known =
        fs::read_to_string("/proc/filesystems").is_ok_and(|systems| systems.lines().any(|line| line.trim() == system));
    let has = known && Command::new(format!("mkfs.{system}")).arg("-V").output().is_ok();
    if !has {
        println!("not tested: {system}, which needs the kernel's module and the package {package}");
    }
    has
}

fn has_btrfs() -> bool {
    has("btrfs", "btrfs-progs")
}

/// A disk with this file system as an agent's data folder. Dropping the value kills the agent and unmounts the disk.
struct Disk {
    agent: Agent,
    place: PathBuf,
}

impl Disk {
    fn mount(agent: &Agent, system: &str) -> Self {
        let (place, image) = (agent.data_dir(), agent.path("disk.img"));
        fs::create_dir(&place).expect("make the data folder");
        fs::File::create(&image).and_then(|file| file.set_len(320 << 20)).expect("make a disk");
        let (place_word, image_word) = (place.display(), image.display());
        sh(&format!(
            "mkfs.{system} -q {image_word} && mount -o loop {image_word} {place_word} && chmod 700 {place_word}"
        ));
        Self { agent: agent.clone(), place }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        unmount(&self.agent, &self.place);
    }
}

/// Runs a task, has `make` put something into its workspace, and starts the agent again after the retention time.
fn start_when_old(
    server: &FakeServer,
    agent: &Agent,
    start: &dyn Fn() -> Running,
    make: &dyn Fn(&Path),
) -> (String, Running) {
    let id = server.submit(TaskSpec::script("echo 1 > output/r"));
    let mut running = start();
    server.wait_for(&id, Status::Completed, secs(90));
    tally::wait_phase(agent, &id, "settled");
    running.kill9();
    make(&agent.workspace(&id));
    let mut record = agent.record(&id);
    record["settled_at"] = json!(jiff::Timestamp::now() - jiff::SignedDuration::from_hours(200));
    fs::write(agent.task_file(&id, "record.json"), record.to_string()).expect("write the record");
    (id, start())
}

fn expect_removed(agent: &Agent, id: &str, running: &mut Running) {
    running.wait_log(&format!("task {id}: removed"), secs(240));
    assert!(!agent.workspace(id).exists() && !agent.task_file(id, "").exists());
    assert!(!running.log().contains("can't be removed"), "{}", running.log());
    wait_until("the removing container to be removed", secs(20), || removers(id).is_empty());
}

/// Waits until the agent names a command, runs it, and expects that the workspace is gone.
fn expect_command(agent: &Agent, id: &str, running: &mut Running, part: &str) {
    running.wait_log(&format!("task {id}: its workspace can't be removed"), secs(120));
    let log = running.log();
    let (_, rest) = log.split_once("; run `sudo ").unwrap_or_else(|| panic!("no command in {log}"));
    let (command, _) = rest.split_once('`').expect("the end of the command");
    assert!(command.contains(part), "{command}");
    sh(command);
    assert!(!agent.workspace(id).exists(), "{command}");
}

fn removers(id: &str) -> Vec<String> {
    docker::containers_with_prefix(&format!("open-aaas-remove-{id}"))
}

fn ordinary_user(server: &FakeServer) -> OrdinaryUser {
    crate::require_root();
    OrdinaryUser::new(Agent::builder(server).with_engine())
}

#[test]
fn deep_folders_of_root_are_removed_for_an_ordinary_user() {
    let server = FakeServer::start();
    let user = ordinary_user(&server);
    let make = |workspace: &Path| {
        chain(workspace, "d", 20_000);
        chain(&workspace.join("output"), "d", 3000);
        let long = workspace.join("long");
        fs::create_dir(&long).expect("make a folder");
        chain(&long, &"n".repeat(255), 200);
    };
    let (id, mut running) = start_when_old(&server, &user.agent, &|| user.start(), &make);
    expect_removed(&user.agent, &id, &mut running);
}

#[test]
fn immutable_files_are_removed_by_root() {
    crate::require_root();
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let make = |workspace: &Path| {
        let shown = workspace.display();
        sh(&format!("mkdir -p {shown}/a/b/c && touch {shown}/a/b/c/file {shown}/a/log && chattr +a {shown}/a/log"));
        sh(&format!("chattr +i {shown}/a/b/c/file && chattr +i {shown}/a/b/c && chattr +i {shown}/a"));
    };
    let (id, mut running) = start_when_old(&server, &agent, &|| agent.start(), &make);
    expect_removed(&agent, &id, &mut running);
}

#[test]
fn immutable_files_are_named_with_a_command_for_an_ordinary_user() {
    let server = FakeServer::start();
    let user = ordinary_user(&server);
    let make =
        |workspace: &Path| sh(&format!("cd {} && mkdir d && touch d/file && chattr +i d/file d", workspace.display()));
    let (id, mut running) = start_when_old(&server, &user.agent, &|| user.start(), &make);
    expect_command(&user.agent, &id, &mut running, "chattr -R -ia");
}

/// Makes subvolumes in one another that may only be read, with deep folders in them.
fn subvolumes(workspace: &Path) {
    let shown = workspace.display();
    sh(&format!("cd {shown} && btrfs subvolume create -q one 2>/dev/null || btrfs subvolume create one"));
    sh(&format!(
        "cd {shown}/one && mkdir -p a/b/c && btrfs subvolume create a/b/two && mkdir -p a/b/two/x/y && touch a/b/two/x/y/z"
    ));
    chain(&workspace.join("one/a"), "d", 300);
    sh(&format!("cd {shown} && btrfs property set one/a/b/two ro true && btrfs property set one ro true"));
}

#[test]
fn read_only_subvolumes_are_removed_by_root() {
    crate::require_root();
    if !has_btrfs() {
        return;
    }
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let _disk = Disk::mount(&agent, "btrfs");
    let (id, mut running) = start_when_old(&server, &agent, &|| agent.start(), &subvolumes);
    expect_removed(&agent, &id, &mut running);
}

#[test]
fn read_only_subvolumes_are_named_with_a_command_for_an_ordinary_user() {
    crate::require_root();
    if !has_btrfs() {
        return;
    }
    let server = FakeServer::start();
    let user = ordinary_user(&server);
    let _disk = Disk::mount(&user.agent, "btrfs");
    user.own_everything();
    let (id, mut running) = start_when_old(&server, &user.agent, &|| user.start(), &subvolumes);
    expect_command(&user.agent, &id, &mut running, "btrfs property set");
}

/// Whether this machine can have folders of projects, as containers of root can make them on XFS.
fn has_projects() -> bool {
    has("xfs", "xfsprogs")
}

/// Gives a folder to a project, which what is made in it inherits.
fn give_project(folder: &Path, project: usize) {
    sh(&format!("chattr -p {project} +P {}", folder.display()));
}

#[test]
fn folders_of_many_projects_are_removed_without_a_container() {
    crate::require_root();
    if !has_projects() {
        return;
    }
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let _disk = Disk::mount(&agent, "xfs");
    let script = "#!/bin/sh\ncase \"$*\" in *open-aaas-remove-*sh*) exit 1 ;; esac\nexec docker \"$@\"\n";
    let script = agent.write_script("docker", script);
    agent.change_config(&format!("[executor]\ndocker = {:?}", script.to_string_lossy()));
    let make = |workspace: &Path| {
        // More than there may be folders out of which nothing can be moved.
        let mut folder = workspace.to_owned();
        for project in 1..100 {
            give_project(&folder, project);
            folder.push("d");
            fs::create_dir(&folder).expect("make a folder");
            fs::write(folder.join("file"), "x").expect("write a file");
        }
    };
    let (id, mut running) = start_when_old(&server, &agent, &|| agent.start(), &make);
    expect_removed(&agent, &id, &mut running);
}

#[test]
fn deep_folders_below_a_project_are_removed_for_a_user() {
    crate::require_root();
    if !has_projects() {
        return;
    }
    let server = FakeServer::start();
    let user = ordinary_user(&server);
    let _disk = Disk::mount(&user.agent, "xfs");
    user.own_everything();
    let make = |workspace: &Path| {
        chain(workspace, "d", 3000);
        give_project(workspace, 7);
    };
    let (id, mut running) = start_when_old(&server, &user.agent, &|| user.start(), &make);
    expect_removed(&user.agent, &id, &mut running);
}

#[test]
fn a_removal_that_hangs_does_not_keep_the_host_from_being_checked() {
    let server = FakeServer::start();
    let user = ordinary_user(&server);
    let share = user.agent.path("share");
    fs::create_dir(&share).expect("make the mount's folder");
    let script = "#!/bin/sh\ncase \"$*\" in *open-aaas-remove-*sh*) : > \"$(dirname \"$0\")/removing\"; sleep 100 ;; esac\nexec docker \"$@\"\n";
    let script = user.agent.write_script("docker", script);
    user.agent.change_config(&format!(
        "[executor]\ndocker = {:?}\n[[paths.mounts]]\nhost = '{}'\ncontainer = '/share'",
        script.to_string_lossy(),
        share.display()
    ));
    user.own_everything();
    let make = |workspace: &Path| chain(workspace, "d", 3);
    let (_id, mut running) = start_when_old(&server, &user.agent, &|| user.start(), &make);
    wait_until("the removal to begin", secs(30), || user.agent.path("removing").exists());
    fs::rename(&share, user.agent.path("moved")).expect("move the mount's folder");
    running.wait_log("no new task is accepted: the mount's host path", secs(40));
}
