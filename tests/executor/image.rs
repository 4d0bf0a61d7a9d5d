//! The image under test, and containers of it that are started by hand.

use crate::support::docker::{docker_if_there, docker_output, require_engine};
use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A file or folder of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The image's name. The image is built if the engine doesn't have it. After a failed build the other tests don't try
/// again.
pub fn executor_image() -> &'static str {
    static MADE: OnceLock<Result<String, String>> = OnceLock::new();
    let made = MADE.get_or_init(|| image_of(&repository("executor-example")));
    made.as_ref().unwrap_or_else(|error| panic!("{error}"))
}

/// The name of the image of a folder like `executor-example`. The image is built if the engine doesn't have it.
pub fn image_of(folder: &Path) -> Result<String, String> {
    require_engine();
    let output = Command::new(repository("scripts/executor-image")).arg(folder).stdin(Stdio::null()).output();
    let output = output.expect("run scripts/executor-image");
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(format!("scripts/executor-image made no image:\n{}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// A container without agent-core, with a workspace and a configuration as agent-core mounts them.
pub struct ByHand {
    image: &'static str,
    folder: TempDir,
    name: String,
    arguments: Vec<String>,
}

impl ByHand {
    /// With this `task.json`, or none.
    pub fn new(task: Option<&str>) -> Self {
        let image = executor_image();
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("make a folder");
        // The container's user must be able to enter the folder.
        for (path, mode) in [("", 0o755), ("workspace", 0o777), ("workspace/input", 0o777), ("workspace/output", 0o777)]
        {
            let path = folder.path().join(path);
            fs::create_dir_all(&path).expect("make a folder");
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("open a folder");
        }
        if let Some(task) = task {
            fs::write(folder.path().join("workspace/task.json"), task).expect("write task.json");
        }
        let unique = folder.path().file_name().expect("a name").to_string_lossy().replace('.', "");
        Self { image, folder, name: format!("agent-core-executor-test-{unique}"), arguments: Vec::new() }
    }

    /// Puts a file into the folder, such as `workspace/input/a.csv`.
    pub fn file(self, path: &str, text: &str) -> Self {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("make a folder");
        fs::write(path, text).expect("write a file");
        self
    }

    /// Mounts the folder `pi-agent`, which [`Self::file`] fills, at the place that the image reads.
    pub fn configured(mut self) -> Self {
        let source = self.path("pi-agent");
        let mount = format!("type=bind,source={},target=/etc/pi-agent,readonly", source.display());
        self.arguments.extend(["--mount".to_owned(), mount]);
        self
    }

    /// More words for `docker run`.
    pub fn with(mut self, words: &[&str]) -> Self {
        self.arguments.extend(words.iter().map(|word| (*word).to_owned()));
        self
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    fn command(&self) -> Command {
        let mount = format!("type=bind,source={},target=/workspace", self.path("workspace").display());
        let mut command = Command::new("docker");
        command.args(["run", "--rm", "--sig-proxy=false", "--name", &self.name, "--mount", &mount]);
        command.args(&self.arguments).arg(self.image).stdin(Stdio::null());
        command
    }

    /// Runs a container to its end, with a limit of two minutes.
    pub fn run(&self) -> Output {
        wait_output(self.start(), Duration::from_secs(120))
    }

    /// Starts a container and leaves it running; its output can be read when it has ended.
    pub fn start(&self) -> Child {
        self.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("run docker")
    }

    /// `docker stop`, as agent-core does it.
    pub fn stop(&self) {
        docker_output(&["stop", "-t", "10", &self.name]);
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        docker_if_there(&["rm", "--force", &self.name]);
        // The container's user may have left files that only root can remove.
        let rest = format!("type=bind,source={},target=/rest", self.folder.path().display());
        let container = ["run", "--rm", "--user", "0", "--network", "none", "--mount", &rest, "--entrypoint", "rm"];
        let remove = [self.image, "-rf", "/rest/workspace", "/rest/pi-agent"];
        docker_if_there(&[&container[..], &remove].concat());
    }
}

/// Waits for the end of a started container and reads its output; fails the test at the deadline.
pub fn wait_output(mut child: Child, deadline: Duration) -> Output {
    let until = Instant::now() + deadline;
    let (stdout, stderr) = (read_all(child.stdout.take()), read_all(child.stderr.take()));
    let status = loop {
        match child.try_wait().expect("ask for the end") {
            Some(status) => break status,
            None if Instant::now() >= until => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("the container still runs after {deadline:?}");
            }
            None => thread::sleep(Duration::from_millis(20)),
        }
    };
    let whole = |reader: JoinHandle<Vec<u8>>| reader.join().expect("read its output");
    Output { status, stdout: whole(stdout), stderr: whole(stderr) }
}

fn read_all(stream: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.expect("a pipe").read_to_end(&mut bytes).expect("read a pipe");
        bytes
    })
}

/// The last line of a container's standard error.
pub fn last_error(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    text.trim_end().lines().last().unwrap_or_default().to_owned()
}
