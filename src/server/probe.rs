//! A harmless call to the Server that reports how far it got, for `check`.
//!
//! The call uses the same resolver, proxy, certificates and limits as every other call, so that it meets the same errors
//! as the agent would.

use std::io::ErrorKind;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, SystemTime};

use ureq::http::{Uri, header};

use super::answer::accept_success;
use super::connection::{Connection, REQUEST_TIMEOUT, path_segment};
use super::connector::within;
use super::error::{ClientError, Step, connection_error, failed_step};
use super::proxy::supported_proxy;
use crate::config::{Credentials, ServerConfig};
use crate::os::random::random_u64;
use crate::os::timeout::with_timeout;

/// The time limit of each step but the answer, whose limit is that of every request.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);

/// A call without an answer.
#[derive(Debug)]
pub struct Unanswered {
    /// The step that failed.
    pub step: Step,
    /// Why.
    pub why: String,
}

/// A call with an answer.
#[derive(Debug)]
pub struct Answered {
    /// The refusal; `None` if the call succeeded.
    pub refusal: Option<ClientError>,
    /// How many seconds the clock of the other side is ahead of this machine's; `None` without a `Date` (RFC 9110, 6.6.1).
    pub ahead_secs: Option<f64>,
}

/// Asks for the list of files of a task that doesn't exist, which changes nothing on the Server. Without credentials the
/// Server refuses the call (401); with valid ones it answers that there is no such task, or with an empty list.
pub fn probe(server: &ServerConfig, credentials: Option<&Credentials>) -> Result<Answered, Unanswered> {
    probe_by(&Connection::new(server, credentials.cloned()), credentials)
}

/// The same without the credentials, which the answer may repeat all the same.
pub fn probe_without_key(server: &ServerConfig, known: Option<&Credentials>) -> Result<Answered, Unanswered> {
    probe_by(&Connection::without_key(server, known), None)
}

fn probe_by(connection: &Connection, credentials: Option<&Credentials>) -> Result<Answered, Unanswered> {
    let service_id = credentials.map_or("agent-core-check", |credentials| &credentials.service_id);
    let task = format!("agent-core-check-{:016x}", random_u64());
    let path = format!("/api/v1/files/agent/{}/files/list/{task}", path_segment(service_id));
    let before = SystemTime::now();
    // A limit for each step, so that a timeout names the step.
    let request = connection
        .get(&path)
        .config()
        .timeout_resolve(Some(STEP_TIMEOUT))
        .timeout_connect(Some(STEP_TIMEOUT))
        .timeout_send_request(Some(STEP_TIMEOUT))
        .timeout_recv_response(Some(REQUEST_TIMEOUT))
        .timeout_global(Some(2 * REQUEST_TIMEOUT))
        .build();
    let response = within(2 * REQUEST_TIMEOUT, || request.call()).map_err(|error| {
        let step = step_of(&error, &connection.server);
        let why = match connection.error(error) {
            ClientError::NotSent(why) | ClientError::Lost(why) => why,
            other => other.to_string(),
        };
        Unanswered { step, why }
    })?;
    let date = response.headers().get(header::DATE).and_then(|value| value.to_str().ok());
    let date = date.and_then(|text| httpdate::parse_http_date(text).ok());
    let ahead_secs = date.map(|date| ahead(date, before, SystemTime::now()));
    let refusal = within(REQUEST_TIMEOUT, || connection.answer(Ok(response), accept_success).err());
    Ok(Answered { refusal, ahead_secs })
}

/// How far a `Date`, which has whole seconds, is ahead of this clock if it was written between these two moments.
pub(super) fn ahead(date: SystemTime, before: SystemTime, after: SystemTime) -> f64 {
    let seconds = |time: SystemTime| match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => since.as_secs_f64(),
        Err(error) => -error.duration().as_secs_f64(),
    };
    let (earliest, latest) = (seconds(date), seconds(date + Duration::from_secs(1)));
    if latest < seconds(before) {
        latest - seconds(before)
    } else if earliest > seconds(after) {
        earliest - seconds(after)
    } else {
        0.0
    }
}

/// The step that failed, as far as a second look can tell.
fn step_of(error: &ureq::Error, server: &ServerConfig) -> Step {
    let is_https = server.base_url.starts_with("https:");
    match (failed_step(error), connection_error(error).unwrap_or(error)) {
        // One limit is for the connection and the handshake together.
        (Step::Connection, ureq::Error::Timeout(_)) if is_https && accepts_connections(server) => Step::Tls,
        // A certificate, or a port with another protocol that closes the connection.
        (Step::Connection, ureq::Error::Io(io)) if is_https && is_closed(io.kind()) => Step::Tls,
        // The handshake with an https:// proxy, of which the Server's own steps know nothing.
        (Step::Tls, ureq::Error::Io(_)) if !is_https => Step::Answer,
        (step, _) => step,
    }
}

/// Whether the other side has accepted a connection and then closed it.
fn is_closed(kind: ErrorKind) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, InvalidData, UnexpectedEof};
    matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset | InvalidData | UnexpectedEof)
}

/// Whether the port of the Server, or of the proxy, accepts connections, with any protocol.
fn accepts_connections(server: &ServerConfig) -> bool {
    let Ok(uri) = server.base_url.parse::<Uri>() else { return false };
    let (host, port) = match supported_proxy(server) {
        Some(proxy) => (proxy.host().to_owned(), proxy.port()),
        None => (uri.host().unwrap_or_default().to_owned(), uri.port_u16().unwrap_or(443)),
    };
    // A name that resolved a moment ago does so again.
    let reached = move || {
        let addresses = (host.trim_matches(['[', ']']), port).to_socket_addrs();
        addresses.is_ok_and(|mut all| all.any(|address| TcpStream::connect_timeout(&address, STEP_TIMEOUT).is_ok()))
    };
    with_timeout(reached).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::ahead;
    use std::time::{Duration, SystemTime};

    #[test]
    fn clock_difference_is_zero_for_a_date_within_the_call() {
        let at = |seconds: f64| SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds);
        assert_eq!(ahead(at(100.0), at(100.7), at(100.8)), 0.0);
        assert_eq!(ahead(at(105.0), at(100.5), at(109.0)), 0.0);
        assert_eq!(ahead(at(200.0), at(100.0), at(101.0)), 99.0);
        assert_eq!(ahead(at(10.0), at(100.0), at(101.0)), -89.0);
    }
}
