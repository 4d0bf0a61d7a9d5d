//! Watches what tasks need of this machine: the engine, mounts, room on the disk, and after a failed start the image.
//!
//! Runs in a thread of its own, since the engine may take long to answer and heartbeats may not wait for it (P5).

pub mod housekeeping;
mod pull;

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, select};
use pull::Puller;

use crate::agent::health::housekeeping::Housekeeping;
use crate::config::Config;
use crate::docker::{Docker, DockerError};
use crate::task::mounts::MountWatch;
use crate::task::record::{Phase, Store, TaskKey};

/// How often the engine is looked at.
const INTERVAL: Duration = Duration::from_secs(10);
/// How often containers and workspaces are looked for that nobody needs any more.
const CLEANING: Duration = Duration::from_secs(600);

/// What tasks can expect of this machine now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostHealth {
    /// Containers can be started.
    Ready,
    /// They can't, for this reason.
    NotReady(String),
    /// They can't, since the engine doesn't answer, for this reason.
    EngineDown(String),
    /// Nothing has changed since the last report.
    Unchanged,
}

/// A container could not be started for a reason that isn't the task's: look closer until image and mounts are there.
pub struct RecheckRequest;

/// See the module.
pub struct Monitor {
    /// The configuration.
    pub config: Arc<Config>,
    /// The engine.
    pub docker: Docker,
    /// Our name on the engine.
    pub instance_id: String,
    /// The records, to tell containers that are still needed.
    pub store: Store,
}

impl Monitor {
    /// Starts the thread. It reports what it finds every ten seconds or so, and ends when nobody listens any more.
    pub fn spawn(self, reports: Sender<HostHealth>, recheck_requests: Receiver<RecheckRequest>) -> io::Result<()> {
        thread::Builder::new()
            .name("monitor".to_owned())
            .spawn(move || self.watch(&reports, &recheck_requests))
            .map(drop)
    }

    fn watch(&self, reports: &Sender<HostHealth>, recheck_requests: &Receiver<RecheckRequest>) {
        let mut reported = None;
        // Where it is said what is to be done about a missing image, that is done before a task is taken and not with it.
        let mut suspect = self.config.executor.options.pull.is_some();
        let mut housekeeping = Housekeeping::default();
        let mut mounts = MountWatch::default();
        let mut is_image_looked_for = false;
        let mut puller = Puller::new(self.docker.clone(), &self.config.executor);
        let mut next_cleaning = Instant::now();
        loop {
            let state = self.look(suspect.then_some(&mut puller), &mut mounts, &mut housekeeping);
            // Also where nothing has changed: silence means that this thread is held up.
            let report = if reported.as_ref() == Some(&state) { HostHealth::Unchanged } else { state.clone() };
            if reports.send(report).is_err() {
                return;
            }
            reported = Some(state.clone());
            if state == HostHealth::Ready && !is_image_looked_for {
                is_image_looked_for = true;
                self.look_for_image();
            }
            if state != HostHealth::Ready {
                // What couldn't be removed meanwhile is looked for as soon as things are in order again.
                next_cleaning = Instant::now();
            } else {
                suspect = false;
                if Instant::now() >= next_cleaning {
                    self.sweep();
                    housekeeping.remove_expired(&self.config, &self.docker, &self.store);
                    next_cleaning = Instant::now() + CLEANING;
                }
            }
            select! {
                recv(recheck_requests) -> suspicion => match suspicion {
                    // Whatever was reported before doesn't hold any more.
                    Ok(RecheckRequest) => (suspect, reported) = (true, None),
                    Err(_) => return,
                },
                recv(puller.ends()) -> end => {
                    let broken = |_| Err(DockerError::Unreachable("the pull broke off".to_owned()));
                    puller.note_end(end.unwrap_or_else(broken));
                }
                default(INTERVAL) => {}
            }
        }
    }

    /// With a puller, also looks for the image.
    fn look(
        &self,
        puller: Option<&mut Puller>,
        mounts: &mut MountWatch,
        housekeeping: &mut Housekeeping,
    ) -> HostHealth {
        if let Err(error) = self.docker.engine_version() {
            return HostHealth::EngineDown(error.to_string());
        }
        if let Some(Err(why)) = puller.map(Puller::check) {
            return HostHealth::NotReady(why);
        }
        let room =
            mounts.check(&self.config).and_then(|()| housekeeping.make_room(&self.config, &self.docker, &self.store));
        match room {
            Ok(()) => HostHealth::Ready,
            Err(why) => HostHealth::NotReady(why),
        }
    }

    /// Without a word about it in the configuration, docker fetches a missing image with the first task, if it can. That
    /// is said before it costs somebody that task.
    fn look_for_image(&self) {
        let image = &self.config.executor.image;
        if let Ok(false) = self.docker.has_image(image) {
            log::warn!(
                "the image `{image}` isn't on this machine; docker tries to pull it with the first task, which fails if it \
                 can't (`executor.pull` says otherwise)"
            );
        }
    }

    /// Removes containers of ours that no unfinished task needs: a crash between an outcome's record and the removal,
    /// or an engine that was away then, leaves them behind.
    fn sweep(&self) {
        let names = match self.docker.names_of_instance(&self.instance_id) {
            Ok(names) => names,
            Err(error) => {
                log::warn!("containers left behind can't be looked for: {error}");
                return;
            }
        };
        for name in names {
            let Some(key) = TaskKey::from_container_name(&name) else { continue };
            let needed = match self.store.task(&key).load() {
                Ok(record) => record.is_some_and(|record| record.phase < Phase::Settled),
                // A record that can't be read may need its container.
                Err(_) => true,
            };
            if needed {
                continue;
            }
            log::info!("removing the container `{name}`, which no task needs any more");
            let removed = match self.docker.stop(&name) {
                Ok(()) | Err(DockerError::Refused(_)) => self.docker.remove(&name),
                Err(error) => Err(error),
            };
            if let Err(error) = removed {
                log::warn!("the container `{name}` can't be removed: {error}");
            }
        }
    }
}
