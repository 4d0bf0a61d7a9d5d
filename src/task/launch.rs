//! Starting a task's container, and what stands in its `docker run`.

use std::io;
use std::time::{Duration, Instant};

use super::console::Screen;
use super::execute::{CLIENT_FAILED, HEAD, Progress, TAIL, has_cid};
use super::{RunMode, StepError, TaskRunner, WorkerEvent};
use crate::config::{Program, WORKSPACE};
use crate::docker::args::{Bind, RunSpec};
use crate::docker::{INSTANCE_LABEL, SERVICE_LABEL, TASK_LABEL};
use crate::os::files::remove_if_exists;
use crate::os::platform;
use crate::os::process::{BoundedLog, LoggedChild};
use crate::shell::shell_line;
use crate::task::mounts::check_mounts;
use crate::task::record::Process;

impl TaskRunner<'_> {
    /// Runs `docker run` and stays with it. Where it can't even be tried, the task's end is written down.
    pub(super) fn launch(&mut self, name: &str, progress: &mut Progress) -> Result<(), StepError> {
        if let Err(why) = check_mounts(&self.context.config) {
            self.tell(WorkerEvent::StartFailed);
            log::error!(task:% = self.key(); "{why}");
            return self.end_before_start(why);
        }
        self.remove_cid()?;
        self.record.replacing = false;
        let spec = self.spec(name);
        let docker = self.context.docker.program().to_string_lossy().into_owned();
        let pasteable = spec.pasteable();
        let line = shell_line([docker.as_str()].into_iter().chain(pasteable.iter().map(String::as_str)));
        let local = |error: io::Error| StepError::retry(format!("the container can't be started: {error}"));
        if spec.env_file.is_some() {
            let env = &self.context.config.executor.env;
            let variables = env.iter().map(|variable| (variable.name.as_str(), variable.value.expose()));
            self.files.save_env(variables).map_err(local)?;
        }
        self.files.save_command(&line).map_err(local)?;
        if progress.launches > 0 {
            log::info!(task:% = self.key(); "the container wasn't started; trying once more");
        }
        log::info!(task:% = self.key(); "{line}");
        let args: Vec<_> = spec.executed().into_iter().map(Into::into).collect();
        let mut stdout = BoundedLog::create(self.files.stdout(), HEAD, TAIL);
        let mut stderr = BoundedLog::create(self.files.stderr(), HEAD, TAIL);
        let screen = match self.context.mode {
            RunMode::Server => None,
            RunMode::Trial { .. } => Some(Screen::begin().map_err(local)?),
        };
        if let Some(screen) = &screen {
            stdout.echo_to(screen.through(io::stdout()));
            stderr.echo_to(screen.through(io::stderr()));
        }
        let (mut client, gate) =
            LoggedChild::spawn_gated(self.context.docker.program(), &args, stdout, stderr).map_err(local)?;
        // From here on a crash of ours leaves a client that the next start finds and ends before it looks.
        self.record.client = Some(Process { id: client.id(), started: platform::start_time(client.id()) });
        self.save()?;
        client.open(gate).map_err(local)?;
        progress.launches += 1;
        let watched = self.watch(name, client, None);
        drop(screen);
        let watched = watched?;
        progress.client_said = watched.exit_code;
        progress.began = watched.began;
        progress.ran_for = watched.began.map_or(Duration::ZERO, |began| began.elapsed());
        progress.watched = true;
        progress.captured = watched.exit_code == Some(0);
        progress.engine_was_away |= watched.exit_code == Some(CLIENT_FAILED) && has_cid(&self.files.cid());
        Ok(())
    }

    /// Ends a client that an earlier life of the agent has left behind: it could still make or start the container.
    pub(super) fn end_old_client(&mut self) -> Result<(), StepError> {
        let Some(client) = self.record.client.clone() else { return Ok(()) };
        let same = client.started.is_some() && platform::start_time(client.id) == client.started;
        if !same {
            return Ok(());
        }
        log::debug!(task:% = self.key(); "ending the docker client {} of an earlier run", client.id);
        if let Err(error) = platform::kill_group(client.id) {
            log::warn!(task:% = self.key(); "the docker client {} can't be ended: {error}", client.id);
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while platform::start_time(client.id) == client.started && Instant::now() < deadline {
            self.pause(Duration::from_millis(20))?;
        }
        Ok(())
    }

    pub(super) fn remove_cid(&self) -> Result<(), StepError> {
        let cid = self.files.cid();
        remove_if_exists(&cid)
            .map_err(|error| StepError::retry(format!("`{}` can't be removed: {error}", cid.display())))
    }

    fn spec(&self, name: &str) -> RunSpec {
        let config = &self.context.config;
        let executor = &config.executor;
        let mut binds =
            vec![Bind { source: self.workspace.dir().to_owned(), target: WORKSPACE.to_owned(), readonly: false }];
        binds.extend(config.paths.mounts.iter().map(|mount| Bind {
            source: mount.host.clone(),
            target: mount.container.clone(),
            readonly: mount.readonly,
        }));
        let (entrypoint, args) = match &executor.program {
            Program::Standard => (None, Vec::new()),
            Program::Bash(script) => (Some("bash".to_owned()), vec![script.clone()]),
            Program::Python(script) => (Some("python".to_owned()), vec![script.clone()]),
            Program::Custom(words) => (words.first().cloned(), words.iter().skip(1).cloned().collect()),
        };
        let timeout = executor.timeout().map_or(0, |limit| limit.as_secs());
        // Of what the Server sends, only the checked key of the task's id stands in the command.
        let key = self.key().as_str().to_owned();
        RunSpec {
            name: name.to_owned(),
            cidfile: self.files.cid(),
            labels: match self.context.owner() {
                Some(owner) => vec![
                    (TASK_LABEL, key.clone()),
                    (SERVICE_LABEL, self.record.service_id.clone()),
                    (INSTANCE_LABEL, owner.to_owned()),
                ],
                None => Vec::new(),
            },
            binds,
            working_dir: executor.working_dir.clone(),
            env: vec![("TASK_ID", key), ("TIMEOUT", timeout.to_string())],
            env_file: (!executor.env.is_empty()).then(|| self.files.env()),
            options: executor.options.clone(),
            memory_limit: executor.memory_limit.clone(),
            entrypoint,
            image: executor.image.clone(),
            args,
        }
    }
}
