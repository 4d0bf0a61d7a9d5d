//! What the Server's answers mean, and why there may be none: everything becomes a value or a [`ClientError`] here.

use std::fmt;
use std::io;
use std::time::{Duration, SystemTime};

use rustls::InvalidMessage;
use serde::de::DeserializeOwned;
use ureq::Body;
use ureq::http::{Response, StatusCode, header};

use crate::config::Secret;
use crate::server::protocol::ErrorBody;
use crate::text::escape;

/// How much JSON is read.
const JSON_LIMIT: u64 = 8 * 1024 * 1024;
/// How much of an error's body is read.
const ERROR_LIMIT: u64 = 64 * 1024;

/// Why a call has no result.
#[derive(Debug)]
pub enum ClientError {
    /// The request didn't get there.
    NotSent(String),
    /// It may have got there and taken effect, but no usable answer came back.
    Lost(String),
    /// The Server, or a proxy before it, said no.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The Server's code and words, for people.
        message: String,
        /// Whether it was the Server itself, by the shape of the answer. What a proxy says while the Server is being
        /// moved or updated decides nothing.
        by_server: bool,
        /// How long the Server wants us to wait.
        retry_after: Option<Duration>,
    },
    /// A download was not what had been announced.
    WrongLength {
        /// Bytes announced.
        announced: u64,
        /// Bytes that came; one more than announced stands for any number more.
        came: u64,
    },
    /// A file on this machine can't be read or written.
    Local(io::Error),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The words may be the Server's, or a proxy's, and are shown on terminals.
            Self::NotSent(why) => write!(f, "the Server can't be reached: {}", escape(why)),
            Self::Lost(why) => write!(f, "no usable answer from the Server: {}", escape(why)),
            Self::Refused { status, message, .. } => write!(f, "the Server answered {status}: {}", escape(message)),
            Self::WrongLength { announced, came } if came > announced => {
                write!(f, "the download is longer than the announced {announced} bytes")
            }
            Self::WrongLength { announced, came } => {
                write!(f, "the download ended after {came} of the announced {announced} bytes")
            }
            Self::Local(error) => write!(f, "on this machine: {error}"),
        }
    }
}

impl std::error::Error for ClientError {}

impl ClientError {
    /// The same error without a secret.
    pub(super) fn without(mut self, secret: &Secret) -> Self {
        if let Self::NotSent(text) | Self::Lost(text) | Self::Refused { message: text, .. } = &mut self {
            if !secret.expose().is_empty() && text.contains(secret.expose()) {
                *text = text.replace(secret.expose(), "[api_key]");
            }
        }
        self
    }

    /// The same error where a proxy was to pass the call on: it may be the proxy's trouble.
    pub(super) fn by(self, proxy: Option<&str>) -> Self {
        match (self, proxy) {
            (Self::NotSent(why), Some(proxy)) => Self::NotSent(format!("{why} (by {proxy})")),
            (other, _) => other,
        }
    }

    /// Whether the same call may succeed later without anybody's doing here.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NotSent(_) | Self::Lost(_) => true,
            // A proxy's limit on the size of a request doesn't go away by waiting.
            Self::Refused { status: 413, .. } => false,
            Self::Refused { status, by_server, .. } => !by_server || matches!(status, 408 | 425 | 429 | 500..),
            Self::WrongLength { .. } | Self::Local(_) => false,
        }
    }

    /// Whether the Server says that a task isn't in the state that the call needs: 400, on older Servers 409
    /// (PROTOCOL 1 and 5).
    pub fn is_wrong_state(&self) -> bool {
        matches!(self, Self::Refused { status: 400 | 409, by_server: true, .. })
    }

    /// Whether the request may have taken effect all the same.
    pub fn may_have_arrived(&self) -> bool {
        match self {
            Self::Lost(_) => true,
            Self::Refused { status, .. } => matches!(status, 408 | 500..),
            _ => false,
        }
    }

    /// What a person can do about it, with the command that registers the agent anew (PROTOCOL 6 and 8).
    pub fn remedy(&self, register: &str) -> Option<String> {
        let Self::Refused { status, by_server, retry_after, .. } = self else { return None };
        Some(match (status, by_server) {
            (401, _) => format!("the key isn't good (any more): register again with `{register}`"),
            (403, true) => format!("the key isn't this service's: register again with `{register}`"),
            (429, _) => {
                let wait = retry_after.map_or(60, |wait| wait.as_secs());
                format!("the agents of this service make too many calls; it gets better within {wait} s")
            }
            (500, true) => format!(
                "if the service was deleted and made anew, register again with `{register}`; else see the Server's log"
            ),
            _ => return None,
        })
    }

    /// Whether the key is not, or no longer, good.
    pub fn is_unauthorized(&self) -> bool {
        self.status() == Some(401)
    }

    /// Whether there is nobody to talk to.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::NotSent(_))
    }

    /// The HTTP status, if there was an answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// How long the Server wants us to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// A host's name, and why it has no address.
#[derive(Debug)]
pub(super) struct Unresolved(pub String, pub io::Error);

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` has no address: {}", self.0, self.1)
    }
}

impl std::error::Error for Unresolved {}

/// The answer's JSON; no content is `null`.
pub(super) fn read_json<A: DeserializeOwned>(response: Response<Body>) -> Result<A, ClientError> {
    let mut response = succeeded(response)?;
    if response.status() == StatusCode::NO_CONTENT {
        return serde_json::from_str("null").map_err(|_| ClientError::Lost("an empty answer".to_owned()));
    }
    let bytes = response
        .body_mut()
        .with_config()
        .limit(JSON_LIMIT)
        .read_to_vec()
        .map_err(|error| ClientError::Lost(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let is_html = bytes.trim_ascii_start().starts_with(b"<");
        let what = if is_html { "HTML instead of JSON, probably from a proxy".to_owned() } else { error.to_string() };
        ClientError::Lost(format!("{}: {what}", response.status().as_u16()))
    })
}

/// The answer, unless it is a refusal.
pub(super) fn succeeded(mut response: Response<Body>) -> Result<Response<Body>, ClientError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let retry_after = header(header::RETRY_AFTER).and_then(|text| parse_retry_after(text, SystemTime::now()));
    if status.is_redirection() {
        let place = header(header::LOCATION).unwrap_or("an unnamed place").to_owned();
        let message =
            format!("a redirect to {place}, which is not followed; set `server.base_url` to the right address");
        return Err(ClientError::Refused { status: status.as_u16(), message, by_server: false, retry_after });
    }
    // What can't be read of an error's explanation is no error of its own.
    let body = response.body_mut().with_config().limit(ERROR_LIMIT).read_to_vec().unwrap_or_default();
    let ErrorBody { error, message } = serde_json::from_slice(&body).unwrap_or_default();
    let words: Vec<String> = [error, message].into_iter().flatten().collect();
    let by_server = !words.is_empty();
    let message = if by_server {
        words.join(": ")
    } else {
        format!("{}, without the Server's words", status.canonical_reason().unwrap_or("unknown status"))
    };
    Err(ClientError::Refused { status: status.as_u16(), message, by_server, retry_after })
}

/// `Retry-After` holds seconds or a date (RFC 9110, 10.2.3).
fn parse_retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    Some(at.duration_since(now).unwrap_or(Duration::ZERO))
}

/// Whether the request may have left this machine decides what a failure means.
pub(super) fn classify(error: ureq::Error) -> ClientError {
    use ureq::{Error, Timeout};
    if let Error::Io(io) = &error {
        if let Some(why) = distrust(io) {
            return ClientError::NotSent(why);
        }
    }
    match error {
        Error::HostNotFound
        | Error::ConnectionFailed
        | Error::InvalidProxyUrl
        | Error::ConnectProxyFailed(_)
        | Error::BadUri(_)
        | Error::Tls(_)
        | Error::Rustls(_) => ClientError::NotSent(error.to_string()),
        Error::Timeout(Timeout::Resolve) => ClientError::NotSent("its name was not looked up in time".to_owned()),
        Error::Timeout(Timeout::Connect) => ClientError::NotSent("no connection in time".to_owned()),
        Error::Other(why) if why.is::<Unresolved>() => ClientError::NotSent(why.to_string()),
        Error::Io(ref io)
            if matches!(
                io.kind(),
                io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable
                    | io::ErrorKind::AddrNotAvailable
            ) =>
        {
            ClientError::NotSent(error.to_string())
        }
        Error::Timeout(step) => ClientError::Lost(format!("no answer in time ({step})")),
        other => ClientError::Lost(other.to_string()),
    }
}

/// Why the handshake has failed, if that is what the error is: before a request.
fn distrust(error: &io::Error) -> Option<String> {
    let why = match error.get_ref()?.downcast_ref()? {
        rustls::Error::InvalidCertificate(why) => why,
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            return Some("its port doesn't speak https; is the address http://, or another port?".to_owned());
        }
        _ => return None,
    };
    let text = why.to_string();
    let remedy = if let Some(trouble) = certificate_file_trouble() {
        format!("; {trouble}")
    } else if *why == rustls::CertificateError::UnknownIssuer {
        "; let this machine trust the authority that signed it, or name that authority's file in SSL_CERT_FILE"
            .to_owned()
    } else if text.contains("CaUsedAsEndEntity") {
        "; it is made for an authority and not for a server: make one with `basicConstraints=CA:FALSE`, or one that the \
         authority has signed"
            .to_owned()
    } else {
        String::new()
    };
    Some(format!("its certificate isn't trusted: {text}{remedy}"))
}

/// What is wrong with the file of authorities that the environment names, if it names one.
fn certificate_file_trouble() -> Option<String> {
    let file = std::env::var_os("SSL_CERT_FILE").filter(|file| !file.is_empty())?;
    let shown = file.to_string_lossy();
    match std::fs::read(&file) {
        Err(error) => Some(format!("SSL_CERT_FILE names `{shown}`, which can't be read: {error}")),
        Ok(bytes) if !bytes.windows(PEM.len()).any(|part| part == PEM) => {
            Some(format!("SSL_CERT_FILE names `{shown}`, which holds no certificate in PEM form"))
        }
        Ok(_) => None,
    }
}

/// How a certificate in a file begins (RFC 7468).
const PEM: &[u8] = b"-----BEGIN CERTIFICATE-----";

#[cfg(test)]
mod tests {
    use super::{ClientError, parse_retry_after};
    use std::time::{Duration, SystemTime};

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(parse_retry_after(" 60 ", now), Some(Duration::from_secs(60)));
        assert_eq!(parse_retry_after("Sun, 06 Nov 1994 08:49:47 GMT", now), Some(Duration::from_secs(10)));
        assert_eq!(parse_retry_after("Sun, 06 Nov 1994 08:40:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(parse_retry_after("soon", now), None);
        assert_eq!(parse_retry_after("-1", now), None);
    }

    #[test]
    fn which_refusals_are_worth_another_try() {
        let refused =
            |status, by_server| ClientError::Refused { status, message: String::new(), by_server, retry_after: None };
        let all = [302, 400, 401, 403, 404, 408, 409, 413, 429, 500, 502, 503, 504];
        let retried =
            |by_server| all.into_iter().filter(|s| refused(*s, by_server).is_retryable()).collect::<Vec<u16>>();
        assert_eq!(retried(true), [408, 429, 500, 502, 503, 504]);
        assert_eq!(retried(false), [302, 400, 401, 403, 404, 408, 409, 429, 500, 502, 503, 504]);
        assert!(!refused(429, true).may_have_arrived() && refused(504, false).may_have_arrived());
        assert!(refused(400, true).is_wrong_state() && !refused(400, false).is_wrong_state());
    }
}
