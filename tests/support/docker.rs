//! The Docker engine for tests: the test image, and queries about containers.
//!
//! The image needs no registry. It is the host's static busybox with an entrypoint that runs the task's script
//! (`input/run.sh`), or copies inputs to outputs if there is none.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

/// The image that [`test_image`] makes.
pub const TEST_IMAGE: &str = "agent-core-test:1";

/// Runs `input/run.sh`. It is the first process of the container, which a signal ends only if it has a
/// handler; so it passes TERM on to the script, and a script that ignores TERM is still waited for.
const ENTRY: &str = r#"#!/bin/sh
script=/workspace/input/run.sh
[ -f "$script" ] || script=/copy-inputs
sh "$script" "$@" &
child=$!
trap 'kill -TERM "$child" 2>/dev/null' TERM INT
wait "$child"
code=$?
while kill -0 "$child" 2>/dev/null; do
    wait "$child"
    code=$?
done
exit "$code"
"#;

/// The program of a task without a script.
const COPY_INPUTS: &str = r#"#!/bin/sh
set -e
cd /workspace
for file in input/*; do
    if [ -f "$file" ]; then cp "$file" output/; fi
done
{
    echo "task $TASK_ID, timeout $TIMEOUT"
    cat task.json
} > output/result.txt
echo "copied $(ls input | wc -l) inputs"
"#;

/// Runs `docker` and returns what it wrote to standard output; fails the test when docker fails.
pub fn docker(arguments: &[&str]) -> String {
    let output = docker_output(arguments);
    assert!(
        output.status.success(),
        "`docker {}`: {}\n{}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Runs `docker` for a report or a cleanup and returns its output; empty without docker. It never fails the test.
pub fn docker_if_there(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output();
    let output = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).trim().to_owned()
}

/// Runs `docker` and returns its output without checking the exit status.
pub fn docker_output(arguments: &[&str]) -> Output {
    let output = Command::new("docker").args(arguments).output();
    output.unwrap_or_else(|error| panic!("cannot run `docker`: {error}\n{REMEDY}"))
}

const REMEDY: &str = "These tests need a Docker engine that this user may talk to: \
    run `scripts/ensure-docker`, or start yours and see that `docker version` names a server.";

/// Fails the test when there is no engine. Tests that need one are never skipped.
pub fn require_engine() {
    let output = docker_output(&["version", "--format", "{{.Server.Version}}"]);
    assert!(
        output.status.success(),
        "no Docker engine answers: {}\n{REMEDY}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
}

/// The name of the test image. The image is made if the engine doesn't have it.
pub fn test_image() -> &'static str {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| {
        require_engine();
        make_test_image();
    });
    TEST_IMAGE
}

fn make_test_image() {
    let busybox = static_busybox();
    let version = image_version(&busybox);
    // Test processes that start at the same time make the image one after the other.
    let folder = super::temporary_folder();
    fs::create_dir_all(&folder).expect("make the folder for temporary files");
    let lock = File::create(folder.join("test-image.lock")).expect("open the image's lock file");
    let _locked = lock_exclusively(lock);
    let label = "{{index .Config.Labels \"agent-core.test-image\"}}";
    let found = docker_output(&["image", "inspect", "--format", label, TEST_IMAGE]);
    if String::from_utf8_lossy(&found.stdout).trim() == version {
        return;
    }
    let root = tempfile::tempdir_in(&folder).expect("make a folder for the image");
    let tar = image_tar(&busybox, root.path());
    let label = format!("LABEL agent-core.test-image={version}");
    docker(&[
        "import",
        "--change",
        "ENTRYPOINT [\"/entry\"]",
        "--change",
        "ENV PATH=/bin",
        "--change",
        &label,
        &tar.to_string_lossy(),
        TEST_IMAGE,
    ]);
}

/// A version that changes with the image's content, since an engine may have an older image.
fn image_version(busybox: &Path) -> String {
    let mut hasher = DefaultHasher::new();
    (ENTRY, COPY_INPUTS, wrapper("bash"), applets(busybox)).hash(&mut hasher);
    let size = fs::metadata(busybox).expect("look at busybox").len();
    size.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Builds the image's file system and returns it as a tar file. `docker import` takes that on every
/// engine; `docker build` depends on which builder is installed.
fn image_tar(busybox: &Path, folder: &Path) -> PathBuf {
    let root = folder.join("root");
    for name in ["bin", "etc", "proc", "sys", "dev", "workspace", "tmp"] {
        fs::create_dir_all(root.join(name)).expect("make a folder of the image");
    }
    make_executable(&root.join("tmp"), 0o1777);
    let bin = root.join("bin");
    fs::copy(busybox, bin.join("busybox")).expect("copy busybox");
    make_executable(&bin.join("busybox"), 0o755);
    for applet in applets(busybox) {
        link("busybox", &bin.join(applet));
    }
    for (path, text) in [
        ("entry", ENTRY.to_owned()),
        ("copy-inputs", COPY_INPUTS.to_owned()),
        ("bin/bash", wrapper("bash")),
        ("bin/python", wrapper("python")),
    ] {
        let path = root.join(path);
        let _ = fs::remove_file(&path);
        fs::write(&path, text).expect("write a script of the image");
        make_executable(&path, 0o755);
    }
    let passwd = "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n";
    fs::write(root.join("etc/passwd"), passwd).expect("write /etc/passwd of the image");
    let tar = folder.join("image.tar");
    let status = Command::new(busybox)
        .arg("tar")
        .arg("-cf")
        .arg(&tar)
        .arg("-C")
        .arg(&root)
        .arg(".")
        .status()
        .expect("run busybox tar");
    assert!(status.success(), "busybox tar: {status}");
    tar
}

/// Replaces `bash` and `python`: runs the script with `sh` and sets `RUN_BY`.
fn wrapper(name: &str) -> String {
    format!("#!/bin/sh\nexport RUN_BY={name}\nexec /bin/sh \"$@\"\n")
}

fn applets(busybox: &Path) -> Vec<String> {
    let output = Command::new(busybox).arg("--list").output();
    let output = output.expect("run busybox --list");
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    let names = names.lines().filter(|name| *name != "busybox");
    names.map(str::to_owned).collect()
}

fn static_busybox() -> PathBuf {
    let places = ["/bin/busybox", "/usr/bin/busybox", "/bin/busybox.static"];
    let found = places.iter().map(Path::new).find(|path| {
        fs::read(path).is_ok_and(|bytes| {
            // A dynamically linked program needs a loader, which the image doesn't have.
            let loader = b"/ld-";
            !bytes[..bytes.len().min(8192)].windows(loader.len()).any(|part| part == loader)
        })
    });
    let remedy = "the test image needs a static busybox: install the package `busybox-static` \
        (Debian, Ubuntu: apt-get install busybox-static)";
    found.expect(remedy).to_owned()
}

#[cfg(unix)]
fn link(target: &str, path: &Path) {
    std::os::unix::fs::symlink(target, path).expect("link an applet");
}

#[cfg(not(unix))]
fn link(target: &str, path: &Path) {
    let source = path.with_file_name(target);
    fs::copy(source, path).expect("copy an applet");
}

#[cfg(unix)]
fn make_executable(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::Permissions::from_mode(mode);
    fs::set_permissions(path, mode).expect("set a mode in the image");
}

#[cfg(not(unix))]
fn make_executable(_path: &Path, _mode: u32) {}

#[cfg(unix)]
fn lock_exclusively(file: File) -> nix::fcntl::Flock<File> {
    use nix::fcntl::{Flock, FlockArg};
    let locked = Flock::lock(file, FlockArg::LockExclusive);
    locked.map_err(|(_, error)| error).expect("lock the image")
}

#[cfg(not(unix))]
fn lock_exclusively(file: File) -> File {
    file
}

/// The name of a task's container.
pub fn container_name(task_id: &str) -> String {
    format!("open-aaas-task-{task_id}")
}

/// True while a container of that name exists, running or not.
pub fn container_exists(name: &str) -> bool {
    container_state(name).is_some()
}

/// `created`, `running`, `exited`, …; `None` when there is no such container.
pub fn container_state(name: &str) -> Option<String> {
    let output = docker_output(&["container", "inspect", "--format", "{{.State.Status}}", name]);
    let state = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !state.is_empty()).then_some(state)
}

/// The names of all containers with this prefix, running or not.
pub fn containers_with_prefix(prefix: &str) -> Vec<String> {
    names(&format!("name=^/?{prefix}"))
}

/// The names of all containers that carry this label, `key=value`.
pub fn containers_with_label(label: &str) -> Vec<String> {
    names(&format!("label={label}"))
}

fn names(filter: &str) -> Vec<String> {
    let list = docker(&["ps", "--all", "--filter", filter, "--format", "{{.Names}}"]);
    list.lines().map(str::to_owned).collect()
}

/// Removes the containers that a filter of `docker ps` finds, in any state.
pub fn remove_containers(filter: &str) {
    let ids = docker_if_there(&["ps", "--all", "--quiet", "--filter", filter]);
    for id in ids.lines() {
        docker_if_there(&["rm", "--force", "--volumes", id]);
    }
}

/// Fails the test unless every container of a task id with this prefix is removed within a few seconds.
pub fn assert_no_containers(task_prefix: &str) {
    let prefix = container_name(task_prefix);
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let left = containers_with_prefix(&prefix);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "containers are left: {left:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until the container of this task is in that state; fails the test at the deadline.
pub fn wait_container_state(task_id: &str, state: &str, deadline: Duration) {
    let name = container_name(task_id);
    let what = format!("`{name}` to be {state}");
    wait_until(&what, deadline, || container_state(&name).as_deref() == Some(state));
}

/// Waits until the condition holds; fails the test at the deadline.
pub fn wait_until(what: &str, deadline: Duration, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + deadline;
    while !holds() {
        assert!(Instant::now() < until, "waited {deadline:?} in vain for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
