//! From `prepared` to `exited`: the container.
//!
//! Whether a container is to be started, followed or collected is decided by what the engine has under the task's
//! name, looked at each time anew: so a restart of ours, of the engine's, or a client that died make no difference.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use crossbeam_channel::{after, select};
use jiff::Timestamp;

use super::ending::{EndedBy, Exit, last_words};
use super::screen::Screen;
use super::{Cause, Halt, Happened, Run};
use crate::config::{Program, WORKSPACE};
use crate::docker::args::{Bind, RunSpec, shell_line};
use crate::docker::{Container, DockerError, INSTANCE_LABEL, Recalled, SERVICE_LABEL, Status, TASK_LABEL};
use crate::logging::Reminder;
use crate::platform;
use crate::process::{BoundedLog, Streaming, read_tail};
use crate::record::{Process, StopReason};
use crate::workspace::check_mounts;

/// How much of each output stream is kept: its first MiB and its last nine.
const HEAD: u64 = 1 << 20;
const TAIL: u64 = 9 << 20;
/// So much output of a stream the engine keeps in any case, however short its lines are.
const SURELY_KEPT: u64 = 64 * 1024;
/// How often a client that is followed is looked at, where nothing else wakes us.
const TICK: Duration = Duration::from_millis(500);
/// How long after a successful stop, or after tries of one, the client may live on.
const STOP_PATIENCE: Duration = Duration::from_secs(15);
/// How often a container that was made and not started is replaced before that counts as its failure.
const LAUNCHES: u32 = 3;
/// How often, a second apart, a container that is being removed is looked at before it is taken for stuck, and how
/// often then.
const REMOVAL_LOOKS: u32 = 20;
const REMOVAL_PAUSE: Duration = Duration::from_secs(10);
/// The exit status of `docker run` when the client or the engine failed; a container may have it, too.
const CLIENT_FAILED: i32 = 125;
/// How long to wait before looking at an engine again that doesn't answer.
const ENGINE_PAUSE: Duration = Duration::from_secs(2);

/// What has happened in this life of the agent.
#[derive(Default)]
struct Progress {
    launches: u32,
    /// The exit status of the last `docker run`, while no trouble with the engine has been seen since.
    client_said: Option<i32>,
    /// How long the container of the last `docker run` ran, as far as we saw.
    ran_for: Duration,
    /// Whether a client of this life has been with the container.
    watched: bool,
    /// Whether the logs hold all that the container printed.
    captured: bool,
    /// While the container's name is held by somebody else.
    name_is_held: Option<Reminder>,
    /// How often the container was found to be on its way out.
    looks_at_removal: u32,
    /// When the container began to run, on the clock that nobody sets.
    began: Option<Instant>,
    /// Whether the engine was away, or a client lost it, while a container of the task may have been running.
    engine_was_away: bool,
}

impl Progress {
    /// Whether there is no point in another launch that leaves no container behind.
    fn is_hopeless(&self) -> bool {
        self.launches >= 2 * LAUNCHES || (self.launches >= 2 && self.client_said.is_some())
    }
}

/// What a client that was watched leads to.
#[derive(Clone, Copy)]
struct Watched {
    exit_code: Option<i32>,
    /// When the container began to run, if it did.
    began: Option<Instant>,
}

/// How far the stop of a container is.
struct Stopping {
    since: Instant,
    next: Instant,
    done: bool,
}

impl Stopping {
    fn begin() -> Self {
        Self { since: Instant::now(), next: Instant::now(), done: false }
    }
}

/// What the names of our containers begin with.
pub const CONTAINER_PREFIX: &str = "open-aaas-task-";

impl Run<'_> {
    pub(super) fn execute(&mut self) -> Result<(), Halt> {
        let mut progress = Progress::default();
        let name = self.container_name();
        self.end_old_client()?;
        loop {
            self.take_orders()?;
            match self.look(&name, &mut progress)? {
                None if self.record.stop.is_some() => return self.end_before_start(String::new()),
                // Somebody was quick to remove it, but had let it end: the client's word is the best that is left.
                None if progress.client_said == Some(0) => {
                    let ran_for = progress.ran_for;
                    return self.end_with(Exit { code: 0, oom_killed: false, ran_for, ended_by: EndedBy::Itself });
                }
                None if has_cid(&self.files.cid()) && !self.record.replacing => {
                    let why = "the container was removed behind the agent's back; its result is lost".to_owned();
                    log::error!("task {}: {why}", self.key());
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
                        log::error!(
                            "task {}: the container name `{name}` is held by another agent's container (instance {owner}); \
                             waiting until it is gone{so_far}; `docker rm {name}` removes it once it has ended",
                            self.key()
                        );
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
    fn deal_with(&mut self, name: &str, container: &Container, progress: &mut Progress) -> Result<bool, Halt> {
        // A late `docker rm` of an earlier run of ours shows a container that never started as dead for a moment.
        let never_started = container.status == Status::Dead && container.started_at.is_none();
        match container.status {
            Status::Running | Status::Paused | Status::Restarting => {
                log::info!("task {}: following the running container `{name}`", self.key());
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
                    ended_by: self.who_ended(container, progress),
                })?;
                Ok(true)
            }
            Status::Created | Status::Exited | Status::Dead => {
                if container.error.is_empty() && self.has_printed() {
                    let why = "the Docker engine went away when it had just started the container, and has forgotten \
                               that; what it started may still run, and isn't run again"
                        .to_owned();
                    log::error!("task {}: {why}", self.key());
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
                match self.shop.docker.remove(&container.id) {
                    Ok(()) => {
                        self.remove_cid()?;
                        self.record.replacing = false;
                        self.save()?;
                    }
                    // Refused: it runs after all, or an `rm` that outlived an earlier run of ours was faster. The next
                    // look tells which, and only that it runs takes the note back.
                    Err(error) => {
                        log::debug!("task {}: the container that never started: {error}", self.key());
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
    fn who_ended(&self, container: &Container, progress: &Progress) -> EndedBy {
        if self.record.stop.is_some() {
            return EndedBy::Itself;
        }
        let docker = &self.shop.docker;
        let recalled = docker.recall_end(container).unwrap_or_else(|error| {
            log::warn!("task {}: whether somebody stopped the container can't be found out: {error}", self.key());
            Recalled::Unknown
        });
        // The engine uses these for a container that it lost, or that it ended, when it was away at that time.
        let is_the_engines_way = progress.engine_was_away && matches!(container.exit_code, 137 | 143 | 255);
        match recalled {
            Recalled::EndedByItself => EndedBy::Itself,
            Recalled::Signalled if progress.engine_was_away => EndedBy::Engine,
            Recalled::Signalled => EndedBy::Somebody,
            // Who comes too late to have seen the end can't tell an engine's stop from a reboot long after the end.
            Recalled::Nothing if progress.watched && docker.has_live_restore().is_ok_and(|has| !has) => EndedBy::Engine,
            Recalled::Nothing | Recalled::Unknown if is_the_engines_way => EndedBy::Engine,
            Recalled::Nothing | Recalled::Unknown => EndedBy::Itself,
        }
    }

    /// A container that was to be replaced has run after all: from now on its absence is somebody else's doing.
    fn keep_started(&mut self) -> Result<(), Halt> {
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
    fn look(&mut self, name: &str, progress: &mut Progress) -> Result<Option<Container>, Halt> {
        let mut reminder = Reminder::begin();
        loop {
            match self.shop.docker.inspect(name) {
                Ok(container) => return Ok(container),
                // What was never started needs no engine to be stopped.
                Err(_) if self.record.stop.is_some() && self.is_untried() => return Ok(None),
                Err(error) => {
                    // Whatever the client said may have been about this.
                    progress.client_said = None;
                    progress.captured = false;
                    progress.engine_was_away |= self.files.cid().exists();
                    if let Some(so_far) = reminder.due() {
                        log::warn!("task {}: waiting for the engine{so_far}: {error}", self.key());
                    }
                    self.pause(ENGINE_PAUSE)?;
                }
            }
        }
    }

    /// Runs `docker run` and stays with it. Where it can't even be tried, the task's end is written down.
    fn launch(&mut self, name: &str, progress: &mut Progress) -> Result<(), Halt> {
        if let Err(why) = check_mounts(&self.shop.config) {
            self.tell(Happened::CouldNotStart);
            log::error!("task {}: {why}", self.key());
            return self.end_before_start(why);
        }
        self.remove_cid()?;
        self.record.replacing = false;
        let spec = self.spec(name);
        let docker = self.shop.docker.program().to_string_lossy().into_owned();
        let pasteable = spec.pasteable();
        let line = shell_line([docker.as_str()].into_iter().chain(pasteable.iter().map(String::as_str)));
        let local = |error: io::Error| Halt::later(format!("the container can't be started: {error}"));
        if spec.env_file.is_some() {
            let env = &self.shop.config.executor.env;
            let variables = env.iter().map(|variable| (variable.name.as_str(), variable.value.expose()));
            self.files.save_env(variables).map_err(local)?;
        }
        self.files.save_command(&line).map_err(local)?;
        log::info!("task {}: {line}", self.key());
        let args: Vec<_> = spec.executed().into_iter().map(Into::into).collect();
        let mut stdout = BoundedLog::create(self.files.stdout(), HEAD, TAIL);
        let mut stderr = BoundedLog::create(self.files.stderr(), HEAD, TAIL);
        let screen = match self.shop.cause {
            Cause::Service => None,
            Cause::Trial { .. } => Some(Screen::begin().map_err(local)?),
        };
        if let Some(screen) = &screen {
            stdout.show_on(screen.through(io::stdout()));
            stderr.show_on(screen.through(io::stderr()));
        }
        let (mut client, gate) =
            Streaming::spawn_gated(self.shop.docker.program(), &args, stdout, stderr).map_err(local)?;
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

    /// Stays with a container that an earlier client, or an earlier life of the agent, has started.
    fn follow(&mut self, name: &str, container: &Container, progress: &mut Progress) -> Result<(), Halt> {
        let stdout = BoundedLog::replay(self.files.stdout(), HEAD, TAIL);
        let stderr = BoundedLog::replay(self.files.stderr(), HEAD, TAIL);
        let follower = Streaming::spawn(self.shop.docker.logs_command(name, true), stdout, stderr)
            .map_err(|error| Halt::later(format!("the container can't be followed: {error}")))?;
        // A crash of ours would leave it behind until the container prints or ends.
        self.record.client = Some(Process { id: follower.id(), started: platform::start_time(follower.id()) });
        self.save()?;
        // Only a container that began before this life of ours is timed by the engine's clock, which somebody may set.
        let by_engine = || Instant::now().checked_sub(container.ran_for(Timestamp::now())).unwrap_or_else(Instant::now);
        let began = *progress.began.get_or_insert_with(by_engine);
        let watched = self.watch(name, follower, Some(began))?;
        progress.captured = watched.exit_code == Some(0);
        progress.client_said = None;
        progress.watched = true;
        progress.engine_was_away |= watched.exit_code.is_some_and(|code| code != 0);
        if !progress.captured {
            // It ended before the container did, perhaps with the engine; don't ask again at once.
            self.pause(Duration::from_secs(1))?;
        }
        Ok(())
    }

    /// Fetches what a container printed that ended while nobody watched it, or whose client failed.
    ///
    /// What a failed client left in the logs may hold its own words (a pull's progress, a warning, "unexpected EOF"),
    /// which must not pass for the container's. So the engine's copy replaces it, unless that is so much that the
    /// engine can't have kept all.
    fn collect_logs(&mut self, name: &str, progress: &Progress) -> Result<(), Halt> {
        let log = |path: PathBuf| {
            let is_small = fs::metadata(&path).is_ok_and(|meta| meta.len() < SURELY_KEPT);
            if progress.launches > 0 && is_small {
                BoundedLog::create(path, HEAD, TAIL)
            } else {
                BoundedLog::replay(path, HEAD, TAIL)
            }
        };
        let (stdout, stderr) = (log(self.files.stdout()), log(self.files.stderr()));
        match Streaming::spawn(self.shop.docker.logs_command(name, false), stdout, stderr) {
            Ok(reader) => {
                if reader.finish(Duration::from_secs(60)).is_none() {
                    log::warn!(
                        "task {}: `docker logs` didn't end within 60 s; its output may be incomplete",
                        self.key()
                    );
                }
            }
            Err(error) => log::warn!("task {}: its output can't be fetched: {error}", self.key()),
        }
        Ok(())
    }

    /// Stays with a client until it ends, and stops the container when that is due. A container that hasn't `began` does
    /// so when docker has written its id.
    fn watch(&mut self, name: &str, mut client: Streaming, mut began: Option<Instant>) -> Result<Watched, Halt> {
        let timeout = self.shop.config.executor.timeout();
        let idle_timeout = self.shop.config.executor.idle_timeout();
        let mut last_output = Instant::now();
        let mut stopping: Option<Stopping> = None;
        loop {
            if began.is_none() && has_cid(&self.files.cid()) {
                began = Some(Instant::now());
                // Until now nobody was there who could have printed anything.
                last_output = Instant::now();
            }
            let deadline = began.zip(timeout).map(|(began, limit)| began + limit);
            if self.record.stop.is_none() && deadline.is_some_and(|at| Instant::now() >= at) {
                let minutes = self.shop.config.executor.timeout_minutes;
                self.note_stop(StopReason::Timeout { minutes })?;
            }
            if client.has_printed() {
                last_output = Instant::now();
            }
            if idle_timeout.is_some_and(|limit| began.is_some() && last_output.elapsed() >= limit) {
                let minutes = self.shop.config.executor.idle_timeout_minutes;
                self.note_stop(StopReason::Idle { minutes })?;
            }
            if self.record.stop.is_some() {
                let stopping = stopping.get_or_insert_with(Stopping::begin);
                if stopping.since.elapsed() > STOP_PATIENCE {
                    log::warn!("task {}: the docker client doesn't end although the container was stopped", self.key());
                    break;
                }
                if Instant::now() >= stopping.next {
                    self.try_stop(name, stopping);
                }
            }
            if client.ended().is_ok_and(|status| status.is_some()) {
                break;
            }
            let until_deadline = deadline.map_or(TICK, |at| at.saturating_duration_since(Instant::now()));
            // A short look-out for the container's id makes the clock start with the container.
            let tick = if began.is_none() { TICK / 10 } else { TICK };
            let orders = self.orders.clone();
            let closings = client.closings().clone();
            select! {
                recv(closings) -> _ => if client.note_closed() { break },
                recv(orders) -> order => self.obey(order.map_err(|_| Halt::Left)?)?,
                recv(after(tick.min(until_deadline).max(Duration::from_millis(1)))) -> _ => {}
            }
        }
        let exit_code = client.finish(Duration::from_secs(5)).as_ref().and_then(ExitStatus::code);
        Ok(Watched { exit_code, began })
    }

    /// Stops the container. One that isn't there yet, or is made and not started, is tried for again until patience is
    /// over; from then on the client is taken to hang.
    fn try_stop(&self, name: &str, stopping: &mut Stopping) {
        let pause = match self.shop.docker.stop(name) {
            Ok(()) => {
                // A stop takes its time; patience begins with the first that came through.
                if !stopping.done {
                    (stopping.done, stopping.since) = (true, Instant::now());
                }
                Duration::from_secs(1)
            }
            Err(DockerError::Refused(why)) => {
                log::debug!("task {}: stop: {why}", self.key());
                Duration::from_millis(300)
            }
            Err(error) => {
                // While the engine is away, nothing can be stopped and the client is no witness.
                stopping.since = Instant::now();
                log::warn!("task {}: can't be stopped now: {error}", self.key());
                ENGINE_PAUSE
            }
        };
        stopping.next = Instant::now() + pause;
    }

    /// Ends a client that an earlier life of the agent has left behind: it could still make or start the container.
    fn end_old_client(&mut self) -> Result<(), Halt> {
        let Some(client) = self.record.client.clone() else { return Ok(()) };
        let same = client.started.is_some() && platform::start_time(client.id) == client.started;
        if !same {
            return Ok(());
        }
        log::debug!("task {}: ending the docker client {} of an earlier run", self.key(), client.id);
        if let Err(error) = platform::kill_group(client.id) {
            log::warn!("task {}: the docker client {} can't be ended: {error}", self.key(), client.id);
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while platform::start_time(client.id) == client.started && Instant::now() < deadline {
            self.pause(Duration::from_millis(20))?;
        }
        Ok(())
    }

    /// Writes down that an image, a mount or a runtime kept the container from starting: in the engine's words where
    /// it left some with the container, else in those that the client printed.
    fn end_unstarted_with(&mut self, engine_error: &str) -> Result<(), Halt> {
        self.tell(Happened::CouldNotStart);
        let client_words = read_tail(&self.files.stderr(), 8192).unwrap_or_default();
        let mut why = last_words("", if engine_error.is_empty() { &client_words } else { engine_error })
            .unwrap_or_else(|| "docker gave no reason".to_owned());
        let image = &self.shop.config.executor.image;
        if let Ok(false) = self.shop.docker.has_image(image) {
            why.push_str(&format!(
                "\nThe image `{image}` (`executor.image`) isn't on this machine; build it, for example with \
                 `docker build -t {image} executor-example`, or pull it."
            ));
        }
        log::error!("task {}: the container can't be started: {why}", self.key());
        self.end_before_start(format!("the container can't be started: {why}"))
    }

    fn remove_cid(&self) -> Result<(), Halt> {
        match fs::remove_file(self.files.cid()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Halt::later(format!("`{}` can't be removed: {error}", self.files.cid().display())))
            }
            _ => Ok(()),
        }
    }

    fn spec(&self, name: &str) -> RunSpec {
        let config = &self.shop.config;
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
            labels: match self.shop.owner() {
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

/// Whether docker has written the container's id: the file is made first and filled when the container exists.
fn has_cid(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.len() > 0)
}
