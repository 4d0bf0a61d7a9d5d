//! Probe containers: they show what a container would see of this machine, and run nothing. `check` looks into them, and
//! results that only the engine can read are copied out of one.
//!
//! A probe is created and never started. The engine mounts its binds all the same when something is copied out of it,
//! with the same calls and in the same place as for a start. So this works with every image: it needs no shell, and no
//! program at all.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::thread;
use std::time::Duration;

use crossbeam_channel::bounded;
use serde::de::{DeserializeOwned, IgnoredAny};
use tar::EntryType;

use super::archive::Archive;
use super::args::{RunSpec, mount_value};
use super::options::add;
use super::{Docker, DockerError, REQUEST_TIMEOUT, VERSION_TIMEOUT};
use crate::config::{Mount, csv};
use crate::os::platform;
use crate::os::process::{CallError, PipedChild, PipedOutput, run_with_timeout};

/// The label of the probes of `check`; its value is their owner.
pub const LABEL: &str = "open-aaas.check";
/// Where a probe has its mount.
pub const MOUNT_POINT: &str = "/agent-core-check";
/// Probes, and folders that were made for them, are left over when they are older.
pub const MAX_AGE: Duration = Duration::from_secs(1800);
/// How long a container of the agent's own may take from its start to its end.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How much of a file's content is read.
const MAX_CONTENT: u64 = 4096;

/// A probe to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeSpec<'s> {
    pub name: &'s str,
    /// Labels by which it is found again; see [`Docker::remove_probes`].
    pub labels: Vec<(&'static str, String)>,
    pub image: &'s str,
    /// docker's `--platform`.
    pub platform: Option<&'s str>,
    /// The absolute path on this machine that is mounted.
    pub source: &'s Path,
    pub view: View<'s>,
}

/// What a probe has of its image and of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View<'s> {
    /// The source at [`MOUNT_POINT`], read-only, and nothing in place of the image's volumes.
    Source,
    /// The source in place of each of these volumes of the image, read-only.
    InPlaceOf(&'s [PathBuf]),
}

impl ProbeSpec<'_> {
    /// The arguments for an image that declares these volumes.
    fn args(&self, volumes: &[PathBuf]) -> Vec<String> {
        let targets = match self.view {
            View::Source => vec![PathBuf::from(MOUNT_POINT)],
            View::InPlaceOf(volumes) => volumes.to_vec(),
        };
        let mount_at = |target: &PathBuf| {
            let container = target.to_string_lossy().into_owned();
            mount_value(&Mount { host: self.source.to_owned(), relative: false, container, readonly: true })
        };
        let mut args = ["create", "--name", self.name].map(str::to_owned).to_vec();
        add(&mut args, "--label", self.labels.iter().map(|(key, value)| format!("{key}={value}")));
        args.extend(["--pull", "never"].map(str::to_owned));
        args.extend(self.platform.into_iter().flat_map(|platform| ["--platform".to_owned(), platform.to_owned()]));
        args.extend(
            ["--network", "none", "--security-opt", "no-new-privileges", "--cap-drop", "ALL"].map(str::to_owned),
        );
        add(&mut args, "--mount", targets.iter().map(mount_at));
        // Instead of a volume, into which the engine would copy all that the image has there.
        let instead = volumes.iter().filter(|volume| !targets.contains(volume));
        let instead = instead.map(|volume| csv::line(["type=tmpfs", &format!("target={}", volume.display())]));
        add(&mut args, "--mount", instead);
        // docker refuses an image that names no program, and this program is never started.
        args.extend(["--entrypoint", MOUNT_POINT, self.image].map(str::to_owned));
        args
    }
}

/// A file or folder in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathInfo {
    pub is_dir: bool,
    /// The time of the last change, in seconds since 1970.
    pub changed: u64,
    /// The beginning of a file's content.
    pub content: Vec<u8>,
}

/// How a container of the agent's own ended that was started as a proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeEnd {
    /// It exited with this status, and these were its last words.
    Exited(i32, String),
    /// The engine refused to make or to start it, in its words.
    NotStarted(String),
}

/// Why the docker client can't be used.
#[derive(Debug)]
pub enum ClientTrouble {
    NotStarted(io::Error),
    /// It doesn't behave as a docker client does. In words.
    Odd(String),
}

impl Docker {
    /// The client's own version, without a request to the engine.
    pub fn client_version(&self) -> Result<String, ClientTrouble> {
        match run_with_timeout(self.command(["--version"]), VERSION_TIMEOUT) {
            Ok(done) if done.success => Ok(done.stdout.trim().to_owned()),
            Ok(done) if done.stderr.is_empty() => Err(ClientTrouble::Odd("failed without a message".to_owned())),
            Ok(done) => Err(ClientTrouble::Odd(format!("failed: {}", done.stderr))),
            Err(CallError::Spawn(error)) => Err(ClientTrouble::NotStarted(error)),
            Err(error) => Err(ClientTrouble::Odd(error.to_string())),
        }
    }

    /// Creates a probe, and returns its id.
    pub fn create_probe(&self, spec: &ProbeSpec<'_>) -> Result<String, DockerError> {
        // Where that is refused, the creation is, too, with clearer words.
        let volumes = match self.image_volumes(spec.image) {
            Err(error @ DockerError::Unreachable(_)) => return Err(error),
            volumes => volumes.unwrap_or_default(),
        };
        Ok(self.request(&spec.args(&volumes), REQUEST_TIMEOUT)?.trim().to_owned())
    }

    /// Runs a container to its end, which has to come soon, and removes it.
    pub fn run_probe(&self, spec: &RunSpec<'_>) -> Result<ProbeEnd, DockerError> {
        // A killed agent may have left it.
        self.remove_forced(&spec.name)?;
        let done = self.run(&spec.executed(), START_TIMEOUT);
        let container = self.inspect(&spec.name);
        self.remove_forced(&spec.name)?;
        let words = done?.stderr;
        Ok(match container?.map(|container| container.state) {
            Some(state) if state.started_at.is_some() => ProbeEnd::Exited(state.exit_code, words),
            Some(state) if !state.error.is_empty() => ProbeEnd::NotStarted(state.error),
            _ => ProbeEnd::NotStarted(words),
        })
    }

    /// The file or folder at a path of a container. A refusal means that there is none.
    pub fn inspect_path(&self, container: &str, path: &Path) -> Result<PathInfo, DockerError> {
        self.read_copy(container, path, first_entry)
    }

    /// The folder that holds a file of this name, at or below a path of a container. A refusal means that the container
    /// has no such path.
    pub fn find_folder_of(&self, name: &str, container: &str, path: &Path) -> Result<Option<PathBuf>, DockerError> {
        let name = name.to_owned();
        // The names in the archive begin with the last name of the path.
        let above = path.parent().map(Path::to_owned).unwrap_or_default();
        let found = self.read_copy(container, path, move |archive| folder_of(&name, archive))?;
        Ok(found.map(|folder| above.join(folder)))
    }

    fn read_copy<T: Send + 'static>(
        &self,
        container: &str,
        path: &Path,
        read: impl FnOnce(PipedOutput) -> io::Result<T> + Send + 'static,
    ) -> Result<T, DockerError> {
        let unreachable = |why: String| DockerError::Unreachable(format!("`docker cp` {why}"));
        let (mut child, stdout) = PipedChild::spawn(self.copy_out_command(container, path))
            .map_err(|error| unreachable(CallError::Spawn(error).to_string()))?;
        let (done, result) = bounded(1);
        thread::Builder::new()
            .name("probe".to_owned())
            // The receiver is dropped when the time is over.
            .spawn(move || drop(done.send(read(stdout))))
            .map_err(|error| unreachable(format!("needs a thread: {error}")))?;
        let Ok(first) = result.recv_timeout(REQUEST_TIMEOUT) else {
            child.kill();
            return Err(unreachable(CallError::TimedOut(REQUEST_TIMEOUT).to_string()));
        };
        match first {
            Ok(info) => {
                // The rest may be many gigabytes.
                child.kill();
                Ok(info)
            }
            Err(error) => {
                let words = child.finish(Duration::from_secs(5)).err();
                Err(DockerError::Refused(words.unwrap_or_else(|| format!("its archive: {error}"))))
            }
        }
    }

    /// Removes every probe of this owner, also one whose creation seemed to fail.
    pub fn remove_probes(&self, owner: &str) -> Result<(), DockerError> {
        let filter = format!("label={LABEL}={owner}");
        let ids = self.list(&["ps", "-a", "-q", "--filter", &filter])?;
        // All of them are tried, also after a failure.
        let removed: Vec<_> = ids.iter().map(|id| self.remove(id)).collect();
        removed.into_iter().collect()
    }

    /// Removes the probes that killed processes have left.
    pub fn remove_old_probes(&self) -> Result<(), DockerError> {
        let (label, age) = (format!("label={LABEL}"), format!("until={}s", MAX_AGE.as_secs()));
        self.request(&["container", "prune", "-f", "--filter", &label, "--filter", &age], REQUEST_TIMEOUT).map(drop)
    }

    /// The image's own command: its ENTRYPOINT and CMD.
    pub fn image_program(&self, image: &str) -> Result<Vec<String>, DockerError> {
        let parts: [Option<Vec<String>>; 2] =
            self.inspect_image(image, "[{{json .Config.Entrypoint}},{{json .Config.Cmd}}]")?;
        Ok(parts.into_iter().flatten().flatten().collect())
    }

    /// The paths of the volumes that the image declares, each without `.`, `..` and needless slashes.
    pub fn image_volumes(&self, image: &str) -> Result<Vec<PathBuf>, DockerError> {
        let volumes: Option<BTreeMap<String, IgnoredAny>> = self.inspect_image(image, "{{json .Config.Volumes}}")?;
        Ok(volumes.unwrap_or_default().into_keys().map(|volume| clean(Path::new(&volume))).collect())
    }

    /// The folders in which containers of the image find programs: those of its PATH, or else of the engine's default.
    pub fn image_path(&self, image: &str) -> Result<Vec<PathBuf>, DockerError> {
        let variables: Option<Vec<String>> = self.inspect_image(image, "{{json .Config.Env}}")?;
        let variables = variables.unwrap_or_default();
        let path = variables.iter().find_map(|variable| variable.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
        Ok(path.split(':').filter(|folder| !folder.is_empty()).map(PathBuf::from).collect())
    }

    fn inspect_image<T: DeserializeOwned>(&self, image: &str, format: &str) -> Result<T, DockerError> {
        let printed = self.request(&["image", "inspect", "--format", format, image], REQUEST_TIMEOUT)?;
        serde_json::from_str(printed.trim())
            .map_err(|error| DockerError::Refused(format!("`docker image inspect` gave no usable answer: {error}")))
    }
}

/// The path in the form that the engine gives it.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    clean
}

/// The PATH that the engine sets for an image without one.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn folder_of(name: &str, source: impl Read) -> io::Result<Option<PathBuf>> {
    let mut archive = Archive::new(source);
    while let Some(member) = archive.next_member()? {
        let Some(path) = platform::from_bytes(&member.path) else { continue };
        if path.file_name() == Some(name.as_ref()) {
            return Ok(path.parent().map(Path::to_owned));
        }
    }
    Ok(None)
}

pub(super) fn first_entry(source: impl Read) -> io::Result<PathInfo> {
    let mut archive = Archive::new(source);
    let Some(member) = archive.next_member()? else { return Err(io::ErrorKind::UnexpectedEof.into()) };
    let (is_dir, changed) = (member.kind == EntryType::Directory, member.changed);
    let mut content = Vec::new();
    archive.take(MAX_CONTENT).read_to_end(&mut content)?;
    Ok(PathInfo { is_dir, changed, content })
}

#[cfg(test)]
mod tests {
    use super::{LABEL, ProbeSpec, View, clean};
    use std::path::{Path, PathBuf};

    #[test]
    fn probe_arguments_are_complete_and_in_order() {
        let labels = vec![(LABEL, "o".to_owned())];
        let source = Path::new("/a, b");
        let spec = ProbeSpec { name: "n", labels, image: "img:1", platform: None, source, view: View::Source };
        let expected = "create --name n --label open-aaas.check=o --pull never --network none \
                        --security-opt no-new-privileges --cap-drop ALL --mount type=bind,\"source=/a, b\",target=/agent-core-check,readonly \
                        --entrypoint /agent-core-check img:1";
        assert_eq!(spec.args(&[]).join(" "), expected);
        let other = ProbeSpec { platform: Some("linux/arm64"), ..spec.clone() };
        let args = other.args(&["/data", "/agent-core-check"].map(PathBuf::from)).join(" ");
        assert!(args.contains("--pull never --platform linux/arm64 --network none"), "{args}");
        assert!(args.contains(",readonly --mount type=tmpfs,target=/data --entrypoint"), "{args}");
        let volumes = ["/data", "/other"].map(PathBuf::from);
        let tried = ProbeSpec { view: View::InPlaceOf(&volumes[..1]), ..spec };
        let args = tried.args(&volumes).join(" ");
        assert!(args.contains("target=/data,readonly --mount type=tmpfs,target=/other --entrypoint"), "{args}");
    }

    #[test]
    fn paths_of_volumes_are_compared_as_the_engine_writes_them() {
        for (path, cleaned) in [("/a//b/./c/", "/a/b/c"), ("/a/../../workspace/x", "/workspace/x"), ("data", "/data")] {
            assert_eq!(clean(Path::new(path)), Path::new(cleaned));
        }
    }
}
