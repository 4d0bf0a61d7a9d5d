//! Why a call has no result: every failure becomes a [`ClientError`] here.

use std::io;
use std::time::Duration;

use rustls::{CertificateError, InvalidMessage};
use thiserror::Error;
use ureq::Timeout;

use super::connector::NotConnected;
use crate::config::Secret;
use crate::text::{cut, escape};

/// How much of the words of a Server or a proxy is kept, in bytes.
const WORDS_MAX: usize = 500;

/// Why a call has no result. The texts of the Server and of proxies are escaped, since they are shown on terminals.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The request didn't reach the Server.
    #[error("the Server can't be reached: {}", escape(.0))]
    NotSent(String),
    /// The request may have reached the Server and taken effect, but there is no usable answer.
    #[error("no usable answer from the Server: {}", escape(.0))]
    Lost(String),
    /// The Server, or a proxy before it, refused the request.
    #[error("the Server answered {status}: {}", escape(message))]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The Server's code and message, for people.
        message: String,
        /// Whether the answer has the form of the Server's answers. A proxy's answer, as during an update of the
        /// Server, decides nothing.
        by_server: bool,
        /// How long the Server asks to wait.
        retry_after: Option<Duration>,
    },
    /// A download has another length than announced.
    #[error("{}", wrong_length(*announced, *received))]
    WrongLength {
        /// Bytes announced.
        announced: u64,
        /// Bytes received; one more than announced stands for any larger number.
        received: u64,
    },
    /// A file on this machine can't be read or written.
    #[error("on this machine: {0}")]
    Local(io::Error),
}

fn wrong_length(announced: u64, received: u64) -> String {
    if received > announced {
        format!("the download is longer than the announced {announced} bytes")
    } else {
        format!("the download ended after {received} of the announced {announced} bytes")
    }
}

impl ClientError {
    /// The same error without a secret, and of a length for people: a Server or a proxy may repeat in its answer what it
    /// was sent, and may send megabytes.
    pub(super) fn clean(mut self, secret: Option<(&Secret, &str)>) -> Self {
        if let Self::NotSent(text) | Self::Lost(text) | Self::Refused { message: text, .. } = &mut self {
            if let Some((secret, name)) = secret.filter(|(secret, _)| !secret.expose().is_empty()) {
                if text.contains(secret.expose()) {
                    *text = text.replace(secret.expose(), &format!("[{name}]"));
                }
            }
            if text.len() > WORDS_MAX {
                *text = cut(text, WORDS_MAX).into_owned();
            }
        }
        self
    }

    /// The same error with the proxy that the call went through, which may be the cause.
    pub(super) fn via_proxy(self, proxy: Option<&str>) -> Self {
        match (self, proxy) {
            (Self::NotSent(why), Some(proxy)) => Self::NotSent(format!("{why} (by {proxy})")),
            (other, _) => other,
        }
    }

    /// Whether the same call may succeed later without a change on this machine.
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::Local(_)) && self.weight() != Weight::Clear
    }

    /// How much the error says about what was asked for.
    pub fn weight(&self) -> Weight {
        match self {
            Self::NotSent(_) | Self::Refused { status: 401 | 429, .. } => Weight::Nothing,
            // A limit on the size of a request doesn't change with time, whichever program has it.
            Self::Refused { status: 413, .. } => Weight::Clear,
            Self::Refused { status: 400..500, by_server: true, .. } if !matches!(self.status(), Some(408 | 425)) => {
                Weight::Clear
            }
            // A page of a proxy has another length than the file in its place.
            Self::Refused { .. } | Self::Lost(_) | Self::WrongLength { .. } | Self::Local(_) => Weight::Doubtful,
        }
    }

    /// Whether the Server says that a task isn't in the state that the call needs: 400, on older Servers 409
    /// (PROTOCOL 1 and 5).
    pub fn is_wrong_state(&self) -> bool {
        matches!(self, Self::Refused { status: 400 | 409, by_server: true, .. })
    }

    /// Whether the Server says that it has no such thing.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Refused { status: 404, by_server: true, .. })
    }

    /// Whether the request may have taken effect although it failed.
    pub fn may_have_arrived(&self) -> bool {
        match self {
            Self::Lost(_) => true,
            Self::Refused { status, .. } => matches!(status, 408 | 500..),
            _ => false,
        }
    }

    /// What the operator can do, with the command that registers the agent again (PROTOCOL 6 and 8).
    pub fn remedy(&self, register: &str) -> Option<String> {
        let Self::Refused { status, by_server, retry_after, .. } = self else { return None };
        Some(match (status, by_server) {
            (401, true) => format!("the Server doesn't accept the key: register again with `{register}`"),
            (401, false) => {
                "something between here and the Server asks for a login: let the agent pass there without one"
                    .to_owned()
            }
            (403, true) => format!("the key belongs to another service: register again with `{register}`"),
            (429, _) => {
                let wait = retry_after.map_or(60, |wait| wait.as_secs());
                format!(
                    "the agents of this service make too many calls; the Server accepts calls again within {wait} s"
                )
            }
            (500, true) => format!(
                "if the service was deleted and created again, register again with `{register}`; else see the Server's log"
            ),
            _ => return None,
        })
    }

    /// Whether the Server, or something before it, doesn't accept the key.
    pub fn is_unauthorized(&self) -> bool {
        self.status() == Some(401)
    }

    /// Whether the Server itself says what a new registration may mend (PROTOCOL 8).
    pub fn may_need_registration(&self) -> bool {
        matches!(self, Self::Refused { status: 401 | 403 | 500, by_server: true, .. })
    }

    /// Whether the Server itself doesn't accept the key.
    pub fn is_key_refused(&self) -> bool {
        matches!(self, Self::Refused { status: 401, by_server: true, .. })
    }

    /// Whether the request never reached the Server.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::NotSent(_))
    }

    /// The HTTP status, if there was an answer.
    pub fn status(&self) -> Option<u16> {
        let Self::Refused { status, .. } = self else { return None };
        Some(*status)
    }

    /// How long the Server asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        let Self::Refused { retry_after, .. } = self else { return None };
        *retry_after
    }
}

/// How much a failure says about what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// Nothing: the Server can't be reached, doesn't accept the key, or is called too often.
    Nothing,
    /// It may be the file's or the report's fault, or that of a gateway or of the Server's disk.
    Doubtful,
    /// The Server says no in its own words; or a request is too large for the Server or a proxy, which no time changes.
    Clear,
}

/// The steps of a call, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The name of the host, or of the proxy, is resolved.
    Name,
    /// A connection is made.
    Connection,
    /// The TLS handshake, with the certificate.
    Tls,
    /// The request is sent and answered.
    Answer,
}

/// A host's name, and why it has no address.
#[derive(Debug, Error)]
#[error("`{0}` has no address: {1}")]
pub(super) struct Unresolved(pub String, pub io::Error);

/// The step at which a call failed. Before [`Step::Answer`] the request can't have left this machine.
pub(super) fn failed_step(error: &ureq::Error) -> Step {
    use ureq::Error;
    match error {
        Error::HostNotFound | Error::Timeout(Timeout::Resolve) => Step::Name,
        Error::Other(why) if why.is::<Unresolved>() => Step::Name,
        Error::BadUri(_) | Error::InvalidProxyUrl => Step::Connection,
        Error::Other(why) => why.downcast_ref().map_or(Step::Answer, |NotConnected(error)| failed_connection(error)),
        _ => Step::Answer,
    }
}

/// The step at which no connection was made. Where the other side closes it, only the caller knows what was tried.
fn failed_connection(error: &ureq::Error) -> Step {
    use ureq::Error;
    match error {
        Error::HostNotFound | Error::Timeout(Timeout::Resolve) => Step::Name,
        Error::Other(why) if why.is::<Unresolved>() => Step::Name,
        Error::Tls(_) | Error::Rustls(_) => Step::Tls,
        Error::Io(io) if handshake_error(io).is_some() => Step::Tls,
        _ => Step::Connection,
    }
}

/// Why no connection was made, if none was.
pub(super) fn connection_error(error: &ureq::Error) -> Option<&ureq::Error> {
    let ureq::Error::Other(why) = error else { return None };
    why.downcast_ref().map(|NotConnected(error)| error)
}

/// The meaning of an error of the HTTP library. `authorities` is what is wrong with those that are trusted.
pub(super) fn classify(error: ureq::Error, authorities: Option<String>) -> ClientError {
    let cause = connection_error(&error);
    let is_connected = cause.is_none();
    let text = match cause.unwrap_or(&error) {
        ureq::Error::Io(io) if !is_connected => handshake_error(io).map(|why| handshake_message(why, authorities)),
        ureq::Error::Other(why) => why.downcast_ref::<Unresolved>().map(ToString::to_string),
        ureq::Error::Timeout(Timeout::Resolve) => Some("its name was not looked up in time".to_owned()),
        ureq::Error::ConnectProxyFailed(why) => Some(refused_connect(why)),
        ureq::Error::Timeout(_) if !is_connected => Some("no connection in time".to_owned()),
        ureq::Error::Timeout(step) => Some(format!("no answer in time ({step})")),
        _ => None,
    };
    let text = text.unwrap_or_else(|| words(cause.unwrap_or(&error)));
    match failed_step(&error) {
        Step::Answer => ClientError::Lost(text),
        Step::Name | Step::Connection | Step::Tls => ClientError::NotSent(text),
    }
}

/// The system's words, or the library's, without the names of its kinds of errors.
fn words(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) => error.to_string(),
        error => error.to_string(),
    }
}

/// What a proxy's answer to CONNECT means. Many allow CONNECT to port 443 only.
fn refused_connect(why: &str) -> String {
    format!(
        "the proxy doesn't make a connection ({why}): let it allow CONNECT to the Server's host and port, give the Server \
         a port that it allows, such as 443, or except the Server in NO_PROXY"
    )
}

/// Why the TLS handshake failed: the certificate isn't trusted, or the other side doesn't speak TLS.
fn handshake_error(error: &io::Error) -> Option<&rustls::Error> {
    use rustls::Error::{InvalidCertificate, InvalidMessage as Invalid};
    let error = error.get_ref()?.downcast_ref()?;
    matches!(error, InvalidCertificate(_) | Invalid(InvalidMessage::InvalidContentType)).then_some(error)
}

fn handshake_message(error: &rustls::Error, authorities: Option<String>) -> String {
    let rustls::Error::InvalidCertificate(why) = error else {
        return "its port doesn't speak https; is the address http://, or another port?".to_owned();
    };
    let text = why.to_string();
    let is_unknown = *why == CertificateError::UnknownIssuer;
    let remedy = if let Some(problem) = authorities.filter(|_| is_unknown) {
        format!("; {problem}")
    } else if is_unknown {
        "; let this machine trust the authority that signed it, or name that authority's file in SSL_CERT_FILE"
            .to_owned()
    } else if text.contains("CaUsedAsEndEntity") {
        "; it is made for an authority and not for a server: make one with `basicConstraints=CA:FALSE`, or one that the \
         authority has signed"
            .to_owned()
    } else {
        String::new()
    };
    format!("its certificate isn't trusted: {text}{remedy}")
}

#[cfg(test)]
mod tests {
    use super::{ClientError, WORDS_MAX};
    use crate::config::Secret;

    #[test]
    fn words_of_the_server_are_short_and_without_the_secret() {
        let secret = Secret::new("ak_0123456789");
        let words = |length| format!("{}ak_0123456789{}", "w".repeat(length), "x".repeat(1_000_000));
        for length in WORDS_MAX - 20..WORDS_MAX + 5 {
            let text = ClientError::Lost(words(length)).clean(Some((&secret, "api_key"))).to_string();
            assert!(!text.contains("ak_") && text.len() < WORDS_MAX + 100, "{text}");
            assert!(text.contains("more bytes)"), "{text}");
        }
        let text = ClientError::NotSent("it said ak_0123456789".to_owned()).clean(Some((&secret, "token"))).to_string();
        assert_eq!(text, "the Server can't be reached: it said [token]");
    }

    #[test]
    fn refusals_are_retried_by_status_and_sender() {
        let refused =
            |status, by_server| ClientError::Refused { status, message: String::new(), by_server, retry_after: None };
        let all = [302, 400, 401, 403, 404, 408, 409, 413, 429, 500, 502, 503, 504];
        let retried =
            |by_server| all.into_iter().filter(|s| refused(*s, by_server).is_retryable()).collect::<Vec<u16>>();
        assert_eq!(retried(true), [302, 401, 408, 429, 500, 502, 503, 504]);
        assert_eq!(retried(false), [302, 400, 401, 403, 404, 408, 409, 429, 500, 502, 503, 504]);
        assert!(!refused(429, true).may_have_arrived() && refused(504, false).may_have_arrived());
        assert!(refused(400, true).is_wrong_state() && !refused(400, false).is_wrong_state());
    }
}
