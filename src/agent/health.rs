//! The health of the host: whether the engine answers, mounts are there, the disks have space, and after a failed start
//! whether the image is there and a container of the agent's own can be started.
//!
//! A thread of its own checks that, since the engine may take long to answer (P5).

mod engine_disk;
pub mod housekeeping;
mod looks;
mod pull;
mod start;

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, select};
use engine_disk::EngineDisk;
use housekeeping::Housekeeping;
pub use looks::EngineLooks;
use pull::Puller;
use start::StartCheck;

use crate::docker::{DockerError, STOP_GRACE};
use crate::task::mounts::MountWatch;
use crate::task::record::{Phase, Store, TaskKey};
use crate::task::selinux::find_denial;
use crate::task::{Context, viewed};

/// How often the host is checked.
const INTERVAL: Duration = Duration::from_secs(10);
/// How often leftover containers and expired workspaces are removed.
const CLEANING: Duration = Duration::from_secs(600);

/// Whether containers can be started on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostHealth {
    /// They can.
    Ready,
    /// They can't, for this reason.
    NotReady(String),
    /// They can't, since the engine doesn't answer, for this reason.
    EngineDown(String),
    /// Nothing has changed since the last report.
    Unchanged,
}

/// What the intake thread asks of the health thread.
pub enum RecheckRequest {
    /// A container couldn't be started: check the image, too, and start a container of the agent's own, until the host is
    /// ready.
    ProveStart,
    /// A task needs so much free space on the disk, in bytes: remove workspaces that aren't needed.
    MakeRoom(u64),
    /// A workspace was set aside: remove it.
    Clean,
    /// The configuration is another one: look at everything anew.
    Reloaded,
    /// A task is offered, and the last look at the engine is too old: report what is so now.
    Look,
}

/// The thread that checks the host.
pub struct HealthMonitor {
    pub context: Arc<Context>,
    /// The records, to tell containers that are still needed.
    pub store: Store,
    /// When the engine is looked at.
    pub looks: Arc<EngineLooks>,
}

/// What the thread remembers from one check to the next.
struct Checks {
    mounts: MountWatch,
    housekeeping: Housekeeping,
    engine_disk: EngineDisk,
    puller: Puller,
    /// Whether the image is checked, too.
    check_image: bool,
    start: StartCheck,
    /// Whether SELinux is known to let containers use their workspaces.
    is_unconfined: bool,
    /// The last report.
    reported: Option<HostHealth>,
    cleaning_due: Instant,
}

impl HealthMonitor {
    /// Starts the thread. It reports every ten seconds or so, and ends when the receiver of its reports does.
    pub fn spawn(self, reports: Sender<HostHealth>, rechecks: Receiver<RecheckRequest>) -> io::Result<()> {
        thread::Builder::new().name("health".to_owned()).spawn(move || self.run(&reports, &rechecks)).map(drop)
    }

    fn run(&self, reports: &Sender<HostHealth>, rechecks: &Receiver<RecheckRequest>) {
        let mut checks = Checks {
            mounts: MountWatch::default(),
            housekeeping: Housekeeping::new(&self.context, self.store.clone()),
            engine_disk: EngineDisk::default(),
            puller: Puller::new(self.context.docker.clone(), &self.context.config().executor),
            // The image is checked before the first task is accepted, which would fail without it.
            check_image: true,
            start: StartCheck::default(),
            is_unconfined: false,
            reported: None,
            cleaning_due: Instant::now(),
        };
        loop {
            let health = self.check(&mut checks);
            // Also where nothing has changed: a missing report means that this thread hangs.
            let is_unchanged = checks.reported.as_ref() == Some(&health);
            let report = if is_unchanged { HostHealth::Unchanged } else { health.clone() };
            if reports.send(report).is_err() {
                return;
            }
            self.clean(&mut checks, &health);
            checks.reported = Some(health);
            select! {
                recv(rechecks) -> request => match request {
                    // The last report may not be true any more.
                    Ok(RecheckRequest::ProveStart) => {
                        (checks.check_image, checks.reported) = (true, None);
                        self.looks.require();
                        checks.start.require();
                    }
                    Ok(RecheckRequest::Look) => self.looks.require(),
                    Ok(RecheckRequest::Reloaded) => self.note_reloaded(&mut checks),
                    Ok(RecheckRequest::Clean) => checks.cleaning_due = Instant::now(),
                    Ok(RecheckRequest::MakeRoom(bytes)) => self.make_room_for_task(&mut checks.housekeeping, bytes),
                    Err(_) => return,
                },
                recv(checks.puller.ends()) -> end => {
                    let broken = |_| Err(DockerError::Unreachable("the pull broke off".to_owned()));
                    checks.puller.note_end(end.unwrap_or_else(broken));
                }
                default(INTERVAL) => {}
            }
        }
    }

    /// Image, mounts and options may be others.
    fn note_reloaded(&self, checks: &mut Checks) {
        let executor = &self.context.config().executor;
        if !checks.puller.is_pulling_for(executor) {
            checks.puller = Puller::new(self.context.docker.clone(), executor);
        }
        checks.start.look_anew();
        (checks.check_image, checks.is_unconfined) = (true, false);
        (checks.mounts, checks.reported) = (MountWatch::default(), None);
        self.looks.require();
    }

    fn check(&self, checks: &mut Checks) -> HostHealth {
        if self.looks.is_due(Instant::now()) {
            let version = self.context.docker.engine_version();
            self.looks.note_look(version.is_ok(), Instant::now());
            if let Err(error) = version {
                return HostHealth::EngineDown(error.to_string());
            }
        }
        if checks.check_image {
            if let Err(why) = checks.puller.check() {
                return HostHealth::NotReady(why);
            }
        }
        if !checks.is_unconfined {
            if let Some(why) = find_denial(&self.context.config(), &self.context.docker) {
                return HostHealth::NotReady(why);
            }
            checks.is_unconfined = true;
        }
        let housekeeping = &mut checks.housekeeping;
        let keep_free = self.context.config().paths.keep_free();
        let ready = checks.mounts.check(&self.context.config()).map_err(|why| why.to_string());
        let ready = ready.and_then(|()| housekeeping.make_room());
        let ready = ready.and_then(|()| checks.engine_disk.check(&self.context.docker, keep_free));
        match ready.and_then(|()| checks.start.check(&self.context)) {
            Ok(()) => HostHealth::Ready,
            Err(why) => HostHealth::NotReady(why),
        }
    }

    /// Where that isn't enough, the task waits, and the health of the host is the same.
    fn make_room_for_task(&self, housekeeping: &mut Housekeeping, bytes: u64) {
        if let Err(error) = housekeeping.make_room_for_task(bytes) {
            log::debug!("{error}");
        }
    }

    /// On a ready host, removes what no task needs any more.
    fn clean(&self, checks: &mut Checks, health: &HostHealth) {
        if *health != HostHealth::Ready {
            // Containers that couldn't be removed meanwhile are looked for as soon as the host is ready again.
            checks.cleaning_due = Instant::now();
            return;
        }
        checks.check_image = false;
        if Instant::now() >= checks.cleaning_due {
            self.remove_leftover_containers();
            checks.housekeeping.remove_expired();
            checks.cleaning_due = Instant::now() + CLEANING;
        }
    }

    /// Removes containers of this agent that no unfinished task needs: an engine that didn't answer when one was to be
    /// removed leaves it behind.
    fn remove_leftover_containers(&self) {
        let containers = match self.context.docker.list_of_instance(&self.context.instance_id) {
            Ok(containers) => containers,
            Err(error) => {
                log::warn!("can't list leftover containers: {error}");
                return;
            }
        };
        for (id, name) in containers {
            let whose = viewed(&name).unwrap_or(&name);
            // A killed agent may have left it.
            if whose == start::probe_name(&self.context) {
                if let Err(error) = self.context.docker.remove_forced(&name) {
                    log::warn!("the container `{name}` can't be removed: {error}");
                }
                continue;
            }
            let Some(key) = TaskKey::from_container_name(whose) else { continue };
            // One that shows the workspace to the engine is needed while results are fetched.
            let last = if viewed(&name).is_some() { Phase::Exited } else { Phase::Uploaded };
            let record = self.store.task(&key).load();
            // A record that can't be read may need its container.
            if !record.is_ok_and(|record| record.is_none_or(|record| record.phase > last)) {
                continue;
            }
            log::info!("removing the container `{name}`, which no task needs any more");
            let removed = match self.context.docker.stop(&id, STOP_GRACE) {
                Ok(()) | Err(DockerError::Refused(_)) => self.context.docker.remove(&id),
                Err(error) => Err(error),
            };
            if let Err(error) = removed {
                log::warn!("the container `{name}` can't be removed: {error}");
            }
        }
    }
}
