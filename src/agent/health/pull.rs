//! Pulls the executor image at the start and after a failed start, unless `executor.pull` is `never`.
//!
//! `docker run` would pull it with the next task. But while the image is missing no task is accepted, so after an outage
//! of the registry no task would bring it back.

use std::time::{Duration, Instant};
use std::{io, thread};

use crossbeam_channel::{Receiver, bounded, never};

use crate::config::ExecutorConfig;
use crate::config::container_options::Pull;
use crate::docker::{Docker, DockerError};

/// How long one pull may take.
const LIMIT: Duration = Duration::from_secs(600);
/// The pause between two pulls.
const PAUSE: Duration = Duration::from_secs(300);

/// At most one `docker pull` at a time, in a thread of its own, so that the engine is checked meanwhile.
pub struct Puller {
    docker: Docker,
    image: String,
    platform: Option<String>,
    policy: Option<Pull>,
    /// The result of the running pull.
    running: Receiver<Result<(), DockerError>>,
    is_running: bool,
    /// When the last pull ended, and whether it succeeded.
    last: Option<(Instant, bool)>,
}

impl Puller {
    pub fn new(docker: Docker, executor: &ExecutorConfig) -> Self {
        Self {
            docker,
            image: executor.image.clone(),
            platform: executor.options.docker_args.platform.clone(),
            policy: executor.options.pull,
            running: never(),
            is_running: false,
            last: None,
        }
    }

    /// Whether a pull is running that is the right one for this configuration, too.
    pub fn is_pulling_for(&self, executor: &ExecutorConfig) -> bool {
        let (image, options) = (&executor.image, &executor.options);
        let is_same =
            self.image == *image && self.platform == options.docker_args.platform && self.policy == options.pull;
        self.is_running && is_same
    }

    /// A channel that has a message when a pull has ended; see [`Puller::note_end`].
    pub fn ends(&self) -> &Receiver<Result<(), DockerError>> {
        &self.running
    }

    /// To be called with each message of [`Puller::ends`].
    pub fn note_end(&mut self, end: Result<(), DockerError>) {
        let image = &self.image;
        match &end {
            Ok(()) => log::info!("the image `{image}` was pulled"),
            Err(error) => log::warn!(
                "the image `{image}` can't be pulled: {error}; trying again in {} minutes",
                PAUSE.as_secs() / 60
            ),
        }
        self.last = Some((Instant::now(), end.is_ok()));
        self.running = never();
        self.is_running = false;
    }

    /// Checks that `docker run` would find the image now, as far as the policy asks for it. Starts a pull where that may
    /// help.
    ///
    /// # Errors
    /// Tasks have to wait, for this reason.
    pub fn check(&mut self) -> Result<(), String> {
        // A client that breaks off once, as on a machine without memory, says nothing of the image.
        let is_here = self.docker.has_image(&self.image).or_else(|_| self.docker.has_image(&self.image));
        let is_here = is_here.map_err(|error| error.to_string())?;
        let is_recent = self.last.is_some_and(|(ended, _)| ended.elapsed() < PAUSE);
        let was_brought = is_recent && self.last.is_some_and(|(_, brought)| brought);
        let image = &self.image;
        match self.policy {
            // With this policy the registry has to answer for each task, not only for the first.
            Some(Pull::Always) if was_brought && is_here => return Ok(()),
            Some(Pull::Always) => {}
            _ if is_here => return Ok(()),
            Some(Pull::Missing) | None => {}
            Some(Pull::Never) => return Err(format!("the image `{image}` isn't on this machine")),
        }
        let why = match self.policy {
            Some(Pull::Always) => format!("the image `{image}` has to be pulled first (`executor.pull`)"),
            _ => format!(
                "the image `{image}` isn't on this machine and has to be built or pulled first (`executor.pull`)"
            ),
        };
        if !self.is_running && !is_recent {
            self.begin().map_err(|error| format!("{why}, and the pull can't be started: {error}"))?;
        }
        Err(why)
    }

    fn begin(&mut self) -> io::Result<()> {
        let (end, running) = bounded(1);
        let (docker, image, platform) = (self.docker.clone(), self.image.clone(), self.platform.clone());
        let pull = move || {
            // An error means that the agent is shutting down.
            let _ = end.send(docker.pull(&image, platform.as_deref(), LIMIT));
        };
        thread::Builder::new().name("pull".to_owned()).spawn(pull)?;
        self.running = running;
        self.is_running = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Puller;
    use crate::config::Config;
    use crate::docker::Docker;
    use std::path::Path;

    #[test]
    fn a_running_pull_goes_on_where_a_reload_changes_nothing_of_it() {
        let config = |image: &str| {
            let text = format!("[server]\nbase_url='http://h'\n[executor]\nimage='{image}'\n");
            Config::parse(Path::new("/c/config.toml"), &text).unwrap()
        };
        let mut puller = Puller::new(Docker::new(&config("a")).unwrap(), &config("a").executor);
        assert!(!puller.is_pulling_for(&config("a").executor), "none runs");
        puller.is_running = true;
        assert!(puller.is_pulling_for(&config("a").executor) && !puller.is_pulling_for(&config("b").executor));
        let mut always = config("a").executor;
        always.options.pull = Some(super::Pull::Always);
        assert!(!puller.is_pulling_for(&always));
    }
}
