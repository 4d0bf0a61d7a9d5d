//! The reasons for which a task is stopped. The model in tests/model includes this file.

use serde::{Deserialize, Serialize};

/// Why a task is being stopped. The record holds it before the container is stopped, so that a crash in between doesn't
/// change the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StopReason {
    /// It ran longer than `executor.timeout_minutes`.
    Timeout {
        /// The limit at that time.
        minutes: u64,
    },
    /// It printed nothing for `executor.idle_timeout_minutes`.
    Idle {
        /// The limit at that time.
        minutes: u64,
    },
    /// The Server asked for it.
    Cancel,
    /// The operator asked for it, with `stop --abort`.
    Operator,
}
