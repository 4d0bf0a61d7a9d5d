//! One run of a container.
//!
//! Whether the container is to be started, followed or collected is decided by what the engine has under its name,
//! inspected anew each time: so a restart of the agent or of the engine, or a client that died, makes no difference
//! (P1).

mod cause;
mod clean_end;
mod failed_start;
mod follow;
mod stuck;

use std::fs;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::logs::Lacking;
use super::watch::{ENGINE_PAUSE, Watch, Watched};
use super::{Ends, TaskContainer, launch, logs};
use crate::config::Config;
use crate::docker::{Container, Status};
use crate::logging::Reminder;
use crate::os::platform;
use crate::os::process::{self, LoggedChild};
use crate::os::trust::check_place;
use crate::task::console::TrialConsole;
use crate::task::handle::{ExitedContainer, Volumes};
use crate::task::mounts::{MountTrouble, check_mounts};
use crate::task::outcome::{ContainerOutcome, Exit, StopCause};
use crate::task::starts::Starts;
use crate::task::{Pause, StepError, TaskHandle};
use follow::Following;
use stuck::Stuck;

/// How often in a row a container that wasn't started is started.
const LAUNCHES: u32 = 3;
/// How long a container that is half removed is waited for before it is taken for one that stays so.
const DEAD_PATIENCE: Duration = Duration::from_secs(20);
/// How often a container's name that another container has is looked at.
const NAME_TAKEN_PAUSE: Duration = Duration::from_secs(10);
/// How long a client that was killed may take to end.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);
/// The exit status of `docker run` when the client or the engine failed; a container may exit with it, too.
const CLIENT_FAILED: i32 = 125;

/// One run of a container.
pub struct ContainerRun<'t> {
    container: &'t TaskContainer<'t>,
    task: &'t mut TaskHandle,
    seen: Seen,
}

/// What this run of the agent has seen of the container.
#[derive(Default)]
struct Seen {
    launches: u32,
    /// The exit status of the last `docker run`, unless the engine couldn't be reached since.
    client_exit_code: Option<i32>,
    /// Whether a client was with the container.
    was_watched: bool,
    /// What the logs may lack of what the container printed.
    lacking: Lacking,
    /// The wait for a state in which nothing else helps.
    stuck: Option<Stuck>,
    following: Following,
    /// The limit within which the last client hasn't started the container.
    overdue: Option<Duration>,
    /// When the container started, on a clock that can't be set.
    started: Option<Instant>,
    /// How long the container of the last `docker run` ran, as far as it was watched.
    observed_runtime: Duration,
    /// Whether the engine couldn't be reached, or a client lost it, while the container may have been running.
    engine_was_down: bool,
}

/// What a step of the run comes to: the outcome, or `None` if there is more to do.
type Progress = Result<Option<ContainerOutcome>, StepError>;

impl<'t> ContainerRun<'t> {
    pub fn new(container: &'t TaskContainer<'t>, task: &'t mut TaskHandle) -> Self {
        Self { container, task, seen: Seen::default() }
    }

    pub fn run(mut self) -> Result<ContainerOutcome, StepError> {
        self.kill_old_client()?;
        loop {
            match self.step() {
                Ok(None) => {}
                Ok(Some(outcome)) => return Ok(outcome),
                Err(error) => {
                    if matches!(error, StepError::Shutdown) {
                        self.note_left();
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Notes when the agent ends, which the next one compares with the container's end: a machine that goes down ends both.
    fn note_left(&mut self) {
        if let Some(client) = &mut self.task.record.client {
            client.left_at = Some(Timestamp::now());
            self.task.save_later();
        }
    }

    fn step(&mut self) -> Progress {
        self.task.check_commands()?;
        // What was never started has no container. A name that another container has is docker's to refuse.
        if self.is_untried() && self.task.record.stop.is_none() {
            return self.launch();
        }
        match self.inspect_when_reachable()? {
            None => self.handle_absent(),
            Some(container) if self.container.is_leftover(&container, self.task) => self.remove_leftover(&container),
            Some(container) if self.container.is_ours(&container) => self.handle_container(&container),
            Some(other) => self.wait_for_name(&other),
        }
    }

    /// Never follows or collects it: its end is another task's. One that runs, or can't be removed, is no fault of this task,
    /// which waits for its name.
    fn remove_leftover(&mut self, container: &Container) -> Progress {
        if let Err(error) = self.container.docker.remove(&container.id) {
            log::debug!(task:% = self.task.key(); "the container of an earlier task can't be removed: {error}");
            return self.wait_for_name(container);
        }
        log::info!(task:% = self.task.key(); "removed the container that an earlier task of this name has left");
        self.seen.client_exit_code = None;
        Ok(None)
    }

    /// Kills a client of an earlier run of the agent: it could still create or start the container.
    fn kill_old_client(&mut self) -> Result<(), StepError> {
        let Some(client) = self.task.record.client.clone() else { return Ok(()) };
        let is_alive = || client.started.as_deref().is_some_and(|started| platform::is_started_at(client.id, started));
        if !is_alive() {
            return Ok(());
        }
        log::debug!(task:% = self.task.key(); "killing the docker client {} of an earlier run", client.id);
        if let Err(error) = platform::kill_group(client.id) {
            log::warn!(task:% = self.task.key(); "the docker client {} can't be killed: {error}", client.id);
        }
        let deadline = Instant::now() + KILL_TIMEOUT;
        while is_alive() && Instant::now() < deadline {
            self.task.wait(Duration::from_millis(20))?;
        }
        Ok(())
    }

    /// Asks the engine for the container, again and again until the engine answers.
    fn inspect_when_reachable(&mut self) -> Result<Option<Container>, StepError> {
        let mut reminder = Reminder::new();
        loop {
            match self.container.docker.inspect(&self.container.name) {
                Ok(container) => return Ok(container),
                // To stop what was never started takes no engine.
                Err(_) if self.task.record.stop.is_some() && self.is_untried() => return Ok(None),
                Err(error) => {
                    self.seen.following.is_said = false;
                    // The client's exit status may be a result of this outage; ignore it.
                    self.seen.client_exit_code = None;
                    self.seen.lacking = Lacking::Unknown;
                    // An outage is no part of the time in which the engine could have done something.
                    self.seen.stuck = None;
                    self.seen.engine_was_down |= self.task.files.cid().exists();
                    if let Some(so_far) = reminder.due() {
                        log::warn!(task:% = self.task.key(); "waiting for the engine{so_far}: {error}");
                    }
                    self.task.wait(ENGINE_PAUSE)?;
                }
            }
        }
    }

    fn is_untried(&self) -> bool {
        self.task.record.client.is_none() && !self.task.files.cid().exists()
    }

    /// The engine has no container of this name.
    fn handle_absent(&mut self) -> Progress {
        if self.task.record.stop.is_some() {
            return Ok(Some(ContainerOutcome::Stopped));
        }
        // Another program removed it right after its end; only the client's exit status is left, and the events.
        if self.seen.client_exit_code == Some(0) {
            let ran_for = self.seen.observed_runtime;
            let stop_cause = if self.saw_stop() { StopCause::External } else { StopCause::OwnExit };
            return Ok(Some(ContainerOutcome::Exited(Exit { code: 0, oom_killed: false, ran_for, stop_cause })));
        }
        if self.task.files.has_cid() && !self.task.record.start.replacing {
            let why = "the container was removed behind the agent's back; its result is lost".to_owned();
            return Ok(Some(self.lost(why)));
        }
        if let Some(limit) = self.seen.overdue.take() {
            return self.fail_overdue(None, limit);
        }
        // The client may have found no engine, so a refusal is tried again.
        if self.seen.launches >= 2 * LAUNCHES || self.seen.client_exit_code.is_some() {
            return self.fail_start(None);
        }
        self.launch()
    }

    /// Runs `docker run` until it ends.
    fn launch(&mut self) -> Progress {
        if let Some(why) = self.container.starts.and_then(Starts::trouble) {
            return Err(StepError::retry(format!("containers can't be started now: {why}")));
        }
        let config = self.container.config;
        if let Err(why) = mounts_in_order(config)?.and_then(|()| self.container.check_image(self.task)) {
            return self.refuse_start(why);
        }
        check_place(self.task.workspace.dir())
            .map_err(StepError::because("no container is started in the workspace"))?;
        launch::remove_cid(self.task)?;
        self.task.record.start.replacing = false;
        if self.seen.launches > 0 {
            log::info!(task:% = self.task.key(); "the container wasn't started; trying again");
        }
        let clock = self.container.console.map(TrialConsole::show_clock).transpose();
        let clock = clock.map_err(StepError::because(launch::FAILED))?;
        let followed = self.container.ends.filter(|_| self.knows_image()).map(Ends::follow);
        let client = launch::start(self.container, self.task)?;
        self.seen.launches += 1;
        self.seen.stuck = None;
        let Watched { exit_code, overdue, .. } = self.watch(client, None)?;
        drop(clock);
        self.seen.overdue = overdue;
        if overdue.is_some() {
            return Ok(None);
        }
        if process::is_crash(exit_code) && !self.task.files.has_cid() && self.task.record.stop.is_none() {
            return Err(StepError::retry("`docker run` broke off without an answer of the engine"));
        }
        self.seen.client_exit_code = exit_code;
        self.seen.observed_runtime = self.seen.started.map_or(Duration::ZERO, |started| started.elapsed());
        self.seen.engine_was_down |= exit_code == Some(CLIENT_FAILED) && self.task.files.has_cid();
        followed.filter(|_| exit_code == Some(0)).map_or(Ok(None), |followed| self.find_clean_end(&followed))
    }

    /// Another agent's container has this name: the task waits until it is removed. That may take for ever, so it waits
    /// without its slot.
    fn wait_for_name(&mut self, other: &Container) -> Progress {
        if self.task.record.stop.is_some() {
            return Ok(Some(ContainerOutcome::Stopped));
        }
        let name = &self.container.name;
        let owner = match &other.labels.instance {
            Some(instance) if Some(&**instance) == self.container.owner => "an earlier task's container".to_owned(),
            Some(instance) => format!("another agent's container (instance {instance})"),
            None => "a container of no agent".to_owned(),
        };
        Err(StepError::WithoutSlot {
            pause: Pause::Due(NAME_TAKEN_PAUSE),
            why: format!(
                "the container name `{name}` is held by {owner}; waiting until it is removed; `docker rm {name}` removes \
                 it once it has ended"
            ),
        })
    }

    fn handle_container(&mut self, container: &Container) -> Progress {
        // While a `docker rm` of an earlier run works, the engine calls a container that never started `dead`.
        let never_started = container.state.status == Status::Dead && container.state.started_at.is_none();
        match &container.state.status {
            Status::Running | Status::Paused | Status::Restarting => self.follow(container),
            // A dead one is half removed, and mostly disappears a moment later. Its exit status was set by the removal
            // then. A removal that failed leaves it dead for good.
            Status::Removing => self.wait_for_removal(container),
            Status::Dead if self.stuck_for() < DEAD_PATIENCE => self.wait_for_removal(container),
            Status::Exited | Status::Dead if !never_started => self.handle_exited(container).map(Some),
            Status::Created | Status::Exited | Status::Dead => self.handle_unstarted(container),
            Status::Other(word) => self.wait_for_known_state(container, word),
        }
    }

    /// Waits until a client ends, or has to be ended.
    fn watch(&mut self, client: LoggedChild, started: Option<Instant>) -> Result<Watched, StepError> {
        let watched = Watch::new(self.container, self.task, started).run(client)?;
        self.seen.started = watched.started;
        self.seen.was_watched = true;
        Ok(watched)
    }

    fn handle_exited(&mut self, container: &Container) -> Result<ContainerOutcome, StepError> {
        self.note_started();
        let (id, volumes) = (container.id.clone(), if container.has_volumes { Volumes::Some } else { Volumes::None });
        self.task.exited = Some(ExitedContainer { id, volumes, is_removal_asked: false });
        let lacking = match self.seen.client_exit_code {
            // Nothing but the container exits so.
            Some(0) => None,
            // The client exits as its container does, and with another status if it lost it.
            Some(code) if code == container.state.exit_code && code != CLIENT_FAILED => Some(Lacking::Nothing),
            _ => Some(self.seen.lacking),
        };
        if let Some(lacking) = lacking {
            logs::collect(self.container, self.task, self.seen.launches > 0, lacking)?;
        }
        Ok(ContainerOutcome::Exited(Exit {
            code: container.state.exit_code,
            oom_killed: container.state.oom_killed,
            ran_for: container.ran_for(Timestamp::now()),
            stop_cause: self.stop_cause(container)?,
        }))
    }

    /// A container that was to be replaced has started after all: from now on its absence means that it was removed.
    fn note_started(&mut self) {
        if self.task.record.start.replacing {
            self.task.record.start.replacing = false;
            self.task.save_later();
        }
    }

    /// A container that was created and not started: its client died in between, or the engine refused to start it.
    fn handle_unstarted(&mut self, container: &Container) -> Progress {
        if container.state.error.is_empty() && self.has_printed() {
            let why = "the Docker engine went away when it had just started the container, and has forgotten \
                       that; what it started may still run, and isn't run again"
                .to_owned();
            return Ok(Some(self.lost(why)));
        }
        // Its failure is counted already.
        if self.task.record.start.replacing {
            return self.replace(container);
        }
        if let Some(limit) = self.seen.overdue.take() {
            return self.fail_overdue(Some(container), limit);
        }
        if !container.state.error.is_empty() || self.seen.launches >= LAUNCHES {
            return self.fail_start(Some(container));
        }
        self.replace(container)
    }

    /// Whether the container has printed something: on standard output `docker run` has no words of its own. An engine
    /// that is killed before it has written down that the container runs calls it `created` afterwards.
    fn has_printed(&self) -> bool {
        fs::metadata(self.task.files.stdout()).is_ok_and(|meta| meta.len() > 0)
    }

    /// Removes a container that was never started, so that it can be created again. Returns an outcome where it can't be
    /// removed.
    ///
    /// Without `-f`, docker refuses to remove a container that runs after all. The record is written first, so that a
    /// crash in the middle isn't taken for a removal by another program. The id is named and not the name: a `docker rm`
    /// that comes late must not remove the container that replaces this one.
    fn replace(&mut self, container: &Container) -> Progress {
        if !self.task.record.start.replacing {
            self.task.record.start.replacing = true;
            self.task.save()?;
        }
        match self.container.docker.remove(&container.id) {
            Ok(()) => {
                launch::remove_cid(self.task)?;
                self.task.record.start.replacing = false;
                self.seen.stuck = None;
                self.task.save().map(|()| None)
            }
            // Refused: the container runs after all, or a `docker rm` of an earlier run was faster. The next inspection
            // tells which, and `replacing` is taken back only if the container runs.
            Err(error) => self.wait_for_removable(&error.to_string()),
        }
    }

    fn lost(&self, why: String) -> ContainerOutcome {
        log::error!(task:% = self.task.key(); "{why}");
        ContainerOutcome::Lost(why)
    }
}

/// Whether the mounts can be used. That this machine can't look at them at this moment is no answer.
fn mounts_in_order(config: &Config) -> Result<Result<(), String>, StepError> {
    match check_mounts(config) {
        Ok(()) => Ok(Ok(())),
        Err(MountTrouble::Wrong(why)) => Ok(Err(why)),
        Err(MountTrouble::NotChecked(why)) => Err(StepError::retry(why)),
    }
}
