//! What the main thread and the intake thread tell each other.

use std::time::Duration;

use jiff::Timestamp;

use super::status_file::ServerTrouble;
use crate::server::{ClientError, Load, PollAnswer};

/// What the main thread hands over: what it heard from the Server.
#[derive(Debug)]
pub enum ServerEvent {
    /// The Server acknowledged a heartbeat.
    HeartbeatAcknowledged {
        /// When the acknowledgement came.
        at: Timestamp,
        /// Whether it came so late after the one before that the Server may have requeued this agent's tasks.
        was_interrupted: bool,
    },
    /// The Server can't be reached, or refuses the key or a heartbeat. Until a heartbeat is acknowledged, only heartbeats
    /// are sent.
    Trouble(ServerTrouble),
    /// The Server answered a poll. The intake thread replies with [`IntakeRequest::AnswerHandled`].
    PollAnswered(PollAnswer),
    /// A poll failed, and the next one is made after a pause of so many seconds.
    PollFailed(ClientError, u64),
    /// The poll that is due waits for so long, since the request budget has no room for it.
    PollWithoutRoom(Duration),
    /// A signal came. The intake thread ends with [`IntakeRequest::Stopped`].
    Shutdown,
}

/// When to poll again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextPoll {
    /// At once: the next task in the queue may be for this agent.
    Immediately,
    /// After `server.poll_interval_secs`.
    AfterInterval,
}

/// What the intake thread asks of the main thread.
#[derive(Debug)]
pub enum IntakeRequest {
    /// Report this load from now on.
    Load(Load),
    /// The reply to [`ServerEvent::PollAnswered`].
    AnswerHandled(NextPoll),
    /// Poll soon, see [`super::poller::Poller::hurry`].
    PollSoon,
    /// Poll so often from now on.
    PollInterval(Duration),
    /// Heartbeat now: whether new tasks are accepted has changed.
    HeartbeatNow,
    /// A call has failed in a way in which every call would: find out soon, by a heartbeat, whether the Server is away.
    ServerInDoubt,
    /// Whether tasks of this agent are being reclaimed. There is no poll meanwhile.
    Reclaiming(bool),
    /// The intake thread ends, and with it the agent.
    Stopped(Stopped),
}

/// Why the intake thread ended: a signal came, or a drain is done, and this load is left. The error is why the agent can't
/// go on: `agent.lock` is lost, or the data_dir can't be used.
pub type Stopped = Result<Load, String>;
