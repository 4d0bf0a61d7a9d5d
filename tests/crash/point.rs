//! The points at which the agent can be killed.

use crate::stand_in::Verb;
use crate::support::server::{Control, Fault, Match, Moment, Request, Status};
use std::fmt;
use std::sync::Arc;

/// A point at which the agent is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// At a request to the Server.
    Request(Call, When),
    /// At a call of docker, counted from the agent's start.
    Docker(Verb, usize, How),
}

/// A request, by its kind and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Heartbeat,
    /// The poll whose answer is the offer that is accepted.
    Poll,
    /// The poll whose answer requests the cancellation.
    CancellingPoll,
    /// The `accept` with this number.
    Accept(usize),
    /// The `accept` that finds out why a report was refused.
    AcceptAfterRefusal,
    Download(usize),
    List,
    Upload(usize),
    Complete,
}

/// The moment of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Before the request takes effect; it never does.
    Before,
    /// A part of the request's body has arrived.
    Sending,
    /// The request has taken effect and is not answered.
    Unanswered,
    /// A part of the answer has been sent.
    Receiving,
    /// The answer has been sent.
    After,
}

/// What happens to the docker client when its agent is killed. The script explains each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Instead,
    Before,
    After,
    Created,
    CreatedOn,
    Started,
    StartedOn,
    Midway,
    Raced,
    RacedOn,
    Late,
}

impl How {
    /// The name in the script.
    pub fn word(self) -> &'static str {
        match self {
            Self::Instead => "instead",
            Self::Before => "before",
            Self::After => "after",
            Self::Created => "created",
            Self::CreatedOn => "created-on",
            Self::Started => "started",
            Self::StartedOn => "started-on",
            Self::Midway => "midway",
            Self::Raced => "raced",
            Self::RacedOn => "raced-on",
            Self::Late => "late",
        }
    }
}

/// The bytes of a body that are transferred before the agent is killed.
pub const PART: u16 = 1000;

impl Call {
    fn requests(self, server: &Control, task: &str) -> Match {
        let (path, number) = match self {
            Self::Heartbeat => ("heartbeat", 1),
            Self::Poll | Self::CancellingPoll => ("poll", 1),
            Self::Accept(number) => ("accept", number),
            Self::AcceptAfterRefusal => ("accept", 1),
            Self::Download(number) => ("download", number),
            Self::List => ("list", 1),
            Self::Upload(number) => ("upload", number),
            Self::Complete => ("complete", 1),
        };
        let chosen = Match::path(path).nth(number);
        match self {
            Self::Poll => chosen.when(|request| request.body["available_capacity"] != 0),
            Self::AcceptAfterRefusal => {
                let server = server.clone();
                chosen.when(move |_| server.requests_to("complete").iter().any(|report| report.status == Some(400)))
            }
            Self::CancellingPoll => {
                let (server, task) = (server.clone(), task.to_owned());
                chosen.when(move |_| server.task(&task).status == Status::Cancelling)
            }
            _ => chosen,
        }
    }
}

/// Makes the Server call `kill` at this moment of this request.
pub fn script(server: &Control, task: &str, (call, when): (Call, When), kill: Arc<dyn Fn() + Send + Sync>) {
    let requests = call.requests(server, task);
    let (moment, besides) = match when {
        When::Before => (Moment::Arrived, Some(Fault::Reset)),
        When::Sending => (Moment::Begun, Some(Fault::CutBody(PART.into()))),
        When::Unanswered => (Moment::Effected, None),
        When::Receiving => (Moment::Answered, Some(Fault::CutAnswer(PART.into()))),
        When::After => (Moment::Answered, None),
    };
    server.fault(requests.clone(), Fault::call(moment, move |_: &Request| kill()));
    if let Some(fault) = besides {
        server.fault(requests, fault);
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(call, when) => write!(f, "{call:?} {when:?}"),
            Self::Docker(verb, number, how) => write!(f, "docker {verb:?} {number} {how:?}"),
        }
    }
}
