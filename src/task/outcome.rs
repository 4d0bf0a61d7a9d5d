//! What the end of a container means for its task: pure rules, and the record of what they say.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use log::Level;

use super::{Ending, Phase, StepError, StopReason, TaskFiles, TaskHandle, WorkerEvent};
use crate::os::platform;
use crate::os::process::read_tail;
use crate::server::protocol::FinalStatus;
use crate::text::cut;
use crate::units::{Minutes, Span};

/// How many characters of the container's output an error message holds.
const LAST_WORDS: usize = 2000;
/// What is said of a completed task. Many programs don't look whether what they write has arrived on the disk.
const CUT_BY_DISK: &str =
    "the disk was full when the container ended, so what it has written and printed may be cut or missing";
/// How many bytes of the reason for a failure the log shows.
const SHOWN_REASON: usize = 300;
/// How many bytes are read of each output, for [`LAST_WORDS`] of up to four bytes each and the blanks around them.
const TAIL: u64 = 4 * (LAST_WORDS as u64 + 500);
/// The exit status of a process that SIGKILL ended.
const KILLED: i32 = 137;
/// A disk with fewer free bytes counts as full.
pub const FULL: u64 = 1 << 20;

/// A container that ran for a shorter time ended at once.
const AT_ONCE: Duration = Duration::from_secs(5);
/// The exit statuses of a program that couldn't begin: 1, 126, 127 and 255 where it or its shell can't be executed, 132 and
/// 139 where this processor can't run it, 159 where a call of the system is forbidden.
const NEVER_BEGAN: [i32; 7] = [1, 126, 127, 132, 139, 159, 255];

/// How the run of a container ended.
#[derive(Debug)]
pub enum ContainerOutcome {
    /// The container ran and exited.
    Exited(Exit),
    /// It never ran, for this reason.
    NotStarted(String),
    /// It ran or may have run, and nothing more can be known of it, for this reason.
    Lost(String),
    /// The task was stopped before a container ran.
    Stopped,
}

/// What is known of a container that has exited.
#[derive(Debug, Clone, Copy)]
pub struct Exit {
    pub code: i32,
    pub oom_killed: bool,
    pub ran_for: Duration,
    pub stop_cause: StopCause,
}

/// What ended a container that the agent didn't stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopCause {
    /// Its own program, or the kernel.
    OwnExit,
    /// The engine, which was stopped or lost the container.
    Engine,
    /// A signal through the engine, which this agent didn't send.
    External,
    /// The machine, which went down or was restarted.
    Machine,
}

/// Writes an outcome as the task's ending. `memory_limit` is the container's.
pub fn record(task: &mut TaskHandle, outcome: ContainerOutcome, memory_limit: Option<&str>) -> Result<(), StepError> {
    let (ending, said) = match outcome {
        ContainerOutcome::Exited(exit) => exited(task, exit, memory_limit),
        ContainerOutcome::NotStarted(why) | ContainerOutcome::Lost(why) => without_exit(task, Some(why)),
        ContainerOutcome::Stopped => without_exit(task, None),
    };
    task.record.ending = Some(ending);
    task.record.client = None;
    task.advance(Phase::Exited)?;
    // Only now: a record that can't be written would have it said, and counted, at each try.
    log::log!(said.level, task:% = task.key(); "{}", said.line);
    said.event.into_iter().for_each(|event| task.send(event));
    Ok(())
}

/// What is said of an ending.
struct Said {
    level: Level,
    line: String,
    event: Option<WorkerEvent>,
}

fn exited(task: &TaskHandle, exit: Exit, memory_limit: Option<&str>) -> (Ending, Said) {
    let [stdout, stderr] = [task.files.stdout(), task.files.stderr()].map(|log| tail(&task.files, &log, TAIL));
    let evidence = Evidence {
        stop: task.record.stop,
        exit,
        memory_limit,
        disk_is_full: platform::free_disk(task.workspace.dir()).is_ok_and(|left| left < FULL),
        stdout: &stdout,
        stderr: &stderr,
    };
    let (status, error_message) = decide(&evidence);
    let is_silent = task.record.stop.is_none() && has_ended_silently(exit, &stdout, &stderr);
    let event = if is_silent { WorkerEvent::SilentEnd(exit.code) } else { WorkerEvent::ProgramRan };
    let duration_secs = (exit.ran_for.as_secs_f64() * 1000.0).round() / 1000.0;
    let level = if error_message.is_some() { Level::Warn } else { Level::Info };
    let why = error_message.as_deref().map(|message| format!(": {}", shown_reason(&evidence, message)));
    let (time, why) = (Span(exit.ran_for), why.unwrap_or_default());
    let line = format!("container exited with {} after {time}, {}{why}", exit.code, status.as_str());
    let ending = Ending { status, exit_code: Some(exit.code), error_message, duration_secs, at: Timestamp::now() };
    (ending, Said { level, line, event: Some(event) })
}

/// Why a task failed, in one line of the log: the agent's explanation, or else the last line that was printed. A program
/// that prints where it was begins with that, and ends with the reason.
fn shown_reason(evidence: &Evidence<'_>, message: &str) -> String {
    let last_line =
        || message.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned();
    let why = explain_failure(evidence).unwrap_or_else(last_line);
    cut(&why, SHOWN_REASON).into_owned()
}

/// Whether a container ended as it would if no program could run on this machine. What the runtime says when it can't
/// execute the program (`exec /bin/sh: operation not permitted`) isn't the program's.
fn has_ended_silently(exit: Exit, stdout: &str, stderr: &str) -> bool {
    let words = stderr.trim();
    let is_runtimes =
        !words.contains('\n') && ["exec /", "standard_init_linux.go:"].iter().any(|begin| words.starts_with(begin));
    NEVER_BEGAN.contains(&exit.code)
        && exit.ran_for < AT_ONCE
        && exit.stop_cause == StopCause::OwnExit
        && !exit.oom_killed
        && stdout.trim().is_empty()
        && (words.is_empty() || is_runtimes)
}

fn without_exit(task: &TaskHandle, why: Option<String>) -> (Ending, Said) {
    let (status, error_message) = match task.record.stop {
        Some(StopReason::Cancel) => (FinalStatus::Cancelled, None),
        Some(reason) => (FinalStatus::Failed, Some(explain_stop(reason))),
        None => (FinalStatus::Failed, why),
    };
    let line = format!("{} before its container ran to an end", status.as_str());
    let ending = Ending { status, exit_code: None, error_message, duration_secs: 0.0, at: Timestamp::now() };
    (ending, Said { level: Level::Info, line, event: None })
}

/// The end of an output, for a person.
pub fn tail(files: &TaskFiles, log: &Path, limit: u64) -> String {
    // Four bytes a character, and a few more characters than are used.
    read_tail(log, limit).unwrap_or_else(|error| {
        log::warn!(task:% = files.key(); "`{}` can't be read: {error}", log.display());
        String::new()
    })
}

/// The end of what docker or the container printed, for an error message: of standard error, or of standard output
/// where that is empty (PROTOCOL, "The container contract").
pub fn last_words(stdout: &str, stderr: &str) -> Option<String> {
    let words = [stderr, stdout].into_iter().map(str::trim).find(|text| !text.is_empty())?;
    Some(last_characters(words, LAST_WORDS))
}

fn last_characters(text: &str, count: usize) -> String {
    text.chars().skip(text.chars().count().saturating_sub(count)).collect()
}

/// What the status and the error message are decided from.
struct Evidence<'a> {
    stop: Option<StopReason>,
    exit: Exit,
    memory_limit: Option<&'a str>,
    /// Whether the workspace's disk is full: that may be why the container failed, and why its last words are missing.
    disk_is_full: bool,
    stdout: &'a str,
    stderr: &'a str,
}

fn decide(evidence: &Evidence<'_>) -> (FinalStatus, Option<String>) {
    if evidence.stop == Some(StopReason::Cancel) {
        return (FinalStatus::Cancelled, None);
    }
    let words = last_words(evidence.stdout, evidence.stderr);
    let message = match (explain_failure(evidence), words) {
        (None, _) if evidence.exit.code == 0 => {
            return (FinalStatus::Completed, evidence.disk_is_full.then(|| CUT_BY_DISK.to_owned()));
        }
        // The explanation has to fit into the same two thousand characters.
        (Some(explanation), Some(words)) => {
            let room = LAST_WORDS.saturating_sub(explanation.chars().count() + 1);
            format!("{explanation}\n{}", last_characters(&words, room))
        }
        (Some(explanation), None) => explanation,
        (None, Some(words)) => words,
        (None, None) => format!("the container exited with status {} and printed nothing", evidence.exit.code),
    };
    (FinalStatus::Failed, Some(message))
}

/// Why a container failed, as far as something else than its own output says so.
fn explain_failure(evidence: &Evidence<'_>) -> Option<String> {
    let Exit { code, oom_killed, stop_cause, .. } = evidence.exit;
    match (evidence.stop, stop_cause) {
        (Some(reason), _) => Some(explain_stop(reason)),
        // With any status: a program that exits with 0 when it is asked to end hasn't done its work.
        (None, StopCause::Engine) => {
            Some(format!("the Docker engine went away while the container ran, which ended it with status {code}"))
        }
        (None, StopCause::Machine) => {
            Some(format!("the machine went down while the container ran, which ended it with status {code}"))
        }
        (None, StopCause::External) => Some(format!(
            "something other than the agent stopped the container, as `docker stop` does, which ended it with \
             status {code}"
        )),
        (None, StopCause::OwnExit) if code == 0 => None,
        (None, StopCause::OwnExit) if oom_killed => {
            let limit = match evidence.memory_limit {
                Some(limit) => format!("its memory limit of {limit} (`executor.memory_limit`)"),
                None => "the memory of the machine".to_owned(),
            };
            Some(format!("out of memory: the container reached {limit}"))
        }
        (None, StopCause::OwnExit) if evidence.disk_is_full => {
            Some(format!("the disk was full when the container ended with status {code}"))
        }
        // The engine misses some of the kernel's kills: docker 20.10 on cgroup v1 about one in ten.
        (None, StopCause::OwnExit) if code == KILLED => evidence
            .memory_limit
            .map(|limit| format!("killed, most likely out of memory: its limit is {limit} (`executor.memory_limit`)")),
        (None, StopCause::OwnExit) => None,
    }
}

fn explain_stop(reason: StopReason) -> String {
    match reason {
        StopReason::Timeout { minutes } => format!("timed out after {} (`executor.timeout_minutes`)", Minutes(minutes)),
        StopReason::Idle { minutes } => {
            format!("stopped after {} without any output (`executor.idle_timeout_minutes`)", Minutes(minutes))
        }
        StopReason::Cancel => "cancelled".to_owned(),
        StopReason::Operator => "stopped by the operator".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        CUT_BY_DISK, ContainerOutcome, Evidence, Exit, StopCause, decide, has_ended_silently, last_words, shown_reason,
    };
    use crate::data_dir::DataDir;
    use crate::server::protocol::FinalStatus::{Cancelled, Completed, Failed};
    use crate::server::protocol::Task;
    use crate::task::record::StopReason;
    use crate::task::{Job, Record, Store, TaskHandle, TaskKey, WorkerEvent, Workspace};
    use crossbeam_channel::unbounded;
    use std::sync::Arc;
    use std::time::Duration;

    fn evidence(code: i32) -> Evidence<'static> {
        let exit = Exit { code, oom_killed: false, ran_for: Duration::ZERO, stop_cause: StopCause::OwnExit };
        let memory_limit = Some("64m");
        Evidence { stop: None, exit, memory_limit, disk_is_full: false, stdout: "out\n", stderr: "err\n" }
    }

    #[test]
    fn the_exit_status_decides_and_the_last_output_explains() {
        assert_eq!(decide(&evidence(0)), (Completed, None));
        assert_eq!(decide(&evidence(3)), (Failed, Some("err".to_owned())));
        assert_eq!(decide(&Evidence { stderr: " \n", ..evidence(3) }), (Failed, Some("out".to_owned())));
        let silent = Evidence { stderr: "", stdout: "", ..evidence(3) };
        assert_eq!(decide(&silent).1.unwrap(), "the container exited with status 3 and printed nothing");
    }

    /// The log had the first line of a traceback, which is the same for every failure.
    #[test]
    fn the_log_shows_the_last_line_of_an_error_or_the_explanation() {
        let traceback = "Traceback (most recent call last):\n  File \"x.py\"\nKeyError: temperature\n\n";
        assert_eq!(shown_reason(&evidence(1), traceback), "KeyError: temperature");
        let timeout = Evidence { stop: Some(StopReason::Timeout { minutes: 2 }), ..evidence(143) };
        assert_eq!(shown_reason(&timeout, traceback), "timed out after 2 minutes (`executor.timeout_minutes`)");
        assert!(shown_reason(&evidence(1), &"x".repeat(5000)).len() < 340);
    }

    #[test]
    fn an_end_that_can_not_be_written_is_not_said() {
        let dir = tempfile::tempdir().unwrap();
        let (data_dir, key) = (DataDir::new(dir.path()), TaskKey::from_id("t").unwrap());
        let record = Record::from_offer(Task { id: "t".to_owned(), ..Task::default() }, "s", "u");
        let store = Store::open(&data_dir).unwrap();
        let files = store.create(&key, &record).unwrap();
        let ((messages, events), (_commander, commands)) = (unbounded(), unbounded());
        let job = Job { files, record, commands, is_worker_wanted: Arc::default() };
        let mut task = TaskHandle::new(job, Workspace::new(&data_dir, &key), Some(messages));
        let end = || ContainerOutcome::Exited(Exit { code: 126, ..evidence(126).exit });
        std::fs::rename(data_dir.join("tasks"), data_dir.join("away")).unwrap();
        assert!(super::record(&mut task, end(), None).is_err());
        assert_eq!(events.try_iter().count(), 0, "the door would close after the tries of one task");
        std::fs::rename(data_dir.join("away"), data_dir.join("tasks")).unwrap();
        super::record(&mut task, end(), None).unwrap();
        let told = events.try_iter().filter(|message| matches!(message.event, WorkerEvent::SilentEnd(126)));
        assert_eq!(told.count(), 1);
    }

    #[test]
    fn only_a_program_that_may_never_have_begun_ends_silently() {
        let exit = evidence(1).exit;
        for code in [1, 126, 127, 255] {
            assert!(has_ended_silently(Exit { code, ..exit }, "", " \n"), "{code}");
        }
        let denied = "exec /bin/sh: operation not permitted\n";
        assert!(has_ended_silently(Exit { code: 255, ..exit }, "", denied));
        assert!(
            !has_ended_silently(exit, "", &format!("{denied}more")) && !has_ended_silently(exit, "", "sh: exec: x")
        );
        assert!(!has_ended_silently(exit, "out", "") && !has_ended_silently(exit, "", "err"));
        for code in [0, 2, 3, 137, 143] {
            assert!(!has_ended_silently(Exit { code, ..exit }, "", ""), "{code}");
        }
        assert!(!has_ended_silently(Exit { ran_for: Duration::from_secs(5), ..exit }, "", ""));
        assert!(!has_ended_silently(Exit { oom_killed: true, ..exit }, "", ""));
        assert!(!has_ended_silently(Exit { stop_cause: StopCause::External, ..exit }, "", ""));
    }

    #[test]
    fn a_stop_reason_overrides_the_exit_status() {
        let timeout = Evidence { stop: Some(StopReason::Timeout { minutes: 2 }), ..evidence(0) };
        let (status, message) = decide(&timeout);
        assert_eq!(
            (status, message.unwrap().lines().next().unwrap().to_owned()),
            (Failed, "timed out after 2 minutes (`executor.timeout_minutes`)".to_owned())
        );
        assert_eq!(decide(&Evidence { stop: Some(StopReason::Cancel), ..evidence(1) }), (Cancelled, None));
    }

    #[test]
    fn an_oom_kill_is_reported_with_the_memory_limit() {
        let mut killed = evidence(137);
        killed.exit.oom_killed = true;
        let message = decide(&killed).1.unwrap();
        assert_eq!(
            message,
            "out of memory: the container reached its memory limit of 64m (`executor.memory_limit`)\nerr"
        );
    }

    #[test]
    fn a_container_ended_by_the_engine_fails_with_any_status() {
        for code in [0, 99, 137, 143, 255] {
            let mut ended = evidence(code);
            ended.exit.stop_cause = StopCause::Engine;
            let expected =
                format!("the Docker engine went away while the container ran, which ended it with status {code}\nerr");
            assert_eq!(decide(&ended), (Failed, Some(expected)));
        }
    }

    #[test]
    fn a_container_that_ended_with_its_machine_fails_with_any_status() {
        let mut ended = evidence(0);
        ended.exit.stop_cause = StopCause::Machine;
        let expected = "the machine went down while the container ran, which ended it with status 0\nerr";
        assert_eq!(decide(&ended), (Failed, Some(expected.to_owned())));
    }

    #[test]
    fn a_container_stopped_from_outside_fails_even_with_status_0() {
        let mut stopped = evidence(0);
        stopped.exit.stop_cause = StopCause::External;
        let expected = "something other than the agent stopped the container, as `docker stop` does, which ended it \
                        with status 0\nerr";
        assert_eq!(decide(&stopped), (Failed, Some(expected.to_owned())));
        // The agent's own reason to stop it outweighs that.
        stopped.stop = Some(StopReason::Cancel);
        assert_eq!(decide(&stopped), (Cancelled, None));
    }

    #[test]
    fn a_full_disk_is_reported_when_the_container_failed() {
        let full = |code| Evidence { disk_is_full: true, ..evidence(code) };
        assert_eq!(decide(&full(0)), (Completed, Some(CUT_BY_DISK.to_owned())));
        assert_eq!(decide(&full(3)).1.unwrap(), "the disk was full when the container ended with status 3\nerr");
        let silent = Evidence { stdout: "", stderr: "", ..full(3) };
        assert_eq!(decide(&silent).1.unwrap(), "the disk was full when the container ended with status 3");
    }

    #[test]
    fn an_unexplained_kill_is_attributed_to_the_memory_limit() {
        let expected = "killed, most likely out of memory: its limit is 64m (`executor.memory_limit`)\nerr";
        assert_eq!(decide(&evidence(137)).1.unwrap(), expected);
        let unlimited = Evidence { memory_limit: None, ..evidence(137) };
        assert_eq!(decide(&unlimited), (Failed, Some("err".to_owned())));
    }

    #[test]
    fn long_messages_lose_their_beginning_between_characters() {
        let long = "é".repeat(3000) + "end";
        let words = last_words("", &long).unwrap();
        assert_eq!(words.chars().count(), 2000);
        assert!(words.ends_with("éend"));
        let timeout = Evidence { stop: Some(StopReason::Timeout { minutes: 1 }), stderr: &long, ..evidence(1) };
        let message = decide(&timeout).1.unwrap();
        assert_eq!(message.chars().count(), 2000);
        assert!(message.starts_with("timed out after 1 minute (") && message.ends_with("end"));
    }
}
