//! Containers of a stand-in for docker, which answers as an engine in trouble does.

mod events;

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, unbounded};
use tempfile::TempDir;

use super::{Ends, Limits, TaskContainer};
use crate::config::Config;
use crate::docker::Docker;
use crate::docker::stand_in::stand_in;
use crate::server::protocol::Task;
use crate::task::outcome::ContainerOutcome;
use crate::task::record::Process;
use crate::task::{
    Job, Phase, Record, Starts, StepError, StopReason, Store, TaskHandle, TaskKey, WorkerCommand, Workspace,
};

const OWNER: &str = "i1";
const MS: fn(u64) -> Duration = Duration::from_millis;

/// Short limits, in the order of the real ones.
fn limits() -> Limits {
    Limits {
        start: MS(3000),
        pull: MS(6000),
        reminders: [MS(1000), MS(1500)],
        look: MS(500),
        outlived: MS(500),
        unread: MS(500),
        stuck: [MS(1500), MS(700)],
        unknown: MS(500),
        said_after: MS(100),
    }
}

/// A task whose next step is its container.
struct Scene {
    dir: TempDir,
    config: Config,
    docker: Docker,
    limits: Limits,
    starts: Starts,
    ends: Option<Ends>,
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
        write_id() { while [ "$1" != --cidfile ]; do shift; done; printf %064d 7 > "$2"; }
        printf '%s\n' "$*" >> "$here/calls"
        case $1 in image) [ -e "$here/image" ]; exit ;; info) echo false; exit ;; esac
        "#;
        let docker = stand_in(dir.path(), &format!("{state}\n{script}"));
        Self { dir, config, docker, limits: limits(), starts: Starts::default(), ends: None }
    }

    fn task(&self) -> (TaskHandle, Sender<WorkerCommand>) {
        let store = Store::open(&self.config.paths.data_dir).expect("open the records");
        let key = TaskKey::from_id("t1").expect("a key");
        let mut record = Record::from_offer(Task { id: "t1".to_owned(), ..Task::default() }, "s", "http://h");
        record.set_phase(Phase::Prepared);
        // An earlier run of the agent has started it, so that the engine is asked first.
        record.client = Some(Process { id: 1, started: Some("never".to_owned()), left_at: None });
        let files = store.create(&key, &record).expect("write the record");
        let workspace = Workspace::new(&self.config.paths.data_dir, &key);
        fs::create_dir_all(workspace.dir()).expect("make the workspace");
        let (commander, commands) = unbounded();
        (TaskHandle::new(Job { files, record, commands, is_worker_wanted: Arc::default() }, workspace, None), commander)
    }

    fn run(&self, task: &mut TaskHandle) -> Result<ContainerOutcome, StepError> {
        let (config, docker, limits, starts) = (&self.config, &self.docker, self.limits, Some(&self.starts));
        let name = "open-aaas-task-t1".to_owned();
        let (owner, ends, removals, console) = (Some(OWNER), self.ends.as_ref(), None, None);
        TaskContainer { config, docker, name, owner, starts, ends, removals, console, limits }.run(task)
    }

    /// How often docker was called with these first words.
    fn calls(&self, words: &str) -> usize {
        let calls = fs::read_to_string(self.dir.path().join("calls")).unwrap_or_default();
        calls.lines().filter(|line| line.starts_with(&format!("{words} "))).count()
    }
}

/// When the containers of the stand-in started and ended.
const STARTED: &str = "2026-01-02T03:04:05Z";
const ENDED: &str = "2026-01-02T03:04:09Z";

/// Without a limit it would take an hour, or for ever; a busy machine needs longer than the limit.
fn within(limit: Duration, began: Instant) {
    assert!(began.elapsed() < limit + MS(30_000), "took {:?}", began.elapsed());
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

/// Runs a task whose container isn't started in time, and returns how long that took.
fn expect_overdue(scene: &Scene, limit: &str) -> Duration {
    let (mut task, _commander) = scene.task();
    let began = Instant::now();
    let Err(StepError::Retry { why, .. }) = scene.run(&mut task) else {
        panic!("the start doesn't fail for this machine")
    };
    assert!(why.contains(&format!("docker didn't start the container within {limit}")), "{why}");
    assert_eq!((scene.calls("run"), task.record.start.failures), (1, 1), "no task is spent");
    assert!(scene.starts.trouble().is_some(), "nothing is started until a container of the agent's own has");
    began.elapsed()
}

#[test]
fn a_docker_run_that_hangs_before_its_containers_start_is_ended() {
    // Before the container exists, and when it is created.
    for begin in ["", "write_id \"$@\"; : > \"$here/created\";"] {
        let script = format!(
            "case $1 in
            run) {begin} exec sleep 60 ;;
            rm) rm \"$here/created\" ;;
            inspect) if [ -e \"$here/created\" ]; then state created; else exit 1; fi ;;
            esac"
        );
        let scene = Scene::new(&script);
        fs::write(scene.dir.path().join("image"), "").unwrap();
        let took = expect_overdue(&scene, "3.0 s");
        assert!(took < MS(38_000), "{took:?}");
    }
}

#[test]
fn the_pull_of_an_image_has_a_limit_of_its_own() {
    let scene = Scene::new("case $1 in run) exec sleep 60 ;; inspect) exit 1 ;; esac");
    let took = expect_overdue(&scene, "6.0 s");
    assert!(took >= MS(6000) && took < MS(40_000), "{took:?}");
    // The clock of the start begins with the image.
    let scene = Scene::new("case $1 in run) sleep 2; : > \"$here/image\"; exec sleep 60 ;; inspect) exit 1 ;; esac");
    let took = expect_overdue(&scene, "3.0 s");
    assert!(took >= MS(4300), "{took:?}");
}

#[test]
fn a_client_that_outlives_its_container_is_ended() {
    let exited = format!("state exited 3 {STARTED} {ENDED}");
    let run = "run) write_id \"$@\"; : > \"$here/ended\"; exec sleep 60 ;;";
    let there = |then: &str, before: &str| format!("if [ -e \"$here/ended\" ]; then {then}; else {before}; fi");
    let follow = "logs) [ \"$2\" != --follow ] || { : > \"$here/ended\"; exec sleep 60; } ;;";
    let table = [
        (format!("{run} inspect) {} ;;", there(&exited, "exit 1")), "exited 3"),
        (format!("{run} inspect) exit 1 ;;"), "behind the agent's back"),
        (format!("{follow} inspect) {} ;;", there(&exited, &format!("state running 0 {STARTED}"))), "exited 3"),
        (format!("{follow} inspect) {} ;;", there("exit 1", &format!("state running 0 {STARTED}"))), "ended"),
    ];
    for (script, expected) in table {
        let scene = Scene::new(&format!("case $1 in {script} esac"));
        fs::write(scene.dir.path().join("image"), "").unwrap();
        let (mut task, _commander) = scene.task();
        if expected == "ended" {
            // An earlier agent has started it.
            fs::write(task.files.cid(), format!("{:064}", 7)).unwrap();
        }
        let began = Instant::now();
        let ended = match scene.run(&mut task).unwrap() {
            ContainerOutcome::Exited(exit) => format!("exited {}", exit.code),
            ContainerOutcome::Lost(why) => format!("ended {why}"),
            other => panic!("{other:?}"),
        };
        assert!(ended.contains(expected), "{ended}");
        within(MS(9000), began);
    }
}

#[test]
fn a_container_that_can_not_be_followed_is_watched_all_the_same() {
    for code in [0, 1, 2] {
        let running = format!("state running 0 {STARTED}");
        let script = format!(
            "now=$(date +%s); [ -e \"$here/began\" ] || echo \"$now\" > \"$here/began\"; read -r began < \"$here/began\"
            case $1 in
            logs) exit {code} ;;
            inspect) if [ $((now - began)) -lt 6 ]; then {running}; else state exited 3 {STARTED} {ENDED}; fi ;;
            esac"
        );
        let scene = Scene::new(&script);
        let (mut task, _commander) = scene.task();
        let began = Instant::now();
        let outcome = scene.run(&mut task).unwrap();
        assert!(matches!(outcome, ContainerOutcome::Exited(exit) if exit.code == 3), "{outcome:?}");
        within(MS(13_000), began);
        let (followed, looked) = (scene.calls("logs --follow"), scene.calls("inspect"));
        assert!((2..=4).contains(&followed) && looked <= 30, "{followed} followers, {looked} looks");
    }
}

#[test]
fn a_running_container_that_can_not_be_followed_is_cancelled() {
    let running = format!("state running 0 {STARTED}");
    let script = format!(
        "case $1 in
        logs) exit 1 ;;
        stop) [ $4 = {:064} ] && : > \"$here/stopped\" ;;
        inspect) if [ -e \"$here/stopped\" ]; then state exited 143 {STARTED} {ENDED}; else {running}; fi ;;
        esac",
        7
    );
    let scene = Scene::new(&script);
    let (mut task, commander) = scene.task();
    fs::write(task.files.cid(), format!("{:064}", 7)).unwrap();
    let began = Instant::now();
    let canceller = std::thread::spawn(move || {
        std::thread::sleep(MS(4000));
        commander.send(WorkerCommand::Cancel).unwrap();
        commander
    });
    let outcome = scene.run(&mut task).unwrap();
    assert!(matches!(outcome, ContainerOutcome::Exited(exit) if exit.code == 143), "{outcome:?}");
    within(MS(7000), began);
    drop(canceller.join());
}

#[test]
fn a_cancellation_is_heard_while_the_container_is_being_stopped() {
    let running = format!("state running 0 {STARTED}");
    // Only the stop of a cancelled task ends it, and the first one lasts until then.
    let script = format!(
        "case $1 in
        logs) [ \"$2\" != --follow ] || until [ -e \"$here/ended\" ]; do sleep 0.1; done ;;
        stop) [ \"$3\" != 2 ] || : > \"$here/ended\"; until [ -e \"$here/ended\" ]; do sleep 0.1; done ;;
        inspect) if [ -e \"$here/ended\" ]; then state exited 137 {STARTED} {ENDED}; else {running}; fi ;;
        esac"
    );
    let scene = Scene::new(&script);
    let (mut task, commander) = scene.task();
    fs::write(task.files.cid(), format!("{:064}", 7)).unwrap();
    task.note_stop(StopReason::Timeout { minutes: 1 });
    let calls = scene.dir.path().join("calls");
    let canceller = std::thread::spawn(move || {
        while !fs::read_to_string(&calls).is_ok_and(|calls| calls.contains("stop -t 10 ")) {
            std::thread::sleep(MS(20));
        }
        commander.send(WorkerCommand::Cancel).unwrap();
        commander
    });
    let outcome = scene.run(&mut task).unwrap();
    assert!(matches!(outcome, ContainerOutcome::Exited(exit) if exit.code == 137), "{outcome:?}");
    assert!(task.is_cancel_requested(), "its results aren't wanted: {:?}", task.record.stop);
    assert_eq!((scene.calls("stop -t 10"), scene.calls("stop -t 2")), (1, 1));
    drop(canceller.join());
}

#[test]
fn a_container_of_an_earlier_task_that_stays_costs_the_task_nothing() {
    for state in ["exited", "running", "removing", "dead"] {
        let labels = r#"{"open-aaas.instance":"i1","open-aaas.offered":"2026-01-01T00:00:00Z"}"#;
        let found = format!(r#"{{"Id":"7","State":{{"Status":"{state}"}},"Labels":{labels}}}"#);
        let scene = Scene::new(&format!("case $1 in inspect) echo '{found}' ;; *) exit 1 ;; esac"));
        let (mut task, _commander) = scene.task();
        let Err(StepError::WithoutSlot { why, .. }) = scene.run(&mut task) else { panic!("{state}: it is the task's") };
        assert!(why.contains("an earlier task's container"), "{why}");
        assert_eq!((scene.calls("rm"), scene.calls("run")), (1, 0));
    }
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
