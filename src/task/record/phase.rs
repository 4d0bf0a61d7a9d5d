//! The phases of a task. The model in tests/model includes this file: a new phase has to be modelled, too.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The phase of a task. Each is named after what has been done and is on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The record holds the offer, and `accept` may have been sent and may have taken effect.
    #[default]
    Accepting,
    /// The Server has given the task to this agent.
    Accepted,
    /// The workspace is complete; the container may exist.
    Prepared,
    /// The record holds the task's ending; the container isn't needed any more.
    Exited,
    /// Every result that can be delivered is on the Server.
    Uploaded,
    /// The Server knows the ending.
    Settled,
}

impl Phase {
    /// The word in records, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepting => "accepting",
            Self::Accepted => "accepted",
            Self::Prepared => "prepared",
            Self::Exited => "exited",
            Self::Uploaded => "uploaded",
            Self::Settled => "settled",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
