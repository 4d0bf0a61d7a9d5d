//! Containers of a stand-in for docker, which answers as an engine in trouble does.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, unbounded};
use tempfile::TempDir;

use super::{Limits, TaskContainer};
use crate::config::Config;
use crate::docker::Docker;
use crate::docker::stand_in::stand_in;
use crate::server::protocol::Task;
use crate::task::outcome::ContainerOutcome;
use crate::task::{Job, Phase, Record, StepError, Store, TaskHandle, TaskKey, WorkerCommand, Workspace};

const OWNER: &str = "i1";
const MS: fn(u64) -> Duration = Duration::from_millis;

/// Short limits, in the order of the real ones.
fn limits() -> Limits {
    Limits { stuck: [MS(1500), MS(700)], unknown: MS(500), said_after: MS(100) }
}

/// A task whose next step is its container.
struct Scene {
    dir: TempDir,
    config: Config,
    docker: Docker,
    limits: Limits,
}

impl Scene {
    /// `script` is what the stand-in does; `$here` is its folder, `$state` a function that prints an inspection.
    fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().expect("make a folder");
        let text = "[server]\nbase_url='http://h'\n[executor]\nimage='img:1'\n";
        let config = Config::parse(&dir.path().join("config.toml"), text).expect("read the configuration");
        let state = r#"state() {
            printf '{"Id":"%064d","State":{"Status":"%s","ExitCode":%s,"Error":"%s","StartedAt":"%s","FinishedAt":"%s"},"Labels":{"open-aaas.instance":"i1"}}' 7 "$1" "${2:-0}" "$5" "${3:-0001-01-01T00:00:00Z}" "${4:-0001-01-01T00:00:00Z}"
        }
        printf '%s\\n' "$*" >> "$here/calls"
        case $1 in image) exit 1 ;; info) echo false; exit ;; esac
        "#;
        let docker = stand_in(dir.path(), &format!("{state}\n{script}"));
        Self { dir, config, docker, limits: limits() }
    }

    fn task(&self) -> (TaskHandle, Sender<WorkerCommand>) {
        let store = Store::open(&self.config.paths.data_dir).expect("open the records");
        let key = TaskKey::from_id("t1").expect("a key");
        let mut record = Record::from_offer(Task { id: "t1".to_owned(), ..Task::default() }, "s", "http://h");
        record.set_phase(Phase::Prepared);
        let files = store.create(&key, &record).expect("write the record");
        let workspace = Workspace::new(&self.config.paths.data_dir, &key);
        fs::create_dir_all(workspace.dir()).expect("make the workspace");
        let (commander, commands) = unbounded();
        (TaskHandle::new(Job { files, record, commands, is_worker_wanted: Arc::default() }, workspace, None), commander)
    }

    fn run(&self, task: &mut TaskHandle) -> Result<ContainerOutcome, StepError> {
        let (config, docker, limits) = (&self.config, &self.docker, self.limits);
        let name = "open-aaas-task-t1".to_owned();
        TaskContainer { config, docker, name, owner: Some(OWNER), starts: None, console: None, limits }.run(task)
    }

    /// How often docker was called in this way.
    fn calls(&self, verb: &str) -> usize {
        let calls = fs::read_to_string(self.dir.path().join("calls")).unwrap_or_default();
        calls.lines().filter(|line| line.split(' ').next() == Some(verb)).count()
    }
}

/// When the containers of the stand-in started and ended.
const STARTED: &str = "2026-01-02T03:04:05Z";
const ENDED: &str = "2026-01-02T03:04:09Z";

fn within(limit: Duration, began: Instant) {
    assert!(began.elapsed() < limit, "took {:?}", began.elapsed());
}

#[test]
fn a_removal_without_an_end_ends_the_wait() {
    let table = [
        (format!("state removing 3 {STARTED} {ENDED}"), "exited 3"),
        (format!("state removing 0 {STARTED}"), "its result is lost"),
        ("state removing".to_owned(), "never started, is being removed"),
    ];
    for (state, expected) in table {
        let scene = Scene::new(&format!("case $1 in inspect) {state} ;; events) ;; *) exit 1 ;; esac"));
        let (mut task, _commander) = scene.task();
        let began = Instant::now();
        let ended = match scene.run(&mut task).unwrap() {
            ContainerOutcome::Exited(exit) => format!("exited {}", exit.code),
            ContainerOutcome::Lost(why) | ContainerOutcome::NotStarted(why) => why,
            ContainerOutcome::Stopped => "stopped".to_owned(),
        };
        assert!(ended.contains(expected), "{ended}");
        within(scene.limits.stuck[0] + MS(3000), began);
        assert!(scene.calls("inspect") <= 9, "{} looks", scene.calls("inspect"));
    }
}

#[test]
fn a_container_that_can_not_be_removed_ends_the_wait() {
    for state in ["state created", "state created 0 '' '' 'no such device'"] {
        let scene = Scene::new(&format!("case $1 in inspect) {state} ;; *) echo 'device busy' >&2; exit 1 ;; esac"));
        let (mut task, _commander) = scene.task();
        let began = Instant::now();
        let ContainerOutcome::NotStarted(why) = scene.run(&mut task).unwrap() else { panic!("it isn't the start") };
        assert!(why.contains("can't be removed within") && why.contains("device busy"), "{why}");
        within(scene.limits.stuck[0] + MS(3000), began);
        assert!(scene.calls("rm") <= 9, "{} removals", scene.calls("rm"));
        assert!(!task.record.container_removed && task.record.start.failures <= 1, "{:?}", task.record);
    }
}

#[test]
fn a_cancelled_task_leaves_a_stuck_container_behind() {
    for state in ["removing", "created", "stopping"] {
        let scene = Scene::new(&format!("case $1 in inspect) state {state} ;; *) exit 1 ;; esac"));
        let (mut task, commander) = scene.task();
        commander.send(WorkerCommand::Cancel).unwrap();
        let began = Instant::now();
        let outcome = scene.run(&mut task).unwrap();
        assert!(matches!(outcome, ContainerOutcome::Stopped), "{state}: {outcome:?}");
        within(scene.limits.stuck[1] + MS(3000), began);
    }
}

#[test]
fn an_unknown_state_is_waited_for() {
    let script = format!(
        "case $1 in
        inspect) if [ -e \"$here/later\" ]; then state exited 3 {STARTED} {ENDED}
            else : > \"$here/later\"; state stopping 0 {STARTED}; fi ;;
        esac"
    );
    let scene = Scene::new(&script);
    let (mut task, _commander) = scene.task();
    let outcome = scene.run(&mut task).unwrap();
    assert!(matches!(outcome, ContainerOutcome::Exited(exit) if exit.code == 3), "{outcome:?}");

    let scene = Scene::new("case $1 in inspect) state configured ;; *) exit 1 ;; esac");
    let (mut task, _commander) = scene.task();
    let Err(StepError::WithoutSlot { why, .. }) = scene.run(&mut task) else { panic!("it holds its slot") };
    assert!(why.contains("`configured`"), "{why}");
    assert_eq!((scene.calls("rm"), scene.calls("run")), (0, 0));
}

#[test]
fn a_container_is_removed_by_its_id() {
    let there = "if [ -e \"$here/removed\" ]; then exit 1; else state created; fi";
    let scene = Scene::new(&format!("case $1 in inspect) {there} ;; rm) : > \"$here/removed\" ;; esac"));
    let (mut task, commander) = scene.task();
    commander.send(WorkerCommand::Cancel).unwrap();
    let outcome = scene.run(&mut task).unwrap();
    assert!(matches!(outcome, ContainerOutcome::Stopped), "{outcome:?}");
    let calls = fs::read_to_string(scene.dir.path().join("calls")).unwrap();
    assert!(calls.contains(&format!("rm -v {:064}", 7)), "{calls}");
}

/// The times of the engine are relative to this machine's boot, which only Linux tells.
#[cfg(target_os = "linux")]
#[test]
fn a_container_that_ended_with_its_machine_has_not_exited_by_itself() {
    use crate::task::outcome::StopCause;
    let boot = jiff::Timestamp::from_second(crate::os::platform::boot_time().unwrap()).unwrap();
    let at = |seconds: i64| boot + jiff::SignedDuration::from_secs(seconds);
    let table = [(20, StopCause::Machine), (-10, StopCause::Machine), (-36_000, StopCause::OwnExit)];
    for (ended, expected) in table {
        let state = format!("state exited 0 {} {}", at(-72_000), at(ended));
        let scene = Scene::new(&format!("case $1 in inspect) {state} ;; esac"));
        let (mut task, _commander) = scene.task();
        let ContainerOutcome::Exited(exit) = scene.run(&mut task).unwrap() else { panic!("it has exited") };
        assert_eq!((exit.code, exit.stop_cause), (0, expected), "ended {ended} s after the boot");
    }
}
