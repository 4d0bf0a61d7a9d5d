//! How a task ended: from what the engine says to what the Server is told. The rules are pure functions.

use std::time::Duration;

use jiff::Timestamp;

use super::{StepError, TaskRunner, WorkerEvent};
use crate::os::platform;
use crate::os::process::read_tail;
use crate::server::protocol::FinalStatus;
use crate::task::record::{Ending, Phase, StopReason};
use crate::units::Span;

/// How much of the container's last words goes into the error message, in characters (the Server's users see it).
const LAST_WORDS: usize = 2000;
/// The exit status of a process that SIGKILL ended.
const KILLED: i32 = 137;
/// With fewer bytes left a disk is full: what is left can be what we keep for ourselves.
const FULL: u64 = 1 << 20;

/// What is known of a container that has ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exit {
    pub code: i32,
    pub oom_killed: bool,
    pub ran_for: Duration,
    pub stop_cause: StopCause,
}

/// Who ended a container that we didn't stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopCause {
    /// Its program, or the kernel.
    Itself,
    /// The engine, which was stopped or lost it.
    Engine,
    /// Somebody, with a signal through the engine.
    Somebody,
}

/// What a task's messages are made of.
struct Evidence<'a> {
    stop: Option<StopReason>,
    exit: Exit,
    memory_limit: Option<&'a str>,
    /// Whether the workspace's disk is full, so that a failure may come from that and the last words may be missing.
    disk_is_full: bool,
    stdout: &'a str,
    stderr: &'a str,
}

impl TaskRunner<'_> {
    /// Writes down how the container ended.
    pub(super) fn end_with(&mut self, exit: Exit) -> Result<(), StepError> {
        self.tell(WorkerEvent::ContainerExited);
        let stdout = self.tail(&self.files.stdout());
        let stderr = self.tail(&self.files.stderr());
        let evidence = Evidence {
            stop: self.record.stop,
            exit,
            memory_limit: self.context.config.executor.memory_limit.as_deref(),
            disk_is_full: platform::free_disk(self.workspace.dir()).is_ok_and(|left| left < FULL),
            stdout: &stdout,
            stderr: &stderr,
        };
        let (status, error_message) = verdict(&evidence);
        let duration_secs = (exit.ran_for.as_secs_f64() * 1000.0).round() / 1000.0;
        let words = error_message.as_deref().map(|message| format!(": {}", first_line(message))).unwrap_or_default();
        log::info!(task:% = self.key(); "container exited with {} after {}, {}{words}", exit.code, Span(exit.ran_for), status.as_str());
        self.end(Ending { status, exit_code: Some(exit.code), error_message, duration_secs, at: Timestamp::now() })
    }

    /// Writes down that the task ended without a container that ran to its end: for `why`, or because it was stopped.
    pub(super) fn end_before_start(&mut self, why: String) -> Result<(), StepError> {
        let (status, error_message) = match self.record.stop {
            Some(StopReason::Cancel) => (FinalStatus::Cancelled, None),
            Some(reason) => (FinalStatus::Failed, Some(stopped_for(reason))),
            None => (FinalStatus::Failed, Some(why)),
        };
        let ending = Ending { status, exit_code: None, error_message, duration_secs: 0.0, at: Timestamp::now() };
        log::info!(task:% = self.key(); "{} before its container ran to an end", status.as_str());
        self.end(ending)
    }

    fn end(&mut self, ending: Ending) -> Result<(), StepError> {
        self.record.ending = Some(ending);
        self.record.client = None;
        self.advance(Phase::Exited)
    }

    fn tail(&self, log: &std::path::Path) -> String {
        // Four bytes a character, and a few more characters than are used.
        read_tail(log, 4 * (LAST_WORDS as u64 + 500)).unwrap_or_else(|error| {
            log::warn!(task:% = self.key(); "`{}` can't be read: {error}", log.display());
            String::new()
        })
    }
}

/// The end of what docker or the container printed, for an error message: of standard error, or of standard output
/// where that is empty (PROTOCOL, "The container contract").
pub(super) fn last_words(stdout: &str, stderr: &str) -> Option<String> {
    let words = [stderr, stdout].into_iter().map(str::trim).find(|text| !text.is_empty())?;
    let skipped = words.chars().count().saturating_sub(LAST_WORDS);
    Some(words.chars().skip(skipped).collect())
}

fn verdict(evidence: &Evidence<'_>) -> (FinalStatus, Option<String>) {
    let words = || last_words(evidence.stdout, evidence.stderr);
    let explained = |explanation: String| match words() {
        Some(words) => {
            // The explanation has to fit into the same two thousand characters.
            let room = LAST_WORDS.saturating_sub(explanation.chars().count() + 1);
            let skipped = words.chars().count().saturating_sub(room);
            format!("{explanation}\n{}", words.chars().skip(skipped).collect::<String>())
        }
        None => explanation,
    };
    let Exit { code, oom_killed, .. } = evidence.exit;
    match evidence.stop {
        Some(StopReason::Cancel) => (FinalStatus::Cancelled, None),
        Some(reason) => (FinalStatus::Failed, Some(explained(stopped_for(reason)))),
        // Whatever the status is: a program that ends with 0 when it is asked to end hasn't done its work.
        None if evidence.exit.stop_cause == StopCause::Engine => {
            let what = "the Docker engine went away while the container ran, which ended it";
            (FinalStatus::Failed, Some(explained(format!("{what} with status {code}"))))
        }
        None if evidence.exit.stop_cause == StopCause::Somebody => {
            let what = "somebody else than the agent stopped the container, as `docker stop` does, which ended it";
            (FinalStatus::Failed, Some(explained(format!("{what} with status {code}"))))
        }
        None if code == 0 => (FinalStatus::Completed, None),
        None if oom_killed => {
            let limit = match evidence.memory_limit {
                Some(limit) => format!("its memory limit of {limit} (`executor.memory_limit`)"),
                None => "the memory of the machine".to_owned(),
            };
            (FinalStatus::Failed, Some(explained(format!("out of memory: the container reached {limit}"))))
        }
        None if evidence.disk_is_full => {
            let why = format!("the disk was full when the container ended with status {code}");
            (FinalStatus::Failed, Some(explained(why)))
        }
        // The engine misses some of the kernel's kills: docker 20.10 on cgroup v1 about one in ten.
        None if code == KILLED && evidence.memory_limit.is_some() => {
            let limit = evidence.memory_limit.unwrap_or_default();
            let why = format!("killed, most likely out of memory: its limit is {limit} (`executor.memory_limit`)");
            (FinalStatus::Failed, Some(explained(why)))
        }
        None => {
            let silent = || format!("the container exited with status {code} and printed nothing");
            (FinalStatus::Failed, Some(words().unwrap_or_else(silent)))
        }
    }
}

fn stopped_for(reason: StopReason) -> String {
    let time = |minutes: u64| if minutes == 1 { "1 minute".to_owned() } else { format!("{minutes} minutes") };
    match reason {
        StopReason::Timeout { minutes } => format!("timed out after {} (`executor.timeout_minutes`)", time(minutes)),
        StopReason::Idle { minutes } => {
            format!("stopped after {} without any output (`executor.idle_timeout_minutes`)", time(minutes))
        }
        StopReason::Cancel => "cancelled".to_owned(),
        StopReason::Operator => "stopped by the operator".to_owned(),
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Evidence, Exit, StopCause, last_words, verdict};
    use crate::server::protocol::FinalStatus::{Cancelled, Completed, Failed};
    use crate::task::record::StopReason;
    use std::time::Duration;

    fn evidence(code: i32) -> Evidence<'static> {
        let exit = Exit { code, oom_killed: false, ran_for: Duration::ZERO, stop_cause: StopCause::Itself };
        let memory_limit = Some("64m");
        Evidence { stop: None, exit, memory_limit, disk_is_full: false, stdout: "out\n", stderr: "err\n" }
    }

    #[test]
    fn the_exit_status_decides_and_the_last_output_explains() {
        assert_eq!(verdict(&evidence(0)), (Completed, None));
        assert_eq!(verdict(&evidence(3)), (Failed, Some("err".to_owned())));
        assert_eq!(verdict(&Evidence { stderr: " \n", ..evidence(3) }), (Failed, Some("out".to_owned())));
        let silent = Evidence { stderr: "", stdout: "", ..evidence(3) };
        assert_eq!(verdict(&silent).1.unwrap(), "the container exited with status 3 and printed nothing");
    }

    #[test]
    fn a_stop_reason_overrides_the_exit_status() {
        let timeout = Evidence { stop: Some(StopReason::Timeout { minutes: 2 }), ..evidence(0) };
        let (status, message) = verdict(&timeout);
        assert_eq!(
            (status, message.unwrap().lines().next().unwrap().to_owned()),
            (Failed, "timed out after 2 minutes (`executor.timeout_minutes`)".to_owned())
        );
        assert_eq!(verdict(&Evidence { stop: Some(StopReason::Cancel), ..evidence(1) }), (Cancelled, None));
    }

    #[test]
    fn an_oom_kill_is_reported_with_the_memory_limit() {
        let mut killed = evidence(137);
        killed.exit.oom_killed = true;
        let message = verdict(&killed).1.unwrap();
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
            assert_eq!(verdict(&ended), (Failed, Some(expected)));
        }
    }

    #[test]
    fn a_container_stopped_from_outside_fails_even_with_status_0() {
        let mut stopped = evidence(0);
        stopped.exit.stop_cause = StopCause::Somebody;
        let expected = "somebody else than the agent stopped the container, as `docker stop` does, which ended it with \
                        status 0\nerr";
        assert_eq!(verdict(&stopped), (Failed, Some(expected.to_owned())));
        // Our own reason to stop it is known better.
        stopped.stop = Some(StopReason::Cancel);
        assert_eq!(verdict(&stopped), (Cancelled, None));
    }

    #[test]
    fn a_full_disk_is_reported_when_the_container_failed() {
        let full = |code| Evidence { disk_is_full: true, ..evidence(code) };
        assert_eq!(verdict(&full(0)), (Completed, None));
        assert_eq!(verdict(&full(3)).1.unwrap(), "the disk was full when the container ended with status 3\nerr");
        let silent = Evidence { stdout: "", stderr: "", ..full(3) };
        assert_eq!(verdict(&silent).1.unwrap(), "the disk was full when the container ended with status 3");
    }

    #[test]
    fn an_unexplained_kill_is_attributed_to_the_memory_limit() {
        let expected = "killed, most likely out of memory: its limit is 64m (`executor.memory_limit`)\nerr";
        assert_eq!(verdict(&evidence(137)).1.unwrap(), expected);
        let unlimited = Evidence { memory_limit: None, ..evidence(137) };
        assert_eq!(verdict(&unlimited), (Failed, Some("err".to_owned())));
    }

    #[test]
    fn long_messages_lose_their_beginning_between_characters() {
        let long = "é".repeat(3000) + "end";
        let words = last_words("", &long).unwrap();
        assert_eq!(words.chars().count(), 2000);
        assert!(words.ends_with("éend"));
        let timeout = Evidence { stop: Some(StopReason::Timeout { minutes: 1 }), stderr: &long, ..evidence(1) };
        let message = verdict(&timeout).1.unwrap();
        assert_eq!(message.chars().count(), 2000);
        assert!(message.starts_with("timed out after 1 minute (") && message.ends_with("end"));
    }
}
