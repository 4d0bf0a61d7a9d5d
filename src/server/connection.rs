//! What all calls to the Server have in common: connections with their time limits, the headers with the key, and the
//! meaning of errors.
//!
//! Redirects are never followed, so that the key is sent to the configured address only.

use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ureq::http::{Response, header};
use ureq::tls::TlsConfig;
use ureq::typestate::{WithBody, WithoutBody};
use ureq::{Agent, Body, RequestBuilder};

use super::authorities::Authorities;
use super::connector::BoundedConnector;
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
/// An idle connection is not used again after this time: the other side may be closing it at that moment, and a call
/// that is lost so can't be distinguished from one that took effect.
const MAX_IDLE_AGE: Duration = Duration::from_secs(2);

/// The way to the Server, with the credentials if the agent is registered. Clones share the connections.
#[derive(Clone)]
pub(super) struct Connection {
    agent: Agent,
    resolver: HostResolver,
    authorities: Authorities,
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
        Self { agent, resolver, authorities, server: server.clone(), credentials, hidden }
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
        let Some(Credentials { service_id, api_key }) = &self.credentials else { return request };
        request
            .header("X-Service-ID", service_id)
            .header("X-API-Key", api_key.expose())
            .header(header::AUTHORIZATION, format!("Bearer {}", api_key.expose()))
    }

    /// What `read` makes of the answer, or why there is none.
    pub fn answer<A>(
        &self,
        called: Result<Response<Body>, ureq::Error>,
        read: impl FnOnce(Response<Body>) -> Result<A, ClientError>,
    ) -> Result<A, ClientError> {
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
        .max_idle_age(MAX_IDLE_AGE)
        .build();
    Agent::with_parts(config, BoundedConnector::new(CONNECT_TIMEOUT), resolver.clone())
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
    use super::path_segment;

    #[test]
    fn ids_are_encoded_as_one_path_segment() {
        assert_eq!(path_segment("a-1_b.c~"), "a-1_b.c~");
        assert_eq!(path_segment("../x?y#z"), "..%2Fx%3Fy%23z");
        assert_eq!((path_segment(".."), path_segment(".")), ("%2E%2E".to_owned(), "%2E".to_owned()));
        assert_eq!(path_segment("é\n"), "%C3%A9%0A");
    }
}
