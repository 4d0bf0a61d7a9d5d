//! `try`: one task without a Server, by the same steps as the agent's tasks.
//!
//! A trial doesn't take the agent's lock and doesn't touch the agent's tasks: workspace and record are in a folder of
//! their own, and the container has none of the labels by which an agent finds its containers.

mod copier;
mod offer;
mod out_folder;
mod results;
mod trial_folder;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};

use super::failure::{CommandResult, Failure};
use super::output::eprint_line;
use crate::cli::TryArgs;
use crate::config::container_options::Pull;
use crate::config::{Config, is_image_name};
use crate::data_dir::{DataDir, permissions};
use crate::docker::Docker;
use crate::os::terminal::Shown;
use crate::task::mounts::check_mounts;
use crate::task::record::{Phase, Record, StopReason, Store, TaskKey};
use crate::task::workspace::Workspace;
use crate::task::{self, Job, Limits, TaskContainer, Trial, TrialConsole, WorkerCommand};
use crate::text::escape;
use offer::Offer;
use out_folder::{Existing, OutFolder};
use results::{INTERRUPTED, NOT_STARTED, exit_status, print_results};
use trial_folder::{TrialFolder, remove_abandoned};

/// How long a pull may take.
const PULL_LIMIT: Duration = Duration::from_secs(3600);

/// Works on one task, and prints what would be sent.
pub fn try_out(file: &Path, args: &TryArgs) -> CommandResult {
    let mut config = Config::load(file)?;
    if let Some(image) = &args.image {
        if !is_image_name(image) {
            return Err(Failure::usage(format!("`{}` is no name of an image (`--image`)", escape(image))));
        }
        config.executor.image.clone_from(image);
    }
    let config = config;
    for warning in &config.warnings {
        log::warn!("{warning}");
    }
    permissions::find(&config.paths.data_dir)?;
    config.check_data_dir_is_there()?;
    // The folder is checked before a container may run for hours.
    let existing = if args.force { Existing::Replaced } else { Existing::Refused };
    let out = args.out.as_deref().map(|dir| OutFolder::new(dir, existing)).transpose()?;
    let docker = Docker::new(&config)?;
    docker.engine_version().map_err(|error| Failure::new(error.to_string()))?;
    check_mounts(&config).map_err(|why| Failure::new(why.to_string()))?;
    remove_abandoned(&config, &docker);
    if let Err(why) = bring_image(&config, &docker) {
        eprint_line(format_args!("agent-core: {why}"));
        return Ok(ExitCode::from(NOT_STARTED));
    }
    let interrupted = Arc::new(AtomicBool::new(false));
    let commands = handle_signals(&interrupted)?;
    let folder = TrialFolder::create(&config)?;
    let attempt = Attempt { config: &config, docker: &docker, folder: &folder, interrupted: &interrupted };
    let mut is_kept = args.keep;
    let is_interrupted = || interrupted.load(Ordering::Relaxed);
    let result = attempt.run(args, commands).and_then(|trial| {
        print_results(&trial);
        if let Some(out) = out.filter(|_| trial.stop != Some(StopReason::Cancel)) {
            let copied = out.copy(&trial.files, &interrupted);
            // A full disk at `--out` must not cost results that may have taken hours.
            is_kept |= copied.is_err() && !is_interrupted();
            copied?;
        }
        Ok(ExitCode::from(exit_status(&trial)))
    });
    let result = if result.is_err() && is_interrupted() { Ok(ExitCode::from(INTERRUPTED)) } else { result };
    if is_kept {
        folder.keep(&docker)?;
    } else {
        folder.remove(&docker);
    }
    result
}

/// Pulls a missing image, once: `docker run` would try it with each start of the container.
fn bring_image(config: &Config, docker: &Docker) -> Result<(), String> {
    let (image, options) = (&config.executor.image, &config.executor.options);
    let is_pulled = matches!(options.pull, None | Some(Pull::Missing));
    if !is_pulled || !matches!(docker.has_image(image), Ok(false)) {
        return Ok(());
    }
    eprint_line(format_args!("The image `{image}` isn't on this machine; pulling it …"));
    docker.pull(image, options.docker_args.platform.as_deref(), PULL_LIMIT).map_err(|error| {
        format!(
            "the image `{image}` isn't on this machine and can't be pulled: {error}; build it, for example with \
             `docker build -t {image} executor-example/minimal`, or name another one (`executor.image`, `--image`)"
        )
    })
}

/// The first signal stops the container; the second one ends this process at once.
fn handle_signals(interrupted: &Arc<AtomicBool>) -> Result<Receiver<WorkerCommand>, Failure> {
    let (sender, commands) = unbounded();
    let interrupted = Arc::clone(interrupted);
    let handler = move || {
        if interrupted.swap(true, Ordering::Relaxed) {
            eprint_line("Exiting now. The container may still run; the next `try` removes it.");
            std::process::exit(i32::from(INTERRUPTED));
        }
        eprint_line("Stopping the container, which has 10 s to end. Ctrl+C again exits at once.");
        // A send error means that the task has ended.
        let _ = sender.send(WorkerCommand::Cancel);
    };
    ctrlc::set_handler(handler).map_err(Failure::context("can't handle signals"))?;
    Ok(commands)
}

struct Attempt<'a> {
    config: &'a Config,
    docker: &'a Docker,
    folder: &'a TrialFolder,
    interrupted: &'a AtomicBool,
}

impl Attempt<'_> {
    /// Works on the task up to where its results would be sent.
    fn run(&self, args: &TryArgs, commands: Receiver<WorkerCommand>) -> Result<Trial, Failure> {
        let mut offer = Offer::new(args, self.config, &format!("try-{}", self.folder.name))?;
        let data_dir = DataDir::new(&self.folder.dir);
        let key = TaskKey::from_id(&offer.task.id).ok_or_else(|| Failure::new("the task's id can't be used"))?;
        let workspace = Workspace::new(&data_dir, &key);
        workspace.create().map_err(Failure::unusable(&data_dir))?;
        let end = if args.keep { "kept" } else { "removed at the end; `--keep` keeps it" };
        eprint_line(format_args!("Workspace: {} ({end})", workspace.dir().display()));
        offer.copy_inputs(&workspace, self.interrupted)?;
        let mut record = Record::from_offer(offer.task, "", &self.config.server.base_url);
        record.phase = Phase::Accepted;
        let files = Store::open(&data_dir)
            .and_then(|store| store.create(&key, &record))
            .map_err(Failure::unusable(&data_dir))?;
        let container = TaskContainer {
            starts: None,
            ends: None,
            removals: None,
            config: self.config,
            docker: self.docker,
            name: self.folder.container_name(),
            // Without a label, no agent takes the container for its own.
            owner: None,
            console: Some(&TrialConsole::new(Shown::from_flag(args.raw))),
            limits: Limits::default(),
        };
        task::try_out(&container, workspace, Job { files, record, commands, is_worker_wanted: Arc::default() })
            .map_err(Failure::new)
    }
}
