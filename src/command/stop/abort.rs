//! `stop --abort`: ends the containers of a data_dir on which no agent runs, and reports their tasks as failed.

use std::time::{Duration, Instant};

use super::{load_backlog, print_backlog};
use crate::agent::{Mode, serve};
use crate::command::failure::Failure;
use crate::command::output::print_line;
use crate::config::Config;
use crate::data_dir::AGENT_LOG;
use crate::data_dir::holder::Role;
use crate::data_dir::instance::Instance;
use crate::docker::{Docker, DockerError, STOP_GRACE};
use crate::logging::LogFile;
use crate::task::record::{Phase, Record, StopReason, Store, TaskFiles, TaskKey};

/// How long to try to stop containers and to reach the Server.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn abort(config: &Config, log_file: &LogFile) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    let docker = Docker::new(config)?;
    let data_dir = &config.paths.data_dir;
    let instance = Instance::acquire(data_dir, Role::Abort)?;
    if let Err(error) = log_file.open(instance.folder(), AGENT_LOG) {
        log::warn!("what is done here can't be written to {AGENT_LOG}: {error}");
    }
    let unfinished = |files: TaskFiles, record: Record| (record.phase < Phase::Exited).then_some((files, record));
    let tasks =
        Store::open(data_dir).and_then(|store| store.load_all(unfinished)).map_err(Failure::unusable(data_dir))?.taken;
    if tasks.is_empty() {
        print_line("No task is left to stop.");
        print_backlog(config, load_backlog(config)?);
        return Ok(());
    }
    let count = tasks.len();
    log::warn!("`stop --abort`: {count} unfinished task(s) are stopped and reported as failed");
    let foreign = mark_stopped(config, tasks);
    stop_foreign(&docker, &foreign, instance.id(), deadline);
    if let Some(credentials) = config.agent.credentials.clone() {
        serve(config.clone(), credentials, &instance, Mode::Abort(deadline)).map_err(Failure::new)?;
    }
    log::info!("`stop --abort` has ended");
    drop(instance);
    let backlog = load_backlog(config)?;
    print_line(format_args!("{count} task(s) aborted."));
    if !backlog.is_done() {
        let summary = backlog.summary();
        return Err(Failure::new(format!(
            "not every task could be stopped and reported: {summary}; the next start continues"
        )));
    }
    print_backlog(config, backlog);
    Ok(())
}

/// Writes the reason into the records first, so that the next start goes on where this command ends early. A container is
/// stopped also where that fails. Returns the tasks of other registrations.
fn mark_stopped(config: &Config, tasks: Vec<(TaskFiles, Record)>) -> Vec<TaskKey> {
    let service_id = config.agent.credentials.as_ref().map(|credentials| &credentials.service_id);
    let mut foreign = Vec::new();
    for (files, mut record) in tasks {
        if service_id != Some(&record.service_id) {
            foreign.push(files.key().clone());
        }
        if record.stop.is_none() {
            record.stop = Some(StopReason::Operator);
            if let Err(error) = files.save(&record) {
                log::warn!(task:% = files.key(); "its record can't be written: {error}; going on");
            }
        }
    }
    foreign
}

/// Stops the containers of other registrations: the agent doesn't work on their tasks.
fn stop_foreign(docker: &Docker, keys: &[TaskKey], instance_id: &str, deadline: Instant) {
    for key in keys {
        if Instant::now() >= deadline {
            log::warn!(task:% = key; "of another registration: no time was left to stop its container");
        } else if let Err(error) = stop_container(docker, key, instance_id) {
            log::warn!(task:% = key; "of another registration: its container can't be stopped: {error}");
        }
    }
}

/// Stops a task's container if it belongs to this instance.
fn stop_container(docker: &Docker, key: &TaskKey, instance_id: &str) -> Result<(), DockerError> {
    let container = docker.inspect(&key.container_name())?;
    let Some(container) = container.filter(|container| container.labels.instance.as_deref() == Some(instance_id))
    else {
        return Ok(());
    };
    match docker.stop(&container.id, STOP_GRACE) {
        // The engine refuses to stop a container that has ended.
        Err(DockerError::Refused(_)) => Ok(()),
        stopped => stopped,
    }
}
