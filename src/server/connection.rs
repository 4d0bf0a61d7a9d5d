//! What all calls to the Server have in common: connections with their time limits, the headers with the key, and the
//! meaning of errors.
//!
//! Redirects are never followed, so that the key is sent to the configured address only.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ureq::http::{Response, header};
use ureq::tls::TlsConfig;
use ureq::typestate::{WithBody, WithoutBody};
use ureq::{Agent, Body, RequestBuilder};

use super::authorities::Authorities;
use super::connector::{BoundedConnector, watched};
use super::error::{ClientError, classify};
use super::proxy::supported_proxy;
use super::resolver::HostResolver;
use crate::config::{Credentials, Secret, ServerConfig};

/// The time limit of a call that transfers no file.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may take, with its proxy and the TLS handshake. It is shorter than the limit of a call, so that a
/// call that was never sent is told from one without an answer.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a transfer may make no progress. The Server answers an upload within 30 s or refuses it (PROTOCOL 7). An
/// upload that the other side never reads ends after three times as long, since Linux twice takes a part of a write
/// into its own buffers, which counts as progress.
pub(super) const STALL_TIMEOUT: Duration = Duration::from_secs(45);
/// How much a connection reads or writes at once. The library's 128 KiB would be most of the memory that a task needs.
const BUFFER_SIZE: usize = 32 * 1024;
/// An idle connection is not used again after this time for a call that must not be made twice: the other side may be
/// closing it at that moment, and a call that is lost so can't be distinguished from one that took effect.
const MAX_IDLE_AGE: Duration = Duration::from_secs(2);
/// The same for calls that may be made twice, where the Server says that it keeps connections for longer. What stands
/// between forgets idle connections after some minutes, without a word.
const LONGEST_IDLE_AGE: Duration = Duration::from_secs(60);

/// The way to the Server, with the credentials if the agent is registered. Clones share the connections.
#[derive(Clone)]
pub(super) struct Connection {
    agent: Agent,
    resolver: HostResolver,
    authorities: Authorities,
    /// For how many seconds the Server keeps an idle connection, as its last answer with such words says; 0 without one.
    kept: Arc<AtomicU64>,
    pub server: ServerConfig,
    credentials: Option<Credentials>,
    /// The key or the token, with its name: it is removed from errors.
    hidden: Option<(Secret, &'static str)>,
}

impl Connection {
    /// Connects to nothing yet. Reads the certificate authorities.
    pub fn new(server: &ServerConfig, credentials: Option<Credentials>) -> Self {
        let hidden = credentials.as_ref().map(hidden_key);
        let (resolver, authorities) = (HostResolver::default(), Authorities::load(server));
        let agent = agent(server, &resolver, &authorities);
        let (kept, server) = (Arc::default(), server.clone());
        Self { agent, resolver, authorities, kept, server, credentials, hidden }
    }

    /// The same without credentials, and with the key removed from errors all the same: the Server knows it.
    pub fn without_key(server: &ServerConfig, known: Option<&Credentials>) -> Self {
        Self { hidden: known.map(hidden_key), ..Self::new(server, None) }
    }

    /// The same without credentials, to get some for this token.
    pub fn to_register(server: &ServerConfig, token: &str) -> Self {
        Self { hidden: Some((Secret::new(token), "token")), ..Self::new(server, None) }
    }

    /// The same with connections of its own, so that [`Connection::abort`] of the one doesn't end calls of the other.
    pub fn separate(&self) -> Self {
        Self { agent: agent(&self.server, &self.resolver, &self.authorities), ..self.clone() }
    }

    /// Makes every call in progress fail at once, and every later one.
    pub fn abort(&self) {
        self.agent.clone().shutdown();
    }

    /// A GET of this path.
    pub fn get(&self, path: &str) -> RequestBuilder<WithoutBody> {
        self.with_headers(self.agent.get(format!("{}{path}", self.server.base_url)))
    }

    /// A POST to this path.
    pub fn post(&self, path: &str) -> RequestBuilder<WithBody> {
        self.with_headers(self.agent.post(format!("{}{path}", self.server.base_url)))
    }

    /// Older Servers read only one of the two key headers (PROTOCOL, "Addresses and headers").
    fn with_headers<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        let request = request.config().max_idle_age(MAX_IDLE_AGE.min(self.kept() / 2)).build();
        let Some(Credentials { service_id, api_key }) = &self.credentials else { return request };
        request
            .header("X-Service-ID", service_id)
            .header("X-API-Key", api_key.expose())
            .header(header::AUTHORIZATION, format!("Bearer {}", api_key.expose()))
    }

    /// How long the Server keeps an idle connection. One that doesn't say it is taken for five seconds, as many have it.
    fn kept(&self) -> Duration {
        match self.kept.load(Ordering::Relaxed) {
            0 => Duration::from_secs(5),
            said => Duration::from_secs(said),
        }
    }

    /// Makes a call that may be made twice, with the age up to which it takes an idle connection: the longer one. If the
    /// other side closes such a connection before a byte of the answer, the call is made once more, over a new one.
    pub fn repeatable(
        &self,
        call: impl Fn(Duration) -> Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, ureq::Error> {
        let age = match self.kept.load(Ordering::Relaxed) {
            0 => MAX_IDLE_AGE,
            // A quarter for what the way takes, and for clocks that aren't exact.
            _ => (self.kept() * 3 / 4).min(LONGEST_IDLE_AGE),
        };
        match watched(|| call(age)) {
            (Err(error), true) if !matches!(error, ureq::Error::Timeout(_)) => call(Duration::ZERO),
            (result, _) => result,
        }
    }

    fn note_kept(&self, response: &Response<Body>) {
        let said = response.headers().get("keep-alive").and_then(|value| kept_seconds(value.to_str().ok()?));
        if let Some(said) = said {
            self.kept.store(said, Ordering::Relaxed);
        }
    }

    /// What `read` makes of the answer, or why there is none.
    pub fn answer<A>(
        &self,
        called: Result<Response<Body>, ureq::Error>,
        read: impl FnOnce(Response<Body>) -> Result<A, ClientError>,
    ) -> Result<A, ClientError> {
        if let Ok(response) = &called {
            self.note_kept(response);
        }
        called.map_err(|error| self.error(error)).and_then(read).map_err(|error| self.clean(error))
    }

    /// Whether a text contains the key.
    pub fn is_key_in(&self, text: &str) -> bool {
        let key = self.hidden.as_ref().map(|(key, _)| key.expose());
        key.is_some_and(|key| !key.is_empty() && text.contains(key))
    }

    /// The meaning of an error, without the key.
    pub fn error(&self, error: ureq::Error) -> ClientError {
        self.clean(classify(error, self.authorities.problem()))
    }

    /// The same error without a secret, and of a bounded length.
    fn clean(&self, error: ClientError) -> ClientError {
        error.clean(self.hidden.as_ref().map(|(secret, name)| (secret, *name)))
    }
}

fn hidden_key(credentials: &Credentials) -> (Secret, &'static str) {
    (credentials.api_key.clone(), "api_key")
}

fn agent(server: &ServerConfig, resolver: &HostResolver, authorities: &Authorities) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(supported_proxy(server))
        .tls_config(TlsConfig::builder().root_certs(authorities.roots.clone()).build())
        .user_agent(concat!("agent-core/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_per_read(Some(STALL_TIMEOUT))
        .timeout_per_write(Some(STALL_TIMEOUT))
        .input_buffer_size(BUFFER_SIZE)
        .output_buffer_size(BUFFER_SIZE)
        .max_idle_age(LONGEST_IDLE_AGE)
        .build();
    Agent::with_parts(config, BoundedConnector::new(CONNECT_TIMEOUT), resolver.clone())
}

/// The seconds of `Keep-Alive: timeout=…` (RFC 2068, 19.7.1.1, as HTTP/1.1 servers still send it). At least one.
fn kept_seconds(value: &str) -> Option<u64> {
    value.split(',').find_map(|part| {
        let (name, seconds) = part.split_once('=')?;
        let seconds = seconds.trim().trim_matches('"');
        let seconds = name.trim().eq_ignore_ascii_case("timeout").then(|| seconds.parse::<u64>().ok())??;
        // A multiple of it must have room in the type, for every number that a Server says.
        Some(seconds.clamp(1, 86_400))
    })
}

/// All but the characters that an URL calls unreserved (RFC 3986, 2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Text from outside as one segment of a URL's path.
pub(super) fn path_segment(text: &str) -> String {
    // `.` and `..` are no names in a path.
    let set = if text.trim_matches('.').is_empty() { NON_ALPHANUMERIC } else { SEGMENT };
    utf8_percent_encode(text, set).to_string()
}

#[cfg(test)]
mod tests {
    use super::{kept_seconds, path_segment};

    #[test]
    fn ids_are_encoded_as_one_path_segment() {
        assert_eq!(path_segment("a-1_b.c~"), "a-1_b.c~");
        assert_eq!(path_segment("../x?y#z"), "..%2Fx%3Fy%23z");
        assert_eq!((path_segment(".."), path_segment(".")), ("%2E%2E".to_owned(), "%2E".to_owned()));
        assert_eq!(path_segment("é\n"), "%C3%A9%0A");
    }

    #[test]
    fn the_time_that_a_connection_is_kept_is_read_from_the_header() {
        for (value, seconds) in [
            ("timeout=75", Some(75)),
            ("timeout=5, max=100", Some(5)),
            ("max=100,Timeout = \"30\"", Some(30)),
            ("timeout=0", Some(1)),
            ("timeout=18446744073709551615", Some(86_400)),
            ("timeout=18446744073709551616", None),
            ("timeout=-1", None),
            ("max=100", None),
            ("timeout", None),
            ("", None),
        ] {
            assert_eq!(kept_seconds(value), seconds, "{value}");
        }
    }
}
