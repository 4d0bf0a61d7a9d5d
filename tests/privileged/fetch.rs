//! An agent that isn't root takes from the engine what only root can read: nothing but what is in the workspace, within
//! one limit for all of it, and without a slot.

use crate::disk::SmallDisk;
use crate::support::agent::{Agent, Running};
use crate::support::docker::{self, assert_no_containers, wait_until};
use crate::support::ordinary_user::{OrdinaryUser, open_to_all};
use crate::support::secs;
use crate::support::server::{FakeServer, Status, Task, TaskSpec};
use crate::support::tally;
use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Instant;

/// What no task may get.
const SECRET: &str = "HOST-ROOT-ONLY";

pub fn agent(server: &FakeServer, config: &str) -> OrdinaryUser {
    crate::require_root();
    OrdinaryUser::new(Agent::builder(server).with_engine().config(config).env("RUST_LOG", "debug"))
}

/// Runs a task, which must complete.
pub fn run(server: &FakeServer, user: &OrdinaryUser, script: &str) -> (Task, String) {
    let id = server.submit(TaskSpec::script(script));
    let running = user.start();
    let task = server.wait_for(&id, Status::Completed, secs(90));
    tally::wait_phase(&user.agent, &id, "settled");
    assert_no_containers(&id);
    (task, running.log())
}

/// How often `docker cp` was called.
pub fn copies(log: &str) -> usize {
    log.matches("docker cp open-aaas-view-of-").count()
}

pub fn left_out(task: &Task) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    let left = task.output["left_out"].as_array().into_iter().flatten();
    left.map(|left| (text(&left["file"]), text(&left["reason"]))).collect()
}

/// Makes a folder of the host with a file for root only, and returns the configuration of a mount of it at `target`.
fn secret_mount(user: &OrdinaryUser, target: &str) -> String {
    let folder = user.agent.path("secret");
    fs::create_dir(&folder).expect("make a folder");
    let file = folder.join("hr-salaries.csv");
    fs::write(&file, SECRET).expect("write a file");
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("close the file");
    format!("[[paths.mounts]]\nhost = '{}'\ncontainer = '{target}'\nreadonly = true", folder.display())
}

/// Runs a task with that mount, and fails the test if the file of the host leaves it.
fn expect_no_leak(target: &str, config: &str, script: &str) {
    let server = FakeServer::start();
    let user = agent(&server, config);
    user.agent.change_config(&secret_mount(&user, target));
    let (task, _) = run(&server, &user, script);
    for file in server.outputs(&task.id) {
        let text = String::from_utf8_lossy(&file.bytes).into_owned();
        assert!(!text.contains(SECRET), "`{}` has the file of the host", file.filename);
    }
    assert_eq!(server.output(&task.id, "box/proof").text(), "proof\n", "the folder was fetched");
}

#[test]
fn a_mount_whose_parent_becomes_a_link_shows_nothing_to_a_fetch() {
    let script = "cat data/ref/* && exit 9
        mv data moved; mkdir -p box/ref; echo proof > box/proof; chmod 700 box; ln -s box data";
    expect_no_leak("/workspace/data/ref", "[executor]\nuser = '1000:1000'", script);
}

#[test]
fn a_mount_outside_the_workspace_is_not_drawn_into_a_fetch() {
    let script = "mv /mnt/cfg /mnt/old; ln -s /workspace/box /mnt/cfg
        mkdir -p box/ref; echo proof > box/proof; chmod 700 box";
    expect_no_leak("/mnt/cfg/ref", "", script);
}

#[test]
fn many_unreadable_files_are_fetched_in_one_pass() {
    let server = FakeServer::start();
    let user = agent(&server, "[outputs]\nmax_files = 10");
    let script = "umask 077; cd output; i=0; while [ $i -lt 1000 ]; do : > f$i; i=$((i+1)); done";
    let (task, log) = run(&server, &user, script);
    assert_eq!((task.file_ids.len(), copies(&log)), (10, 1), "{log}");
    assert_eq!(task.output["left_out_count"], 990);
}

#[test]
fn holes_of_unreadable_files_count_as_bytes() {
    let server = FakeServer::start();
    let user = agent(&server, "[outputs]\nmax_total_mb = 2");
    let script = "echo first > output/first; umask 077
        for name in a b c; do mkdir $name; echo 1 > $name/1; truncate -s 1000G $name/huge || exit 9; done";
    let (task, log) = run(&server, &user, script);
    assert_eq!(task.output["files"], serde_json::json!(["a/1", "output/first"]));
    assert_eq!(copies(&log), 1, "{log}");
    let reasons = left_out(&task);
    for name in ["a", "b", "c"] {
        let reason = reasons.iter().find(|(file, _)| file == name);
        assert!(reason.is_some_and(|(_, reason)| reason.contains("the rest was not looked at")), "{reasons:?}");
    }
}

#[test]
fn readable_files_beside_unreadable_ones_cost_nothing() {
    let server = FakeServer::start();
    let user = agent(&server, "[outputs]\nmax_total_mb = 2\nmax_file_mb = 1");
    let script = "cd output; head -c 20000000 /dev/zero > big; ln big link; umask 077
        echo 1 > private; mkdir closed; mv link closed; ln closed/link z-link; ln private closed/second";
    let (task, _) = run(&server, &user, script);
    assert_eq!(task.output["files"], serde_json::json!(["output/closed/second", "output/private"]));
    let mut named: Vec<String> = left_out(&task).into_iter().map(|(file, _)| file).collect();
    named.sort();
    assert_eq!(named, ["output/big", "output/closed/", "output/closed/link", "output/z-link"]);
}

#[test]
fn another_name_of_a_readable_file_in_a_closed_folder_is_fetched() {
    let server = FakeServer::start();
    let user = agent(&server, "");
    let script = "cd output; echo 1 > a; mkdir closed; ln a closed/b; chmod 700 closed";
    let (task, _) = run(&server, &user, script);
    assert_eq!(task.output["files"], serde_json::json!(["output/closed/b", "output/a"]));
    assert_eq!(server.output(&task.id, "output/closed/b").text(), "1\n");
}

#[test]
fn what_docker_cp_does_not_carry_is_named() {
    let server = FakeServer::start();
    let user = agent(&server, "");
    let script = "name=$(printf 'n%.0s' $(seq 255))
        chain() { i=$1; while [ $i -lt $2 ]; do mkdir $name; cd $name; echo $i > $i; i=$((i+1)); done; }
        mkdir second closed
        (cd second; chain 10 20)
        cd closed
        chain 0 10
        mv /workspace/second/$name .; rmdir /workspace/second; chmod 700 /workspace/closed";
    let (task, _) = run(&server, &user, script);
    // Up to fifteen or so, the path is short enough in the engine's folder, too.
    let sent = task.file_ids.len();
    assert!((13..=16).contains(&sent), "{sent}");
    let name = "n".repeat(255);
    let reasons = left_out(&task);
    let deep = format!("closed/{}/", [name.as_str(); 15].join("/"));
    assert!(reasons.iter().any(|(file, reason)| *file == deep && reason.contains("so long a path")), "{reasons:?}");
}

#[test]
fn a_hundred_thousand_unreadable_files_take_little_memory() {
    let server = FakeServer::start();
    crate::require_root();
    let user = OrdinaryUser::new(tally::agent(&server).config("[outputs]\nmax_files = 5"));
    user.agent.write("tally/begun", "");
    open_to_all(&user.agent.path("tally"));
    let running = user.start();
    let id = server.submit(tally::waiting_task(""));
    tally::wait_begun(&user.agent, &id);
    let output = user.agent.workspace(&id).join("output");
    for number in 0..100_000 {
        let file = output.join(format!("{}{number}", "n".repeat(200)));
        fs::write(&file, "").expect("write a file");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("close the file");
    }
    tally::release(&user.agent, &id);
    let task = server.wait_for(&id, Status::Completed, secs(300));
    assert_eq!((task.file_ids.len(), &task.output["left_out_count"]), (5, &99_995.into()));
    let peak = crate::hostile_trees::peak_kib(&running);
    println!("{peak} KiB");
    assert!(peak < crate::hostile_trees::LIMIT_KIB, "{peak} KiB");
}

/// Its extension takes the whole name, as the engine writes it, and another one the size.
#[test]
fn content_after_a_name_with_a_newline_is_never_read_as_headers() {
    let server = FakeServer::start();
    let user = agent(&server, "[outputs]\nmax_total_mb = 100");
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(300 << 20);
    header.set_cksum();
    let script = "cd output; echo first > a; f=$(printf 'x\\nb\\303\\251'); cat ../input/header > \"$f\"
        truncate -s 9G \"$f\" && chmod 600 \"$f\" a";
    let id = server.submit(TaskSpec::script(script).input("header", header.as_bytes().to_vec()));
    let running = user.start();
    let task = server.wait_for(&id, Status::Completed, secs(90));
    assert_eq!(task.output["files"], serde_json::json!(["output/a"]), "{:?}", left_out(&task));
    let reasons = left_out(&task);
    let is_named = |reason: &str| reasons.iter().any(|(_, why)| why.contains(reason));
    assert!(is_named("outputs.max_file_mb") && is_named("the rest was not looked at"), "{reasons:?}");
    let peak = crate::hostile_trees::peak_kib(&running);
    assert!(peak < crate::hostile_trees::LIMIT_KIB, "{peak} KiB");
}

#[test]
fn a_copy_that_breaks_off_each_time_is_tried_three_times() {
    let server = FakeServer::start();
    let user = agent(&server, "");
    let script =
        "#!/bin/sh\n[ \"$1\" = cp ] || exec docker \"$@\"\ndocker \"$@\" | head -c 3500; echo broken >&2; exit 1\n";
    let script = user.agent.write_script("docker", script);
    user.agent.change_config(&format!("[executor]\ndocker = {:?}", script.to_string_lossy()));
    user.own_everything();
    let (task, log) = run(&server, &user, "umask 077; cd output; for name in a b c; do echo $name > $name; done");
    assert_eq!(task.output["files"], serde_json::json!([]));
    let reasons = left_out(&task);
    assert!(reasons.iter().any(|(file, why)| file == "output" && why.contains("broken")), "{reasons:?}");
    assert_eq!(copies(&log), 3, "{log}");
}

#[test]
fn a_process_that_holds_the_output_of_a_copy_open_delays_no_result() {
    let server = FakeServer::start();
    let user = agent(&server, "");
    let script = "#!/bin/sh\nif [ \"$1\" = cp ]; then setsid sleep 120 & fi\nexec docker \"$@\"\n";
    let script = user.agent.write_script("docker", script);
    user.agent.change_config(&format!("[executor]\ndocker = {:?}", script.to_string_lossy()));
    let began = Instant::now();
    let (task, log) = run(&server, &user, "umask 077; echo result > output/result");
    assert!(began.elapsed() < secs(60), "delivered after {:?}", began.elapsed());
    assert_eq!(task.output["files"], serde_json::json!(["output/result"]));
    assert!(log.contains("another process holds the output of process"), "{log}");
}

/// Runs a task that leaves so little room, and returns it.
fn run_with_little_room(server: &FakeServer, free: u64) -> Task {
    let user = agent(server, "[paths]\nmin_free_disk_mb = 10");
    let disk = SmallDisk::mount(&user.agent, 40);
    user.own_everything();
    let _running = user.start();
    let script = "echo 1 > output/private; chmod 600 output/private; until [ -e full ]; do sleep 0.1; done; rm full";
    let id = server.submit(TaskSpec::script(script));
    let private = user.agent.workspace(&id).join("output/private");
    wait_until("the file", secs(30), || private.exists());
    fs::write(user.agent.workspace(&id).join("full"), "").expect("release the container");
    disk.leave(free);
    let task = server.wait_for(&id, Status::Completed, secs(240));
    tally::wait_phase(&user.agent, &id, "settled");
    task
}

#[test]
fn what_has_no_room_here_is_left_out_after_a_while() {
    let server = FakeServer::start();
    let task = run_with_little_room(&server, 3 << 20);
    assert_eq!(task.output["files"], serde_json::json!([]));
    let reasons = left_out(&task);
    assert!(reasons.iter().any(|(_, why)| why.contains("can't be written: no storage space")), "{reasons:?}");
}

#[test]
fn small_results_are_copied_into_half_of_the_room_that_is_kept_free() {
    let server = FakeServer::start();
    let task = run_with_little_room(&server, 7 << 20);
    assert_eq!(task.output["files"], serde_json::json!(["output/private"]));
}

/// An agent whose `docker cp` waits until it is released.
struct SlowCopy(OrdinaryUser);

impl SlowCopy {
    fn new(server: &FakeServer) -> Self {
        let user = agent(server, "[executor]\ncapacity = 1");
        let (begun, released) = (user.agent.path("begun"), user.agent.path("released"));
        let script = format!(
            "#!/bin/sh\nif [ \"$1\" = cp ]; then\n: > {}\nuntil [ -e {} ]; do sleep 0.05; done\nfi\nexec docker \"$@\"\n",
            begun.display(),
            released.display()
        );
        let script = user.agent.write_script("docker", &script);
        user.agent.change_config(&format!("[executor]\ndocker = {:?}", script.to_string_lossy()));
        user.own_everything();
        Self(user)
    }

    /// Runs a task up to the copy.
    fn copying(&self, server: &FakeServer) -> (String, Running) {
        let running = self.0.start();
        let id = server.submit(TaskSpec::script("umask 077; echo 1 > output/private"));
        wait_until("the copy to begin", secs(30), || self.0.agent.path("begun").exists());
        (id, running)
    }

    fn release(&self) {
        self.0.agent.write("released", "");
    }
}

#[test]
fn a_fetch_holds_no_slot() {
    let server = FakeServer::start();
    let slow = SlowCopy::new(&server);
    let (first, _running) = slow.copying(&server);
    let second = server.submit(TaskSpec::script("echo 2 > output/open"));
    server.wait_for(&second, Status::Completed, secs(30));
    assert_eq!(server.task(&first).status, Status::Running);
    slow.release();
    server.wait_for(&first, Status::Completed, secs(30));
    assert_eq!(server.output(&first, "output/private").text(), "1\n");
    assert_no_containers(&first);
}

#[test]
fn a_cancellation_ends_a_fetch() {
    let server = FakeServer::start();
    let slow = SlowCopy::new(&server);
    let (id, _running) = slow.copying(&server);
    server.cancel(&id);
    server.wait_for(&id, Status::Cancelled, secs(20));
    assert!(server.outputs(&id).is_empty());
    wait_until("its containers to be removed", secs(20), || views(&id).is_empty());
    assert_no_containers(&id);
}

#[test]
fn an_agent_that_ends_in_a_fetch_fetches_again() {
    let server = FakeServer::start();
    let slow = SlowCopy::new(&server);
    let (id, mut running) = slow.copying(&server);
    assert!(running.terminate(secs(20)).success());
    fs::remove_file(slow.0.agent.path("begun")).expect("forget that it has begun");
    let mut running = slow.0.start();
    wait_until("the copy to begin again", secs(30), || slow.0.agent.path("begun").exists());
    running.kill9();
    slow.release();
    let _running = slow.0.start();
    server.wait_for(&id, Status::Completed, secs(30));
    assert_eq!(server.output(&id, "output/private").text(), "1\n");
    assert!(views(&id).is_empty());
    assert_no_containers(&id);
}

#[test]
fn a_discarded_task_leaves_no_container_of_its_fetch() {
    let server = FakeServer::start();
    let slow = SlowCopy::new(&server);
    let (id, mut running) = slow.copying(&server);
    running.kill9();
    assert_eq!(views(&id).len(), 1);
    let discarded = slow.0.invoke(&["discard", "--yes", &id]).run();
    discarded.expect_code(0);
    let _running = slow.0.start();
    wait_until("the container to be removed", secs(30), || views(&id).is_empty());
}

/// The containers that show this task's workspace to the engine.
fn views(id: &str) -> Vec<String> {
    docker::containers_with_prefix(&format!("open-aaas-view-of-open-aaas-task-{id}"))
}

/// A file of which this process has the only lease to write (fcntl(2)), until the value is dropped.
struct Lease(fs::File);

impl Lease {
    fn take(path: &Path) -> Self {
        use nix::libc::{F_SETLEASE, F_WRLCK, SIGURG, fcntl};
        // Of <linux/fcntl.h>.
        const F_SETSIG: i32 = 10;
        let file = fs::File::options().read(true).write(true).open(path).expect("open the file");
        // SAFETY: both calls change the state of an open file only. The signal that asks for the lease is one that is
        // ignored by default.
        let taken = unsafe { fcntl(file.as_raw_fd(), F_SETSIG, SIGURG) | fcntl(file.as_raw_fd(), F_SETLEASE, F_WRLCK) };
        assert_eq!(taken, 0, "{}", std::io::Error::last_os_error());
        Self(file)
    }

    /// Whether another program has tried to open the file.
    fn is_asked_for(&self) -> bool {
        // SAFETY: it reads the state of an open file.
        unsafe { nix::libc::fcntl(self.0.as_raw_fd(), nix::libc::F_GETLEASE) != nix::libc::F_WRLCK }
    }
}

#[test]
fn a_lease_of_a_result_delays_it_without_a_slot() {
    crate::require_root();
    let server = FakeServer::start();
    let agent = tally::agent(&server).capacity(1).build();
    let mut running = agent.start();
    let id = server.submit(tally::waiting_task(""));
    tally::wait_begun(&agent, &id);
    let place = agent.workspace(&id).join("output/leased");
    fs::write(&place, "kept").expect("write a result");
    let lease = Lease::take(&place);
    tally::release(&agent, &id);
    wait_until("a try to open the file", secs(30), || lease.is_asked_for());
    let other = server.submit(TaskSpec::script("true"));
    server.wait_for(&other, Status::Completed, secs(30));
    assert_ne!(server.task(&id).status, Status::Completed);
    drop(lease);
    let task = server.wait_for(&id, Status::Completed, secs(30));
    assert!(left_out(&task).is_empty(), "{}", task.output);
    assert_eq!(server.output(&id, "output/leased").text(), "kept");
    running.wait_log("looking for its results takes long, and goes on without a slot", secs(20));
}

/// The agent stands still in the middle of its look, for longer than one with a slot may take.
#[test]
fn a_long_look_for_results_goes_on_without_a_slot() {
    crate::require_root();
    let server = FakeServer::start();
    let agent = tally::agent(&server).capacity(1).config("[outputs]\nmax_files = 1").build();
    let mut running = agent.start();
    let id = server.submit(tally::waiting_task(""));
    tally::wait_begun(&agent, &id);
    let output = agent.workspace(&id).join("output");
    (0..100_000).for_each(|number| drop(fs::File::create(output.join(format!("f{number}"))).expect("make a file")));
    tally::release(&agent, &id);
    let open_files = format!("/proc/{}/fd", running.pid());
    let is_looking = || {
        let files = fs::read_dir(&open_files).expect("list the open files").flatten();
        files.filter_map(|file| fs::read_link(file.path()).ok()).any(|file| file == output)
    };
    let deadline = Instant::now() + secs(60);
    // Without pauses: a look into the folder takes a second or less.
    while !is_looking() {
        assert!(Instant::now() < deadline, "no look into the folder: {}", running.log());
    }
    running.signal(nix::sys::signal::Signal::SIGSTOP);
    std::thread::sleep(secs(11));
    running.signal(nix::sys::signal::Signal::SIGCONT);
    running.wait_log("looking for its results takes long, and goes on without a slot", secs(30));
    let task = server.wait_for(&id, Status::Completed, secs(60));
    assert_eq!(task.output["left_out_count"], 99_999);
    assert!(left_out(&task).iter().all(|(file, _)| file != "."), "{}", task.output);
}
