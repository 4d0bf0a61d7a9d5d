//! From `prepared` to `exited`: the container.
//!
//! Whether a container is to be started, followed or collected is decided by what the engine has under the task's
//! name, looked at each time anew: so a restart of ours, of the engine's, or a client that died make no difference.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::outcome::{Exit, StopCause, last_words};
use super::{StepError, TaskRunner, WorkerEvent};
use crate::docker::{Container, ExitEvents, Status};
use crate::logging::Reminder;
use crate::os::process::read_tail;

/// How much of each output stream is kept: its first MiB and its last nine.
pub(super) const HEAD: u64 = 1 << 20;
pub(super) const TAIL: u64 = 9 << 20;
/// How often a container that was made and not started is replaced before that counts as its failure.
const LAUNCHES: u32 = 3;
/// How often, a second apart, a container that is being removed is looked at before it is taken for stuck, and how
/// often then.
const REMOVAL_LOOKS: u32 = 20;
const REMOVAL_PAUSE: Duration = Duration::from_secs(10);
/// The exit status of `docker run` when the client or the engine failed; a container may have it, too.
pub(super) const CLIENT_FAILED: i32 = 125;
/// How long to wait before looking at an engine again that doesn't answer.
pub(super) const ENGINE_PAUSE: Duration = Duration::from_secs(2);

/// What has happened in this life of the agent.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) launches: u32,
    /// The exit status of the last `docker run`, while no trouble with the engine has been seen since.
    pub(super) client_said: Option<i32>,
    /// How long the container of the last `docker run` ran, as far as we saw.
    pub(super) ran_for: Duration,
    /// Whether a client of this life has been with the container.
    pub(super) watched: bool,
    /// Whether the logs hold all that the container printed.
    pub(super) captured: bool,
    /// While the container's name is held by somebody else.
    pub(super) name_is_held: Option<Reminder>,
    /// How often the container was found to be on its way out.
    pub(super) looks_at_removal: u32,
    /// When the container began to run, on the clock that nobody sets.
    pub(super) began: Option<Instant>,
    /// Whether the engine was away, or a client lost it, while a container of the task may have been running.
    pub(super) engine_was_away: bool,
}

impl Progress {
    /// Whether there is no point in another launch that leaves no container behind.
    fn is_hopeless(&self) -> bool {
        self.launches >= 2 * LAUNCHES || (self.launches >= 2 && self.client_said.is_some())
    }
}

impl TaskRunner<'_> {
    pub(super) fn execute(&mut self) -> Result<(), StepError> {
        let mut progress = Progress::default();
        let name = self.container_name();
        self.end_old_client()?;
        loop {
            self.check_commands()?;
            match self.look(&name, &mut progress)? {
                None if self.record.stop.is_some() => return self.end_before_start(String::new()),
                // Somebody was quick to remove it, but had let it end: the client's word is the best that is left.
                None if progress.client_said == Some(0) => {
                    let ran_for = progress.ran_for;
                    return self.end_with(Exit { code: 0, oom_killed: false, ran_for, stop_cause: StopCause::Itself });
                }
                None if has_cid(&self.files.cid()) && !self.record.replacing => {
                    let why = "the container was removed behind the agent's back; its result is lost".to_owned();
                    log::error!(task:% = self.key(); "{why}");
                    return self.end_before_start(why);
                }
                // A client that found no engine leaves nothing behind either, so one refusal is not believed.
                None if progress.is_hopeless() => return self.end_unstarted_with(""),
                None => {
                    self.launch(&name, &mut progress)?;
                    if self.record.ending.is_some() {
                        return Ok(());
                    }
                }
                Some(container) if !self.is_ours(&container) => {
                    if let Some(so_far) = progress.name_is_held.get_or_insert_with(Reminder::begin).due() {
                        let owner = container.instance.as_deref().unwrap_or("no agent");
                        log::error!(task:% = self.key(); "the container name `{name}` is held by another agent's container (instance {owner}); \
                             waiting until it is gone{so_far}; `docker rm {name}` removes it once it has ended");
                    }
                    self.pause(Duration::from_secs(10))?;
                    if self.record.stop.is_some() {
                        return self.end_before_start(String::new());
                    }
                }
                Some(container) => {
                    if self.deal_with(&name, &container, &mut progress)? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Does what a container of ours asks for. Returns whether the task's end is written down.
    fn deal_with(&mut self, name: &str, container: &Container, progress: &mut Progress) -> Result<bool, StepError> {
        // A late `docker rm` of an earlier run of ours shows a container that never started as dead for a moment.
        let never_started = container.status == Status::Dead && container.started_at.is_none();
        match container.status {
            Status::Running | Status::Paused | Status::Restarting => {
                log::info!(task:% = self.key(); "following the running container `{name}`");
                progress.engine_was_away = false;
                self.keep_started()?;
                self.follow(name, container, progress)?;
                Ok(false)
            }
            // A dead one is half removed, and mostly gone a moment later: then its status isn't its own, but that of
            // whoever removes it. A removal that failed leaves it dead for good.
            Status::Removing | Status::Dead if progress.looks_at_removal < REMOVAL_LOOKS => {
                progress.looks_at_removal += 1;
                self.pause(Duration::from_secs(1))?;
                Ok(false)
            }
            Status::Removing => {
                self.pause(REMOVAL_PAUSE)?;
                Ok(false)
            }
            Status::Exited | Status::Dead if !never_started => {
                self.keep_started()?;
                if !progress.captured {
                    self.collect_logs(name, progress)?;
                }
                let ran_for = container.ran_for(Timestamp::now());
                self.end_with(Exit {
                    code: container.exit_code,
                    oom_killed: container.oom_killed,
                    ran_for,
                    stop_cause: self.who_ended(container, progress),
                })?;
                Ok(true)
            }
            Status::Created | Status::Exited | Status::Dead => {
                if container.error.is_empty() && self.has_printed() {
                    let why = "the Docker engine went away when it had just started the container, and has forgotten \
                               that; what it started may still run, and isn't run again"
                        .to_owned();
                    log::error!(task:% = self.key(); "{why}");
                    self.end_before_start(why)?;
                    return Ok(true);
                }
                if !container.error.is_empty() || progress.launches >= LAUNCHES {
                    self.end_unstarted_with(&container.error)?;
                    return Ok(true);
                }
                // Its client died between making and starting it. Without `-f`, docker refuses to remove a container
                // that runs after all. The record says what is going on, so that a crash in the middle isn't taken for
                // a container that somebody else has removed. The id is named, not the name: an `rm` of an earlier run
                // of ours that comes late must not remove the container that we make in its place.
                self.record.replacing = true;
                self.save()?;
                match self.context.docker.remove(&container.id) {
                    Ok(()) => {
                        self.remove_cid()?;
                        self.record.replacing = false;
                        self.save()?;
                    }
                    // Refused: it runs after all, or an `rm` that outlived an earlier run of ours was faster. The next
                    // look tells which, and only that it runs takes the note back.
                    Err(error) => {
                        log::debug!(task:% = self.key(); "the container that never started: {error}");
                        self.pause(Duration::from_millis(200))?;
                    }
                }
                Ok(false)
            }
        }
    }

    /// Finds out who ended a container. What isn't known for certain doesn't speak against its program.
    ///
    /// An engine that is stopped takes no more calls before it ends its containers, so that whoever asks after such an
    /// end is answered by the next engine, which has seen nothing of it. One that was killed ends what it had left
    /// running when it starts again, and remembers that. Neither is so where containers go on without it.
    fn who_ended(&self, container: &Container, progress: &Progress) -> StopCause {
        if self.record.stop.is_some() {
            return StopCause::Itself;
        }
        let docker = &self.context.docker;
        let exit_events = docker.exit_events(container).unwrap_or_else(|error| {
            log::warn!(task:% = self.key(); "whether somebody stopped the container can't be found out: {error}");
            ExitEvents::Unknown
        });
        // The engine uses these for a container that it lost, or that it ended, when it was away at that time.
        let is_the_engines_way = progress.engine_was_away && matches!(container.exit_code, 137 | 143 | 255);
        match exit_events {
            ExitEvents::EndedByItself => StopCause::Itself,
            ExitEvents::Signalled if progress.engine_was_away => StopCause::Engine,
            ExitEvents::Signalled => StopCause::Somebody,
            // Who comes too late to have seen the end can't tell an engine's stop from a reboot long after the end.
            ExitEvents::Nothing if progress.watched && docker.has_live_restore().is_ok_and(|has| !has) => {
                StopCause::Engine
            }
            ExitEvents::Nothing | ExitEvents::Unknown if is_the_engines_way => StopCause::Engine,
            ExitEvents::Nothing | ExitEvents::Unknown => StopCause::Itself,
        }
    }

    /// A container that was to be replaced has run after all: from now on its absence is somebody else's doing.
    fn keep_started(&mut self) -> Result<(), StepError> {
        if self.record.replacing {
            self.record.replacing = false;
            self.save()?;
        }
        Ok(())
    }

    /// Whether the container has printed something: on standard output `docker run` has no words of its own. An engine
    /// that is killed before it has written down that the container runs calls it `created` afterwards.
    fn has_printed(&self) -> bool {
        fs::metadata(self.files.stdout()).is_ok_and(|meta| meta.len() > 0)
    }

    fn is_untried(&self) -> bool {
        self.record.client.is_none() && !self.files.cid().exists()
    }

    /// Asks the engine for the task's container, and waits for as long as the engine doesn't answer.
    fn look(&mut self, name: &str, progress: &mut Progress) -> Result<Option<Container>, StepError> {
        let mut reminder = Reminder::begin();
        loop {
            match self.context.docker.inspect(name) {
                Ok(container) => return Ok(container),
                // What was never started needs no engine to be stopped.
                Err(_) if self.record.stop.is_some() && self.is_untried() => return Ok(None),
                Err(error) => {
                    // Whatever the client said may have been about this.
                    progress.client_said = None;
                    progress.captured = false;
                    progress.engine_was_away |= self.files.cid().exists();
                    if let Some(so_far) = reminder.due() {
                        log::warn!(task:% = self.key(); "waiting for the engine{so_far}: {error}");
                    }
                    self.pause(ENGINE_PAUSE)?;
                }
            }
        }
    }

    /// Writes down that an image, a mount or a runtime kept the container from starting: in the engine's words where
    /// it left some with the container, else in those that the client printed.
    fn end_unstarted_with(&mut self, engine_error: &str) -> Result<(), StepError> {
        self.tell(WorkerEvent::StartFailed);
        let client_words = read_tail(&self.files.stderr(), 8192).unwrap_or_default();
        let mut why = last_words("", if engine_error.is_empty() { &client_words } else { engine_error })
            .unwrap_or_else(|| "docker gave no reason".to_owned());
        let image = &self.context.config.executor.image;
        if let Ok(false) = self.context.docker.has_image(image) {
            why.push_str(&format!(
                "\nThe image `{image}` (`executor.image`) isn't on this machine; build it, for example with \
                 `docker build -t {image} executor-example`, or pull it."
            ));
        }
        log::error!(task:% = self.key(); "the container can't be started: {why}");
        self.end_before_start(format!("the container can't be started: {why}"))
    }
}

/// Whether docker has written the container's id: the file is made first and filled when the container exists.
pub(super) fn has_cid(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.len() > 0)
}
