//! When a task came to its phases.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Phase;

/// The times of the phases, in the record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseTimes {
    /// When the present phase began; `None` in the oldest records.
    #[serde(rename = "phase_since")]
    pub since: Option<Timestamp>,
    /// When each phase began for the first time; empty in records of older versions.
    #[serde(default, rename = "phase_times", skip_serializing_if = "BTreeMap::is_empty")]
    pub begun: BTreeMap<Phase, Timestamp>,
}

impl PhaseTimes {
    /// Those of a task that is in this phase from now on.
    pub fn of(phase: Phase) -> Self {
        let mut times = Self::default();
        times.begin(phase);
        times
    }

    /// A phase begins now.
    pub fn begin(&mut self, phase: Phase) {
        let now = Timestamp::now();
        self.since = Some(now);
        self.begun.entry(phase).or_insert(now);
    }
}
