//! Reading an answer: its JSON, or the refusal that it is.

use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use ureq::Body;
use ureq::http::{Response, StatusCode, header};

use super::error::ClientError;
use super::protocol::ErrorBody;

/// How many bytes of JSON are read.
const JSON_LIMIT: u64 = 8 * 1024 * 1024;
/// How many bytes of a refusal's body are read.
const ERROR_LIMIT: u64 = 64 * 1024;

/// The answer's JSON; an answer without content counts as `null`.
pub(super) fn read_json<A: DeserializeOwned>(response: Response<Body>) -> Result<A, ClientError> {
    let mut response = accept_success(response)?;
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
pub(super) fn accept_success(mut response: Response<Body>) -> Result<Response<Body>, ClientError> {
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
    // Without a readable body the status alone says what failed.
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
pub(super) fn parse_retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    Some(at.duration_since(now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::parse_retry_after;
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
}
