//! Why a step of a task wasn't finished.

use std::fmt::Display;
use std::time::Duration;

use crate::server::ClientError;

/// Why a step wasn't finished. None of these is the task's failure: that is an [`super::record::Ending`].
#[derive(Debug)]
pub enum StepError {
    /// The agent ends.
    Shutdown,
    /// The operator discards the result. The step that does that is the next one.
    Discarded,
    /// The step has to be tried again later, and needs no slot until then: another container has the name of the task's,
    /// or an input file can't be fetched.
    WithoutSlot { why: String, retry_after: Duration },
    /// Results have to be fetched, and this worker may not.
    NeedsFetch,
    /// Other tasks have waited for this worker, and it is their turn.
    TurnOver,
    /// The step has to be tried again later.
    Retry {
        why: String,
        /// The pause that the Server asks for.
        retry_after: Option<Duration>,
    },
}

impl StepError {
    /// A retry after the agent's own pause.
    pub fn retry(why: impl Into<String>) -> Self {
        Self::Retry { why: why.into(), retry_after: None }
    }

    /// For `map_err`: a retry because of an error, with what failed.
    pub fn because<E: Display>(what: impl Display) -> impl FnOnce(E) -> Self {
        move |error| Self::retry(format!("{what}: {error}"))
    }
}

impl From<ClientError> for StepError {
    fn from(error: ClientError) -> Self {
        Self::Retry { retry_after: error.retry_after(), why: error.to_string() }
    }
}
