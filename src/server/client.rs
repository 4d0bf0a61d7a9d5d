//! The Server, one method per endpoint (PROTOCOL). What goes wrong becomes a [`ClientError`] in one place, [`super::answer`].
//!
//! Calls are made once: who calls decides whether and when to try again. Redirects are never followed, so that the key
//! goes to the configured address and nowhere else.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::http::header;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, SendBody};

use super::answer::{ClientError, Unresolved, classify, read_json, succeeded};
use super::proxy;
use super::proxy::resolve_route;

use crate::config::{Credentials, ServerConfig};
use crate::metrics::Counters;
use crate::os::random::random_u64;
use crate::server::budget::{Budget, Purpose};
use crate::server::protocol::{
    AcceptRequest, AgentStatus, EncodedReport, FileList, HeartbeatRequest, ListedFile, Load, PollAnswer, PollRequest,
    RegisterRequest, Registration, Uploaded, to_json,
};

/// How long a small call may take in all.
pub(super) const SMALL: Duration = Duration::from_secs(10);
/// How long a transfer may stand still. The Server answers an upload within 30 s or refuses it (PROTOCOL 7). What
/// nobody reads comes to its end after three times as long: twice Linux still finds room for a part of a write in its
/// own buffers, which counts as progress.
const STALL: Duration = Duration::from_secs(45);
/// The type of every body but an upload's.
const JSON: &str = "application/json; charset=utf-8";
/// How much a connection reads or writes at once. The usual 128 KiB would be most of the memory that a task needs.
const BUFFER: usize = 32 * 1024;
/// A kept connection is not used again after so long: the other side may be closing it at that very moment, and a
/// call that is lost so can't be told from one that took effect.
const IDLE: Duration = Duration::from_secs(2);

/// A connection to the Server in our name. Clones share it.
#[derive(Clone)]
pub struct Client {
    agent: Agent,
    base_url: String,
    credentials: Credentials,
    answered: Arc<AtomicU64>,
    budget: Arc<Budget>,
    counters: Arc<Counters>,
    /// The proxy that calls take, in words.
    via: Option<String>,
}

/// A file about to be uploaded: opened, so that what was checked is what is sent.
pub struct Upload<'a> {
    /// The task that wrote it.
    pub task_id: &'a str,
    /// The name under which the Server shows it; a plain path, without characters that end a header's value.
    pub filename: &'a str,
    /// The open file, at its beginning.
    pub file: &'a File,
    /// How many bytes of it are sent.
    pub size: u64,
    /// Where it is noted how many of them have been taken to be sent: no more than these have left this machine,
    /// whatever becomes of the call.
    pub taken: &'a AtomicU64,
}

/// Trades a registration token for credentials. The token works once, so this call must not be repeated blindly.
pub fn register(server: &ServerConfig, token: &str, capacity: usize) -> Result<Registration, ClientError> {
    let body = RegisterRequest { registration_token: token, capacity };
    let url = format!("{}/api/v1/agent/register", server.base_url);
    let request = agent(server).post(url).config().timeout_global(Some(Duration::from_secs(30))).build();
    let answer = request.content_type(JSON).send(&to_json(&body)).map_err(classify).and_then(read_json);
    answer.map_err(|error| error.by(resolve_route(server).proxy().as_deref()))
}

impl Client {
    /// A client for a registered agent. Connects to nothing yet.
    pub fn new(server: &ServerConfig, credentials: Credentials, counters: Arc<Counters>) -> Self {
        let budget = Arc::new(Budget::new(server.max_requests_per_minute, server.poll_interval));
        let via = resolve_route(server).proxy();
        Self {
            agent: agent(server),
            base_url: server.base_url.clone(),
            credentials,
            answered: Arc::default(),
            budget,
            counters,
            via,
        }
    }

    /// A client of the same kind with connections of its own, so that one can be aborted without the other.
    pub fn with_own_connections(&self, server: &ServerConfig) -> Self {
        Self { agent: agent(server), ..self.clone() }
    }

    /// Makes every call in progress fail at once, and every later one: for a process that has to end.
    pub fn abort(&self) {
        self.agent.clone().shutdown();
    }

    /// The service that we work for.
    pub fn service_id(&self) -> &str {
        &self.credentials.service_id
    }

    /// The Server's address.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// How many calls have succeeded so far: grows while the Server can be reached.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Takes room in the request budget for one call of any kind but a heartbeat, or says how long there is none. The
    /// calls themselves don't look: who makes them can wait, and be woken, better than this module.
    pub fn try_acquire(&self, purpose: Purpose) -> Result<(), Duration> {
        self.budget.take(purpose, Instant::now())
    }

    /// Says that we are alive. The Server takes a service for dead after 60 s without (PROTOCOL 3).
    pub fn heartbeat(&self, status: AgentStatus, load: Load, limit: Option<Duration>) -> Result<(), ClientError> {
        self.budget.note(Instant::now());
        let body = HeartbeatRequest {
            status,
            current_load: load.current,
            capacity: load.capacity.max(load.current),
            available_capacity: load.available,
        };
        self.post_within::<serde_json::Value>("heartbeat", &to_json(&body), limit.unwrap_or(SMALL)).map(drop)
    }

    /// Asks for a task or a cancellation.
    pub fn poll(&self, load: Load) -> Result<PollAnswer, ClientError> {
        let body = PollRequest { current_load: load.current, available_capacity: load.available };
        Ok(self.post::<Option<PollAnswer>>("poll", &to_json(&body))?.unwrap_or_default())
    }

    /// Takes a task.
    pub fn accept(&self, task_id: &str) -> Result<(), ClientError> {
        self.post::<serde_json::Value>("accept", &to_json(&AcceptRequest { task_id })).map(drop)
    }

    /// Reports a task's end.
    pub fn complete(&self, report: &EncodedReport<'_>) -> Result<(), ClientError> {
        self.post::<serde_json::Value>("complete", &report.body).map(drop)
    }

    /// Copies a file of the Server into `sink` and checks that it has the announced length.
    pub fn download(&self, file_id: &str, announced: u64, sink: &mut dyn Write) -> Result<(), ClientError> {
        let url = self.files_url(&format!("files/{}/download", path_segment(file_id)));
        let request = self.with_headers(self.agent.get(url)).config().timeout_recv_response(Some(STALL)).build();
        let response = self.hushed(request.call().map_err(classify).and_then(succeeded))?;
        let mut body =
            response.into_body().into_with_config().limit(u64::MAX).reader().take(announced.saturating_add(1));
        let mut came = 0;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) => return Err(ClientError::Lost(format!("after {came} bytes: {error}"))),
            };
            came += count as u64;
            sink.write_all(&buffer[..count]).map_err(ClientError::Local)?;
        }
        self.note(if came == announced { Ok(()) } else { Err(ClientError::WrongLength { announced, came }) })
    }

    /// Sends a file, streamed, and returns the Server's id of it.
    pub fn upload(&self, upload: &Upload<'_>) -> Result<String, ClientError> {
        let boundary = format!("agent-core-{:016x}{:016x}", random_u64(), random_u64());
        let mime = mime_guess::from_path(upload.filename).first_raw().unwrap_or("application/octet-stream");
        // The text field has to come first (PROTOCOL, "Addresses and headers").
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"task_id\"\r\n\r\n{}\r\n\
             --{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{}\"\r\n\
             Content-Type: {mime}\r\n\r\n",
            upload.task_id, upload.filename
        );
        let tail = format!("\r\n--{boundary}--\r\n");
        let length = head.len() as u64 + upload.size + tail.len() as u64;
        let mut file = Exactly { file: upload.file, left: upload.size, taken: upload.taken, failed: None };
        let mut body = head.as_bytes().chain(&mut file).chain(tail.as_bytes());
        let request = self
            .with_headers(self.agent.post(self.files_url("files/upload")))
            .header(header::CONTENT_TYPE, format!("multipart/form-data; boundary={boundary}"))
            .header(header::CONTENT_LENGTH, length.to_string())
            .config()
            .timeout_recv_response(Some(STALL))
            .build();
        let sent = request.send(SendBody::from_reader(&mut body));
        if let Some(error) = file.failed {
            return Err(ClientError::Local(error));
        }
        let uploaded: Uploaded = self.note(sent.map_err(classify).and_then(read_json))?;
        Ok(uploaded.file_id)
    }

    /// The files that the Server holds for a task.
    pub fn list_files(&self, task_id: &str) -> Result<Vec<ListedFile>, ClientError> {
        let url = self.files_url(&format!("files/list/{}", path_segment(task_id)));
        let request = self.with_headers(self.agent.get(url)).config().timeout_global(Some(SMALL)).build();
        let list: FileList = self.note(request.call().map_err(classify).and_then(read_json))?;
        Ok(list.files)
    }

    fn post<A: DeserializeOwned>(&self, call: &str, body: &[u8]) -> Result<A, ClientError> {
        self.post_within(call, body, SMALL)
    }

    fn post_within<A: DeserializeOwned>(&self, call: &str, body: &[u8], limit: Duration) -> Result<A, ClientError> {
        let url = format!("{}/api/v1/agent/{}/{call}", self.base_url, self.credentials.service_id);
        let request = self.with_headers(self.agent.post(url)).config().timeout_global(Some(limit)).build();
        self.note(request.content_type(JSON).send(body).map_err(classify).and_then(read_json))
    }

    fn files_url(&self, rest: &str) -> String {
        format!("{}/api/v1/files/agent/{}/{rest}", self.base_url, self.credentials.service_id)
    }

    /// Older Servers read only one of the two key headers (PROTOCOL, "Addresses and headers").
    fn with_headers<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        let key = self.credentials.api_key.expose();
        request
            .header("X-Service-ID", &self.credentials.service_id)
            .header("X-API-Key", key)
            .header(header::AUTHORIZATION, format!("Bearer {key}"))
    }

    fn note<T>(&self, result: Result<T, ClientError>) -> Result<T, ClientError> {
        if result.is_ok() {
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
        self.hushed(result)
    }

    /// A Server or a proxy that shows in an error what it was sent must not bring the key into our log.
    fn hushed<T>(&self, result: Result<T, ClientError>) -> Result<T, ClientError> {
        result.map_err(|error| {
            if error.is_retryable() {
                self.counters.count_retry();
            }
            error.without(&self.credentials.api_key).by(self.via.as_deref())
        })
    }
}

pub(super) fn agent(server: &ServerConfig) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(proxy::spoken(server))
        .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
        .user_agent(concat!("agent-core/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(SMALL))
        .timeout_per_read(Some(STALL))
        .timeout_per_write(Some(STALL))
        .input_buffer_size(BUFFER)
        .output_buffer_size(BUFFER)
        .max_idle_age(IDLE)
        .build();
    Agent::with_parts(config, DefaultConnector::default(), Names::default())
}

/// Looks names up as ureq does, and marks what goes wrong there: without an address nothing can have been sent.
#[derive(Default)]
struct Names(DefaultResolver);

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Names")
    }
}

impl Resolver for Names {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        self.0.resolve(uri, config, timeout).map_err(|error| match error {
            ureq::Error::Io(io) => {
                ureq::Error::Other(Box::new(Unresolved(uri.host().unwrap_or_default().to_owned(), io)))
            }
            other => other,
        })
    }
}

/// The file's bytes and not one more or less: the length stands in the request already.
struct Exactly<'f> {
    file: &'f File,
    left: u64,
    taken: &'f AtomicU64,
    failed: Option<io::Error>,
}

impl Read for Exactly<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if room == 0 {
            return Ok(0);
        }
        let read = match self.file.read(&mut buffer[..room]) {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was sent")),
            other => other,
        };
        match read {
            Ok(count) => {
                self.left -= count as u64;
                self.taken.fetch_add(count as u64, Ordering::Relaxed);
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                self.failed = Some(error);
                Err(kind.into())
            }
        }
    }
}

/// Text from outside as one segment of a URL's path.
pub(super) fn path_segment(text: &str) -> String {
    let mut segment = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric()
            || b"-_~".contains(&byte)
            || (byte == b'.' && !text.trim_matches('.').is_empty())
        {
            segment.push(char::from(byte));
        } else {
            segment.push_str(&format!("%{byte:02X}"));
        }
    }
    segment
}

#[cfg(test)]
mod tests {
    use super::path_segment;

    #[test]
    fn ids_from_outside_stay_one_segment() {
        assert_eq!(path_segment("a-1_b.c~"), "a-1_b.c~");
        assert_eq!(path_segment("../x?y#z"), "..%2Fx%3Fy%23z");
        assert_eq!((path_segment(".."), path_segment(".")), ("%2E%2E".to_owned(), "%2E".to_owned()));
        assert_eq!(path_segment("é\n"), "%C3%A9%0A");
    }
}
