//! Children of this process: their outputs and their end.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::windows::io::AsRawHandle;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::ptr;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use windows_sys::Win32::System::Pipes::PeekNamedPipe;

use crate::os::platform::OutputStream;

/// The pause between two looks at a pipe: Windows can't wait for one.
const PEEK_PAUSE: Duration = Duration::from_millis(10);

/// Whether a child has ended. Its id isn't given to another process while its handle is open.
pub fn has_ended(child: &mut Child) -> io::Result<bool> {
    Ok(child.try_wait()?.is_some())
}

/// Waits until a child's output has something to read or is closed. Returns whether that was so within `limit`.
pub fn wait_readable(output: &ChildStdout, limit: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + limit;
    loop {
        let mut waiting = 0;
        // SAFETY: the handle is open as long as `output` lives, and no other pointer is passed than that to `waiting`.
        let is_open = unsafe {
            PeekNamedPipe(
                output.as_raw_handle(),
                ptr::null_mut(),
                0,
                ptr::null_mut(),
                &raw mut waiting,
                ptr::null_mut(),
            )
        };
        // A closed one has its end to be read.
        if is_open == 0 || waiting > 0 {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        thread::sleep(PEEK_PAUSE);
    }
}

/// Both outputs of a child, each of which a thread reads.
pub struct ChildOutputs(Receiver<(OutputStream, Vec<u8>)>);

impl ChildOutputs {
    pub fn new(stdout: ChildStdout, stderr: ChildStderr) -> io::Result<Self> {
        let (sender, chunks) = crossbeam_channel::bounded::<(OutputStream, Vec<u8>)>(4);
        let sources: [(OutputStream, Box<dyn Read + Send>); 2] =
            [(OutputStream::Stdout, Box::new(stdout)), (OutputStream::Stderr, Box::new(stderr))];
        for (stream, mut source) in sources {
            let sender = sender.clone();
            thread::Builder::new().name("docker-pipe".to_owned()).spawn(move || {
                let mut buffer = [0; 16 * 1024];
                while let Ok(count @ 1..) = source.read(&mut buffer) {
                    if sender.send((stream, buffer[..count].to_vec())).is_err() {
                        break;
                    }
                }
            })?;
        }
        Ok(Self(chunks))
    }

    /// Reads until both are closed or until the deadline. `keep` gets the bytes. Returns whether both are closed.
    pub fn read_until(&mut self, deadline: Instant, keep: &mut dyn FnMut(OutputStream, &[u8])) -> io::Result<bool> {
        loop {
            match self.0.recv_deadline(deadline) {
                Ok((stream, bytes)) => keep(stream, &bytes),
                Err(RecvTimeoutError::Disconnected) => return Ok(true),
                Err(RecvTimeoutError::Timeout) => return Ok(false),
            }
        }
    }
}

/// The command that runs `program`. On Windows it ends when it next prints something after this process has ended.
pub fn leashed(program: &OsStr, args: &[OsString]) -> Command {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    command
}
