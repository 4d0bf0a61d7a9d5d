//! The docker command line client: one place that starts it, and one method per thing that it is asked.
//!
//! This module knows containers, not tasks. What the engine says is parsed by pure functions, and no decision is
//! taken from the text of an error: whether a container is absent is asked, not guessed.

pub mod args;
mod history;
pub mod probe;

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use thiserror::Error;

pub use history::{ExitEvents, exit_events};

use crate::os::process::{CallError, CommandOutput, run_with_timeout};
use crate::shell::shell_line;

/// The label that names a container's task.
pub const TASK_LABEL: &str = "open-aaas.task";
/// The label that names the service for which a container runs.
pub const SERVICE_LABEL: &str = "open-aaas.service";
/// The label that names the agent, by its data_dir, that owns a container.
pub const INSTANCE_LABEL: &str = "open-aaas.instance";

/// How long the engine may take for a question.
const ASK: Duration = Duration::from_secs(30);
/// The grace that a container has between TERM and KILL, in seconds.
const STOP_GRACE: &str = "10";
/// How much later than a container's end the engine has noted it, as a rule and at the latest: it waits up to 2 s for
/// the last of the output.
const NOTED: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(15)];
/// How long a stop may take in all; the engine needs a while for the KILL on a busy machine.
const STOP: Duration = Duration::from_secs(40);

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

/// The phase of life that a container is in, in the engine's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Made, and not running yet; or its start was refused.
    Created,
    /// Running.
    Running,
    /// Running, and frozen by somebody.
    Paused,
    /// Between two runs; our containers have no restart policy.
    Restarting,
    /// Being removed.
    Removing,
    /// Ended.
    Exited,
    /// Ended, and half removed.
    Dead,
}

/// What the engine knows of a container.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    /// Its id: another container that gets its name later has another one.
    pub id: String,
    /// Its phase of life.
    pub status: Status,
    /// The exit status of its first process; meaningful once it has ended.
    pub exit_code: i32,
    /// Whether the kernel killed it for its memory.
    pub oom_killed: bool,
    /// Why the engine could not start or keep it, or empty.
    pub error: String,
    /// When it was started last.
    pub started_at: Option<Timestamp>,
    /// When it ended last.
    pub finished_at: Option<Timestamp>,
    /// The agent that owns it, by its label.
    pub instance: Option<String>,
}

impl Container {
    /// Seconds that it ran, or has run until now.
    pub fn ran_for(&self, now: Timestamp) -> Duration {
        let Some(from) = self.started_at else { return Duration::ZERO };
        let until = self.finished_at.filter(|at| *at >= from).unwrap_or(now);
        Duration::try_from(until.duration_since(from)).unwrap_or(Duration::ZERO)
    }
}

/// The docker client.
#[derive(Debug, Clone)]
pub struct Docker {
    program: OsString,
}

impl Docker {
    /// A client that is started as `program`.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self { program: program.into() }
    }

    /// What is started.
    pub fn program(&self) -> &OsStr {
        &self.program
    }

    /// Asks the engine for its version: the cheapest proof that it answers.
    pub fn engine_version(&self) -> Result<String, DockerError> {
        let done = self.ask(&["version", "--format", "{{.Server.Version}}"], Duration::from_secs(10))?;
        let version = done.stdout.trim().to_owned();
        if done.success && !version.is_empty() {
            return Ok(version);
        }
        let program = self.program.to_string_lossy();
        let silent = format!("`{program} version` names no server, and says no reason");
        Err(DockerError::Unreachable(if done.stderr.is_empty() { silent } else { done.stderr }))
    }

    /// Whether the engine has an image of this name. The engine must be known to answer.
    pub fn has_image(&self, image: &str) -> Result<bool, DockerError> {
        let done = self.ask(&["image", "inspect", "--format", "{{.Id}}", image], ASK)?;
        Ok(done.success)
    }

    /// Fetches an image from its registry; for `platform` where one is named. Takes up to `limit`.
    pub fn pull(&self, image: &str, platform: Option<&str>, limit: Duration) -> Result<(), DockerError> {
        let mut words = vec!["pull", "--quiet"];
        words.extend(platform.into_iter().flat_map(|platform| ["--platform", platform]));
        words.push(image);
        self.command(&words, limit)
    }

    /// What the engine knows of the container with this name, or `None` if there is none.
    pub fn inspect(&self, name: &str) -> Result<Option<Container>, DockerError> {
        const FORMAT: &str = r#"{"Id":{{json .Id}},"State":{{json .State}},"Labels":{{json .Config.Labels}}}"#;
        let inspected = self.ask(&["inspect", "--type", "container", "--format", FORMAT, name], ASK)?;
        if inspected.success {
            return parse_inspect(&inspected.stdout)
                .map(Some)
                .map_err(|error| DockerError::Unreachable(format!("docker inspect gave no usable answer: {error}")));
        }
        // A failed inspect may mean that the container is absent or that the engine is. Only a successful listing
        // that doesn't have it means the former.
        let filter = format!("name=^/{}$", name.replace('.', "\\."));
        let listed = self.ask(&["ps", "-a", "-q", "--no-trunc", "--filter", &filter], ASK)?;
        if listed.success && listed.stdout.trim().is_empty() {
            return Ok(None);
        }
        let why = if listed.success { inspected.stderr } else { listed.stderr };
        Err(DockerError::Unreachable(why))
    }

    /// What the engine remembers of the end of a container that has ended.
    pub fn exit_events(&self, container: &Container) -> Result<ExitEvents, DockerError> {
        let Some(ended) = container.finished_at else { return Ok(ExitEvents::Unknown) };
        let [soon, latest] = NOTED.map(|later| ended + later);
        // The engine waits for events of its future, so the time is its own as far as our clock may be another.
        let mut until = Timestamp::now().clamp(ended, latest);
        loop {
            match self.recall(&container.id, until)? {
                ExitEvents::Nothing if until < latest => until = if until < soon { soon } else { latest },
                exit_events => return Ok(exit_events),
            }
        }
    }

    fn recall(&self, id: &str, until: Timestamp) -> Result<ExitEvents, DockerError> {
        let until = until.to_string();
        let listed = self.ask(&["events", "--since", "1", "--until", &until, "--format", history::FORMAT], ASK)?;
        if listed.success { Ok(exit_events(&listed.stdout, id)) } else { Err(DockerError::Refused(listed.stderr)) }
    }

    /// Whether containers go on while the engine is away (its `live-restore`).
    pub fn has_live_restore(&self) -> Result<bool, DockerError> {
        let done = self.ask(&["info", "--format", "{{.LiveRestoreEnabled}}"], ASK)?;
        // A client whose engine is away prints `false` and fails.
        if done.success { Ok(done.stdout.trim() == "true") } else { Err(DockerError::Refused(done.stderr)) }
    }

    /// Stops a container: TERM, ten seconds, KILL. Returns when it has ended. One that has ended already is no error;
    /// one that isn't there is.
    pub fn stop(&self, name: &str) -> Result<(), DockerError> {
        self.command(&["stop", "-t", STOP_GRACE, name], STOP)
    }

    /// Removes a container, by its name or id, that isn't running; the engine refuses one that is.
    pub fn remove(&self, name: &str) -> Result<(), DockerError> {
        self.command(&["rm", "-v", name], ASK)
    }

    /// Removes a container, running or not. One that isn't there is no error.
    pub fn remove_forced(&self, name: &str) -> Result<(), DockerError> {
        match self.inspect(name)? {
            Some(_) => self.command(&["rm", "-f", "-v", name], STOP),
            None => Ok(()),
        }
    }

    /// The command that prints a container's kept output, and goes on with `follow` until the container ends.
    pub fn logs_command(&self, name: &str, follow: bool) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("logs").args(follow.then_some("--follow")).arg(name);
        command
    }

    /// The command that prints a file or folder of a container, running or not, as a tar archive on its standard
    /// output. The engine resolves the path within the container.
    pub fn copy_out_command(&self, id: &str, path: &Path) -> Command {
        let mut source = OsString::from(id);
        source.push(":");
        source.push(path);
        let mut command = Command::new(&self.program);
        command.arg("cp").arg(source).arg("-");
        log::debug!("{:?}", command);
        command
    }

    /// Removes a folder with a container of `image` that runs as root: for what a task's container left there in the
    /// name of another user. The image needs an `rm`.
    pub fn remove_tree(&self, image: &str, parent: &Path, name: &str) -> Result<(), DockerError> {
        let words = args::remove_tree(image, parent, name);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.command(&words, Duration::from_secs(120))
    }

    /// The names of all containers of an agent, whatever their state.
    pub fn names_of_instance(&self, instance: &str) -> Result<Vec<String>, DockerError> {
        let filter = format!("label={INSTANCE_LABEL}={instance}");
        let listed = self.ask(&["ps", "-a", "--filter", &filter, "--format", "{{.Names}}"], ASK)?;
        if !listed.success {
            return Err(DockerError::Unreachable(listed.stderr));
        }
        Ok(listed.stdout.lines().map(str::to_owned).filter(|name| !name.is_empty()).collect())
    }

    fn command(&self, words: &[&str], limit: Duration) -> Result<(), DockerError> {
        let done = self.ask(words, limit)?;
        if done.success { Ok(()) } else { Err(DockerError::Refused(done.stderr)) }
    }

    fn ask(&self, words: &[&str], limit: Duration) -> Result<CommandOutput, DockerError> {
        let mut command = Command::new(&self.program);
        command.args(words);
        log::debug!(
            "{}",
            shell_line([self.program.to_string_lossy().as_ref()].into_iter().chain(words.iter().copied()))
        );
        run_with_timeout(command, limit).map_err(|error| {
            let what = format!("`{} {}` {error}", self.program.to_string_lossy(), words[0]);
            DockerError::Unreachable(match error {
                CallError::Spawn(_) => format!("{what}; is Docker installed and in the PATH?"),
                CallError::TimedOut(_) => what,
            })
        })
    }
}

pub(crate) fn parse_inspect(text: &str) -> Result<Container, serde_json::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Inspected {
        id: String,
        state: State,
        #[serde(default)]
        labels: Option<HashMap<String, String>>,
    }
    #[derive(Deserialize)]
    struct State {
        #[serde(rename = "Status")]
        status: Status,
        #[serde(rename = "ExitCode", default)]
        exit_code: i32,
        #[serde(rename = "OOMKilled", default)]
        oom_killed: bool,
        #[serde(rename = "Error", default)]
        error: String,
        #[serde(rename = "StartedAt", default)]
        started_at: String,
        #[serde(rename = "FinishedAt", default)]
        finished_at: String,
    }
    let Inspected { id, state, labels } = serde_json::from_str(text)?;
    Ok(Container {
        id,
        status: state.status,
        exit_code: state.exit_code,
        oom_killed: state.oom_killed,
        error: state.error,
        started_at: engine_time(&state.started_at),
        finished_at: engine_time(&state.finished_at),
        instance: labels.and_then(|mut labels| labels.remove(INSTANCE_LABEL)),
    })
}

/// The engine writes the year 1 for "never".
fn engine_time(text: &str) -> Option<Timestamp> {
    text.parse::<Timestamp>().ok().filter(|at| at.as_second() > 0)
}

#[cfg(test)]
mod tests {
    use super::{Docker, DockerError, Status, parse_inspect};
    use jiff::Timestamp;
    use std::time::Duration;

    const EXITED: &str = r#"{"Id":"c1","State":{"Status":"exited","Running":false,"Paused":false,"Restarting":false,
        "OOMKilled":true,"Dead":false,"Pid":0,"ExitCode":137,"Error":"","StartedAt":"2026-01-02T03:04:05.5Z",
        "FinishedAt":"2026-01-02T03:04:07.750Z"},"Labels":{"open-aaas.instance":"i1","x":"y"}}"#;

    #[test]
    fn inspect_output_of_an_exited_container_is_parsed() {
        let container = parse_inspect(EXITED).unwrap();
        assert_eq!((container.status, container.exit_code, container.oom_killed), (Status::Exited, 137, true));
        assert_eq!(container.ran_for(Timestamp::now()), Duration::from_millis(2250));
        assert_eq!((container.id.as_str(), container.instance.as_deref()), ("c1", Some("i1")));
    }

    #[test]
    fn inspect_output_of_an_unstarted_container_is_parsed() {
        let text = EXITED
            .replace("exited", "created")
            .replace("2026-01-02T03:04:05.5Z", "0001-01-01T00:00:00Z")
            .replace(r#"{"open-aaas.instance":"i1","x":"y"}"#, "null");
        let container = parse_inspect(&text).unwrap();
        assert_eq!((container.status, container.started_at, container.instance.clone()), (Status::Created, None, None));
        assert_eq!(container.ran_for(Timestamp::now()), Duration::ZERO);
    }

    #[test]
    fn inspect_output_of_another_shape_is_an_error() {
        for text in ["", "null", "{}", r#"{"Id":"c1","State":{"Status":"dancing"}}"#] {
            assert!(parse_inspect(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_missing_client_counts_as_an_unreachable_engine() {
        let docker = Docker::new("/nonexistent/docker");
        assert!(matches!(docker.inspect("x"), Err(DockerError::Unreachable(_))));
        assert!(docker.engine_version().unwrap_err().to_string().contains("is Docker installed"));
    }
}
