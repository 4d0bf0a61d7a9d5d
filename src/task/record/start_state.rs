//! How far the start of a task's container has come.

use serde::{Deserialize, Serialize};

/// The state of the start, in the record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartState {
    /// Whether a container that was created and never started is being removed, to be created again.
    #[serde(default)]
    pub replacing: bool,
    /// How many starts have failed, over restarts of the agent. None of these containers ever ran.
    #[serde(default, rename = "failed_starts", skip_serializing_if = "is_zero")]
    pub failures: u32,
}

// serde's `skip_serializing_if` passes a reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}
