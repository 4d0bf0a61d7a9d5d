//! Whether this machine can start a container now: one of the agent's own is started, as a task's would be, with the
//! image's `sh`, which reads and writes a file in its workspace and ends.
//!
//! Where the image has no `sh`, the runtime's complaint about that comes after all else that a start takes: network,
//! devices, mounts, user and limits. So this works with every image.

use crate::config::container_options::Pull;
use crate::config::{Config, ExecutorConfig, Mount, Program, WORKSPACE};
use crate::docker::args::RunSpec;
use crate::docker::{Docker, DockerError, ProbeEnd, StartFault, find_fault};
use crate::task::ProbeFolder;

/// A container to be started as a proof.
pub struct StartProbe<'p> {
    pub config: &'p Config,
    pub docker: &'p Docker,
    pub name: String,
    pub labels: Vec<(&'static str, String)>,
    /// What it has as its workspace.
    pub folder: &'p ProbeFolder,
}

/// What a probe has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// A program ran, and could use the workspace.
    Ran,
    /// All that comes before a program: the image has no `sh`.
    WithoutProgram,
}

/// Why tasks would fail now.
#[derive(Debug)]
pub enum StartProblem {
    /// The engine couldn't be asked, or didn't bring the start to an end.
    Engine(DockerError),
    /// The engine refused to make or to start the container, in its words.
    Refused(String),
    /// The container started and ended with this status and these words: no program can be run, or it can't use its
    /// workspace.
    Ended(i32, String),
}

impl std::fmt::Display for StartProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Engine(error) => error.fmt(f),
            Self::Refused(words) => write!(f, "docker: {words}"),
            Self::Ended(code, words) if words.is_empty() => {
                write!(f, "a container of the agent's own ended at once with status {code} and printed nothing")
            }
            Self::Ended(code, words) => {
                write!(f, "a container of the agent's own ended at once with status {code}: {words}")
            }
        }
    }
}

impl StartProbe<'_> {
    /// Starts the container, waits for its end and removes it.
    pub fn run(&self) -> Result<Started, StartProblem> {
        match self.docker.run_probe(&self.spec(&self.executor())).map_err(StartProblem::Engine)? {
            ProbeEnd::Exited(0, _) => Ok(Started::Ran),
            ProbeEnd::Exited(code, words) => Err(StartProblem::Ended(code, words)),
            ProbeEnd::NotStarted(words) if find_fault(&words) == StartFault::NoProgram => Ok(Started::WithoutProgram),
            ProbeEnd::NotStarted(words) => Err(StartProblem::Refused(words)),
        }
    }

    /// The executor with the probe's program.
    fn executor(&self) -> ExecutorConfig {
        let mut executor = self.config.executor.clone();
        let (seen, written) = (format!("{WORKSPACE}/{}", ProbeFolder::FILE), format!("{WORKSPACE}/written"));
        let script = format!(": < {seen} && : > {written}");
        executor.program = Program::Custom(["sh", "-c", &script].map(str::to_owned).to_vec());
        executor.options.pull = Some(Pull::Never);
        executor
    }

    fn spec<'e>(&self, executor: &'e ExecutorConfig) -> RunSpec<'e> {
        let (host, container) = (self.folder.dir.clone(), WORKSPACE.to_owned());
        let mut mounts = vec![Mount { host, relative: false, container, readonly: false }];
        mounts.extend(self.config.paths.mounts.iter().cloned());
        let (name, labels) = (self.name.clone(), self.labels.clone());
        RunSpec { executor, name, cidfile: None, labels, mounts, env: Vec::new(), env_file: None }
    }
}
