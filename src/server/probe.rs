//! How far the way to the Server goes: one harmless call, and where it ended.
//!
//! It goes over the same resolver, proxy, certificates and limits as every other call, so that what it finds is what
//! the agent would find.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, SystemTime};

use ureq::http::{Uri, header};

use super::ClientError;
use super::answer::{Unresolved, classify, succeeded};
use super::client::{SMALL, agent, path_segment};
use super::proxy::spoken;
use crate::config::{Credentials, ServerConfig};
use crate::os::random::random_u64;
use crate::os::timeout::with_timeout;

/// How long each step on the way may take; the answer has as long as every small call.
const STEP: Duration = Duration::from_secs(5);

/// The steps of a call, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The host's name, or that of the proxy, becomes an address.
    Name,
    /// A connection to it.
    Connection,
    /// The handshake, with the certificate.
    Tls,
    /// An answer to the request.
    Answer,
}

/// A call that got no answer.
#[derive(Debug)]
pub struct Unanswered {
    /// Where it ended.
    pub step: Step,
    /// Why.
    pub why: String,
}

/// A call that was answered, whatever the answer is.
#[derive(Debug)]
pub struct Answered {
    /// The refusal; `None` where the Server said yes.
    pub refusal: Option<ClientError>,
    /// How far the clock of whoever answered is ahead of ours, in seconds; `None` without a `Date` (RFC 9110, 6.6.1).
    pub ahead_secs: Option<f64>,
}

/// Asks for the list of files of a task that doesn't exist. Nothing changes by that on the Server: it takes no task and
/// says nothing of us. Without credentials the Server refuses it (401), with good ones it says that there is no such
/// task, or lists nothing.
pub fn ask(server: &ServerConfig, credentials: Option<&Credentials>) -> Result<Answered, Unanswered> {
    let service_id = credentials.map_or("agent-core-check", |credentials| &credentials.service_id);
    let task = format!("agent-core-check-{:016x}", random_u64());
    let url = format!("{}/api/v1/files/agent/{}/files/list/{task}", server.base_url, path_segment(service_id));
    let mut request = agent(server).get(url);
    if let Some(Credentials { service_id, api_key }) = credentials {
        request = request
            .header("X-Service-ID", service_id)
            .header("X-API-Key", api_key.expose())
            .header(header::AUTHORIZATION, format!("Bearer {}", api_key.expose()));
    }
    let hush = |error: ClientError| match credentials {
        Some(credentials) => error.without(&credentials.api_key),
        None => error,
    };
    let before = SystemTime::now();
    // A limit for each step, so that what takes too long says which it is.
    let request = request
        .config()
        .timeout_resolve(Some(STEP))
        .timeout_connect(Some(STEP))
        .timeout_send_request(Some(STEP))
        .timeout_recv_response(Some(SMALL))
        .timeout_global(Some(2 * SMALL))
        .build();
    let response = request.call().map_err(|error| {
        let step = step_of(&error, server);
        let why = match hush(classify(error)) {
            ClientError::NotSent(why) | ClientError::Lost(why) => why,
            other => other.to_string(),
        };
        Unanswered { step, why }
    })?;
    let date = response.headers().get(header::DATE).and_then(|value| value.to_str().ok());
    let date = date.and_then(|text| httpdate::parse_http_date(text).ok());
    let ahead_secs = date.map(|date| ahead(date, before, SystemTime::now()));
    Ok(Answered { refusal: succeeded(response).err().map(hush), ahead_secs })
}

/// How far a `Date` is ahead of our clock, if it was made between these two moments. It is cut to whole seconds.
fn ahead(date: SystemTime, before: SystemTime, after: SystemTime) -> f64 {
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

fn step_of(error: &ureq::Error, server: &ServerConfig) -> Step {
    use ureq::{Error, Timeout};
    let is_https = server.base_url.starts_with("https:");
    match error {
        Error::Other(why) if why.is::<Unresolved>() => Step::Name,
        Error::HostNotFound | Error::Timeout(Timeout::Resolve) => Step::Name,
        // One limit is for the connection and the handshake together.
        Error::Timeout(Timeout::Connect) if is_https && takes_connections(server) => Step::Tls,
        Error::ConnectionFailed
        | Error::InvalidProxyUrl
        | Error::ConnectProxyFailed(_)
        | Error::Timeout(Timeout::Connect) => Step::Connection,
        Error::Tls(_) | Error::Rustls(_) => Step::Tls,
        Error::Io(io)
            if matches!(
                io.kind(),
                io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable
                    | io::ErrorKind::AddrNotAvailable
                    | io::ErrorKind::TimedOut
            ) =>
        {
            Step::Connection
        }
        // A certificate, or a port that speaks something else and closes the connection. A Server that does so after
        // the handshake and before a word of its answer can't be told from that.
        Error::Io(_) if is_https => Step::Tls,
        _ => Step::Answer,
    }
}

/// Whether the Server's port, or that of the proxy, can be connected to, whatever it speaks.
fn takes_connections(server: &ServerConfig) -> bool {
    let Ok(uri) = server.base_url.parse::<Uri>() else { return false };
    let (host, port) = match spoken(server).filter(|proxy| !proxy.is_no_proxy(&uri)) {
        Some(proxy) => (proxy.host().to_owned(), proxy.port()),
        None => (uri.host().unwrap_or_default().to_owned(), uri.port_u16().unwrap_or(443)),
    };
    // The name was looked up a moment ago.
    let reached = move || {
        let addresses = (host.trim_matches(['[', ']']), port).to_socket_addrs();
        addresses.is_ok_and(|mut all| all.any(|address| TcpStream::connect_timeout(&address, STEP).is_ok()))
    };
    with_timeout(reached).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::ahead;
    use std::time::{Duration, SystemTime};

    #[test]
    fn a_date_within_the_call_is_no_difference() {
        let at = |seconds: f64| SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds);
        assert_eq!(ahead(at(100.0), at(100.7), at(100.8)), 0.0);
        assert_eq!(ahead(at(105.0), at(100.5), at(109.0)), 0.0);
        assert_eq!(ahead(at(200.0), at(100.0), at(101.0)), 99.0);
        assert_eq!(ahead(at(10.0), at(100.0), at(101.0)), -89.0);
    }
}
