//! Ends of containers that the engine's events tell, or leave in doubt.

use std::time::{Duration, Instant};

use super::{ENDED, Ends, MS, OWNER, STARTED, Scene};
use crate::task::outcome::{ContainerOutcome, StopCause};

const LONG: Duration = Duration::from_secs(20);

/// Runs a container that exits with 0, beside a stream that begins with `before` and goes on with `after` when it has
/// exited, on an engine whose own events are those of `kept`. Returns what ended it, and how often the engine was asked.
fn run_beside_events([before, after]: [&str; 2], kept: &str, patience: Duration) -> (StopCause, usize) {
    let script = format!(
        "case \"$1 $2\" in
        'events --filter') printf '%s' '{before}'; until [ -e \"$here/ran\" ]; do sleep 0.01; done
            printf '%s' '{after}'; exec sleep 60 ;;
        'events --since') printf '%s' '{kept}' ;;
        'run '*) write_id \"$@\"; : > \"$here/ran\" ;;
        'inspect '*) state exited 0 {STARTED} {ENDED} ;;
        esac"
    );
    let mut scene = Scene::new(&script);
    scene.ends = Some(Ends::with_limits(scene.docker.clone(), OWNER, LONG, patience));
    scene.starts.note_image(&scene.config.executor.image, Instant::now());
    let (mut task, _commander) = scene.task();
    task.record.client = None;
    let ContainerOutcome::Exited(exit) = scene.run(&mut task).expect("an outcome") else { panic!("it has exited") };
    assert_eq!(exit.code, 0);
    let id = format!("{:064}", 7);
    assert_eq!(task.exited.map(|exited| exited.id), Some(id));
    assert_eq!(scene.calls("run"), 1);
    (exit.stop_cause, scene.calls("inspect") + scene.calls("events --since") + scene.calls("logs"))
}

#[test]
fn an_end_that_events_tell_costs_no_call_and_a_doubt_does() {
    let id = format!("{:064}", 7);
    let event = |action: &str, code: &str| format!("[\"{id}\",\"{action}\",\"{code}\",1]\n");
    let (start, die) = (event("start", ""), event("die", "0"));
    let kept = format!("[\"{id}\",\"kill\",\"15\"]\n[\"{id}\",\"die\",\"\"]\n");
    assert_eq!(run_beside_events([&start, &die], "", LONG), (StopCause::OwnExit, 0));
    // A stop by another program; an engine that was started in between; a stream that began too late, or has another form.
    let table = [
        (start.clone(), event("kill", "") + &die),
        (start.clone(), event("restart", "") + &die),
        (String::new(), die.clone()),
        (start.clone(), event("die", "137")),
        ("container start\n".to_owned(), die.clone()),
        (start.clone(), String::new()),
    ];
    for (before, after) in table {
        let patience = if after.is_empty() { MS(300) } else { LONG };
        let found = run_beside_events([&before, &after], &kept, patience);
        assert_eq!(found, (StopCause::External, 2), "{before}{after}");
    }
}

#[test]
fn a_task_that_others_stopped_and_removed_is_not_completed() {
    let id = format!("{:064}", 7);
    let event = |action: &str, detail: &str| format!("[\"{id}\",\"{action}\",\"{detail}\",1]\n");
    let [start, kill, die] = [event("start", ""), event("kill", "15"), event("die", "0")];
    let destroy = event("destroy", "");
    // The second one ends in a doubt, such as a harmless signal.
    let table = [(kill, StopCause::External), (event("kill", "10"), StopCause::OwnExit)];
    for (signal, expected) in table {
        let script = format!(
            "case \"$1\" in
            events) printf '%s' '{start}{signal}{die}{destroy}'; exec sleep 60 ;;
            run) write_id \"$@\" ;;
            inspect) echo 'Error: No such object: x' >&2; exit 1 ;;
            esac"
        );
        let mut scene = Scene::new(&script);
        scene.ends = Some(Ends::with_limits(scene.docker.clone(), OWNER, LONG, LONG));
        scene.starts.note_image(&scene.config.executor.image, Instant::now());
        let (mut task, _commander) = scene.task();
        task.record.client = None;
        let ContainerOutcome::Exited(exit) = scene.run(&mut task).expect("an outcome") else { panic!("it has exited") };
        assert_eq!((exit.code, exit.stop_cause), (0, expected), "{signal}");
        assert!(scene.calls("inspect") > 0);
    }
}
