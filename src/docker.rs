//! The docker command line client, with a method for each request. The long ones (`run`, `logs`, `cp`) are built here and
//! started by the task, which watches them.
//!
//! This module knows containers, not tasks. Pure functions parse what docker prints, and no decision rests on the text of
//! an error: whether a container exists is asked, not guessed.

pub mod archive;
pub mod args;
mod choice;
mod container;
mod exit_events;
mod lives;
mod options;
pub mod probe;
#[cfg(test)]
mod properties;
mod signal;
#[cfg(all(test, unix))]
pub mod stand_in;
mod start_error;

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use thiserror::Error;

pub use container::{Container, State, Status, is_id};
pub use exit_events::ExitEvents;
pub use lives::{LifeEnd, Lives};
pub use probe::ProbeEnd;
pub use start_error::{StartFault, find_fault};

use args::RemovalSpec;
pub use choice::EngineChoice;

use crate::config::Config;
use crate::os::platform::{self, Untrusted};
use crate::os::process::{CallError, CommandOutput, run_with_looks};
use crate::os::timeout::{timeout_message, with_timeout};
use crate::os::trust::{SearchPath, check_program, check_settings};
use crate::shell::shell_line;

/// The label that names a container's task.
pub const TASK_LABEL: &str = "open-aaas.task";
/// The label that names the service for which a container runs.
pub const SERVICE_LABEL: &str = "open-aaas.service";
/// The label that names the agent that owns a container, by the id of its data_dir.
pub const INSTANCE_LABEL: &str = "open-aaas.instance";
/// The label with the time of the offer: a later task of the same name was offered at another time.
pub const OFFERED_LABEL: &str = "open-aaas.offered";

/// Time limit of a request that the engine answers at once.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Time limit of the request for a version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit of a stop; on a busy machine, the engine needs a while for the KILL.
const STOP_TIMEOUT: Duration = Duration::from_secs(40);
/// Time limit of a container that removes what is in a folder.
const REMOVE_CONTENT_TIMEOUT: Duration = Duration::from_secs(300);
/// The time between TERM and KILL for a container whose files are delivered.
pub const STOP_GRACE: Duration = Duration::from_secs(10);
/// Why a call to docker failed.
#[derive(Debug, Error)]
pub enum DockerError {
    /// The client can't be started, or the engine doesn't answer.
    #[error("the Docker engine can't be reached: {0}")]
    Unreachable(String),
    /// The engine answered, and refused. In docker's own words.
    #[error("docker: {0}")]
    Refused(String),
}

/// Which part of a container's output `docker logs` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogRange {
    /// The output until now.
    UntilNow,
    /// The output until now and all that follows, up to the container's end.
    UntilExit,
}

/// The docker client.
#[derive(Debug, Clone, Default)]
pub struct Docker {
    pub program: OsString,
    /// Where the client finds its helpers for credentials; `None` where this process has no PATH.
    pub search_path: Option<SearchPath>,
    /// Which engine it asks.
    pub choice: EngineChoice,
}

/// A docker client that another user could replace, or send to another engine.
#[derive(Debug, Error)]
pub enum UntrustedClient {
    #[error("`{0}` (`executor.docker`) isn't safe from other users: {1}")]
    Program(String, Untrusted),
    #[error(
        "the docker client's configuration (`~/.docker`, or what DOCKER_CONFIG names) isn't safe from other users, who \
         could let it ask an engine of theirs: {0}"
    )]
    Settings(Untrusted),
    #[error("the docker client's configuration (`~/.docker`, or what DOCKER_CONFIG names) {}", timeout_message())]
    Silent,
}

impl UntrustedClient {
    /// What the operator can do.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Program(..) => "set `executor.docker` to a client that only root can change",
            Self::Settings(_) => {
                "let DOCKER_CONFIG name a folder that is the agent's own, or HOME the home of its user"
            }
            Self::Silent => "see what is wrong with that disk, or let DOCKER_CONFIG name a folder elsewhere",
        }
    }
}

impl Docker {
    /// The client that is configured: a name that is looked up in PATH, or a path.
    ///
    /// # Errors
    /// Another user could replace it or change what it reads.
    pub fn new(config: &Config) -> Result<Self, UntrustedClient> {
        let program = OsString::from(&config.executor.docker);
        let wrong = |why| UntrustedClient::Program(program.to_string_lossy().into_owned(), why);
        check_program(&program).map_err(wrong)?;
        let settings = config.server.environment.docker_config.clone();
        let checked = with_timeout(move || settings.map_or(Ok(()), |folder| check_client_settings(&folder)));
        checked.ok_or(UntrustedClient::Silent)?.map_err(UntrustedClient::Settings)?;
        let choice = EngineChoice::new(&config.server.environment);
        Ok(Self { program, search_path: SearchPath::of_process(), choice })
    }

    /// Asks the engine for its version: the cheapest proof that it answers.
    pub fn engine_version(&self) -> Result<String, DockerError> {
        let done = self.run(&["version", "--format", "{{.Server.Version}}"], VERSION_TIMEOUT)?;
        let version = done.stdout.trim().to_owned();
        if done.success && !version.is_empty() {
            return Ok(version);
        }
        let program = self.program.to_string_lossy();
        let silent = format!("`{program} version` names no server and gives no reason");
        let why = if done.stderr.is_empty() { silent } else { done.stderr };
        Err(DockerError::Unreachable(format!("{} ({})", why.trim_end(), self.choice.describe())))
    }

    /// Whether the engine has an image of this name. The caller must know that the engine answers.
    pub fn has_image(&self, image: &str) -> Result<bool, DockerError> {
        let done = self.run(&["image", "inspect", "--format", "{{.Id}}", image], REQUEST_TIMEOUT)?;
        Ok(done.success)
    }

    /// The user that an image names for its containers; empty for root.
    pub fn image_user(&self, image: &str) -> Result<String, DockerError> {
        let user = self.request(&["image", "inspect", "--format", "{{.Config.User}}", image], REQUEST_TIMEOUT)?;
        Ok(user.trim().to_owned())
    }

    /// Pulls an image from its registry, within `limit`; for `platform` where one is named.
    pub fn pull(&self, image: &str, platform: Option<&str>, limit: Duration) -> Result<(), DockerError> {
        let mut args = vec!["pull", "--quiet"];
        args.extend(platform.into_iter().flat_map(|platform| ["--platform", platform]));
        args.push(image);
        self.request(&args, limit).map(drop)
    }

    /// Whether containers keep running while the engine is stopped (its `live-restore`).
    pub fn has_live_restore(&self) -> Result<bool, DockerError> {
        // A client whose engine doesn't answer prints `false` and fails.
        Ok(self.request(&["info", "--format", "{{.LiveRestoreEnabled}}"], REQUEST_TIMEOUT)?.trim() == "true")
    }

    /// The folder in which the engine keeps images and containers, as the engine names it.
    pub fn data_root(&self) -> Result<PathBuf, DockerError> {
        Ok(self.request(&["info", "--format", "{{.DockerRootDir}}"], REQUEST_TIMEOUT)?.trim_end_matches('\n').into())
    }

    /// Whether the engine confines containers by SELinux. An engine that doesn't know the question counts as one that does.
    pub fn uses_selinux(&self) -> bool {
        let options = self.request(&["info", "--format", "{{json .SecurityOptions}}"], REQUEST_TIMEOUT);
        options.map_or(true, |options| options.contains("selinux"))
    }

    /// Whether the engine maps the users of containers to others of this machine (its `userns-remap`).
    pub fn maps_users(&self) -> Result<bool, DockerError> {
        let options = self.request(&["info", "--format", "{{json .SecurityOptions}}"], REQUEST_TIMEOUT)?;
        Ok(options.contains("name=userns"))
    }

    /// Stops a container: TERM, after `grace` (of whole seconds) KILL. Returns when it has ended. A container that has ended
    /// already is no error, an absent one is.
    pub fn stop(&self, name: &str, grace: Duration) -> Result<(), DockerError> {
        self.stop_with_looks(name, grace, None)
    }

    /// The same. Meanwhile `look` is called several times a second.
    pub fn stop_with_looks(
        &self,
        name: &str,
        grace: Duration,
        look: Option<&mut dyn FnMut()>,
    ) -> Result<(), DockerError> {
        let done = self.run_with_looks(&["stop", "-t", &grace.as_secs().to_string(), name], STOP_TIMEOUT, look)?;
        if done.success { Ok(()) } else { Err(DockerError::Refused(done.stderr)) }
    }

    /// Removes a container, by its name or id, that isn't running; the engine refuses a running one.
    pub fn remove(&self, name: &str) -> Result<(), DockerError> {
        self.request(&["rm", "-v", name], REQUEST_TIMEOUT).map(drop)
    }

    /// Removes containers by their ids, as [`Docker::remove`] does. After an error some of them may be removed.
    pub fn remove_all(&self, ids: &[&str]) -> Result<(), DockerError> {
        let args: Vec<&str> = ["rm", "-v"].iter().chain(ids).copied().collect();
        self.request(&args, REQUEST_TIMEOUT).map(drop)
    }

    /// Removes a container, running or not. An absent one is no error.
    pub fn remove_forced(&self, name: &str) -> Result<(), DockerError> {
        match self.inspect(name)? {
            // By its id: the name may be another one's by then.
            Some(container) => self.request(&["rm", "-f", "-v", &container.id], STOP_TIMEOUT).map(drop),
            None => Ok(()),
        }
    }

    /// The command that prints the output that the engine keeps of a container.
    /// With a number, the output until now begins with its last lines, so many of both streams together.
    pub fn logs_command(&self, name: &str, range: LogRange, tail: Option<usize>) -> Command {
        let follow = (range == LogRange::UntilExit).then(|| "--follow".to_owned());
        let tail = tail.map(|lines| format!("--tail={lines}"));
        self.command(["logs".to_owned()].into_iter().chain(follow).chain(tail).chain([name.to_owned()]))
    }

    /// The command that prints what happens to an agent's containers, as it happens; see [`Lives`].
    pub fn lives_command(&self, instance: &str) -> Command {
        let args = Lives::args(instance);
        self.log_call(&args);
        let mut command = platform::leashed(self.executable().as_os_str(), &args);
        self.limit_search(&mut command);
        command
    }

    /// Whether the engine has output of a container that is not older than this.
    pub fn has_printed_within(&self, id: &str, time: Duration) -> Result<bool, DockerError> {
        let since = format!("{}s", time.as_secs());
        let done = self.run(&["logs", "--since", &since, "--tail", "1", id], REQUEST_TIMEOUT)?;
        Ok(done.success && !(done.stdout.is_empty() && done.stderr.is_empty()))
    }

    /// The command that prints a file or folder of a container, running or not, as a tar archive on its standard
    /// output. The engine resolves the path within the container.
    pub fn copy_out_command(&self, id: &str, path: &Path) -> Command {
        let mut source = OsString::from(id);
        source.push(":");
        source.push(path);
        self.command([OsStr::new("cp"), &source, OsStr::new("-")])
    }

    /// Removes what is in a folder with a container of the executor's image that runs as root: a task's container may have
    /// created files as another user. The image needs `sh`, `find`, `mv` and `rm`. What can't be removed in time can be
    /// tried again.
    pub fn remove_content(&self, spec: &RemovalSpec<'_>) -> Result<(), DockerError> {
        // A killed agent may have left it.
        self.remove_forced(spec.name)?;
        let removed = self.request(&spec.args(), REMOVE_CONTENT_TIMEOUT).map(drop);
        if let Err(DockerError::Unreachable(_)) = removed {
            // Its client was killed, and it may go on.
            self.remove_forced(spec.name)?;
        }
        removed
    }

    /// The ids and names of all containers of an agent, in any state.
    pub fn list_of_instance(&self, instance: &str) -> Result<Vec<(String, String)>, DockerError> {
        let filter = format!("label={INSTANCE_LABEL}={instance}");
        let lines = self.list(&["ps", "-a", "--no-trunc", "--filter", &filter, "--format", "{{.ID}} {{.Names}}"])?;
        let pair = |line: &String| line.split_once(' ').map(|(id, name)| (id.to_owned(), name.to_owned()));
        Ok(lines.iter().filter_map(pair).collect())
    }

    /// Whether a container of an agent is running.
    pub fn is_any_running(&self, instance: &str) -> Result<bool, DockerError> {
        let filter = format!("label={INSTANCE_LABEL}={instance}");
        Ok(!self.list(&["ps", "-q", "--filter", &filter])?.is_empty())
    }

    /// The lines of a listing. A refusal counts as no answer.
    fn list(&self, args: &[&str]) -> Result<Vec<String>, DockerError> {
        let listed = self.run(args, REQUEST_TIMEOUT)?;
        if !listed.success {
            return Err(DockerError::Unreachable(listed.stderr));
        }
        Ok(listed.stdout.lines().map(str::to_owned).filter(|line| !line.is_empty()).collect())
    }

    /// Runs docker and returns its standard output; a failure is a refusal.
    fn request(&self, args: &[impl AsRef<OsStr>], limit: Duration) -> Result<String, DockerError> {
        let done = self.run(args, limit)?;
        if done.success { Ok(done.stdout) } else { Err(DockerError::Refused(done.stderr)) }
    }

    fn run(&self, args: &[impl AsRef<OsStr>], limit: Duration) -> Result<CommandOutput, DockerError> {
        self.run_with_looks(args, limit, None)
    }

    fn run_with_looks(
        &self,
        args: &[impl AsRef<OsStr>],
        limit: Duration,
        look: Option<&mut dyn FnMut()>,
    ) -> Result<CommandOutput, DockerError> {
        let call = || {
            let subcommand = args.first().map(|arg| arg.as_ref().to_string_lossy()).unwrap_or_default();
            format!("`{} {subcommand}`", self.program.to_string_lossy())
        };
        let done = run_with_looks(self.command(args), limit, look).map_err(|error| {
            DockerError::Unreachable(match error {
                CallError::Spawn(why) if is_missing(&why) => {
                    format!("{} {error}; is Docker installed and in the PATH?", call(), error = CallError::Spawn(why))
                }
                error => format!("{} {error}", call()),
            })
        })?;
        if done.is_crash {
            let words = done.stderr.lines().next().unwrap_or("without a word");
            return Err(DockerError::Unreachable(format!("{} broke off: {words}", call())));
        }
        Ok(done)
    }

    /// The file of the client, which may have been installed or moved since the last call. Where there is none, or none
    /// that is safe from other users, the path leads to nothing.
    pub fn executable(&self) -> PathBuf {
        match check_program(&self.program) {
            Ok(Some(file)) => file,
            Ok(None) => Path::new("/").join(&self.program),
            Err(why) => {
                log::error!(
                    "`{}` (`executor.docker`) isn't safe from other users: {why}",
                    self.program.to_string_lossy()
                );
                PathBuf::from("/dev/null/docker")
            }
        }
    }

    /// Lets the client find its helpers where no other user can put one.
    pub fn limit_search(&self, command: &mut Command) {
        self.choice.set_for(command);
        if let Some(search_path) = &self.search_path {
            search_path.set_for(command);
        }
    }

    /// A call of docker, which is logged so that it can be pasted (P6).
    fn command(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(self.executable());
        command.args(args);
        self.limit_search(&mut command);
        self.log_call(command.get_args());
        command
    }

    fn log_call(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) {
        let mut words = vec![self.program.to_string_lossy().into_owned()];
        words.extend(args.into_iter().map(|word| word.as_ref().to_string_lossy().into_owned()));
        log::debug!("{}", shell_line(words.iter().map(String::as_str)));
    }
}

/// Whether a program couldn't be started for another reason than this machine's want of processes or memory.
fn is_missing(why: &io::Error) -> bool {
    why.kind() != io::ErrorKind::WouldBlock && !platform::is_shortage(why)
}

/// Checks what the client reads of its own: a context, or a plugin, of another user would make it that user's client.
pub fn check_client_settings(folder: &Path) -> Result<(), Untrusted> {
    check_settings(folder, &["config.json", "contexts", "cli-plugins"])
}

#[cfg(test)]
mod tests {
    use super::{Docker, DockerError};

    #[test]
    fn a_missing_client_counts_as_an_unreachable_engine() {
        let docker = Docker { program: "/nonexistent/docker".into(), ..Docker::default() };
        assert!(matches!(docker.inspect("x"), Err(DockerError::Unreachable(_))));
        assert!(docker.engine_version().unwrap_err().to_string().contains("is Docker installed"));
    }
}
