//! What `run` needs of the engine: that it answers, has the image, and sees this machine's files as we do.

use std::cell::Cell;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use super::machine::{OnMachine, ProbeFolder};
use super::report::{Check, Report};
use crate::command::check_script::check_script;
use crate::config::container_options::Pull;
use crate::config::{Config, Program, ScriptSource};
use crate::docker::probe::{ClientTrouble, MOUNT_POINT, PathInfo, ProbeSpec};
use crate::docker::{Docker, DockerError};
use crate::os::random::random_u64;
use crate::os::timeout::{timeout_message, with_timeout};

/// What has to be so that the engine sees what we see.
const SAME_FILES: &str = "the engine has to find the same files under the same path: it must run on this machine (see \
                          `docker context ls` and DOCKER_HOST), and its user must be able to get there (a rootless \
                          engine can't enter another user's folders, nor can root on a network drive with root_squash)";

/// What is to be done where the engine has answered before and now doesn't.
const ENGINE_IN_TROUBLE: &str = "see what keeps the engine from answering, for example in `journalctl -u docker`";
/// How long a container is looked for that may have been made after its `docker create` was given up.
const LATECOMERS: Duration = Duration::from_secs(10);

/// Looks at all of it.
pub fn check(config: &Config, here: &OnMachine, report: &mut Report) {
    let docker = Docker::new(&config.executor.docker);
    let program = &config.executor.docker;
    match docker.client_version() {
        Ok(version) => report.pass(Check::Docker, version),
        Err(trouble) => {
            let (why, remedy) = match trouble {
                ClientTrouble::NotStarted(error) => (
                    format!("can't be started: {error}"),
                    format!(
                        "install Docker, or set `executor.docker` to its path; `{program}` must be in the PATH of \
                         whoever runs the agent, in cron's too"
                    ),
                ),
                ClientTrouble::Odd(why) => {
                    (why, format!("run `{program} --version` by hand, as the agent's user, and see what it says"))
                }
            };
            report.fail(Check::Docker, format!("`{program} --version` {why}"), remedy);
            return skip(config, "there is no docker client", report);
        }
    }
    match docker.engine_version() {
        Ok(version) => report.pass(Check::Engine, format!("Docker Engine {version} answers")),
        Err(error) => {
            let remedy = format!(
                "start the engine (`sudo systemctl start docker`), and let this user talk to it (group `docker`), \
                 until `{program} version` names a server"
            );
            report.fail(Check::Engine, error.to_string(), remedy);
            return skip(config, "the engine doesn't answer", report);
        }
    }
    if !image(config, &docker, report) {
        return skip(config, "there is no image to look through", report);
    }
    let through =
        Through { config, docker: &docker, owner: format!("{:016x}", random_u64()), given_up: Cell::new(false) };
    through.look(here, report);
}

fn skip(config: &Config, why: &str, report: &mut Report) {
    for check in [Check::Engine, Check::Image] {
        if !report.is_known(check) {
            report.skip(check, why);
        }
    }
    // Whether a script can be there at all is known without an engine.
    match check_script(config) {
        Ok(()) => report.skip(Check::Program, why),
        Err(wrong) => fail_script(wrong, report),
    }
    report.skip(Check::EngineDataDir, why);
    report.skip(Check::EngineMounts, why);
}

/// Whether the image is there.
fn image(config: &Config, docker: &Docker, report: &mut Report) -> bool {
    let image = &config.executor.image;
    let pull = config.executor.options.pull;
    match docker.has_image(image) {
        Ok(true) => {
            let pulled = if pull == Some(Pull::Always) { "; it is pulled anew for each task" } else { "" };
            report.pass(Check::Image, format!("`{image}` is here{pulled}"));
            true
        }
        Ok(false) => {
            let later = match pull {
                Some(Pull::Missing | Pull::Always) => "; the first task would have to wait for it (`executor.pull`)",
                _ => "",
            };
            let build = format!("`docker build -t {image} executor-example/minimal`");
            report.fail(
                Check::Image,
                format!("the image `{image}` isn't on this machine{later}"),
                format!("pull it with `docker pull {image}`, build it, for example with {build}, or correct `executor.image`"),
            );
            false
        }
        Err(error) => {
            report.fail(Check::Image, error.to_string(), "see what is wrong with the engine");
            false
        }
    }
}

fn fail_script(wrong: String, report: &mut Report) {
    report.fail(Check::Program, wrong, "every task would fail; bring the script to a place that containers see");
}

/// Containers that are created to look through, and removed whatever happens.
struct Through<'c> {
    config: &'c Config,
    docker: &'c Docker,
    owner: String,
    /// Whether the engine has left a `docker create` without an answer.
    given_up: Cell<bool>,
}

impl Through<'_> {
    fn look(&self, here: &OnMachine, report: &mut Report) {
        if let Err(error) = self.docker.remove_old_probes() {
            log::warn!("containers that a killed `check` has left can't be looked for: {error}");
        }
        match &here.folder {
            Some(folder) => self.data_dir(folder, report),
            None => {
                report.skip(Check::Program, "the data_dir can't be used");
                report.skip(Check::EngineDataDir, "the data_dir can't be used");
            }
        }
        if here.mounts.is_empty() {
            report.skip(Check::EngineMounts, "there is no mount to look at");
        }
        for host in &here.mounts {
            if report.is_left() {
                return;
            }
            if self.given_up.get() {
                report.skip(Check::EngineMounts, "the engine doesn't answer any more");
                return;
            }
            match self.mount(host) {
                Ok(()) => {
                    report.pass(Check::EngineMounts, format!("containers would see `{}`", host.display()));
                }
                Err(why) => report.fail(
                    Check::EngineMounts,
                    format!("containers would not see `{}` as it is here: {why}", host.display()),
                    self.remedy(),
                ),
            }
        }
    }

    fn data_dir(&self, folder: &ProbeFolder, report: &mut Report) {
        let shown = self.config.paths.data_dir.display();
        let name = match self.create(folder.dir()) {
            Ok(name) => name,
            Err(error) => {
                self.program(None, report);
                report.fail(
                    Check::EngineDataDir,
                    format!("no container can be made that would see `{shown}`: {error}"),
                    self.remedy(),
                );
                return;
            }
        };
        self.program(Some(&name), report);
        let seen = self.docker.inspect_path(&name, &Path::new(MOUNT_POINT).join(ProbeFolder::file()));
        let why = match seen {
            Ok(PathInfo { content, .. }) if content == folder.content.as_bytes() => {
                report.pass(Check::EngineDataDir, format!("containers would see `{shown}`"));
                return;
            }
            Ok(_) => "a file has another content there".to_owned(),
            Err(error) => error.to_string(),
        };
        report.fail(
            Check::EngineDataDir,
            format!("containers would not see `{shown}` as it is here: {why}"),
            self.remedy(),
        );
    }

    fn remedy(&self) -> &'static str {
        if self.given_up.get() { ENGINE_IN_TROUBLE } else { SAME_FILES }
    }

    /// Looks whether a container would find what it is to run; `container` is one of the image.
    fn program(&self, container: Option<&str>, report: &mut Report) {
        let image = &self.config.executor.image;
        if let Err(wrong) = check_script(self.config) {
            return fail_script(wrong, report);
        }
        let word = match &self.config.executor.program {
            Program::Standard => None,
            Program::Bash(_) => Some("bash"),
            Program::Python(_) => Some("python"),
            Program::Custom(words) => words.first().map(String::as_str),
        };
        if let (Some(word), Some(container)) = (word, container) {
            match self.has_program(container, word) {
                Ok(true) => {}
                Ok(false) => {
                    return report.fail(
                        Check::Program,
                        format!("the image `{image}` has no program `{word}` in its PATH"),
                        "put it into the image, or set another `executor.executor_type`",
                    );
                }
                Err(error) => {
                    return report.fail(Check::Program, error.to_string(), "see what is wrong with the image");
                }
            }
        }
        match (&self.config.executor.program, self.config.script_source()) {
            (Program::Standard, _) => match self.docker.image_program(image) {
                Ok(words) if words.is_empty() => report.fail(
                    Check::Program,
                    format!("the image `{image}` has neither ENTRYPOINT nor CMD"),
                    "add one to the image, or set `executor.executor_type` to \"custom\" with `custom_entrypoint`",
                ),
                Ok(_) => report.pass(Check::Program, "the image's own ENTRYPOINT and CMD"),
                Err(error) => report.fail(Check::Program, error.to_string(), "see what is wrong with the image"),
            },
            (Program::Custom(words), _) => {
                report.pass(Check::Program, format!("`{}` (`executor.custom_entrypoint`)", words.join(" ")));
            }
            (_, Some(ScriptSource::Image(path))) => match container {
                None => report.skip(Check::Program, "there is no container to look into"),
                Some(container) => match self.docker.inspect_path(container, Path::new(&path)) {
                    Ok(seen) if !seen.is_dir => report.pass(Check::Program, format!("the image has `{path}`")),
                    Ok(_) => report.fail(
                        Check::Program,
                        format!("`{path}` (`executor.script_path`) is a folder in the image `{image}`"),
                        "name the script",
                    ),
                    Err(error) => report.fail(
                        Check::Program,
                        format!("the image `{image}` has no script `{path}` (`executor.script_path`): {error}"),
                        "put it into the image, or mount it with `[[paths.mounts]]`",
                    ),
                },
            },
            (_, Some(ScriptSource::Mount(file))) => {
                report.pass(Check::Program, format!("the script is `{}` of this machine", file.display()));
            }
            (_, Some(ScriptSource::Input)) => report.pass(Check::Program, "the script is to come with each task"),
            (_, _) => report.pass(Check::Program, "the script is to come with `executor.docker_args`"),
        }
    }

    /// Whether a container of the image would find this program. What comes by a mount isn't in the image.
    fn has_program(&self, container: &str, word: &str) -> Result<bool, DockerError> {
        let places: Vec<PathBuf> = match word.strip_prefix('/') {
            Some(_) if self.is_mounted(word) => return Ok(true),
            Some(_) => vec![PathBuf::from(word)],
            // Relative to a folder that the workspace's mount may hide.
            None if word.contains('/') => return Ok(true),
            None => {
                let path = self.docker.image_path(&self.config.executor.image)?;
                path.into_iter().map(|folder| folder.join(word)).collect()
            }
        };
        for place in places {
            match self.docker.inspect_path(container, &place) {
                Ok(_) => return Ok(true),
                Err(DockerError::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    fn is_mounted(&self, path: &str) -> bool {
        let has_raw = !self.config.executor.options.docker_args.sources.is_empty();
        has_raw || self.config.paths.mounts.iter().any(|mount| Path::new(path).starts_with(&mount.container))
    }

    /// The engine copies a mount's own entry out of a container: its kind, and the second in which it was changed last.
    fn mount(&self, host: &Path) -> Result<(), String> {
        let ours = || {
            let host = host.to_owned();
            with_timeout(move || fs::metadata(host)).ok_or_else(timeout_message)?.map_err(|error| error.to_string())
        };
        let before = ours()?;
        let name = self.create(host).map_err(|error| error.to_string())?;
        let seen = self.docker.inspect_path(&name, Path::new(MOUNT_POINT)).map_err(|error| error.to_string())?;
        // Whoever uses the folder may change it meanwhile.
        let is_same = is_same(&before, &seen) || is_same(&ours()?, &seen);
        if is_same { Ok(()) } else { Err("there is something else at that path".to_owned()) }
    }

    fn create(&self, source: &Path) -> Result<String, DockerError> {
        let name = format!("open-aaas-check-{}-{:08x}", self.owner, random_u64() as u32);
        let spec = ProbeSpec {
            name: &name,
            owner: &self.owner,
            image: &self.config.executor.image,
            platform: self.config.executor.options.docker_args.platform.as_deref(),
            source,
        };
        let created = self.docker.create_probe(&spec);
        self.given_up.set(matches!(created, Err(DockerError::Unreachable(_))));
        created.map(|()| name)
    }
}

impl Drop for Through<'_> {
    fn drop(&mut self) {
        // A `docker create` that was given up may come through a moment later, so all of this owner's go.
        if self.given_up.get() {
            thread::sleep(LATECOMERS);
        }
        if let Err(error) = self.docker.remove_probes(&self.owner) {
            log::warn!("containers with the label `open-aaas.check={}` may be left: {error}", self.owner);
        }
    }
}

fn is_same(ours: &Metadata, seen: &PathInfo) -> bool {
    let changed = ours.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    // The archive has whole seconds, cut or rounded.
    let is_near = changed.is_none_or(|changed| changed.as_secs().abs_diff(seen.changed) <= 1);
    ours.is_dir() == seen.is_dir && is_near
}
