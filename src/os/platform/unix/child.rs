//! Children of this process: their outputs and their end.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, ChildStderr, ChildStdout};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::os::platform::OutputStream;

/// Whether a child has ended. On Linux its status isn't fetched, so that its id, which is also its group's, isn't given to
/// another process before the group is killed. The other systems have no such call in `nix`.
pub fn has_ended(child: &mut Child) -> io::Result<bool> {
    #[cfg(target_os = "linux")]
    {
        use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        match waitid(Id::Pid(super::pid(child.id())?), look) {
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => Ok(false),
            // Without such a child, its status was fetched before.
            Ok(_) | Err(Errno::ECHILD) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
    #[cfg(not(target_os = "linux"))]
    Ok(child.try_wait()?.is_some())
}

/// Waits until a child's output has something to read or is closed. Returns whether that was so within `limit`.
pub fn wait_readable(output: &ChildStdout, limit: Duration) -> io::Result<bool> {
    let mut waiting = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
    match poll(&mut waiting, PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Both outputs of a child, which are read without a thread.
pub struct ChildOutputs(Vec<(OutputStream, File)>);

impl ChildOutputs {
    pub fn new(stdout: ChildStdout, stderr: ChildStderr) -> io::Result<Self> {
        let outputs = [(OutputStream::Stdout, OwnedFd::from(stdout)), (OutputStream::Stderr, OwnedFd::from(stderr))];
        let sources: Vec<_> = outputs.map(|(stream, output)| (stream, File::from(output))).into();
        for (_, source) in &sources {
            fcntl(source.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        Ok(Self(sources))
    }

    /// Reads until both are closed or until the deadline. `keep` gets the bytes. Returns whether both are closed.
    pub fn read_until(&mut self, deadline: Instant, keep: &mut dyn FnMut(OutputStream, &[u8])) -> io::Result<bool> {
        let (sources, mut buffer) = (&mut self.0, [0; 16 * 1024]);
        loop {
            if sources.is_empty() {
                return Ok(true);
            }
            let mut waiting: Vec<PollFd<'_>> =
                sources.iter().map(|(_, source)| PollFd::new(source.as_fd(), PollFlags::POLLIN)).collect();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            match poll(&mut waiting, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            let mut error = None;
            sources.retain_mut(|(stream, source)| match source.read(&mut buffer) {
                Ok(0) => false,
                Ok(count) => {
                    keep(*stream, &buffer[..count]);
                    true
                }
                Err(failed) if matches!(failed.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => true,
                Err(failed) => {
                    error = Some(failed);
                    false
                }
            });
            if let Some(error) = error {
                return Err(error);
            }
        }
    }
}
