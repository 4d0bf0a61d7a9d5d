//! A separate Docker engine, which a test can stop, kill and start again.
//!
//! It runs in its own network namespace, since a second engine would otherwise replace the first one's bridge. Its
//! containers have no network. All its files and processes are in one folder and one control group; dropping the value
//! removes them in any state.

use crate::support::docker::{TEST_IMAGE, container_name, test_image, wait_until};
use crate::support::secs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What happens to the containers when the engine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithoutEngine {
    /// They end with it: docker's default.
    End,
    /// They continue: docker's `live-restore`.
    GoOn,
}

/// The owner of the engine's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Socket {
    /// The engine: calls are refused while it is down.
    Engines,
    /// Another process, as systemd on Debian and Ubuntu: calls wait while the engine is down.
    Held,
}

pub struct OwnEngine {
    folder: TempDir,
    /// The name of the control group above those of its containers.
    group: String,
    without: WithoutEngine,
    held: Option<UnixListener>,
    dockerd: Option<Child>,
}

/// The time limit for the engine's start and stop.
const PATIENCE: Duration = Duration::from_secs(60);

impl OwnEngine {
    /// Starts an engine that has the test image.
    pub fn start(without: WithoutEngine, socket: Socket) -> Self {
        super::require_root();
        let folder = tempfile::Builder::new().prefix("dockerd-").tempdir().expect("make the engine's folder");
        let name = folder.path().file_name().expect("a folder has a name").to_string_lossy().into_owned();
        let mut engine = Self { folder, group: format!("agent-core-{name}"), without, held: None, dockerd: None };
        let path = engine.socket();
        assert!(path.as_os_str().len() < 100, "too long for a socket: {}; set a shorter TMPDIR", path.display());
        if socket == Socket::Held {
            engine.held = Some(UnixListener::bind(path).expect("make the engine's socket"));
        }
        engine.start_again();
        engine.load_image();
        engine
    }

    /// The `DOCKER_HOST` of a client.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Starts the engine, which must not be running, and waits until it answers.
    pub fn start_again(&mut self) {
        assert!(self.dockerd.is_none(), "the engine runs already");
        let log = File::options().create(true).append(true).open(self.log()).expect("open the engine's log");
        let path = |name: &str| self.folder.path().join(name).to_string_lossy().into_owned();
        // A held socket is passed as file descriptor 3.
        let script = "if [ -S /dev/stdin ]; then exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; fi\n\
                      exec dockerd \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", script, "dockerd", "--bridge=none", "--iptables=false"]);
        command.args(["--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", &self.group]);
        command.args(["--data-root", &path("data"), "--exec-root", &path("exec"), "--pidfile", &path("pid")]);
        match &self.held {
            Some(socket) => {
                let socket = socket.try_clone().expect("share the engine's socket");
                command.args(["--host", "fd://"]).stdin(std::os::fd::OwnedFd::from(socket));
            }
            None => {
                command.args(["--host", &self.host()]).stdin(Stdio::null());
            }
        }
        if self.without == WithoutEngine::GoOn {
            command.arg("--live-restore");
        }
        // A containerd that is killed may write its stacks to TMPDIR.
        command.env("TMPDIR", self.folder.path());
        command.stdout(log.try_clone().expect("share the engine's log")).stderr(log);
        self.dockerd = Some(command.spawn().expect("start `unshare --net dockerd`"));
        let until = Instant::now() + PATIENCE;
        while !self.output(&["version"]).status.success() {
            let ended = self.dockerd.as_mut().and_then(|child| child.try_wait().expect("ask for the engine's end"));
            assert!(ended.is_none(), "the engine ended at once, {ended:?}:\n{}", self.end_of_log());
            assert!(Instant::now() < until, "the engine doesn't answer:\n{}", self.end_of_log());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends the engine with SIGTERM, as a service manager does, and waits for its end.
    pub fn stop(&mut self) {
        self.end(Signal::SIGTERM);
    }

    /// Ends the engine with SIGKILL, as a crash does, and waits for its end.
    pub fn kill(&mut self) {
        self.end(Signal::SIGKILL);
    }

    /// Ends the engine and all processes in its containers, as a power cut does.
    pub fn crash_with_containers(&mut self) {
        self.kill();
        self.kill_processes();
    }

    fn end(&mut self, signal: Signal) {
        let mut dockerd = self.dockerd.take().expect("the engine runs");
        kill(pid(dockerd.id()), signal).expect("signal the engine");
        let ended = wait_for_end(&mut dockerd, PATIENCE);
        if !ended {
            self.dockerd = Some(dockerd);
            panic!("the engine doesn't end:\n{}", self.end_of_log());
        }
        // Its containerd ends with it. The next engine would take the pid of a zombie for a running containerd.
        let file = self.folder.path().join("exec/containerd/containerd.pid");
        if let Some(containerd) = fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok()) {
            wait_until("the engine's containerd to end", secs(20), || !runs(containerd));
            fs::remove_file(&file).expect("remove the pid of a containerd that is dead");
        }
    }

    /// Runs `docker` with this engine and returns what it printed; fails the test when docker fails.
    pub fn docker(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "`docker {}`: {}\n{error}", arguments.join(" "), output.status);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// The names of all its containers, running or not.
    pub fn containers(&self) -> Vec<String> {
        let list = self.docker(&["ps", "--all", "--format", "{{.Names}}"]);
        list.lines().map(str::to_owned).collect()
    }

    /// Waits until the engine has recorded that the container of this task runs; the container may start a moment
    /// earlier.
    pub fn wait_running(&self, task_id: &str) {
        let state = ["inspect", "--format", "{{.State.Status}}", &container_name(task_id)];
        wait_until("the engine to know that the container runs", secs(20), || {
            String::from_utf8_lossy(&self.output(&state).stdout).trim() == "running"
        });
    }

    /// Fails the test unless all its containers are removed within a few seconds.
    pub fn assert_no_containers(&self) {
        wait_until("the containers to be removed", secs(20), || self.containers().is_empty());
    }

    fn output(&self, arguments: &[&str]) -> Output {
        // With a held socket a client may wait for ever.
        let mut command = Command::new("timeout");
        command.args(["20", "docker", "--host", &self.host()]).args(arguments).stdin(Stdio::null());
        command.output().expect("run `docker`")
    }

    /// Copies the test image from the usual engine.
    fn load_image(&self) {
        let image = Command::new("docker").args(["save", test_image()]).output().expect("run `docker save`");
        assert!(image.status.success(), "docker save {TEST_IMAGE}: {}", String::from_utf8_lossy(&image.stderr));
        let mut load = Command::new("docker");
        load.args(["--host", &self.host(), "load"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut load = load.spawn().expect("run `docker load`");
        load.stdin.take().expect("a pipe").write_all(&image.stdout).expect("give the image to `docker load`");
        assert!(load.wait().expect("wait for `docker load`").success(), "docker load");
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("sock")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn end_of_log(&self) -> String {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Whether a process runs in its containers. The engine itself may be down.
    pub fn has_container_processes(&self) -> bool {
        processes().any(|process| self.has_in_a_container(process))
    }

    fn has_in_a_container(&self, process: u32) -> bool {
        proc_file(process, "cgroup").contains(&format!("/{}/", self.group)) && runs(process)
    }

    /// Whether a process belongs to the engine: dockerd, containerd and its shims have the folder in their command
    /// line.
    fn has_as_its_own(&self, process: u32) -> bool {
        let command = proc_file(process, "cmdline");
        let program = command.split('\0').next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        let is_engines = ["dockerd", "containerd"].contains(&program) || program.starts_with("containerd-shim");
        is_engines && command.contains(&format!("{}/", self.folder.path().display())) && runs(process)
    }

    /// The running processes of the engine and its containers.
    fn processes(&self) -> Vec<u32> {
        processes().filter(|process| self.has_in_a_container(*process) || self.has_as_its_own(*process)).collect()
    }

    fn kill_processes(&self) {
        let until = Instant::now() + secs(10);
        loop {
            let left = self.processes();
            if left.is_empty() || Instant::now() > until {
                break;
            }
            for process in left {
                let _ = kill(pid(process), Signal::SIGKILL);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Removes what shims and containers leave outside of the engine's folder.
    fn remove_traces(&self) {
        let shims = self.folder.path().join("exec/containerd/daemon/io.containerd.runtime.v2.task/moby");
        for shim in fs::read_dir(shims).into_iter().flatten().flatten() {
            let address = fs::read_to_string(shim.path().join("address")).unwrap_or_default();
            if let Some(socket) = address.trim().strip_prefix("unix://") {
                let _ = fs::remove_file(socket);
            }
        }
        let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
        for hierarchy in hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]) {
            let group = hierarchy.join(&self.group);
            for child in fs::read_dir(&group).into_iter().flatten().flatten() {
                let _ = fs::remove_dir(child.path());
            }
            let _ = fs::remove_dir(group);
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let below = |path: &&str| Path::new(path).starts_with(self.folder.path());
        let mut mounts: Vec<&str> = mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(below).collect();
        mounts.sort_unstable();
        for mount in mounts.iter().rev() {
            let _ = Command::new("umount").args(["--lazy", mount]).status();
        }
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("=== the test's own engine ===\n{}", self.end_of_log());
        }
        if let Some(mut dockerd) = self.dockerd.take() {
            // A running engine can remove its containers itself.
            let list = self.output(&["ps", "--all", "--quiet"]);
            for id in String::from_utf8_lossy(&list.stdout).lines() {
                self.output(&["rm", "--force", "--volumes", id]);
            }
            let _ = kill(pid(dockerd.id()), Signal::SIGTERM);
            if !wait_for_end(&mut dockerd, secs(20)) {
                let _ = dockerd.kill();
                let _ = dockerd.wait();
            }
        }
        self.kill_processes();
        self.remove_traces();
        let left = self.processes();
        if !(left.is_empty() || thread::panicking()) {
            panic!("processes of the test's own engine are left: {left:?}");
        }
    }
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).expect("a process id"))
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").expect("list the processes").flatten();
    entries.filter_map(|process| process.file_name().to_str()?.parse().ok())
}

/// A file of a process in /proc; empty if the process has ended.
fn proc_file(process: u32, name: &str) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{process}/{name}")).unwrap_or_default()).into_owned()
}

/// Whether a process runs. A zombie doesn't.
fn runs(process: u32) -> bool {
    let status = proc_file(process, "status");
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z') && !line.contains('X'))
}

fn wait_for_end(child: &mut Child, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    while child.try_wait().expect("ask for the engine's end").is_none() {
        if Instant::now() > until {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
    true
}
