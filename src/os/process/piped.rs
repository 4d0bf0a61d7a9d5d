//! A child process whose standard output is read by the caller as it comes.

use std::io::{self, Read};
use std::process::{ChildStdout, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{KillOnDrop, MAX_OUTPUT, wait_until};

/// The child, and a thread that reads its standard error.
pub struct PipedChild {
    child: KillOnDrop,
    stderr: JoinHandle<String>,
}

impl PipedChild {
    /// Starts a program.
    pub fn spawn(mut command: Command) -> io::Result<(Self, ChildStdout)> {
        let (child, stdout, mut stderr) = KillOnDrop::spawn(command.stdin(Stdio::null()))?;
        let keep = move || {
            let mut kept = Vec::new();
            // The rest is read and dropped: a full pipe would block the child.
            let read = stderr.by_ref().take(MAX_OUTPUT as u64).read_to_end(&mut kept);
            let dropped = read.and_then(|_| io::copy(&mut stderr, &mut io::sink()));
            if let Err(error) = dropped {
                kept.extend_from_slice(format!(" (reading it failed: {error})").as_bytes());
            }
            String::from_utf8_lossy(&kept).trim().to_owned()
        };
        let stderr = thread::Builder::new().name("child-stderr".to_owned()).spawn(keep)?;
        Ok((Self { child, stderr }, stdout))
    }

    /// Kills the child and all processes that it has started.
    pub fn kill(&mut self) {
        self.child.kill();
    }

    /// Waits for the child's end, and kills its group after `grace`. The error is the child's standard error.
    pub fn finish(mut self, grace: Duration) -> Result<(), String> {
        let status = wait_until(&mut self.child.0, Instant::now() + grace);
        // Another process of the group could hold the pipe open for ever.
        self.child.kill();
        let stderr = self.stderr.join().unwrap_or_default();
        match status {
            Some(status) if status.success() => Ok(()),
            Some(status) if stderr.is_empty() => Err(format!("it ended with {status} and printed no error")),
            Some(_) => Err(stderr),
            None => Err(format!("it didn't end within {} s", grace.as_secs())),
        }
    }
}
