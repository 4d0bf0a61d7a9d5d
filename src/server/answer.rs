//! Reading an answer: its JSON, or the refusal that it is.

use std::io::Read;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::Body;
use ureq::http::{Response, StatusCode, header};

use super::error::ClientError;
use super::limits::{LARGE_ANSWER, RawId, SMALL_ANSWER, Scalar};
use super::offer::{PollAnswer, read_object};
use super::protocol::ErrorBody;

/// The object of an answer where little is expected.
pub(super) fn read_small<A: DeserializeOwned>(response: Response<Body>) -> Result<A, ClientError> {
    read_body(response, SMALL_ANSWER, |body| read_object(&body, "the answer"))
}

/// The answer of a poll, which may hold an offer. 204 means that there is no task.
pub(super) fn read_poll(response: Response<Body>) -> Result<PollAnswer, ClientError> {
    if response.status() == StatusCode::NO_CONTENT {
        return Ok(PollAnswer::default());
    }
    const TOO_LARGE: &str = "it has more than 8 MiB";
    let response = accept_success(response)?;
    let status = response.status();
    let mut body = Vec::new();
    let reader = response.into_body().into_with_config().limit(u64::MAX).reader();
    reader.take(LARGE_ANSWER + 1).read_to_end(&mut body).map_err(|error| ClientError::Lost(error.to_string()))?;
    if body.len() as u64 > LARGE_ANSWER {
        let salvaged = PollAnswer::salvage(&body, TOO_LARGE);
        return salvaged.ok_or_else(|| ClientError::Lost(format!("an answer that can't be used: {TOO_LARGE}")));
    }
    let begin = body.trim_ascii_start().first().copied();
    PollAnswer::read(body).map_err(|error| unusable(status, begin, &error.to_string()))
}

/// What the answers of `heartbeat`, `accept` and `complete` say beside their status. A proxy, or a page before a network
/// that wants a login, answers 200 to any call, and nothing may be settled by that.
#[derive(Default, Deserialize)]
pub(super) struct Confirmation {
    #[serde(default)]
    acknowledged: Scalar,
    #[serde(default)]
    success: Scalar,
    /// The task of the call, which the answer to `complete` always names.
    task_id: Option<RawId>,
}

impl Confirmation {
    /// Checks that a heartbeat has arrived.
    pub fn of_heartbeat(&self) -> Result<(), ClientError> {
        confirmed(self.acknowledged == Scalar::Flag(true), "without `\"acknowledged\":true`")
    }

    /// Checks that the Server has taken this task for the agent.
    pub fn of_accept(&self, id: &str) -> Result<(), ClientError> {
        confirmed(self.success == Scalar::Flag(true), "without `\"success\":true`")?;
        confirmed(self.task_id.as_ref().is_none_or(|named| **named == *id), "about another task")
    }

    /// Checks that the Server has taken the report of this task. Its answer always names the task, and one that doesn't,
    /// as from a stub or during maintenance, must not settle it.
    pub fn of_report(&self, id: &str) -> Result<(), ClientError> {
        self.of_accept(id)?;
        confirmed(self.task_id.is_some(), "without the `task_id`")
    }
}

fn confirmed(is_confirmed: bool, why: &str) -> Result<(), ClientError> {
    if is_confirmed { Ok(()) } else { Err(ClientError::Lost(format!("a confirmation {why}"))) }
}

fn read_body<A>(
    response: Response<Body>,
    limit: u64,
    parse: impl FnOnce(Vec<u8>) -> serde_json::Result<A>,
) -> Result<A, ClientError> {
    let mut response = accept_success(response)?;
    let status = response.status();
    let body = response.body_mut().with_config().limit(limit).read_to_vec();
    let body = body.map_err(|error| ClientError::Lost(error.to_string()))?;
    let begin = body.trim_ascii_start().first().copied();
    parse(body).map_err(|error| unusable(status, begin, &error.to_string()))
}

/// When an answer was made, by the clock of its maker, to the second below (RFC 9110, 6.6.1).
pub(super) fn sent_at(response: &Response<Body>) -> Option<Timestamp> {
    let text = response.headers().get(header::DATE)?.to_str().ok()?;
    Timestamp::try_from(httpdate::parse_http_date(text).ok()?).ok()
}

/// The error of an answer whose body, with this first byte, isn't the JSON that was expected.
pub(super) fn unusable(status: StatusCode, begin: Option<u8>, why: &str) -> ClientError {
    let what = if begin == Some(b'<') { "HTML instead of JSON, probably from a proxy" } else { why };
    ClientError::Lost(format!("{}: {what}", status.as_u16()))
}

/// The answer, unless it is a refusal. The Server answers 200 or 201; any other 2xx is something else's, and says nothing
/// about what the Server did.
pub(super) fn accept_success(mut response: Response<Body>) -> Result<Response<Body>, ClientError> {
    let status = response.status();
    if matches!(status, StatusCode::OK | StatusCode::CREATED) {
        return Ok(response);
    }
    if status.is_success() {
        return Err(ClientError::Lost(format!("{status} instead of 200 OK")));
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
    let ErrorBody { words, is_the_servers } = ErrorBody::read(&body);
    let message = match (is_the_servers, words.is_empty()) {
        (true, _) => words.join(": "),
        (false, false) => format!("{}, which isn't the form of the Server's answers", words.join(": ")),
        (false, true) => {
            format!("{}, without the Server's words", status.canonical_reason().unwrap_or("unknown status"))
        }
    };
    Err(ClientError::Refused { status: status.as_u16(), message, by_server: is_the_servers, retry_after })
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
    use super::{Confirmation, ErrorBody, parse_retry_after, read_object};
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
    fn only_the_servers_words_confirm_a_call() {
        let read = |body: &str| read_object::<Confirmation>(body.as_bytes(), "the answer").unwrap_or_default();
        let accept = |body: &str| read(body).of_accept("t").is_ok();
        let report = |body: &str| read(body).of_report("t").is_ok();
        let named = r#" {"task_id":"t","success":true,"status":"failed","more":[1]}"#;
        assert!(accept(named) && report(named));
        let unnamed = r#"{"success":true}"#;
        assert!(accept(unnamed) && !report(unnamed), "a stub answers so");
        let others = [
            r#"{"success":false,"error":"Maintenance"}"#,
            r#"{"success":"true"}"#,
            r#"{"success":true,"task_id":"other"}"#,
            r#"{"acknowledged":true}"#,
            "{}",
            "null",
            "[true,true]",
            r#""ok""#,
            "",
        ];
        for body in others {
            assert!(!accept(body) && !report(body), "{body}");
        }
        let heartbeat = |body: &str| serde_json::from_str::<Confirmation>(body).unwrap().of_heartbeat().is_ok();
        assert!(heartbeat(r#"{"acknowledged":true,"server_time":"now"}"#));
        assert!(!heartbeat(r#"{"acknowledged":false}"#) && !heartbeat(r#"{"success":true}"#));
    }

    #[test]
    fn json_of_gateways_is_not_the_servers_word() {
        let servers = [
            r#"{"error":"NotFound","message":"文件不存在"}"#,
            r#"{"message":"任务不存在或不是待处理状态","error":"TaskNotPending","details":{"unknown":1}}"#,
        ];
        for body in servers {
            assert!(ErrorBody::read(body.as_bytes()).is_the_servers, "{body}");
        }
        let others = [
            r#"{"message":"no Route matched with those values"}"#,
            r#"{"message":"Forbidden"}"#,
            r#"{"error":"Not Found"}"#,
            r#"{"error":"unauthorized"}"#,
            r#"{"statusCode":404,"message":"Resource not found"}"#,
            r#"{"statusCode":403,"message":"Forbidden resource","error":"Forbidden"}"#,
            r#"{"timestamp":"2026","status":403,"error":"Forbidden","message":"Access Denied","path":"/"}"#,
            r#"{"status":404,"error":"Not Found","message":"none"}"#,
            r#"{"error":{"code":"404","message":"none"},"message":"none"}"#,
            r#"{"error":"NotFound","message":null}"#,
            r#"{"error":"","message":""}"#,
            r#"["error","message"]"#,
            "<html>404</html>",
            "",
        ];
        for body in others {
            assert!(!ErrorBody::read(body.as_bytes()).is_the_servers, "{body}");
        }
    }
}
