//! One connection: handles its requests in order and applies the scripted faults.

use super::faults::{Fault, Moment, Phase};
use super::http::{self, Body, Head, Response, http_date};
use super::record::Request;
use super::routes::{self, Call, Content};
use super::state::Refusal;
use super::stream::Stream;
use super::{Control, Inner};
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant, SystemTime};

/// Bodies go out in pieces of this size.
const PIECE: usize = 16 * 1024;

/// What happens to the connection after a request.
#[derive(PartialEq, Eq)]
enum Next {
    KeepAlive,
    Close,
}

/// Serves a connection to its end. `epoch` is the listening period that it belongs to.
pub fn serve(control: &Control, connection: &mut BufReader<Stream>, epoch: u64) {
    loop {
        let idle = control.inner.options.idle_timeout;
        let socket = connection.get_ref().socket();
        if socket.set_read_timeout(Some(idle)).is_err() {
            return;
        }
        let Ok(Some(head)) = http::read_head(connection) else {
            return;
        };
        let mut exchange = Exchange::begin(control, &head, epoch);
        match exchange.run(connection, &head) {
            Ok(Next::KeepAlive) => {}
            Ok(Next::Close) | Err(_) => return,
        }
    }
}

/// A request that is being handled.
struct Exchange<'a> {
    control: &'a Control,
    inner: &'a Inner,
    request: Request,
    number: usize,
    epoch: u64,
}

impl<'a> Exchange<'a> {
    fn begin(control: &'a Control, head: &Head, epoch: u64) -> Self {
        let inner = &*control.inner;
        let mut request = Request::new(head);
        let route = routes::find(&request, &inner.options.path_prefix);
        match route.map(|route| route.call) {
            Some(Call::List { task_id }) => request.task_id = Some(task_id),
            Some(Call::Download { file_id }) => {
                let state = inner.state();
                if let Some(file) = state.files.iter().find(|file| file.id == file_id) {
                    request.task_id = Some(file.task_id.clone());
                    request.filename = Some(file.filename.clone());
                }
            }
            _ => {}
        }
        let number = inner.log.add(request.clone());
        Self { control, inner, request, number, epoch }
    }

    fn note(&self) {
        self.inner.log.update(self.number, &self.request);
    }

    fn pick(&mut self, phase: Phase) -> Vec<Fault> {
        let faults = self.inner.faults.pick(phase, &self.request);
        let names = faults.iter().map(Fault::name);
        self.request.faults.extend(names);
        self.note();
        faults
    }

    fn run(&mut self, connection: &mut BufReader<Stream>, head: &Head) -> io::Result<Next> {
        let deadline = Instant::now() + self.inner.options.body_deadline;
        let early = self.pick(Phase::Head);
        self.call(&early, Moment::Begun);
        if let Some(fault) = early.iter().find(|fault| !matches!(fault, Fault::Call(..))) {
            return self.run_early(connection, head, fault);
        }
        if let Some(limit) = self.inner.options.proxy_body_limit {
            let length = head.headers.get("content-length");
            let length = length.and_then(|text| text.parse::<u64>().ok());
            if length.is_some_and(|length| length > limit) {
                return self.answer_early(connection, &Response::html(413));
            }
        }
        // RFC 9110, 10.1.1: the client waits with the body.
        if head.headers.get("expect").is_some() {
            connection.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let mut body = Body::new(connection, head, deadline)?;
        let content = self.read_content(&mut body);
        let drained = content.and_then(|content| body.drain().map(|()| content));
        self.request.size = body.size;
        self.note();
        let content = match drained {
            Ok(content) => content,
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                let refusal = Refusal::new(408, "RequestTimeout", "请求超时");
                self.answer_early(connection, &routes::refused(&refusal))?;
                return Ok(Next::Close);
            }
            Err(error) => return Err(error),
        };
        let next = match head.headers.get("connection") {
            Some(value) if value.eq_ignore_ascii_case("close") => Next::Close,
            _ => Next::KeepAlive,
        };
        match self.act(connection.get_mut(), content)? {
            Next::KeepAlive => Ok(next),
            Next::Close => Ok(Next::Close),
        }
    }

    fn read_content(&mut self, body: &mut Body) -> io::Result<Content> {
        let route = routes::find(&self.request, &self.inner.options.path_prefix);
        let content = match &route {
            Some(route) if matches!(route.call, Call::Upload) => {
                routes::read_upload(self.inner, &mut *body, route, &mut self.request)
            }
            _ => routes::read_json(body, &mut self.request),
        };
        match content {
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                let refusal = Refusal::new(400, "BadRequest", error.to_string());
                Ok(Content::Bad(refusal))
            }
            other => other,
        }
    }

    /// Applies the faults that happen before the body has arrived.
    fn run_early(&mut self, connection: &mut BufReader<Stream>, head: &Head, fault: &Fault) -> io::Result<Next> {
        let after = match fault {
            Fault::AnswerEarly(response) => return self.answer_early(connection, response),
            Fault::AnswerReset(response) => {
                self.answering(response.status);
                send(connection.get_mut(), response, &mut |_| Ok(PIECE))?;
                self.answered();
                connection.get_ref().reset_on_close();
                return Ok(Next::Close);
            }
            Fault::CutBody(after) | Fault::StallBody(after) => *after,
            _ => unreachable!("only early faults are picked by the head"),
        };
        let deadline = Instant::now() + self.inner.options.body_deadline;
        let mut body = Body::new(connection, head, deadline)?;
        io::copy(&mut body.by_ref().take(after), &mut io::sink())?;
        self.request.size = body.size;
        self.note();
        match fault {
            Fault::CutBody(_) => connection.get_ref().reset_on_close(),
            _ => self.inner.gate.wait_for_its_end(self.epoch),
        }
        Ok(Next::Close)
    }

    /// Answers without reading the body, and closes as nginx does: it keeps reading for a while, since a close with
    /// unread data would reset the connection before the client has the answer.
    fn answer_early(&mut self, connection: &mut BufReader<Stream>, response: &Response) -> io::Result<Next> {
        let stream = connection.get_mut();
        let response = response.clone().header("connection", "close");
        self.answering(response.status);
        send(stream, &response, &mut |_| Ok(PIECE))?;
        self.answered();
        let _ = stream.socket().shutdown(Shutdown::Write);
        let until = Instant::now() + Duration::from_secs(2);
        let mut scrap = [0; PIECE];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Next::Close);
            }
            connection.get_ref().socket().set_read_timeout(Some(left))?;
            if connection.read(&mut scrap)? == 0 {
                return Ok(Next::Close);
            }
        }
    }

    /// Records the status before the first byte is sent, so that the log has it when the client has the answer.
    fn answering(&mut self, status: u16) {
        self.request.status = Some(status);
        self.note();
    }

    fn answered(&mut self) {
        self.request.answered = Some(Instant::now());
        self.note();
    }

    fn call(&self, faults: &[Fault], now: Moment) {
        for fault in faults {
            if let Fault::Call(moment, action) = fault {
                if *moment == now {
                    action(&self.request);
                }
            }
        }
    }

    /// Handles the complete request: effect and answer, with the scripted faults.
    fn act(&mut self, stream: &mut Stream, content: Content) -> io::Result<Next> {
        let faults = self.pick(Phase::Whole);
        self.call(&faults, Moment::Arrived);
        let acting = faults.iter().find(|fault| !matches!(fault, Fault::Call(..)));
        match acting {
            Some(Fault::Reset) => {
                stream.reset_on_close();
                return Ok(Next::Close);
            }
            Some(Fault::NeverAnswer) => {
                self.inner.gate.wait_for_its_end(self.epoch);
                return Ok(Next::Close);
            }
            Some(Fault::Delay(time)) if !self.inner.gate.wait(self.epoch, *time) => {
                return Ok(Next::Close);
            }
            _ => {}
        }
        let mut response = match acting {
            Some(Fault::Answer(response)) => response.clone(),
            _ => self.effect(content),
        };
        if self.inner.options.dates {
            response = response.header("date", &http_date(SystemTime::now()));
        }
        self.call(&faults, Moment::Effected);
        match acting {
            Some(Fault::AnswerLost) => return Ok(Next::Close),
            Some(Fault::Late(time)) if !self.inner.gate.wait(self.epoch, *time) => {
                return Ok(Next::Close);
            }
            Some(Fault::WrongLength(difference)) => {
                let length = response
                    .body
                    .len()
                    .saturating_add_signed(isize::try_from(*difference).expect("a test's sizes fit into memory"));
                response.body.resize(length, b'x');
            }
            Some(Fault::AnswerPatched(patch)) => {
                let mut body = serde_json::from_slice(&response.body).expect("an answer in JSON");
                patch(&mut body);
                response.body = body.to_string().into_bytes();
            }
            _ => {}
        }
        self.answering(response.status);
        let sent = self.send(stream, &response, acting);
        if let Ok(true) = sent {
            self.answered();
        }
        self.call(&faults, Moment::Answered);
        match sent? {
            true => Ok(Next::KeepAlive),
            false => Ok(Next::Close),
        }
    }

    fn effect(&self, content: Content) -> Response {
        let route = routes::find(&self.request, &self.inner.options.path_prefix);
        if route.is_none() {
            if let Some(extra) = &self.inner.options.extra_routes {
                if let Some(response) = extra(self.control, &self.request) {
                    return response;
                }
            }
        }
        routes::answer(self.inner, route.as_ref(), &self.request, content)
    }

    /// Writes the answer as the fault requires; returns false if it was not written completely.
    fn send(&self, stream: &mut Stream, response: &Response, fault: Option<&Fault>) -> io::Result<bool> {
        let gate = &self.inner.gate;
        let stop_at = |end: usize, done: usize| match end.saturating_sub(done) {
            0 => Err(ErrorKind::Interrupted.into()),
            left => Ok(left.min(PIECE)),
        };
        let sent = match fault {
            Some(Fault::Truncated) => {
                let half = response.body.len() / 2;
                send(stream, response, &mut |done| stop_at(half, done))
            }
            Some(Fault::CutAnswer(after)) => send(stream, response, &mut |done| stop_at(*after, done)),
            Some(Fault::StallAnswer(after)) => send(stream, response, &mut |done| {
                let piece = stop_at(*after, done);
                if piece.is_err() {
                    gate.wait_for_its_end(self.epoch);
                }
                piece
            }),
            Some(Fault::DripAnswer { piece, pause }) => {
                send(stream, response, &mut |done| match done == 0 || gate.wait(self.epoch, *pause) {
                    true => Ok(*piece),
                    false => Err(ErrorKind::Interrupted.into()),
                })
            }
            _ => send(stream, response, &mut |_| Ok(PIECE)),
        };
        match sent {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Writes an answer in pieces. `next_piece` gets the number of bytes sent so far and returns the size of the next
/// piece, or an error to stop.
fn send(
    stream: &mut Stream,
    response: &Response,
    next_piece: &mut dyn FnMut(usize) -> io::Result<usize>,
) -> io::Result<()> {
    response.write_head(stream)?;
    stream.flush()?;
    let mut done = 0;
    while done < response.body.len() {
        let end = response.body.len().min(done + next_piece(done)?);
        response.write_piece(stream, &response.body[done..end])?;
        done = end;
    }
    response.write_end(stream)
}
