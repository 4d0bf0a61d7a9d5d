//! Workspaces with very many files, very long paths and very deep folders: the agent needs little memory for them, and
//! goes on with everything else.

use crate::support::agent::{Agent, Running};
use crate::support::docker::wait_until;
use crate::support::secs;
use crate::support::server::{FakeServer, Status};
use crate::support::tally;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(180);
/// The memory that the agent may need.
pub const LIMIT_KIB: u64 = 16 * 1024;

/// A group of processes with a memory limit, which is removed with the value.
struct MemoryGroup(PathBuf);

impl MemoryGroup {
    fn new(name: &str, bytes: u64) -> Self {
        let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let (root, limit) = match unified {
            true => ("/sys/fs/cgroup", "memory.max"),
            false => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        };
        let group = Self(Path::new(root).join(name));
        fs::create_dir(&group.0).expect("make a memory group");
        fs::write(group.0.join(limit), bytes.to_string()).expect("limit the group's memory");
        group
    }

    fn start(&self, agent: &Agent) -> Running {
        let enter = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", self.0.display());
        agent.invoke(&["run"]).through(&["sh", "-c", &enter, "sh"]).start()
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        wait_until("the memory group to be empty", secs(20), || fs::remove_dir(&self.0).is_ok());
    }
}

/// The agent's peak memory so far, without the pages of the program itself, which is large in a debug build.
pub fn peak_kib(running: &Running) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", running.pid())).expect("read the process's status");
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line of this name");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of KiB")
    };
    number("VmHWM:") - number("RssFile:")
}

/// Makes so many hard links in a folder with a path of 3.6 kB, and a chain of 12 folders beside it.
fn links_below_a_long_path(output: &Path, count: usize) {
    let long = (0..14).fold(output.to_owned(), |path, _| path.join("n".repeat(255)));
    fs::create_dir_all(&long).expect("make folders");
    fs::create_dir_all(long.join(["d"; 12].join("/"))).expect("make a chain of folders");
    fs::write(output.join("first"), "x").expect("write a file");
    // Most file systems have a limit of links to one file.
    let mut file = output.join("first");
    for number in 0..count {
        let link = long.join(format!("link-{number:06}"));
        if fs::hard_link(&file, &link).is_err() {
            fs::write(&link, "x").expect("write another file");
            file = link;
        }
    }
}

#[test]
fn hard_links_below_a_long_path_take_little_memory() {
    crate::require_root();
    let server = FakeServer::start();
    let agent = tally::agent(&server).capacity(1).build();
    let group = MemoryGroup::new(&format!("agent-core-test-{}", server.task_prefix()), 1 << 30);
    let mut running = group.start(&agent);
    let id = server.submit(tally::waiting_task(""));
    tally::wait_begun(&agent, &id);
    links_below_a_long_path(&agent.workspace(&id).join("output"), 250_000);
    tally::release(&agent, &id);
    for _ in 0..2 {
        let before = server.requests_to("upload").len();
        server.wait_until("ten uploads", PATIENCE, |server| server.requests_to("upload").len() >= before + 10);
        let peak = peak_kib(&running);
        println!("{peak} KiB");
        assert!(peak < LIMIT_KIB, "{peak} KiB");
        running.kill9();
        running = group.start(&agent);
    }
    server.cancel(&id);
    server.wait_for(&id, Status::Cancelled, PATIENCE);
    assert!(peak_kib(&running) < LIMIT_KIB, "{} KiB", peak_kib(&running));
    assert!(running.is_running());
}
