//! A child process whose standard output is read by the caller as it comes.

use std::io::{self, Read};
use std::process::{ChildStderr, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{DRAIN_TIMEOUT, KillOnDrop, MAX_OUTPUT, held_open};
use crate::os::platform;

/// How often a read that waits looks whether the child was killed.
const TICK: Duration = Duration::from_millis(500);

/// The child, and what a thread reads of its standard error.
pub struct PipedChild {
    child: KillOnDrop,
    words: Arc<Mutex<Vec<u8>>>,
    /// Is closed when the thread has read all.
    eof: Receiver<()>,
    killed: Arc<OnceLock<Instant>>,
}

/// The child's standard output. Some seconds after the child was killed a read fails, also where another process holds the
/// output open.
pub struct PipedOutput {
    stdout: ChildStdout,
    killed: Arc<OnceLock<Instant>>,
}

impl PipedChild {
    /// Starts a program.
    pub fn spawn(mut command: Command) -> io::Result<(Self, PipedOutput)> {
        command.stdin(Stdio::null());
        Self::spawn_leashed(command)
    }

    /// Starts a program on the leash of `platform::leashed`, which is held as long as what this returns.
    pub fn spawn_leashed(mut command: Command) -> io::Result<(Self, PipedOutput)> {
        let (child, stdout, stderr) = KillOnDrop::spawn(&mut command)?;
        let (words, killed) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::<OnceLock<Instant>>::default());
        let (sender, eof) = bounded(0);
        let kept = Arc::clone(&words);
        thread::Builder::new().name("child-stderr".to_owned()).spawn(move || keep(stderr, &kept, sender))?;
        let output = PipedOutput { stdout, killed: Arc::clone(&killed) };
        Ok((Self { child, words, eof, killed }, output))
    }

    /// Kills the child and all processes that it has started, unless they have left its group.
    pub fn kill(&mut self) {
        self.child.kill();
        self.killed.get_or_init(Instant::now);
    }

    /// Waits for the child's end, and kills its group after `grace`. The error is the child's standard error.
    pub fn finish(mut self, grace: Duration) -> Result<(), String> {
        let status = self.child.end(grace);
        self.killed.get_or_init(Instant::now);
        // The thread sends nothing: an error other than this means that it has ended.
        if self.eof.recv_timeout(DRAIN_TIMEOUT).is_err_and(|error| error.is_timeout()) {
            log::warn!("{}", held_open(self.child.0.id()));
        }
        let stderr = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        let stderr = String::from_utf8_lossy(&stderr).trim().to_owned();
        match status {
            Some(status) if status.success() => Ok(()),
            Some(status) if stderr.is_empty() => Err(format!("it ended with {status} and printed no error")),
            Some(_) => Err(stderr),
            None => Err(format!("it didn't end within {} s", grace.as_secs())),
        }
    }
}

/// Reads to the end and keeps the beginning: a full pipe would block the child.
fn keep(mut stderr: ChildStderr, words: &Mutex<Vec<u8>>, _eof: Sender<()>) {
    let mut buffer = [0; 4096];
    loop {
        let read = stderr.read(&mut buffer);
        let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(0) => return,
            Ok(count) => {
                let room = MAX_OUTPUT.saturating_sub(words.len()).min(count);
                words.extend_from_slice(&buffer[..room]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                words.extend_from_slice(format!(" (reading it failed: {error})").as_bytes());
                return;
            }
        }
    }
}

impl PipedOutput {
    /// Reads what there is, or waits for it until the limit, when it returns `None`.
    pub fn read_within(&mut self, buffer: &mut [u8], limit: Duration) -> io::Result<Option<usize>> {
        if platform::wait_readable(&self.stdout, limit)? { self.stdout.read(buffer).map(Some) } else { Ok(None) }
    }
}

impl Read for PipedOutput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.killed.get().is_some_and(|killed| killed.elapsed() >= DRAIN_TIMEOUT) {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "another process holds the output open"));
            }
            if platform::wait_readable(&self.stdout, TICK)? {
                return self.stdout.read(buffer);
            }
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::PipedChild;
    use crate::os::platform;
    use std::ffi::{OsStr, OsString};
    use std::io::Read;
    use std::time::Duration;

    #[test]
    fn a_leashed_child_ends_with_its_owner_and_is_no_other_than_the_program() {
        let args = ["-c", "echo $$; read line || echo no input; exec sleep 60"].map(OsString::from);
        let (child, mut output) = PipedChild::spawn_leashed(platform::leashed(OsStr::new("sh"), &args)).unwrap();
        let mut text = String::new();
        while !text.ends_with("no input\n") {
            let mut buffer = [0; 64];
            let count = output.read_within(&mut buffer, Duration::from_secs(20)).unwrap().expect("some output");
            text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        }
        let id: u32 = text.lines().next().unwrap().parse().unwrap();
        assert_eq!(id, child.child.0.id());
        // As the end of this process does it.
        let mut child = child;
        drop(child.child.0.stdin.take());
        let ended = child.finish(Duration::from_secs(20));
        assert!(ended.as_ref().is_err_and(|why| why.contains("signal: 9")), "{ended:?}");
    }

    #[test]
    fn a_leashed_child_that_ends_says_why() {
        let args = ["-c", "echo refused >&2; exit 3"].map(OsString::from);
        let (child, mut output) = PipedChild::spawn_leashed(platform::leashed(OsStr::new("sh"), &args)).unwrap();
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), child.finish(Duration::from_secs(20))), ("", Err("refused".to_owned())));
    }
}
