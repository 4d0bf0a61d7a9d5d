//! The first process of a container (pid 1), where that is this program.
//!
//! The kernel ignores every signal to such a process for which it has no handler, and makes it the parent of all processes
//! whose own parent has ended. So it only passes signals on and fetches the status of what has ended, and the program runs
//! as its child, as below `docker run --init`.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc::SI_KERNEL;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// The signals that end the program.
const ENDING: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];

/// How long other processes may take to end after the child, and how often they are looked at.
const LINGER: Duration = Duration::from_millis(700);
const LOOK: Duration = Duration::from_millis(20);

/// In the first process, runs this program as a child and returns its exit status. In any other returns `None`, with the
/// signals that end the program allowed, which the parent may have held back. To be called before anything else.
pub fn run_below_first_process() -> io::Result<Option<u8>> {
    let mut signals: SigSet = ENDING.into_iter().collect();
    // Programs that wait for their children need that one.
    signals.add(Signal::SIGCHLD);
    if std::process::id() != 1 {
        signals.thread_unblock()?;
        return Ok(None);
    }
    // Signals wait from here on, and none is lost. The child inherits that and allows them again.
    signals.thread_block()?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)?;
    let mut words = std::env::args_os();
    let mut command = Command::new(std::env::current_exe()?);
    if let Some(name) = words.next() {
        command.arg0(name);
    }
    let child = Pid::from_raw(i32::try_from(command.args(words).spawn()?.id()).map_err(io::Error::other)?);
    loop {
        let Some(signal) = (match signals.read_signal() {
            Err(Errno::EINTR) => continue,
            read => read?,
        }) else {
            continue;
        };
        let number = i32::try_from(signal.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
        match number {
            Some(Signal::SIGCHLD) => {
                if let Some(status) = fetch_ended(child)? {
                    wait_for_others(child);
                    return Ok(Some(status));
                }
            }
            // What a terminal sends, such as Ctrl+C, the child gets by itself; that it is gone, only its first process.
            Some(number) if signal.ssi_code != SI_KERNEL || number == Signal::SIGHUP => match kill(child, number) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(error.into()),
            },
            _ => {}
        }
    }
}

/// Lets other processes of the container end, such as the `agent-core stop` that has ended the child: the kernel kills them
/// with the first process. Clients of docker may go on for long, and aren't waited for.
fn wait_for_others(child: Pid) {
    let is_process = |entry: &fs::DirEntry| {
        let number = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        number.is_some_and(|number| number != 1)
    };
    let end = Instant::now() + LINGER;
    while Instant::now() < end
        && fs::read_dir("/proc").is_ok_and(|mut all| all.any(|entry| entry.is_ok_and(|entry| is_process(&entry))))
    {
        thread::sleep(LOOK);
        if fetch_ended(child).is_err() {
            return;
        }
    }
}

/// Fetches the status of every process that has ended, and returns that of the child, as a shell shows it.
fn fetch_ended(child: Pid) -> io::Result<Option<u8>> {
    let mut status = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(ended, code)) if ended == child => status = Some(code),
            Ok(WaitStatus::Signaled(ended, signal, _)) if ended == child => status = Some(128 + signal as i32),
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => break,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(status.map(|status| u8::try_from(status).unwrap_or(u8::MAX)))
}
