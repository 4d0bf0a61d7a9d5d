//! A child process whose output is written to bounded log files.

use std::io::{self, Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::bounded_log::BoundedLog;
use super::{DRAIN_TIMEOUT, KillOnDrop, held_open};

/// A child whose two outputs are each read by a thread into a [`BoundedLog`].
pub struct LoggedChild {
    child: KillOnDrop,
    eof: Receiver<()>,
    open_outputs: usize,
    has_printed: Arc<AtomicBool>,
    /// The line that opens the gate before which the child waits. Not every system has one.
    gate: Option<&'static [u8]>,
}

impl LoggedChild {
    /// Starts a program behind the gate of `platform::gated`; [`LoggedChild::open`] opens it. Its output is read also past the caps of the logs: a full pipe would block the
    /// program.
    pub fn spawn_gated(
        (command, gate): (Command, Option<&'static [u8]>),
        stdout: BoundedLog,
        stderr: BoundedLog,
    ) -> io::Result<Self> {
        Ok(Self { gate, ..Self::start(command, stdout, stderr)? })
    }

    /// Starts a program without a gate.
    pub fn spawn(mut command: Command, stdout: BoundedLog, stderr: BoundedLog) -> io::Result<Self> {
        command.stdin(Stdio::null());
        Self::start(command, stdout, stderr)
    }

    fn start(mut command: Command, stdout: BoundedLog, stderr: BoundedLog) -> io::Result<Self> {
        let (child, out, err) = KillOnDrop::spawn(&mut command)?;
        let (eof_sender, eof) = bounded(2);
        let has_printed = Arc::new(AtomicBool::new(false));
        let pump = |log| Pump { log, eof: eof_sender.clone(), has_printed: Arc::clone(&has_printed) };
        pump(stdout).spawn("task-stdout", out)?;
        pump(stderr).spawn("task-stderr", err)?;
        Ok(Self { child, eof, open_outputs: 2, has_printed, gate: None })
    }

    /// The child's process id, which is also its group's.
    pub fn id(&self) -> u32 {
        self.child.0.id()
    }

    /// Lets the child pass its gate.
    pub fn open(&mut self) -> io::Result<()> {
        match (self.gate, self.child.0.stdin.take()) {
            (Some(line), Some(mut stdin)) => stdin.write_all(line),
            _ => Ok(()),
        }
    }

    /// Whether the child has printed anything since the last call of this function.
    pub fn has_printed(&self) -> bool {
        self.has_printed.swap(false, Ordering::Relaxed)
    }

    /// Receives one message for each output that is closed; see [`LoggedChild::note_eof`].
    pub fn eof(&self) -> &Receiver<()> {
        &self.eof
    }

    /// To be called once for each message of [`LoggedChild::eof`]. Returns whether both outputs are closed now.
    pub fn note_eof(&mut self) -> bool {
        self.open_outputs = self.open_outputs.saturating_sub(1);
        self.open_outputs == 0
    }

    /// Whether the child has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.has_ended()
    }

    /// Waits for the end of the child, kills its group after `grace`, and waits until its output is in the logs. Returns
    /// its exit status, or `None` if it had to be killed.
    pub fn finish(mut self, grace: Duration) -> Option<ExitStatus> {
        let status = self.child.end(grace);
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        while self.open_outputs > 0 && self.eof.recv_deadline(deadline).is_ok() {
            self.open_outputs -= 1;
        }
        if self.open_outputs > 0 {
            log::warn!("{}", held_open(self.id()));
        }
        status
    }
}

/// Copies an output into a log.
struct Pump {
    log: BoundedLog,
    eof: Sender<()>,
    has_printed: Arc<AtomicBool>,
}

impl Pump {
    /// Runs the pump in a thread of this name.
    fn spawn(self, name: &str, source: impl Read + Send + 'static) -> io::Result<()> {
        thread::Builder::new().name(name.to_owned()).spawn(move || self.run(source)).map(drop)
    }

    fn run(mut self, mut source: impl Read) {
        let mut buffer = [0; 32 * 1024];
        loop {
            match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    self.has_printed.store(true, Ordering::Relaxed);
                    self.log.write(&buffer[..count]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        self.log.finish();
        // A send error means that the child is not watched any more; ignore it.
        let _ = self.eof.send(());
    }
}
