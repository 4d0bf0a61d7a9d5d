//! Child processes: short calls whose output is returned, and long ones whose output is streamed.
//!
//! Each child leads a process group of its own, so that a Ctrl+C in the terminal doesn't reach it, and every wait has a
//! bound.

mod bounded_log;
mod logged;
mod piped;
mod replay;

use std::io;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

pub use bounded_log::{BoundedLog, Otherwise, read_tail};
pub use logged::LoggedChild;
pub use piped::{PipedChild, PipedOutput};

use crate::os::platform::{self, ChildOutputs, OutputStream};

/// How much of a short call's output is kept, per stream; the rest is read and dropped.
const MAX_OUTPUT: usize = 1024 * 1024;
/// How long the output of a killed child is waited for: a process that has left the child's group may hold it open for ever.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a killed child that isn't waited for any more may take to end.
const KILLED_TIMEOUT: Duration = Duration::from_secs(2);
/// How often something else is looked at during a short call.
const LOOK: Duration = Duration::from_millis(200);

/// The result of a short call.
#[derive(Debug)]
pub struct CommandOutput {
    /// Whether it exited with 0.
    pub success: bool,
    /// Whether it broke off, so that its words say nothing; see [`is_crash`].
    pub is_crash: bool,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error, without blanks around it.
    pub stderr: String,
}

/// Whether a program ended by a signal, or as Go ends one that gets no thread or no memory: docker is one in Go, and has no
/// other use for that status. Or the shell before it had no memory to execute it.
pub fn is_crash(exit_code: Option<i32>) -> bool {
    const GO_FATAL_ERROR: i32 = 2;
    const NOT_EXECUTED: i32 = 126;
    matches!(exit_code, None | Some(GO_FATAL_ERROR | NOT_EXECUTED))
}

/// Why a short call has no result.
#[derive(Debug, Error)]
pub enum CallError {
    #[error("can't be started: {0}")]
    Spawn(io::Error),
    /// The command was killed at its time limit.
    #[error("gave no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
}

/// Runs a command to its end and returns its output, killing it after `limit`.
pub fn run_with_timeout(command: Command, limit: Duration) -> Result<CommandOutput, CallError> {
    run_with_looks(command, limit, None)
}

/// The same. Meanwhile `look` is called several times a second.
pub fn run_with_looks(
    mut command: Command,
    limit: Duration,
    mut look: Option<&mut dyn FnMut()>,
) -> Result<CommandOutput, CallError> {
    let deadline = Instant::now() + limit;
    let (mut child, out, err) = KillOnDrop::spawn(command.stdin(Stdio::null())).map_err(CallError::Spawn)?;
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut keep = |stream, bytes: &[u8]| {
        let kept = match stream {
            OutputStream::Stdout => &mut stdout,
            OutputStream::Stderr => &mut stderr,
        };
        let room = MAX_OUTPUT.saturating_sub(kept.len()).min(bytes.len());
        kept.extend_from_slice(&bytes[..room]);
    };
    let mut outputs = ChildOutputs::new(out, err).map_err(CallError::Spawn)?;
    loop {
        let next = look.as_ref().map_or(deadline, |_| deadline.min(Instant::now() + LOOK));
        let closed = outputs.read_until(next, &mut keep).map_err(CallError::Spawn)?;
        if closed {
            break;
        }
        if Instant::now() < deadline {
            look.iter_mut().for_each(|look| look());
            continue;
        }
        // The command may have ended and left a process running that holds its output open.
        child.kill();
        return Err(CallError::TimedOut(limit));
    }
    let status = child.wait_until(deadline).ok_or(CallError::TimedOut(limit))?;
    Ok(CommandOutput {
        success: status.success(),
        is_crash: is_crash(status.code()),
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).trim().to_owned(),
    })
}

/// A child that doesn't outlive its owner: on drop its group is killed and its exit status fetched.
struct KillOnDrop(Child);

impl KillOnDrop {
    /// Starts a command in a process group of its own, and returns its two outputs.
    fn spawn(command: &mut Command) -> io::Result<(Self, ChildStdout, ChildStderr)> {
        platform::in_own_group(command);
        let mut child = Self(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?);
        match (child.0.stdout.take(), child.0.stderr.take()) {
            (Some(stdout), Some(stderr)) => Ok((child, stdout, stderr)),
            _ => Err(io::Error::other("a child without pipes")),
        }
    }

    /// Whether the child has ended. Its status is fetched later: until then no other process gets its id.
    fn has_ended(&mut self) -> bool {
        platform::has_ended(&mut self.0).unwrap_or(false)
    }

    /// Waits for the child's end and fetches its status. Its outputs are closed already in most cases, and it ends in the
    /// same millisecond.
    fn wait_until(&mut self, deadline: Instant) -> Option<ExitStatus> {
        self.wait_ended(deadline).then(|| self.0.try_wait().ok().flatten()).flatten()
    }

    fn wait_ended(&mut self, deadline: Instant) -> bool {
        let mut pause = Duration::from_millis(1);
        while !self.has_ended() {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        true
    }

    /// Waits for the child's end, kills its group after `grace`, and what is left of it in any case: another process of the
    /// group could hold the outputs open for ever. Returns the exit status, or `None` if the child had to be killed.
    fn end(&mut self, grace: Duration) -> Option<ExitStatus> {
        let has_ended = self.wait_ended(Instant::now() + grace);
        // Before the status is fetched: from then on the group's id may be another one's.
        self.kill();
        has_ended.then(|| self.0.try_wait().ok().flatten()).flatten()
    }

    fn kill(&mut self) {
        if let Err(error) = platform::kill_group(self.0.id()) {
            log::warn!("process group {} can't be killed: {error}", self.0.id());
        }
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            self.kill();
            if self.wait_until(Instant::now() + KILLED_TIMEOUT).is_none() {
                log::warn!("process {} doesn't end although it was killed", self.0.id());
            }
        }
    }
}

/// Says that a child's output isn't read to its end.
fn held_open(child: u32) -> String {
    format!("another process holds the output of process {child} open, which has ended; going on without the rest")
}

#[cfg(test)]
mod properties;

#[cfg(all(test, unix))]
mod tests {
    use super::{BoundedLog, CallError, LoggedChild, PipedChild, run_with_timeout};
    use crate::os::platform;
    use std::ffi::{OsStr, OsString};
    use std::fs;
    use std::io::{ErrorKind, Read};
    use std::path::Path;
    use std::process::Command;
    use std::time::{Duration, Instant};

    fn sh(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_start_time_knows_the_boot_that_it_counts_from() {
        let own = std::process::id();
        let started = platform::start_time(own).unwrap();
        assert!(platform::is_started_at(own, &started));
        if cfg!(target_os = "linux") {
            let (ticks, boot) = started.split_once('@').unwrap();
            assert_eq!(boot.len(), 36, "{started}");
            assert!(platform::is_started_at(own, ticks), "records of older versions don't name the boot");
            let other_boot = format!("{ticks}@{}", "0".repeat(36));
            assert!(!platform::is_started_at(own, &other_boot), "a process of another boot with the same ticks");
        }
        assert!(!platform::is_started_at(own, "1"));
    }

    #[test]
    fn a_call_returns_both_outputs_and_its_success() {
        let done = run_with_timeout(sh("echo out; echo err >&2; exit 3"), Duration::from_secs(20)).unwrap();
        assert_eq!((done.stdout.as_str(), done.stderr.as_str(), done.success), ("out\n", "err", false));
    }

    #[test]
    fn a_call_that_hangs_is_killed_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let pid_file = dir.path().join("pid");
        let begun = Instant::now();
        let script = format!("sleep 60 & echo $! > {}; sleep 60", pid_file.display());
        assert!(matches!(run_with_timeout(sh(&script), Duration::from_secs(1)), Err(CallError::TimedOut(_))));
        assert!(begun.elapsed() < Duration::from_secs(40));
        let child: u32 = fs::read_to_string(pid_file).unwrap().trim().parse().unwrap();
        while platform::start_time(child).is_some() {
            assert!(begun.elapsed() < Duration::from_secs(50), "the background child outlives the call");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_call_with_much_output_is_read_to_its_end() {
        let done = run_with_timeout(sh("head -c 3000000 /dev/zero"), Duration::from_secs(20)).unwrap();
        assert!(done.success);
        assert_eq!(done.stdout.len(), super::MAX_OUTPUT);
    }

    #[test]
    fn a_gated_child_does_nothing_before_its_gate_opens() {
        let dir = tempfile::tempdir().unwrap();
        let logs = || (log(dir.path().join("out")), log(dir.path().join("err")));
        let mark = dir.path().join("mark");
        let args = [OsString::from(&mark)];
        let (out, err) = logs();
        let child = LoggedChild::spawn_gated(platform::gated(OsStr::new("touch"), &args), out, err).unwrap();
        drop(child);
        assert!(!mark.exists());
        let (out, err) = logs();
        let mut child = LoggedChild::spawn_gated(platform::gated(OsStr::new("touch"), &args), out, err).unwrap();
        child.open().unwrap();
        assert!(child.finish(Duration::from_secs(20)).unwrap().success());
        assert!(mark.exists());
    }

    /// Starts a process that has left the child's group and holds its outputs open.
    fn leave(dir: &Path) -> String {
        let left = dir.join("left").display().to_string();
        format!("setsid sh -c ': > {left}; exec sleep 60' & until [ -e {left} ]; do sleep 0.01; done;")
    }

    #[test]
    fn a_process_that_holds_the_outputs_open_delays_no_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let begun = Instant::now();
        let script = sh(&format!("{} echo out; exit 3", leave(dir.path())));
        let child = LoggedChild::spawn(script, log(path.clone()), log(dir.path().join("err"))).unwrap();
        assert_eq!(child.finish(Duration::from_secs(5)).unwrap().code(), Some(3));
        assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());

        let dir = tempfile::tempdir().unwrap();
        let (begun, left) = (Instant::now(), leave(dir.path()));
        let (child, mut output) = PipedChild::spawn(sh(&format!("{left} echo out; echo err >&2; exit 3"))).unwrap();
        let mut line = [0; 4];
        output.read_exact(&mut line).unwrap();
        assert_eq!((&line, child.finish(Duration::from_secs(5))), (b"out\n", Err("err".to_owned())));
        assert_eq!(output.read(&mut line).unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
    }

    #[test]
    fn a_killed_childs_output_ends_while_another_process_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let script = format!("{} echo out; sleep 60", leave(dir.path()));
        let (mut child, mut output) = PipedChild::spawn(sh(&script)).unwrap();
        output.read_exact(&mut [0; 4]).unwrap();
        let begun = Instant::now();
        child.kill();
        assert_eq!(output.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(child.finish(Duration::from_secs(5)).is_err());
        assert!(begun.elapsed() < Duration::from_secs(14), "{:?}", begun.elapsed());
    }

    #[test]
    fn a_child_that_has_ended_keeps_its_id_until_its_group_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let logs = ["out", "err"].map(|name| log(dir.path().join(name)));
        let [out, err] = logs;
        let mut child = LoggedChild::spawn(sh("exit 3"), out, err).unwrap();
        let begun = Instant::now();
        while !child.has_ended() {
            assert!(begun.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(10));
        }
        // A zombie is there, and no new process gets its id.
        let entry = Path::new("/proc").join(child.id().to_string());
        assert!(!cfg!(target_os = "linux") || entry.exists());
        assert_eq!(child.finish(Duration::from_secs(5)).unwrap().code(), Some(3));
        assert!(!entry.exists());
    }

    #[test]
    fn streamed_output_is_complete_when_finish_returns() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let child = LoggedChild::spawn(sh("seq 1 20000"), log(path.clone()), log(dir.path().join("err"))).unwrap();
        child.finish(Duration::from_secs(20)).unwrap();
        assert!(fs::read_to_string(path).unwrap().ends_with("\n19999\n20000\n"));
    }

    fn log(path: std::path::PathBuf) -> BoundedLog {
        BoundedLog::create(path, 1 << 20, 1 << 20)
    }
}
