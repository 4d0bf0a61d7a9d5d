//! Child processes: short calls whose output is wanted, and long ones whose output is streamed into bounded files.
//!
//! Each child leads a process group of its own, so that a Ctrl+C in our terminal doesn't reach it, and every wait has
//! a bound.

mod bounded;

use std::io::{self, Read, Write};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded as channel};

pub use bounded::{BoundedLog, read_tail};

use crate::os::platform;

/// How much of a short call's output is kept, per stream; the rest is read and dropped.
const KEPT: usize = 1024 * 1024;

/// What a short call did.
#[derive(Debug)]
pub struct Finished {
    /// Whether it exited with 0.
    pub success: bool,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error, without blanks around it.
    pub stderr: String,
}

/// Why a short call has no result.
#[derive(Debug)]
pub enum CallError {
    /// It could not be started.
    Spawn(io::Error),
    /// It hadn't ended within its time, and was killed.
    TimedOut(Duration),
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Spawn(error) => write!(f, "can't be started: {error}"),
            Self::TimedOut(limit) => write!(f, "gave no answer within {} s", limit.as_secs()),
        }
    }
}

impl std::error::Error for CallError {}

/// Runs a command to its end and returns what it printed, killing it after `limit`.
pub fn call(mut command: Command, limit: Duration) -> Result<Finished, CallError> {
    let deadline = Instant::now() + limit;
    platform::in_own_group(&mut command);
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = Reaped(spawned.map_err(CallError::Spawn)?);
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    if let (Some(out), Some(err)) = (child.0.stdout.take(), child.0.stderr.take()) {
        let mut take = |is_stdout: bool, bytes: &[u8]| {
            let kept = if is_stdout { &mut stdout } else { &mut stderr };
            let room = KEPT.saturating_sub(kept.len()).min(bytes.len());
            kept.extend_from_slice(&bytes[..room]);
        };
        let closed = platform::read_both(out, err, deadline, &mut take).map_err(CallError::Spawn)?;
        if !closed {
            // The command may have ended and left something running that holds its output open.
            child.kill();
            return Err(CallError::TimedOut(limit));
        }
    }
    let status = wait_until(&mut child.0, deadline).ok_or(CallError::TimedOut(limit))?;
    Ok(Finished {
        success: status.success(),
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).trim().to_owned(),
    })
}

/// A child whose output flows into two [`BoundedLog`]s, each read by a thread.
pub struct LoggedChild {
    child: Reaped,
    closed: Receiver<()>,
    open: usize,
    printed: Arc<AtomicBool>,
}

/// A child that waits for [`LoggedChild::open`] before it does anything, where the system can do that.
pub struct Gate {
    word: Option<&'static [u8]>,
}

impl LoggedChild {
    /// Starts a program behind a gate. What it prints goes to the two logs from then on, past their caps too: a
    /// pipe that nobody reads would block the container behind it.
    pub fn spawn_gated(
        program: &std::ffi::OsStr,
        args: &[std::ffi::OsString],
        stdout: BoundedLog,
        stderr: BoundedLog,
    ) -> io::Result<(Self, Gate)> {
        let (command, word) = platform::gated(program, args);
        Ok((Self::start(command, stdout, stderr)?, Gate { word }))
    }

    /// Starts a program at once.
    pub fn spawn(mut command: Command, stdout: BoundedLog, stderr: BoundedLog) -> io::Result<Self> {
        command.stdin(Stdio::null());
        Self::start(command, stdout, stderr)
    }

    fn start(mut command: Command, stdout: BoundedLog, stderr: BoundedLog) -> io::Result<Self> {
        platform::in_own_group(&mut command);
        let mut child = Reaped(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?);
        let (closing, closed) = channel(2);
        let printed = Arc::new(AtomicBool::new(false));
        let mut open = 0;
        if let Some(source) = child.0.stdout.take() {
            pump("task-stdout", source, stdout, closing.clone(), Arc::clone(&printed))?;
            open += 1;
        }
        if let Some(source) = child.0.stderr.take() {
            pump("task-stderr", source, stderr, closing, Arc::clone(&printed))?;
            open += 1;
        }
        Ok(Self { child, closed, open, printed })
    }

    /// The child's process id, which is its group's too.
    pub fn id(&self) -> u32 {
        self.child.0.id()
    }

    /// Lets the child go on from its gate.
    pub fn open(&mut self, gate: Gate) -> io::Result<()> {
        match (gate.word, self.child.0.stdin.take()) {
            (Some(word), Some(mut stdin)) => stdin.write_all(word),
            _ => Ok(()),
        }
    }

    /// Whether anything was printed since this was asked last.
    pub fn has_printed(&self) -> bool {
        self.printed.swap(false, Ordering::Relaxed)
    }

    /// A channel that says something when one of the outputs was closed; see [`LoggedChild::note_closed`].
    pub fn closings(&self) -> &Receiver<()> {
        &self.closed
    }

    /// To be called once for each message of [`LoggedChild::closings`]. Returns whether both outputs are closed now.
    pub fn note_closed(&mut self) -> bool {
        self.open = self.open.saturating_sub(1);
        self.open == 0
    }

    /// The exit status, if the child has ended.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.0.try_wait()
    }

    /// Waits for the end of the child, kills its group when `grace` is over, and waits until what it had printed is in
    /// the logs. Returns its exit status, or `None` if it had to be killed.
    pub fn finish(mut self, grace: Duration) -> Option<ExitStatus> {
        let status = wait_until(&mut self.child.0, Instant::now() + grace);
        // Whatever else runs in the group could hold the pipes open for ever.
        self.child.kill();
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.open > 0 && self.closed.recv_deadline(deadline).is_ok() {
            self.open -= 1;
        }
        status
    }
}

/// A child whose standard output somebody reads as it comes.
pub struct PipedChild {
    child: Reaped,
    words: thread::JoinHandle<String>,
}

impl PipedChild {
    /// Starts a program. What it prints on standard error is kept, up to a bound.
    pub fn spawn(mut command: Command) -> io::Result<(Self, ChildStdout)> {
        platform::in_own_group(&mut command);
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = Reaped(spawned?);
        let (Some(stdout), Some(mut stderr)) = (child.0.stdout.take(), child.0.stderr.take()) else {
            return Err(io::Error::other("a child without pipes"));
        };
        let keep = move || {
            let mut kept = Vec::new();
            // The rest is read and dropped: a pipe that nobody reads would block the child.
            let read = stderr.by_ref().take(KEPT as u64).read_to_end(&mut kept);
            let dropped = read.and_then(|_| io::copy(&mut stderr, &mut io::sink()));
            if let Err(error) = dropped {
                kept.extend_from_slice(format!(" (and can't be read on: {error})").as_bytes());
            }
            String::from_utf8_lossy(&kept).trim().to_owned()
        };
        let words = thread::Builder::new().name("child-stderr".to_owned()).spawn(keep)?;
        Ok((Self { child, words }, stdout))
    }

    /// Ends the child and all that it has started.
    pub fn kill(&mut self) {
        self.child.kill();
    }

    /// Waits for the child's end, and kills its group when `grace` is over. The error is what it printed on standard
    /// error.
    pub fn finish(mut self, grace: Duration) -> Result<(), String> {
        let status = wait_until(&mut self.child.0, Instant::now() + grace);
        // Whatever else runs in the group could hold the pipe open for ever.
        self.child.kill();
        let words = self.words.join().unwrap_or_default();
        match status {
            Some(status) if status.success() => Ok(()),
            Some(status) if words.is_empty() => Err(format!("it ended with {status} and without a word")),
            Some(_) => Err(words),
            None => Err(format!("it didn't end within {} s", grace.as_secs())),
        }
    }
}

fn pump(
    name: &str,
    source: impl Read + Send + 'static,
    log: BoundedLog,
    closing: Sender<()>,
    printed: Arc<AtomicBool>,
) -> io::Result<()> {
    let drain = move || {
        let (mut source, mut log) = (source, log);
        let mut buffer = [0; 32 * 1024];
        loop {
            match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    printed.store(true, Ordering::Relaxed);
                    log.write(&buffer[..count]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        log.finish();
        // Nobody listens any more when the task was given up meanwhile.
        let _ = closing.send(());
    };
    thread::Builder::new().name(name.to_owned()).spawn(drain).map(drop)
}

fn wait_until(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    let mut pause = Duration::from_millis(1);
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// A child that doesn't outlive its owner: its group is killed and its exit status fetched on drop.
struct Reaped(Child);

impl Reaped {
    fn kill(&mut self) {
        if let Err(error) = platform::kill_group(self.0.id()) {
            log::warn!("process group {} can't be killed: {error}", self.0.id());
        }
    }
}

impl Drop for Reaped {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            self.kill();
            if wait_until(&mut self.0, Instant::now() + Duration::from_secs(2)).is_none() {
                log::warn!("process {} doesn't end although it was killed", self.0.id());
            }
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::{BoundedLog, CallError, LoggedChild, call};
    use std::ffi::{OsStr, OsString};
    use std::fs;
    use std::process::Command;
    use std::time::{Duration, Instant};

    fn sh(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_call_returns_both_outputs_and_its_success() {
        let done = call(sh("echo out; echo err >&2; exit 3"), Duration::from_secs(20)).unwrap();
        assert_eq!((done.stdout.as_str(), done.stderr.as_str(), done.success), ("out\n", "err", false));
    }

    #[test]
    fn a_call_that_hangs_is_killed_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("mark");
        let begun = Instant::now();
        let script = format!("(sleep 2; touch {}) & sleep 60", mark.display());
        assert!(matches!(call(sh(&script), Duration::from_millis(300)), Err(CallError::TimedOut(_))));
        assert!(begun.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(2500));
        assert!(!mark.exists(), "the background child outlived the call");
    }

    #[test]
    fn a_call_with_much_output_is_read_to_its_end() {
        let done = call(sh("head -c 3000000 /dev/zero"), Duration::from_secs(20)).unwrap();
        assert!(done.success);
        assert_eq!(done.stdout.len(), super::KEPT);
    }

    #[test]
    fn a_gated_child_does_nothing_before_its_gate_opens() {
        let dir = tempfile::tempdir().unwrap();
        let logs = || (log(dir.path().join("out")), log(dir.path().join("err")));
        let mark = dir.path().join("mark");
        let args = [OsString::from(&mark)];
        let (out, err) = logs();
        let (child, _gate) = LoggedChild::spawn_gated(OsStr::new("touch"), &args, out, err).unwrap();
        drop(child);
        assert!(!mark.exists());
        let (out, err) = logs();
        let (mut child, gate) = LoggedChild::spawn_gated(OsStr::new("touch"), &args, out, err).unwrap();
        child.open(gate).unwrap();
        assert!(child.finish(Duration::from_secs(20)).unwrap().success());
        assert!(mark.exists());
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
