//! How long a container is waited for where nothing else ends the wait.

use std::time::Duration;

/// The limits of such waits.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
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
            stuck: [600, 20].map(Duration::from_secs),
            unknown: Duration::from_secs(60),
            said_after: Duration::from_secs(10),
        }
    }
}
