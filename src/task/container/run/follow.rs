//! Staying with a running container that an earlier client, or an earlier run of the agent, has started.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{ContainerRun, Progress};
use crate::docker::Container;
use crate::task::container::logs::{self, Lacking};
use crate::task::container::{launch, watch::Watch};

/// The pause after a follower that ended before its container: the first one, doubling with each in a row, and at most.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
/// A follower that lived so long was no failure.
const LASTING: Duration = Duration::from_secs(60);

/// What this run of the agent has done to follow the container.
#[derive(Default)]
pub(super) struct Following {
    /// Whether the log says that the container is followed.
    pub is_said: bool,
    /// The last pause.
    pause: Duration,
    /// Whether a pause comes before the next follower.
    is_pause_due: bool,
}

impl ContainerRun<'_> {
    pub(super) fn follow(&mut self, container: &Container) -> Progress {
        (self.seen.stuck, self.seen.overdue) = (None, None);
        self.note_started();
        // Only a container that started before this run of the agent is timed by the engine's clock, which can be set.
        let by_engine = || Instant::now().checked_sub(container.ran_for(Timestamp::now())).unwrap_or_else(Instant::now);
        let started = *self.seen.started.get_or_insert_with(by_engine);
        if self.seen.following.is_pause_due {
            self.seen.following.is_pause_due = false;
            Watch::new(self.container, self.task, Some(started)).run_alone(self.seen.following.pause)?;
            return Ok(None);
        }
        self.seen.engine_was_down = false;
        if !self.seen.following.is_said {
            self.seen.following.is_said = true;
            log::info!(task:% = self.task.key(); "following the running container `{}`", self.container.name);
        }
        let follower = logs::follow(self.container, self.task, &container.id)?;
        // A crash would leave it behind until the container prints or ends.
        self.task.record.client = Some(launch::process(&follower));
        self.task.save_later();
        let began = Instant::now();
        let exit_code = self.watch(follower, Some(started))?.exit_code;
        self.note_follower_ended(began.elapsed());
        self.seen.client_exit_code = None;
        // Also a follower that saw the container's end is known to have ended before the last line.
        self.seen.lacking = if exit_code == Some(0) { Lacking::LastLines } else { Lacking::Unknown };
        self.seen.engine_was_down |= exit_code.is_some_and(|code| code != 0);
        if exit_code != Some(0) {
            // It ended before the container did, perhaps with the engine; don't inspect at once.
            self.task.wait(Duration::from_secs(1))?;
        }
        Ok(None)
    }

    /// Where the container goes on, it is followed again: ever more seldom, if that ends at once each time.
    fn note_follower_ended(&mut self, lasted: Duration) {
        let [first, longest] = PAUSES;
        let following = &mut self.seen.following;
        following.pause = if lasted >= LASTING { first } else { (following.pause * 2).clamp(first, longest) };
        following.is_pause_due = true;
        if following.pause == first * 2 {
            log::warn!(
                task:% = self.task.key();
                "`docker logs --follow` ends before the container does; trying again ever more seldom, and looking at the \
                 container meanwhile"
            );
        }
    }
}
