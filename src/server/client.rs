//! A client of the Server with one method per endpoint (PROTOCOL, "Addresses and headers").
//!
//! Each method makes one call; the caller decides whether and when to repeat it.

use std::cell::Cell;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use ureq::http::{Response, header};
use ureq::{Body, SendBody};

use super::answer::{Confirmation, accept_success, read_poll, read_small, sent_at};
use super::connection::{Connection, REQUEST_TIMEOUT, STALL_TIMEOUT, path_segment};
use super::connector::within;
use super::error::ClientError;
use super::list::{Each, read_list};
use super::offer::PollAnswer;
use super::patience::Patience;
use super::proxy::resolve_route;
use super::upload::{Form, Upload};
use crate::config::{Credentials, ServerConfig};
use crate::metrics::Counters;
use crate::server::Purpose;
use crate::server::budget::Budget;
use crate::server::protocol::{
    AcceptRequest, AgentStatus, EncodedReport, HeartbeatRequest, Load, PollRequest, RegisterRequest, Registration,
    Uploaded, to_json,
};

/// The time limit of a registration, whose answer must not be lost.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(30);
/// An upload of at least so many bytes waits up to a second for the other side to say whether it takes it.
const EXPECT_FROM: u64 = 1 << 20;
/// The type of every body but an upload's.
const JSON: &str = "application/json; charset=utf-8";

/// The Server, for a registered agent. Clones share connections, budget and counters.
#[derive(Clone)]
pub struct Client {
    connection: Connection,
    /// The service that the agent works for.
    pub service_id: String,
    patience: Arc<Patience>,
    /// Whether the last heartbeat was acknowledged, and every call since then found a Server that accepts the key.
    is_answering: Arc<AtomicBool>,
    /// Whether the Server, or a proxy, refuses or misreads `Expect: 100-continue` (RFC 9110, 10.1.1).
    refuses_expect: Arc<AtomicBool>,
    budget: Arc<Budget>,
    counters: Arc<Counters>,
    /// The proxy that calls go through, as errors name it.
    proxy: Option<String>,
}

/// Exchanges a registration token for credentials. The token works once, so this call must not be repeated blindly.
pub fn register(server: &ServerConfig, token: &str, capacity: usize) -> Result<Registration, ClientError> {
    let body = to_json(&RegisterRequest { registration_token: token, capacity });
    let connection = Connection::to_register(server, token);
    let limit = Some(REGISTER_TIMEOUT);
    let request = connection.post("/api/v1/agent/register").config().timeout_global(limit).build();
    let send = || connection.answer(request.content_type(JSON).send(&body), read_small);
    let answer = within(REGISTER_TIMEOUT, send);
    answer.map_err(|error| error.via_proxy(resolve_route(server).proxy().as_deref()))
}

impl Client {
    /// A client for a registered agent. Connects to nothing yet.
    pub fn new(server: &ServerConfig, credentials: Credentials, counters: Arc<Counters>) -> Self {
        Self {
            service_id: credentials.service_id.clone(),
            connection: Connection::new(server, Some(credentials)),
            patience: Arc::default(),
            is_answering: Arc::default(),
            refuses_expect: Arc::default(),
            budget: Arc::new(Budget::new(server.max_requests_per_minute, server.poll_interval)),
            counters,
            proxy: resolve_route(server).proxy(),
        }
    }

    /// The same client with connections of its own, so that [`Client::abort`] of the one doesn't end calls of the other.
    pub fn with_own_connections(&self) -> Self {
        Self { connection: self.connection.separate(), ..self.clone() }
    }

    /// Makes every call in progress fail at once, and every later one: for a process that has to end.
    pub fn abort(&self) {
        self.connection.abort();
    }

    /// Whether a text of the Server contains the key: it must not get into names, logs and containers.
    pub fn is_key_in(&self, text: &str) -> bool {
        self.connection.is_key_in(text)
    }

    /// The Server's address.
    pub fn base_url(&self) -> &str {
        &self.connection.server.base_url
    }

    /// Whether a heartbeat was acknowledged and no call has failed since then for a reason for which every call would:
    /// otherwise nothing but a heartbeat is worth a try.
    pub fn is_answering(&self) -> bool {
        self.is_answering.load(Ordering::Relaxed)
    }

    /// What has failed at the Server, and for how long.
    pub fn patience(&self) -> &Patience {
        &self.patience
    }

    /// Reserves one call of any kind but a heartbeat in the request budget, or returns the time until there is room.
    /// The calls themselves don't check the budget: their caller waits where a command can interrupt the wait.
    pub fn try_acquire(&self, purpose: Purpose) -> Result<(), Duration> {
        self.budget.try_acquire(purpose, Instant::now())
    }

    /// Tells the Server that the agent is alive. 60 s without a heartbeat make the service offline (PROTOCOL 3).
    pub fn heartbeat(&self, status: AgentStatus, load: Load, limit: Option<Duration>) -> Result<(), ClientError> {
        self.budget.note_heartbeat(Instant::now());
        let body = to_json(&HeartbeatRequest {
            status,
            current_load: load.current,
            capacity: load.capacity.max(load.current),
            available_capacity: load.available,
        });
        let limit = limit.unwrap_or(REQUEST_TIMEOUT);
        let send = || self.repeat("heartbeat", &body, limit);
        let sent = self.note(within(limit, || {
            self.connection.answer(send(), |response| read_small::<Confirmation>(response)?.of_heartbeat())
        }));
        self.is_answering.store(sent.is_ok(), Ordering::Relaxed);
        sent?;
        self.patience.note_heartbeat(Instant::now());
        Ok(())
    }

    /// Asks for a task or a cancellation. The call takes at most `limit`.
    pub fn poll(&self, load: Load, limit: Duration) -> Result<PollAnswer, ClientError> {
        let body = to_json(&PollRequest { current_load: load.current, available_capacity: load.available });
        within(limit, || self.note(self.connection.answer(self.repeat("poll", &body, limit), read_poll)))
    }

    /// Accepts a task. Returns when the Server did so, by its own clock, if its answer has a date.
    pub fn accept(&self, task_id: &str) -> Result<Option<Timestamp>, ClientError> {
        let body = to_json(&AcceptRequest { task_id });
        self.post("accept", &body, REQUEST_TIMEOUT, |confirmation| confirmation.of_accept(task_id))
    }

    /// Reports a task's end.
    pub fn complete(&self, report: &EncodedReport<'_>) -> Result<(), ClientError> {
        let check = |confirmation: &Confirmation| confirmation.of_report(report.request.task_id);
        self.post("complete", &report.body, REQUEST_TIMEOUT, check).map(drop)
    }

    /// Copies a file of the Server into `sink` and checks that it has the announced length.
    pub fn download(
        &self,
        file_id: &str,
        announced: u64,
        sink: &mut dyn Write,
        received: &AtomicU64,
    ) -> Result<(), ClientError> {
        let path = self.files_path(&format!("files/{}/download", path_segment(file_id)));
        let called = self.connection.repeatable(|age| {
            let request = self.connection.get(&path).config().max_idle_age(age);
            request.timeout_recv_response(Some(STALL_TIMEOUT)).build().call()
        });
        let answer = self.connection.answer(called, accept_success);
        let response = answer.map_err(|error| self.note_failure(error))?;
        let mut body =
            response.into_body().into_with_config().limit(u64::MAX).reader().take(announced.saturating_add(1));
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) => {
                    let received = received.load(Ordering::Relaxed);
                    return Err(ClientError::Lost(format!("after {received} bytes: {error}")));
                }
            };
            sink.write_all(&buffer[..count]).map_err(ClientError::Local)?;
            received.fetch_add(count as u64, Ordering::Relaxed);
        }
        let received = received.load(Ordering::Relaxed);
        if received != announced {
            return Err(ClientError::WrongLength { announced, received });
        }
        Ok(())
    }

    /// Sends a file, streamed, and returns the Server's id of it.
    pub fn upload(&self, upload: &Upload<'_>) -> Result<String, ClientError> {
        let mut form = Form::new(upload).map_err(ClientError::Local)?;
        let mut request = self.connection.post(&self.files_path("files/upload"));
        // Whether a large file is refused for its size is known before it is sent, and not lost with the connection.
        if upload.size >= EXPECT_FROM && !self.refuses_expect.load(Ordering::Relaxed) {
            request = request.header(header::EXPECT, "100-continue");
        }
        let request = request
            .header(header::CONTENT_TYPE, &form.content_type)
            .header(header::CONTENT_LENGTH, form.length.to_string())
            .config()
            .timeout_recv_response(Some(STALL_TIMEOUT))
            .timeout_recv_body(Some(REQUEST_TIMEOUT))
            .build();
        let sent = request.send(SendBody::from_reader(&mut form.reader()));
        if let Some(error) = form.file.error {
            return Err(ClientError::Local(error));
        }
        let is_success = Cell::new(false);
        let read = |response: Response<Body>| {
            is_success.set(response.status().is_success());
            let uploaded: Uploaded = read_small(response)?;
            let id = Some(uploaded.file_id.into_string()).filter(|id| !id.is_empty() && !self.is_key_in(id));
            id.ok_or_else(|| ClientError::Lost("a `file_id` that can't be one".to_owned()))
        };
        let answer = self.note(self.connection.answer(sent, read));
        // What stands before the Server may answer for it as soon as it has the request's headers.
        let misread = match &answer {
            Err(error) if error.status() == Some(417) => "417 for `Expect: 100-continue`",
            _ if !is_success.get() || form.is_read() => return answer,
            Ok(_) => "an id of the file before it was sent",
            Err(_) => "a success before the file was sent",
        };
        self.refuses_expect.store(true, Ordering::Relaxed);
        Err(ClientError::Lost(misread.to_owned()))
    }

    /// Calls `each` with every file that the Server holds for a task. After an error the call has failed, although `each`
    /// may have been called.
    pub fn list_files(&self, task_id: &str, each: Each<'_>) -> Result<(), ClientError> {
        let path = self.files_path(&format!("files/list/{}", path_segment(task_id)));
        let get = |age| {
            let request = self.connection.get(&path).config().max_idle_age(age);
            request.timeout_global(Some(REQUEST_TIMEOUT)).build().call()
        };
        let call = || self.connection.answer(self.connection.repeatable(get), |response| read_list(response, each));
        self.note(within(REQUEST_TIMEOUT, call))
    }

    /// Makes a call that the Server confirms.
    fn post(
        &self,
        call: &str,
        body: &[u8],
        limit: Duration,
        check: impl FnOnce(&Confirmation) -> Result<(), ClientError>,
    ) -> Result<Option<Timestamp>, ClientError> {
        let read = |response| {
            let sent = sent_at(&response);
            check(&read_small(response)?).map(|()| sent)
        };
        self.note(within(limit, || self.connection.answer(self.send(call, body, limit), read)))
    }

    /// Makes a call that has the same effect once and twice (PROTOCOL 1 and 2: a poll reserves nothing, and says each
    /// cancellation until the task is reported; 3: a heartbeat says what is).
    fn repeat(&self, call: &str, body: &[u8], limit: Duration) -> Result<Response<Body>, ureq::Error> {
        self.connection.repeatable(|age| {
            let request = self.connection.post(&self.agent_path(call)).config().max_idle_age(age);
            request.timeout_global(Some(limit)).build().content_type(JSON).send(body)
        })
    }

    fn send(&self, call: &str, body: &[u8], limit: Duration) -> Result<Response<Body>, ureq::Error> {
        let request = self.connection.post(&self.agent_path(call)).config().timeout_global(Some(limit)).build();
        request.content_type(JSON).send(body)
    }

    fn agent_path(&self, call: &str) -> String {
        format!("/api/v1/agent/{}/{call}", self.service_id)
    }

    fn files_path(&self, rest: &str) -> String {
        format!("/api/v1/files/agent/{}/{rest}", self.service_id)
    }

    fn note<A>(&self, result: Result<A, ClientError>) -> Result<A, ClientError> {
        result.map_err(|error| self.note_failure(error))
    }

    /// Counts a failure that is retried, and adds the proxy to its message.
    fn note_failure(&self, error: ClientError) -> ClientError {
        if error.is_retryable() {
            self.counters.count_retry();
        }
        if error.is_unreachable() || error.is_unauthorized() {
            self.is_answering.store(false, Ordering::Relaxed);
        }
        error.via_proxy(self.proxy.as_deref())
    }
}

#[cfg(test)]
mod tests;
