//! The entry point without agent-core: invalid tasks, and its unit tests.

use crate::image::{ByHand, executor_image, last_error, repository};
use crate::scene::{Setup, reason};
use crate::support::docker::docker_output;
use crate::support::server::TaskSpec;
use std::str;

#[test]
fn a_bad_task_exits_with_2_and_one_line() {
    let cases = [
        (None, "bad task.json: there is no /workspace/task.json; is the task's folder mounted at /workspace?"),
        (Some("{"), "bad task.json: it isn't JSON: Expecting property name enclosed in double quotes"),
        (Some("[]"), "bad task.json: it isn't an object"),
        (
            Some(r#"{"task_prompt": " \n"}"#),
            "bad task.json: `task_prompt` is missing or empty, so there is nothing to do",
        ),
        (
            Some(r#"{"task_prompt": "x", "input_files": [{"local_path": "input/gone"}]}"#),
            "bad task.json: the input file 'input/gone': No such file or directory",
        ),
    ];
    for (task, expected) in cases {
        let output = ByHand::new(task).with(&["--network", "none"]).run();
        let stderr = str::from_utf8(&output.stderr).unwrap();
        assert_eq!((output.status.code(), stderr.lines().count()), (Some(2), 1), "{task:?}: {stderr}");
        assert!(stderr.starts_with(expected), "{task:?}: {stderr}");
    }
}

#[test]
fn an_invalid_time_limit_exits_with_2() {
    let output = ByHand::new(Some(r#"{"task_prompt": "x"}"#)).with(&["-e", "TIMEOUT=soon"]).run();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(last_error(&output), "TIMEOUT is 'soon', which isn't a number of seconds");
}

#[test]
fn a_read_only_tmp_is_reported() {
    let output = ByHand::new(Some(r#"{"task_prompt": "x"}"#)).with(&["--read-only"]).run();
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(last_error(&output), "/tmp can't be written to by user 52001: Read-only file system");
}

#[test]
fn an_empty_prompt_fails_the_task() {
    let scene = Setup::new(vec![]).start();
    let task = scene.failed(TaskSpec::new(" "));
    assert_eq!(task.output["exit_code"], 2);
    assert_eq!(reason(&task).trim_end(), "bad task.json: `task_prompt` is missing or empty, so there is nothing to do");
    assert_eq!(scene.model.asked().len(), 0);
}

#[test]
fn the_unit_tests_of_the_entry_point_pass() {
    let source = repository("executor-example");
    let mount = format!("type=bind,source={},target=/source,readonly", source.display());
    let container = ["run", "--rm", "--network", "none", "--mount", &mount, "-w", "/source"];
    let python = ["-e", "PYTHONPATH=/opt/executor", "--entrypoint", "python3", executor_image(), "-B"];
    let output = docker_output(&[&container[..], &python, &["-m", "unittest", "discover", "-s", "tests"]].concat());
    let report = str::from_utf8(&output.stderr).unwrap();
    assert!(output.status.success() && report.trim_end().ends_with("\nOK"), "{report}");
    assert!(!report.contains("Ran 0 tests"), "{report}");
}
