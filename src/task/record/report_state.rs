//! What became of a report. The model in tests/model includes this file.

use serde::{Deserialize, Serialize};

/// What became of the report of a task's end. Its form in the record is the two flags of older versions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "ReportFlags", into = "ReportFlags")]
pub enum ReportState {
    /// None was sent, or none arrived.
    #[default]
    NotSent,
    /// One is being sent, and the ledger doesn't have it yet.
    Sending,
    /// One may have arrived, and the ledger has it.
    MaybeArrived,
}

impl ReportState {
    /// The ledger has the report that was being sent.
    pub fn note_logged(&mut self) {
        if *self == Self::Sending {
            *self = Self::MaybeArrived;
        }
    }
}

#[derive(Serialize, Deserialize)]
struct ReportFlags {
    #[serde(default, rename = "report_in_doubt")]
    may_have_arrived: bool,
    #[serde(default, rename = "report_open")]
    is_unlogged: bool,
}

impl From<ReportFlags> for ReportState {
    fn from(flags: ReportFlags) -> Self {
        match flags {
            ReportFlags { is_unlogged: true, .. } => Self::Sending,
            ReportFlags { may_have_arrived: true, .. } => Self::MaybeArrived,
            _ => Self::NotSent,
        }
    }
}

impl From<ReportState> for ReportFlags {
    fn from(state: ReportState) -> Self {
        Self { may_have_arrived: state != ReportState::NotSent, is_unlogged: state == ReportState::Sending }
    }
}
