//! When a task came to this agent.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The times of the offer, in the record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offered {
    /// When it was offered, by this machine's clock.
    #[serde(rename = "offered_at")]
    pub at: Timestamp,
    /// When the Server gave the task to this agent, by the Server's own clock and not later than that. `None` if it hasn't
    /// said so, as where the answer was lost.
    #[serde(default, rename = "accepted_at_server", skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Timestamp>,
}

impl Offered {
    /// Offered now, and not accepted yet.
    pub fn now() -> Self {
        Self { at: Timestamp::now(), accepted: None }
    }
}
