//! How long a container is waited for where nothing else ends the wait.

use std::time::Duration;

/// The limits of such waits.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long `docker run` may take to start its container, once the image is here.
    pub start: Duration,
    /// How long it may pull the image without a word.
    pub pull: Duration,
    /// When a start that lasts is first logged, and the pause after each such line.
    pub reminders: [Duration; 2],
    /// How often the engine is asked for the container while a client is with it.
    pub look: Duration,
    /// How long a client that prints nothing may outlive its container.
    pub outlived: Duration,
    /// How long the output of a container that has exited is read again, where that breaks off.
    pub unread: Duration,
    /// How long a container may be in a state in which nothing but waiting helps, such as its removal, and how long if the
    /// task is to be stopped.
    pub stuck: [Duration; 2],
    /// How long a container may be in a state that this agent doesn't know before its task waits without a slot.
    pub unknown: Duration,
    /// When such a wait is logged.
    pub said_after: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(900),
            pull: Duration::from_secs(3600),
            reminders: [60, 300].map(Duration::from_secs),
            look: Duration::from_secs(25),
            outlived: Duration::from_secs(10),
            unread: Duration::from_secs(300),
            stuck: [600, 20].map(Duration::from_secs),
            unknown: Duration::from_secs(60),
            said_after: Duration::from_secs(10),
        }
    }
}
