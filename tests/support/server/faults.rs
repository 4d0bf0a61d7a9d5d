//! Scripted faults: which requests they apply to, what they do, and how often.

use super::http::Response;
use super::record::Request;
use serde_json::{Value, json};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Predicate = Arc<dyn Fn(&Request) -> bool + Send + Sync>;
type Callback = Arc<dyn Fn(&Request) + Send + Sync>;

/// The requests to which a fault applies. All conditions must hold; only matching requests are counted.
#[derive(Clone)]
pub struct Match {
    call: Option<String>,
    task: Option<String>,
    filename: Option<String>,
    predicate: Option<Predicate>,
    skip: usize,
    times: usize,
}

impl Match {
    /// Every request.
    pub fn any() -> Self {
        Self { call: None, task: None, filename: None, predicate: None, skip: 0, times: usize::MAX }
    }

    /// Requests with this word as a segment of the path: `register`, `heartbeat`, `poll`, `accept`,
    /// `download`, `upload`, `list` or `complete`.
    pub fn path(call: &str) -> Self {
        Self { call: Some(call.to_owned()), ..Self::any() }
    }

    /// Requests about this task. A download belongs to the task of its file; polls have no task.
    #[must_use]
    pub fn task(mut self, id: &str) -> Self {
        self.task = Some(id.to_owned());
        self
    }

    /// Uploads under this filename, or downloads of a file of this name.
    #[must_use]
    pub fn file(mut self, filename: &str) -> Self {
        self.filename = Some(filename.to_owned());
        self
    }

    /// Requests for which this is true.
    #[must_use]
    pub fn when(mut self, predicate: impl Fn(&Request) -> bool + Send + Sync + 'static) -> Self {
        self.predicate = Some(Arc::new(predicate));
        self
    }

    /// Lets the first `count` matching requests pass.
    #[must_use]
    pub fn skip(mut self, count: usize) -> Self {
        self.skip = count;
        self
    }

    /// Ends the fault after this number of requests; without it the fault stays until it is removed.
    #[must_use]
    pub fn times(mut self, count: usize) -> Self {
        self.times = count;
        self
    }

    /// Only the `number`th matching request, counted from 1.
    #[must_use]
    pub fn nth(self, number: usize) -> Self {
        self.skip(number - 1).times(1)
    }

    fn applies(&self, request: &Request) -> bool {
        self.call.as_ref().is_none_or(|call| request.is(call))
            && self.task.as_ref().is_none_or(|id| request.about(id))
            && (self.filename.is_none() || self.filename == request.filename)
            && self.predicate.as_ref().is_none_or(|holds| holds(request))
    }
}

/// The moments of a request at which a test's callback can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The head has arrived, the body perhaps not. Matches by path only.
    Begun,
    /// The request has arrived completely and has had no effect.
    Arrived,
    /// The request has taken effect and is not answered.
    Effected,
    /// The answer has been written.
    Answered,
}

/// What happens to a request instead of, or in addition to, the normal handling.
#[derive(Clone)]
pub enum Fault {
    /// The request has no effect and gets this answer.
    Answer(Response),
    /// This answer is sent before the body is read, then the connection is closed, as with a proxy's 413. Matches by
    /// path only.
    AnswerEarly(Response),
    /// The same, and the connection is reset before the body is read, as by a proxy that doesn't wait for the client.
    AnswerReset(Response),
    /// Effect and answer are delayed.
    Delay(Duration),
    /// Only the answer is delayed.
    Late(Duration),
    /// The request has no effect; the connection is reset.
    Reset,
    /// The request takes effect; the connection is closed without an answer.
    AnswerLost,
    /// The request takes effect; the connection is closed in the middle of the answer.
    Truncated,
    /// The request has no effect and no answer; the connection stays open until the server stops.
    NeverAnswer,
    /// The connection is reset after this number of bytes of the request's body. Matches by path only.
    CutBody(u64),
    /// The server stops reading after this number of bytes of the request's body. Matches by path only.
    StallBody(u64),
    /// The server stops sending after this number of bytes of the answer's body.
    StallAnswer(usize),
    /// The connection is closed after this number of bytes of the answer's body.
    CutAnswer(usize),
    /// The answer's body is sent in pieces with a pause after each.
    DripAnswer { piece: usize, pause: Duration },
    /// The answer's body is longer by this number of bytes, or shorter, and ends properly.
    WrongLength(i64),
    /// The request takes effect; the answer's JSON is changed.
    AnswerPatched(fn(&mut Value)),
    /// The test's callback, in addition to the normal handling. See [`Fault::call`].
    Call(Moment, Callback),
}

impl Fault {
    /// The Server's own error answer with this status.
    pub fn status(status: u16) -> Self {
        Self::Answer(error(status))
    }

    /// The Server's own error answer with this status and one more header, such as `Retry-After`.
    pub fn status_with_header(status: u16, name: &str, value: &str) -> Self {
        Self::Answer(error(status).header(name, value))
    }

    /// A proxy's HTML page with this status; 200 is possible, too.
    pub fn html(status: u16) -> Self {
        Self::Answer(Response::html(status))
    }

    /// The JSON of a gateway before the Server.
    pub fn gateway(status: u16) -> Self {
        Self::Answer(Response::json(status, &json!({"message": "no Route matched with those values"})))
    }

    /// nginx's 413, which is sent as soon as the head has arrived.
    pub fn too_large_for_the_proxy() -> Self {
        Self::AnswerEarly(Response::html(413))
    }

    /// Runs `action` at that moment of every matching request. Another fault can apply to the same request: it can kill
    /// the agent and be reset.
    pub fn call(moment: Moment, action: impl Fn(&Request) + Send + Sync + 'static) -> Self {
        Self::Call(moment, Arc::new(action))
    }

    fn is_early(&self) -> bool {
        let early_call = matches!(self, Self::Call(Moment::Begun, _));
        early_call
            || matches!(self, Self::AnswerEarly(_) | Self::AnswerReset(_) | Self::CutBody(_) | Self::StallBody(_))
    }

    /// The name in the request log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Answer(_) => "answer",
            Self::AnswerEarly(_) => "early answer",
            Self::AnswerReset(_) => "answer and reset",
            Self::Delay(_) => "delay",
            Self::Late(_) => "late",
            Self::Reset => "reset",
            Self::AnswerLost => "answer lost",
            Self::Truncated => "truncated",
            Self::NeverAnswer => "never answer",
            Self::CutBody(_) => "body cut",
            Self::StallBody(_) => "body stalled",
            Self::StallAnswer(_) => "answer stalled",
            Self::CutAnswer(_) => "answer cut",
            Self::DripAnswer { .. } => "answer drips",
            Self::WrongLength(_) => "wrong length",
            Self::AnswerPatched(_) => "answer patched",
            Self::Call(..) => "call",
        }
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

fn error(status: u16) -> Response {
    let body = json!({"error": "Injected", "message": format!("服务器故障 injected {status}")});
    Response::json(status, &body)
}

/// Identifies a scripted fault, to remove it or to count its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultId(usize);

struct Rule {
    which: Match,
    fault: Fault,
    seen: usize,
    hits: usize,
    removed: bool,
}

/// The stage of a request at which faults are looked up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Head,
    Whole,
}

/// The scripted faults in the order in which they were added.
#[derive(Default)]
pub struct FaultBook(Mutex<Vec<Rule>>);

impl FaultBook {
    pub fn add(&self, which: Match, fault: Fault) -> FaultId {
        let mut rules = self.0.lock().expect("no thread panics with this lock");
        rules.push(Rule { which, fault, seen: 0, hits: 0, removed: false });
        FaultId(rules.len() - 1)
    }

    pub fn remove(&self, id: FaultId) {
        self.0.lock().expect("no thread panics with this lock")[id.0].removed = true;
    }

    /// Removes all faults and drops their closures.
    pub fn clear(&self) {
        let mut rules = self.0.lock().expect("no thread panics with this lock");
        for rule in rules.iter_mut() {
            rule.removed = true;
            rule.fault = Fault::Reset;
            rule.which = Match::any();
        }
    }

    pub fn hits(&self, id: FaultId) -> usize {
        self.0.lock().expect("no thread panics with this lock")[id.0].hits
    }

    /// The faults that apply to this request now: all callbacks, and the first of the others.
    pub fn pick(&self, phase: Phase, request: &Request) -> Vec<Fault> {
        let mut rules = self.0.lock().expect("no thread panics with this lock");
        let mut picked = Vec::new();
        let mut acting = false;
        for rule in rules.iter_mut() {
            let is_call = matches!(rule.fault, Fault::Call(..));
            let now = rule.fault.is_early() == (phase == Phase::Head);
            if rule.removed || !now || rule.hits >= rule.which.times {
                continue;
            }
            if (acting && !is_call) || !rule.which.applies(request) {
                continue;
            }
            rule.seen += 1;
            if rule.seen > rule.which.skip {
                rule.hits += 1;
                acting |= !is_call;
                picked.push(rule.fault.clone());
            }
        }
        picked
    }
}
