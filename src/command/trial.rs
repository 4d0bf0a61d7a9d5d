//! `try`: one task without a Server, by the same steps as the agent's.
//!
//! It takes no lock of the agent's and knows nothing of its tasks: workspace and record lie in a folder of their own, and
//! the container carries none of the labels by which an agent finds its own.

mod folder;
mod offer;
mod progress;
mod results;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::failure::{CommandResult, Failure};
use super::output::eprint_line;
use crate::cli::TryArgs;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::docker::Docker;
use crate::task::mounts::check_mounts;
use crate::task::record::{Phase, Record, Store, TaskKey};
use crate::task::workspace::Workspace;
use crate::task::{self, Job, Trial, TrialConsole, TrialSetup, WorkerCommand};
use folder::Folder;
use offer::Offer;
use progress::Copying;
use results::{INTERRUPTED, OutFolder, exit_status, tell};

/// Does one task and says what would be sent of it.
pub fn try_out(file: &Path, args: &TryArgs) -> CommandResult {
    let config = Config::load(file)?;
    for warning in &config.warnings {
        log::warn!("{warning}");
    }
    let out = args.out.as_deref().map(OutFolder::new).transpose()?;
    let docker = Docker::new(&config.executor.docker);
    docker.engine_version().map_err(|error| Failure::new(error.to_string()))?;
    check_mounts(&config).map_err(Failure::new)?;
    folder::sweep(&config, &docker);
    let leaving = Arc::new(AtomicBool::new(false));
    let commands = handle_signals(&leaving)?;
    let folder = Folder::make(&config)
        .map_err(|error| Failure::new(format!("`{}` can't be used: {error}", config.paths.data_dir.display())))?;
    let done = Attempt { config: &config, docker: &docker, folder: &folder, leaving: &leaving }.make(args, commands);
    let interrupted = || Ok(ExitCode::from(INTERRUPTED));
    let mut keep = args.keep;
    let code = match done {
        Ok(trial) => {
            tell(&trial);
            let status = exit_status(&trial);
            let out = out.filter(|_| status != INTERRUPTED || trial.stop.is_none());
            match out.map_or(Ok(()), |out| out.take(&trial.files, &Copying::new(&leaving))) {
                Ok(()) => Ok(ExitCode::from(status)),
                Err(_) if leaving.load(Ordering::Relaxed) => interrupted(),
                Err(failure) => {
                    // What a container has worked on for hours is not thrown away over a full disk.
                    keep = true;
                    Err(failure)
                }
            }
        }
        Err(_) if leaving.load(Ordering::Relaxed) => interrupted(),
        Err(failure) => Err(failure),
    };
    close(folder, &docker, keep)?;
    code
}

/// The first signal stops the container; a second one ends this program at once, and the next trial tidies up.
fn handle_signals(leaving: &Arc<AtomicBool>) -> Result<(Sender<WorkerCommand>, Receiver<WorkerCommand>), Failure> {
    let (sender, receiver) = unbounded();
    let (leaving, commands) = (Arc::clone(leaving), sender.clone());
    let handler = move || {
        if leaving.swap(true, Ordering::Relaxed) {
            eprint_line("Left at once: the container may go on, and goes with the next `try`.");
            std::process::exit(i32::from(INTERRUPTED));
        }
        eprint_line(format_args!("Stopping the container, which has 10 s to end; once more leaves at once."));
        // There is always somebody to take it, or nobody needs it any more.
        let _ = commands.send(WorkerCommand::Cancel);
    };
    ctrlc::set_handler(handler).map_err(|error| Failure::new(format!("signals can't be handled: {error}")))?;
    Ok((sender, receiver))
}

/// Everything that a trial needs.
struct Attempt<'a> {
    config: &'a Config,
    docker: &'a Docker,
    folder: &'a Folder,
    leaving: &'a AtomicBool,
}

impl Attempt<'_> {
    fn make(
        &self,
        args: &TryArgs,
        (_open, commands): (Sender<WorkerCommand>, Receiver<WorkerCommand>),
    ) -> Result<Trial, Failure> {
        let mut offer = Offer::new(args, self.config, &format!("try-{}", self.folder.name()))?;
        let here =
            |error: std::io::Error| Failure::new(format!("`{}` can't be used: {error}", self.folder.dir().display()));
        let key = TaskKey::from_id(&offer.task.id).ok_or_else(|| Failure::new("the task's id can't be used"))?;
        let workspace = Workspace::new(&DataDir::new(self.folder.dir()), &key);
        workspace.create().map_err(here)?;
        let until = if args.keep { "kept" } else { "removed at the end; `--keep` keeps it" };
        eprint_line(format_args!("Workspace: {} ({until})", workspace.dir().display()));
        offer.place(&workspace, &Copying::new(self.leaving))?;
        let mut record = Record::from_offer(offer.task, "", &self.config.server.base_url);
        record.phase = Phase::Accepted;
        let store = Store::open(&DataDir::new(self.folder.dir())).map_err(here)?;
        let files = store.create(&key, &record).map_err(here)?;
        let setup = TrialSetup {
            config: self.config,
            docker: self.docker,
            container: self.folder.container(),
            workspace,
            console: &TrialConsole::new(),
        };
        task::try_out(setup, Job { files, record, commands }).map_err(Failure::new)
    }
}

fn close(folder: Folder, docker: &Docker, keep: bool) -> Result<(), Failure> {
    if !keep {
        folder.remove(docker);
        return Ok(());
    }
    let (container, dir) = (folder.container(), folder.dir().to_owned());
    if let Err(error) = docker.remove_forced(&container) {
        log::warn!("the container `{container}` can't be removed: {error}");
    }
    eprint_line(format_args!("Kept: {}", dir.display()));
    folder.keep().map_err(|error| Failure::new(format!("`{}` can't be marked as kept: {error}", dir.display())))
}
