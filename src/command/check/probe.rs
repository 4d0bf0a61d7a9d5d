//! What the engine would show to a container: it copies files out of containers that are created and never started.

use std::cell::Cell;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use super::report::{Check, Report};
use crate::config::Config;
use crate::docker::probe::{LABEL, MOUNT_POINT, PathInfo, ProbeSpec, View};
use crate::docker::{Docker, DockerError};
use crate::os::random::random_u64;
use crate::os::timeout::{timeout_message, with_timeout};
use crate::task::ProbeFolder;
use crate::task::volumes::{HiddenParts, Hiding};

/// The remedy where the engine sees other files than this machine.
const SAME_FILES: &str = "the engine has to find the same files under the same path: it must run on this machine (see \
                          `docker context ls` and DOCKER_HOST), and its user must be able to get there (a rootless \
                          engine can't enter another user's folders, nor can root on a network drive with root_squash)";
/// The remedy where the engine has stopped answering.
const ENGINE_IN_TROUBLE: &str = "see what keeps the engine from answering, for example in `journalctl -u docker`";
/// How long a `docker create` without an answer may still make its container.
const LATECOMERS: Duration = Duration::from_secs(10);

/// Creates containers to look into. Dropping the value removes all of them.
pub struct EngineProbe<'c> {
    pub config: &'c Config,
    pub docker: &'c Docker,
    owner: String,
    /// Whether a `docker create` got no answer from the engine.
    is_unanswered: Cell<bool>,
}

impl<'c> EngineProbe<'c> {
    pub fn new(config: &'c Config, docker: &'c Docker) -> Self {
        if let Err(error) = docker.remove_old_probes() {
            log::warn!("can't remove the containers that a killed `check` has left: {error}");
        }
        Self { config, docker, owner: format!("{:016x}", random_u64()), is_unanswered: Cell::new(false) }
    }

    /// Creates a container that sees `source`, and returns its name.
    pub fn create(&self, source: &Path) -> Result<String, DockerError> {
        let name = self.new_name();
        let spec = ProbeSpec {
            name: &name,
            labels: vec![(LABEL, self.owner.clone())],
            image: &self.config.executor.image,
            platform: self.config.executor.options.docker_args.platform.as_deref(),
            source,
            view: View::Source,
        };
        let created = self.docker.create_probe(&spec);
        self.is_unanswered.set(matches!(created, Err(DockerError::Unreachable(_))));
        created.map(|_| name)
    }

    /// What hides a part of the workspace in containers of the image. `beside` is a folder among the workspaces.
    pub fn find_hiding(&self, beside: &Path) -> Result<Option<Hiding>, DockerError> {
        let (name, labels) = (self.new_name(), vec![(LABEL, self.owner.clone())]);
        HiddenParts { config: self.config, docker: self.docker, name: &name, labels, owner: None, beside }.find()
    }

    fn new_name(&self) -> String {
        format!("open-aaas-check-{}-{:08x}", self.owner, random_u64() as u32)
    }

    pub fn check_data_dir(&self, folder: &ProbeFolder, container: Result<String, DockerError>, report: &mut Report) {
        let shown = self.config.paths.data_dir.display();
        let seen = match container {
            Ok(name) => self.docker.inspect_path(&name, &Path::new(MOUNT_POINT).join(ProbeFolder::FILE)),
            Err(error) => {
                let detail = format!("no container can be made that would see `{shown}`: {error}");
                return report.fail(Check::EngineDataDir, detail, self.remedy());
            }
        };
        let why = match seen {
            Ok(PathInfo { content, .. }) if content == folder.content.as_bytes() => {
                return report.pass(Check::EngineDataDir, format!("containers would see `{shown}`"));
            }
            Ok(_) => "a file has another content there".to_owned(),
            Err(error) => error.to_string(),
        };
        let detail = format!("containers would not see `{shown}` as it is here: {why}");
        report.fail(Check::EngineDataDir, detail, self.remedy());
    }

    pub fn check_mounts(&self, hosts: &[PathBuf], report: &mut Report) {
        if hosts.is_empty() {
            report.unneeded(Check::EngineMounts, "there is no mount to look at");
        }
        for host in hosts {
            if report.is_interrupted() {
                return;
            }
            if self.is_unanswered.get() {
                return report.skip(Check::EngineMounts, "the engine doesn't answer any more");
            }
            let shown = host.display();
            match self.compare(host) {
                Ok(()) => report.pass(Check::EngineMounts, format!("containers would see `{shown}`")),
                Err(why) => {
                    let detail = format!("containers would not see `{shown}` as it is here: {why}");
                    report.fail(Check::EngineMounts, detail, self.remedy());
                }
            }
        }
    }

    fn remedy(&self) -> &'static str {
        if self.is_unanswered.get() { ENGINE_IN_TROUBLE } else { SAME_FILES }
    }

    /// Compares a mount's own entry with the one that the engine copies out of a container: its kind, and the second of
    /// its last change.
    fn compare(&self, host: &Path) -> Result<(), String> {
        let on_host = || {
            let host = host.to_owned();
            with_timeout(move || fs::metadata(host)).ok_or_else(timeout_message)?.map_err(|error| error.to_string())
        };
        let before = on_host()?;
        let name = self.create(host).map_err(|error| error.to_string())?;
        let seen = self.docker.inspect_path(&name, Path::new(MOUNT_POINT)).map_err(|error| error.to_string())?;
        // Another process may change the folder in between.
        let is_same = is_same(&before, &seen) || is_same(&on_host()?, &seen);
        if is_same { Ok(()) } else { Err("there is something else at that path".to_owned()) }
    }
}

impl Drop for EngineProbe<'_> {
    fn drop(&mut self) {
        if self.is_unanswered.get() {
            thread::sleep(LATECOMERS);
        }
        if let Err(error) = self.docker.remove_probes(&self.owner) {
            log::warn!("containers with the label `open-aaas.check={}` may be left: {error}", self.owner);
        }
    }
}

fn is_same(on_host: &Metadata, seen: &PathInfo) -> bool {
    let changed = on_host.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    // The archive has whole seconds, cut or rounded.
    let is_near = changed.is_none_or(|changed| changed.as_secs().abs_diff(seen.changed) <= 1);
    on_host.is_dir() == seen.is_dir && is_near
}
