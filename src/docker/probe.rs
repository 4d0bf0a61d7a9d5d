//! Looking through the engine's eyes: what a container would see of this machine, without running anything.
//!
//! A container is created and never started. The engine mounts its binds all the same when something is copied out of
//! it, with the same calls and in the same place as for a start, so that this works with every image: it needs no
//! shell, and no program at all.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use crossbeam_channel::bounded;
use tar::{Archive, EntryType};

use super::args::{Bind, mount_value};
use super::{ASK, Docker, DockerError};
use crate::os::process::{CallError, PipedChild, run_with_timeout};

/// The label of containers that were made to look through; its value tells who made them.
const LABEL: &str = "open-aaas.check";
/// Where a container sees what is looked at.
pub const PLACE: &str = "/agent-core-check";
/// Nobody looks through a container, or at a folder that was made for that, for so long.
pub const OLD: Duration = Duration::from_secs(1800);
/// How much of a file's content is looked at.
const LOOKED_AT: u64 = 4096;

/// A container to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeSpec<'s> {
    /// Its name.
    pub name: &'s str,
    /// Who makes it; see [`Docker::remove_probes`].
    pub owner: &'s str,
    /// The image.
    pub image: &'s str,
    /// docker's `--platform`.
    pub platform: Option<&'s str>,
    /// The absolute path on this machine that it sees at [`PLACE`].
    pub source: &'s Path,
}

impl ProbeSpec<'_> {
    /// The arguments of the `docker` that is executed.
    fn words(&self) -> Vec<String> {
        let bind = Bind { source: self.source.to_owned(), target: PLACE.to_owned(), readonly: true };
        let label = format!("{LABEL}={}", self.owner);
        let mut words =
            ["create", "--name", self.name, "--label", &label, "--pull", "never"].map(str::to_owned).to_vec();
        words.extend(self.platform.into_iter().flat_map(|platform| ["--platform".to_owned(), platform.to_owned()]));
        words.extend(["--network", "none", "--mount", &mount_value(&bind)].map(str::to_owned));
        // An image that names no program would be refused; this one is never started.
        words.extend(["--entrypoint", PLACE, self.image].map(str::to_owned));
        words
    }
}

/// What a path in a container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Whether it is a folder.
    pub is_dir: bool,
    /// When it was changed last, in seconds since 1970.
    pub changed: u64,
    /// The beginning of a file's content.
    pub content: Vec<u8>,
}

/// Why the docker client is of no use.
#[derive(Debug)]
pub enum ClientTrouble {
    /// It can't be started.
    NotStarted(io::Error),
    /// It doesn't do what a docker client does, in words.
    Odd(String),
}

impl Docker {
    /// What the client says of its own version, without asking the engine.
    pub fn client_version(&self) -> Result<String, ClientTrouble> {
        let mut command = Command::new(self.program());
        command.arg("--version");
        match run_with_timeout(command, Duration::from_secs(10)) {
            Ok(done) if done.success => Ok(done.stdout.trim().to_owned()),
            Ok(done) if done.stderr.is_empty() => Err(ClientTrouble::Odd("failed without a word".to_owned())),
            Ok(done) => Err(ClientTrouble::Odd(format!("failed: {}", done.stderr))),
            Err(CallError::Spawn(error)) => Err(ClientTrouble::NotStarted(error)),
            Err(error) => Err(ClientTrouble::Odd(error.to_string())),
        }
    }

    /// Creates a container and doesn't start it.
    pub fn create_probe(&self, spec: &ProbeSpec<'_>) -> Result<(), DockerError> {
        let words = spec.words();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.command(&words, ASK)
    }

    /// What a container has at this path. A refusal means that it has nothing there.
    pub fn look_at(&self, container: &str, path: &Path) -> Result<Seen, DockerError> {
        let unreachable = |why: String| DockerError::Unreachable(format!("`docker cp` {why}"));
        let (mut feed, stdout) = PipedChild::spawn(self.copy_out_command(container, path))
            .map_err(|error| unreachable(CallError::Spawn(error).to_string()))?;
        let (done, result) = bounded(1);
        thread::Builder::new()
            .name("look".to_owned())
            // Nobody listens any more once the time is over.
            .spawn(move || drop(done.send(first_entry(stdout))))
            .map_err(|error| unreachable(format!("needs a thread: {error}")))?;
        let Ok(first) = result.recv_timeout(ASK) else {
            feed.kill();
            return Err(unreachable(CallError::TimedOut(ASK).to_string()));
        };
        match first {
            Ok(seen) => {
                // The rest may be many gigabytes.
                feed.kill();
                Ok(seen)
            }
            Err(error) => {
                let words = feed.finish(Duration::from_secs(5)).err();
                Err(DockerError::Refused(words.unwrap_or_else(|| format!("its archive: {error}"))))
            }
        }
    }

    /// Removes every container that this owner has created to look through, whatever became of the call.
    pub fn remove_probes(&self, owner: &str) -> Result<(), DockerError> {
        let filter = format!("label={LABEL}={owner}");
        let listed = self.ask(&["ps", "-a", "-q", "--filter", &filter], ASK)?;
        if !listed.success {
            return Err(DockerError::Unreachable(listed.stderr));
        }
        let mut removed = Ok(());
        for id in listed.stdout.lines().filter(|id| !id.is_empty()) {
            removed = removed.and(self.remove(id));
        }
        removed
    }

    /// Removes what killed ones have left: containers of this kind, never started, that are older than any that is still
    /// looked through.
    pub fn remove_old_probes(&self) -> Result<(), DockerError> {
        let (label, age) = (format!("label={LABEL}"), format!("until={}s", OLD.as_secs()));
        self.command(&["container", "prune", "-f", "--filter", &label, "--filter", &age], ASK)
    }

    /// What the image runs by itself: its ENTRYPOINT and CMD, in docker's JSON.
    pub fn image_program(&self, image: &str) -> Result<Vec<String>, DockerError> {
        const FORMAT: &str = "[{{json .Config.Entrypoint}},{{json .Config.Cmd}}]";
        let done = self.ask(&["image", "inspect", "--format", FORMAT, image], ASK)?;
        if !done.success {
            return Err(DockerError::Refused(done.stderr));
        }
        let parts: [Option<Vec<String>>; 2] = serde_json::from_str(done.stdout.trim())
            .map_err(|error| DockerError::Refused(format!("`docker image inspect` gave no usable answer: {error}")))?;
        Ok(parts.into_iter().flatten().flatten().collect())
    }

    /// The folders in which containers of the image look for programs: those of its PATH, or else the engine's own.
    pub fn image_path(&self, image: &str) -> Result<Vec<PathBuf>, DockerError> {
        let done = self.ask(&["image", "inspect", "--format", "{{json .Config.Env}}", image], ASK)?;
        if !done.success {
            return Err(DockerError::Refused(done.stderr));
        }
        let variables: Option<Vec<String>> = serde_json::from_str(done.stdout.trim())
            .map_err(|error| DockerError::Refused(format!("`docker image inspect` gave no usable answer: {error}")))?;
        let path =
            variables.into_iter().flatten().find_map(|variable| variable.strip_prefix("PATH=").map(str::to_owned));
        let path = path.unwrap_or_else(|| ENGINES_PATH.to_owned());
        Ok(path.split(':').filter(|folder| !folder.is_empty()).map(PathBuf::from).collect())
    }
}

/// What the engine sets where an image says nothing.
const ENGINES_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn first_entry(source: impl Read) -> io::Result<Seen> {
    let mut archive = Archive::new(source);
    let Some(entry) = archive.entries()?.next() else { return Err(io::ErrorKind::UnexpectedEof.into()) };
    let mut entry = entry?;
    let is_dir = entry.header().entry_type() == EntryType::Directory;
    let changed = entry.header().mtime()?;
    let mut content = Vec::new();
    entry.by_ref().take(LOOKED_AT).read_to_end(&mut content)?;
    Ok(Seen { is_dir, changed, content })
}

#[cfg(test)]
mod tests {
    use super::ProbeSpec;
    use std::path::Path;

    #[test]
    fn probe_arguments_are_complete_and_in_order() {
        let spec = ProbeSpec { name: "n", owner: "o", image: "img:1", platform: None, source: Path::new("/a, b") };
        let expected = "create --name n --label open-aaas.check=o --pull never --network none \
                        --mount type=bind,\"source=/a, b\",target=/agent-core-check,readonly \
                        --entrypoint /agent-core-check img:1";
        assert_eq!(spec.words().join(" "), expected);
        let other = ProbeSpec { platform: Some("linux/arm64"), ..spec };
        assert!(other.words().join(" ").contains("--pull never --platform linux/arm64 --network none"));
    }
}
