//! Reading an answer: its JSON, or the refusal that it is.

use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use ureq::Body;
use ureq::http::{Response, StatusCode, header};

use super::error::ClientError;
use super::limits::{LARGE_ANSWER, SMALL_ANSWER};
use super::offer::PollAnswer;
use super::protocol::ErrorBody;

/// The JSON of an answer where little is expected; an answer without content counts as `null`.
pub(super) fn read_small<A: DeserializeOwned>(response: Response<Body>) -> Result<A, ClientError> {
    read_body(response, SMALL_ANSWER, |body| serde_json::from_slice(&body))
}

/// The answer of a poll, which may hold an offer.
pub(super) fn read_poll(response: Response<Body>) -> Result<PollAnswer, ClientError> {
    read_body(response, LARGE_ANSWER, PollAnswer::read)
}

fn read_body<A>(
    response: Response<Body>,
    limit: u64,
    parse: impl FnOnce(Vec<u8>) -> serde_json::Result<A>,
) -> Result<A, ClientError> {
    let mut response = accept_success(response)?;
    let status = response.status();
    let body = if status == StatusCode::NO_CONTENT {
        b"null".to_vec()
    } else {
        let body = response.body_mut().with_config().limit(limit).read_to_vec();
        body.map_err(|error| ClientError::Lost(error.to_string()))?
    };
    let begin = body.trim_ascii_start().first().copied();
    parse(body).map_err(|error| unusable(status, begin, &error.to_string()))
}

/// The error of an answer whose body, with this first byte, isn't the JSON that was expected.
pub(super) fn unusable(status: StatusCode, begin: Option<u8>, why: &str) -> ClientError {
    let what = if begin == Some(b'<') { "HTML instead of JSON, probably from a proxy" } else { why };
    ClientError::Lost(format!("{}: {what}", status.as_u16()))
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
    let body = response.body_mut().with_config().limit(SMALL_ANSWER).read_to_vec().unwrap_or_default();
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
