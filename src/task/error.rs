//! Why a step of a task wasn't finished.

use std::fmt::Display;
use std::time::Duration;

use crate::server::{Backoff, ClientError};

/// When a step is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// After the agent's own pause, which doubles with each in a row. It is cut short when a trouble of the Server ends.
    Backoff,
    /// After this time, when a file is due or something is looked at again. It is cut short in the same way.
    Due(Duration),
    /// After the time that the Server asks for, up to a minute. It isn't cut short.
    Asked(Duration),
}

impl Pause {
    /// The longer one of the agent's own pause and of the one that the Server asks for.
    pub fn of(own: Duration, asked: Option<Duration>) -> Self {
        match asked.map(|asked| asked.min(Backoff::LONGEST)) {
            Some(asked) if asked > own => Self::Asked(asked),
            _ if own.is_zero() => Self::Backoff,
            _ => Self::Due(own),
        }
    }

    /// The one that is over first.
    pub fn min(self, other: Self) -> Self {
        let time = |pause| match pause {
            Self::Backoff => Duration::ZERO,
            Self::Due(time) | Self::Asked(time) => time,
        };
        if time(other) < time(self) { other } else { self }
    }
}

/// Why a step wasn't finished. None of these is the task's failure: that is an [`super::record::Ending`].
#[derive(Debug)]
pub enum StepError {
    /// The agent ends.
    Shutdown,
    /// The operator discards the result. The step that does that is the next one.
    Discarded,
    /// The step has to be tried again later, and needs no slot until then: another container has the name of the task's,
    /// or an input file can't be fetched or has no room.
    WithoutSlot { why: String, pause: Pause },
    /// Results have to be fetched, and this worker may not.
    NeedsFetch,
    /// Other tasks have waited for this worker, and it is their turn.
    TurnOver,
    /// The step needs the Server, and is tried when a heartbeat has been acknowledged.
    ServerAway,
    /// The step has to be tried again later.
    Retry { why: String, pause: Pause },
}

impl StepError {
    /// A retry after the agent's own pause.
    pub fn retry(why: impl Into<String>) -> Self {
        Self::Retry { why: why.into(), pause: Pause::Backoff }
    }

    /// For `map_err`: a retry because of an error, with what failed.
    pub fn because<E: Display>(what: impl Display) -> impl FnOnce(E) -> Self {
        move |error| Self::retry(format!("{what}: {error}"))
    }
}

impl From<ClientError> for StepError {
    fn from(error: ClientError) -> Self {
        Self::Retry { pause: Pause::of(Duration::ZERO, error.retry_after()), why: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::{Pause, StepError};
    use crate::server::ClientError;
    use std::time::Duration;

    #[test]
    fn only_a_pause_of_the_servers_own_may_not_be_cut_short() {
        let secs = Duration::from_secs;
        let cases = [
            (0, None, Pause::Backoff),
            (0, Some(0), Pause::Backoff),
            (0, Some(20), Pause::Asked(secs(20))),
            (5, Some(5), Pause::Due(secs(5))),
            (5, Some(86_400), Pause::Asked(secs(60))),
            (300, Some(86_400), Pause::Due(secs(300))),
        ];
        for (own, asked, pause) in cases {
            assert_eq!(Pause::of(secs(own), asked.map(secs)), pause, "{own} s and {asked:?}");
        }
        let (due, asked) = (Pause::Due(secs(300)), Pause::Asked(secs(60)));
        assert_eq!((due.min(asked), asked.min(due), due.min(Pause::Backoff)), (asked, asked, Pause::Backoff));
        let error = ClientError::Refused {
            status: 503,
            message: String::new(),
            by_server: false,
            retry_after: Some(Duration::ZERO),
        };
        assert!(matches!(error.into(), StepError::Retry { pause: Pause::Backoff, .. }));
    }
}
