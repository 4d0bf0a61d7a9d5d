//! Runs of the program: to the end, or in the background.

use super::folder::Folder;
use crate::support::docker::wait_until;
use crate::support::server::Request;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// A run that ends by itself is killed after this time, and the test fails.
const LONGEST_RUN: Duration = Duration::from_secs(60);

/// The program with arguments, about to be started.
pub struct Invocation {
    folder: Arc<Folder>,
    arguments: Vec<String>,
    cwd: PathBuf,
    environment: BTreeMap<String, String>,
    stdin: Option<String>,
    terminal: Option<File>,
    wrapper: Vec<String>,
    own_group: bool,
}

impl Invocation {
    pub fn new(folder: Arc<Folder>, arguments: &[&str]) -> Self {
        Self {
            cwd: folder.dir.clone(),
            environment: folder.environment.clone(),
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
            folder,
            stdin: None,
            terminal: None,
            wrapper: Vec::new(),
            own_group: false,
        }
    }

    /// Runs in another folder than the agent's.
    #[must_use]
    pub fn cwd(mut self, path: impl Into<PathBuf>) -> Self {
        self.cwd = path.into();
        self
    }

    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.insert(name.to_owned(), value.into());
        self
    }

    /// Sets the text of standard input, which is empty otherwise.
    #[must_use]
    pub fn stdin(mut self, text: &str) -> Self {
        self.stdin = Some(text.to_owned());
        self
    }

    /// Uses this terminal for all three standard streams; [`Running::log`] is empty then.
    #[must_use]
    pub fn terminal(mut self, terminal: File) -> Self {
        self.terminal = Some(terminal);
        self
    }

    /// Runs the program through another one, such as `setpriv`, that executes it.
    #[must_use]
    pub fn through(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Runs in its own process group, as in a shell, so that [`Running::signal_group`] can imitate Ctrl+C.
    #[must_use]
    pub fn own_group(mut self) -> Self {
        self.own_group = true;
        self
    }

    /// Starts the program and leaves it running.
    pub fn start(self) -> Running {
        let program = crate::support::program();
        let words = self.wrapper.iter().cloned().chain([program]).chain(self.arguments.iter().cloned());
        let words: Vec<String> = words.collect();
        let (number, stdout, stderr) = self.folder.add_run(words.join(" "), &self.cwd);
        let file = |path: &PathBuf| File::create(path).expect("open a file for a run's output");
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .current_dir(&self.cwd)
            .env_clear()
            .envs(&self.environment)
            .stdin(match self.stdin {
                Some(_) => Stdio::piped(),
                None => Stdio::null(),
            })
            .stdout(file(&stdout))
            .stderr(file(&stderr));
        if let Some(terminal) = &self.terminal {
            let end = || terminal.try_clone().expect("share the terminal");
            command.stdin(end()).stdout(end()).stderr(end());
        }
        if self.own_group {
            into_own_group(&mut command);
        }
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", words[0]));
        if let (Some(text), Some(mut stdin)) = (self.stdin, child.stdin.take()) {
            // A program that doesn't read its input closes the pipe; the test checks its output.
            let _ = stdin.write_all(text.as_bytes());
        }
        Running { folder: self.folder, child, number, stdout, stderr, ended: None }
    }

    /// Runs the program to its end.
    pub fn run(self) -> Finished {
        let command = self.arguments.join(" ");
        let mut running = self.start();
        let status = running.wait_exit(LONGEST_RUN);
        Finished { command, stdout: read(&running.stdout), stderr: read(&running.stderr), status }
    }
}

/// A finished run.
#[derive(Debug)]
pub struct Finished {
    pub command: String,
    pub stdout: String,
    pub stderr: String,
    pub status: ExitStatus,
}

impl Finished {
    /// Fails the test when the exit status is another one.
    pub fn expect_code(&self, code: i32) -> &Self {
        assert_eq!(
            self.status.code(),
            Some(code),
            "exit status of `{}`\n{}\n{}",
            self.command,
            self.stdout,
            self.stderr
        );
        self
    }

    /// Fails the test when standard output doesn't have this text.
    pub fn expect_stdout(&self, text: &str) -> &Self {
        let command = &self.command;
        assert!(self.stdout.contains(text), "standard output of `{command}` lacks {text:?}:\n{}", self.stdout);
        self
    }

    /// Fails the test when standard error doesn't have this text.
    pub fn expect_stderr(&self, text: &str) -> &Self {
        let command = &self.command;
        assert!(self.stderr.contains(text), "standard error of `{command}` lacks {text:?}:\n{}", self.stderr);
        self
    }
}

/// A running program. It is killed when the value is dropped.
pub struct Running {
    folder: Arc<Folder>,
    child: Child,
    number: usize,
    stdout: PathBuf,
    stderr: PathBuf,
    ended: Option<ExitStatus>,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The output of this run on both standard streams.
    pub fn log(&self) -> String {
        read(&self.stderr) + &read(&self.stdout)
    }

    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// Waits until the log has this text; fails the test at the deadline, or when the program ends
    /// without having written it.
    pub fn wait_log(&mut self, text: &str, deadline: Duration) {
        let what = format!("{text:?} in the log");
        wait_until(&what, deadline, || {
            let ended = !self.is_running();
            let found = self.log().contains(text);
            assert!(found || !ended, "the program ended without {text:?}");
            found
        });
    }

    /// True until the program has ended.
    pub fn is_running(&mut self) -> bool {
        if self.ended.is_none() {
            let status = self.child.try_wait().expect("ask for the program's end");
            if let Some(status) = status {
                self.note_end(status);
            }
        }
        self.ended.is_none()
    }

    /// Sends a signal.
    #[cfg(unix)]
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        super::processes::send(self.pid(), signal);
    }

    /// Sends a signal to the program's group, as a terminal does. Needs [`Invocation::own_group`].
    #[cfg(unix)]
    pub fn signal_group(&self, signal: nix::sys::signal::Signal) {
        super::processes::send_to_group(self.pid(), signal);
    }

    /// A callback for [`Fault::call`](crate::support::server::Fault::call) that kills this run.
    #[cfg(unix)]
    pub fn killer(&self) -> impl Fn(&Request) + Send + Sync + 'static {
        let process = self.pid();
        move |_| super::processes::send(process, nix::sys::signal::Signal::SIGKILL)
    }

    /// Asks the program to end with SIGTERM and waits for it.
    #[cfg(unix)]
    pub fn terminate(&mut self, deadline: Duration) -> ExitStatus {
        if self.is_running() {
            self.signal(nix::sys::signal::Signal::SIGTERM);
        }
        self.wait_exit(deadline)
    }

    /// Kills the program with SIGKILL, as a crash does, and waits for its end.
    pub fn kill9(&mut self) {
        if self.is_running() {
            let _ = self.child.kill();
            let status = self.child.wait().expect("wait for the killed program");
            self.note_end(status);
        }
    }

    /// Waits until the program has ended; fails the test at the deadline.
    pub fn wait_exit(&mut self, deadline: Duration) -> ExitStatus {
        let until = Instant::now() + deadline;
        while self.is_running() {
            assert!(Instant::now() < until, "the program still runs after {deadline:?}");
            thread::sleep(Duration::from_millis(5));
        }
        self.ended.expect("the program has ended")
    }

    fn note_end(&mut self, status: ExitStatus) {
        self.ended = Some(status);
        self.folder.end_run(self.number, status.to_string());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill9();
    }
}

fn read(path: &PathBuf) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

#[cfg(unix)]
fn into_own_group(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    command.process_group(0);
}

#[cfg(not(unix))]
fn into_own_group(_command: &mut Command) {}
