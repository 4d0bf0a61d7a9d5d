//! Hundreds of tasks on one agent: its memory, files, threads and folder must not grow with their number.
//!
//! `AGENT_CORE_SOAK_TASKS` sets the number of tasks.

use crate::support::agent::{Agent, Running};
use crate::support::docker;
use crate::support::secs;
use crate::support::server::{Control, FakeServer, Status, TaskSpec};
use crate::support::tally;
use std::env;
use std::fmt;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

const TASKS: usize = 500;
/// The test measures after this number of tasks. The values must not grow after the first measurement.
const LOOK_EVERY: usize = 100;
/// The number of tasks that wait on the Server.
const QUEUE: usize = 8;
/// Keeps glibc from giving each thread a cache of free blocks, and a heap of its own. They fill over hundreds of tasks, up to
/// 235 KiB a cache, so that a leak couldn't be told from them: without them the agent's own memory hardly changes.
const WITHOUT_CACHES: (&str, &str) = ("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0:glibc.malloc.arena_max=1");

/// The script's results are the input and a line with the task id.
const SCRIPT: &str = "echo \"$TASK_ID\" >> /tally/begun\ncp input/data output/copy\necho \"$TASK_ID\" > output/id\n";

#[test]
fn resources_do_not_grow_with_the_number_of_tasks() {
    let total = env::var("AGENT_CORE_SOAK_TASKS").map_or(TASKS, |text| text.parse().expect("a number of tasks"));
    assert!(total > LOOK_EVERY, "AGENT_CORE_SOAK_TASKS must be more than {LOOK_EVERY}, where the first look is taken");
    let server = FakeServer::start();
    // With the default request budget this would take an hour.
    let config = "[server]\nmax_requests_per_minute = 0";
    let (name, value) = WITHOUT_CACHES;
    let agent = tally::agent(&server).capacity(4).config(config).env(name, value).build();
    let mut running = agent.start();
    let mut tasks = Vec::new();
    let began = Instant::now();
    let mut looks = Vec::new();
    println!("{}", Look::HEAD);
    while tasks.len() < total {
        let until = total.min(tasks.len() + LOOK_EVERY);
        work_off(&server, &mut tasks, until);
        let look = Look::at(&server, &agent, &running, tasks.len());
        println!("{look}");
        looks.push(look);
    }
    let took = began.elapsed();
    println!("{total} tasks in {took:.0?}, {:.2} s each", took.as_secs_f64() / total as f64);
    let gap = server.longest_heartbeat_gap();
    println!("longest time between two heartbeats: {gap:.1?}");

    for (number, id) in tasks.iter().enumerate() {
        let task = server.task(id);
        assert_eq!((task.accepted_count, task.completed_count), (1, 1), "{task:#?}");
        assert_eq!(server.output(id, "output/copy").bytes, input(number));
        assert_eq!(server.output(id, "output/id").text(), format!("{id}\n"));
    }
    let begun = fs::read_to_string(agent.path("tally/begun")).expect("read the containers' notes");
    let mut begun: Vec<&str> = begun.lines().collect();
    begun.sort_unstable();
    let mut ids: Vec<&str> = tasks.iter().map(String::as_str).collect();
    ids.sort_unstable();
    assert!(begun == ids, "each task ran once");
    docker::assert_no_containers(server.task_prefix());
    assert!(gap < secs(25), "the longest time between two heartbeats was {gap:?}");
    assert!(running.is_running());
    looks[looks.len() - 1].expect_no_more_than(&looks[0]);
}

fn input(number: usize) -> Vec<u8> {
    format!("the input of task {number}\n").into_bytes()
}

/// Submits tasks as others complete, up to `until` in all, and waits until all are completed.
fn work_off(server: &FakeServer, tasks: &mut Vec<String>, until: usize) {
    let mut done = tasks.len();
    let mut last = Instant::now();
    while done < until {
        while tasks.len() < until && tasks.len() < done + QUEUE {
            let spec = TaskSpec::script(SCRIPT).input("data", input(tasks.len()));
            tasks.push(server.submit(spec));
        }
        // Tasks complete nearly in the order of their ids, so only the oldest unfinished one is checked.
        let next = server.task(&tasks[done]);
        assert!(!next.status.is_final() || next.status == Status::Completed, "{next:#?}");
        if next.status == Status::Completed {
            done += 1;
            last = Instant::now();
        } else {
            assert!(last.elapsed() < secs(120), "no task has completed for two minutes");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The resources of an idle agent.
struct Look {
    tasks: usize,
    /// Resident memory (RSS), as `ps` shows it.
    kib: u64,
    /// The anonymous part of it, without mapped files. A leak adds to it.
    own_kib: u64,
    open_files: usize,
    threads: usize,
    /// Files in the data_dir, without those of settled tasks.
    other_files: usize,
    other_bytes: u64,
    /// Files of settled tasks.
    kept_files: usize,
    kept_bytes: u64,
}

impl Look {
    const HEAD: &str =
        "tasks  memory KiB  own KiB  open files  threads  other files  other bytes  kept files  kept bytes/task";

    fn at(server: &FakeServer, agent: &Agent, running: &Running, tasks: usize) -> Self {
        // After the last report the agent still writes the record; several polls later it is idle. Files that are open
        // only for a moment, such as a docker client's pipes, are excluded by taking the minimum.
        let data_dir = agent.data_dir();
        let settled = || fs::read_dir(data_dir.join("tasks")).is_ok_and(|all| all.count() == tasks);
        docker::wait_until("all records", secs(20), settled);
        let before = server.requests_to("poll").len();
        server.wait_until("polls", secs(30), |server: &Control| server.requests_to("poll").len() >= before + 5);
        let process = format!("/proc/{}", running.pid());
        let count = |name: &str| fs::read_dir(format!("{process}/{name}")).expect("list them").count();
        let least = |name: &str| {
            let mut least = count(name);
            for _ in 0..20 {
                std::thread::sleep(Duration::from_millis(50));
                least = least.min(count(name));
            }
            least
        };
        let (mut other, mut kept) = ((0, 0), (0, 0));
        for entry in fs::read_dir(&data_dir).expect("list data_dir").flatten() {
            let is_kept = ["tasks", "workspaces"].iter().any(|name| entry.file_name() == *name);
            let sum = if is_kept { &mut kept } else { &mut other };
            let (files, bytes) = files_below(&entry.path());
            *sum = (sum.0 + files, sum.1 + bytes);
        }
        Self {
            tasks,
            kib: memory_kib(&process, "VmRSS:"),
            own_kib: memory_kib(&process, "RssAnon:"),
            open_files: least("fd"),
            threads: least("task"),
            other_files: other.0,
            other_bytes: other.1,
            kept_files: kept.0,
            kept_bytes: kept.1,
        }
    }

    fn expect_no_more_than(&self, before: &Self) {
        let twentieth = |number: u64| number + number / 20;
        let (were, are) = (before.kib, self.kib);
        assert!(are <= twentieth(were), "memory grew from {were} KiB to {are} KiB");
        // 5 % of the anonymous memory is only a few pages, which the allocator may keep. A leak in every task would
        // exceed 256 KiB after hundreds of tasks.
        let (were, are) = (before.own_kib, self.own_kib);
        assert!(are <= twentieth(were).max(were + 256), "the agent's own memory grew from {were} KiB to {are} KiB");
        // 5 % of the threads is less than one.
        assert!(self.threads <= before.threads, "threads grew from {} to {}", before.threads, self.threads);
        // Connections to the Server may be kept open.
        let (were, are) = (before.open_files, self.open_files);
        assert!(are <= were + 2, "open files grew from {were} to {are}");
        let (were, are) = (before.other_files, self.other_files);
        assert!(are <= were, "the files in data_dir beside records and workspaces grew from {were} to {are}");
        let (were, are) = (before.kept_bytes / before.tasks as u64, self.kept_bytes / self.tasks as u64);
        assert!(are <= twentieth(were), "the kept bytes of a task grew from {were} to {are} bytes");
    }
}

impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_task = self.kept_bytes / self.tasks as u64;
        let Self { tasks, kib, own_kib, open_files, threads, other_files, other_bytes, kept_files, .. } = self;
        write!(
            f,
            "{tasks:5}  {kib:10}  {own_kib:7}  {open_files:10}  {threads:7}  {other_files:11}  {other_bytes:11}  {kept_files:10}  \
             {per_task:15}"
        )
    }
}

/// A line of `/proc/PID/status`.
fn memory_kib(process: &str, name: &str) -> u64 {
    let status = fs::read_to_string(format!("{process}/status")).expect("read the process's status");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no line {name}"));
    line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
}

/// The number of files below a path, and their bytes.
fn files_below(path: &Path) -> (usize, u64) {
    let files = walkdir::WalkDir::new(path).into_iter().flatten().filter(|entry| entry.file_type().is_file());
    files.fold((0, 0), |(count, bytes), file| (count + 1, bytes + file.metadata().map_or(0, |meta| meta.len())))
}
