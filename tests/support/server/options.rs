//! Options of a fake Server: differences between real Servers, and time limits that tests shorten.

use super::Control;
use super::http::Response;
use super::record::Request;
use std::sync::Arc;
use std::time::Duration;

/// Which of the key headers a Server reads (PROTOCOL, "Addresses and headers").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyHeaders {
    /// Requires all three headers, which an agent has to send.
    All,
    /// `X-Service-ID` and one of the two.
    Either,
    /// As some older Servers.
    OnlyApiKey,
    /// As other older Servers.
    OnlyBearer,
}

/// The answer to a poll without a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmptyPoll {
    Json,
    NoContent,
}

/// At most `calls` in any `window`, for each key (PROTOCOL 6).
#[derive(Clone, Copy, Debug)]
pub struct RateLimit {
    pub calls: usize,
    pub window: Duration,
    /// The value of `Retry-After`.
    pub retry_after_secs: u64,
}

impl RateLimit {
    /// The real Server's limit.
    pub fn real() -> Self {
        Self { calls: 150, window: Duration::from_secs(60), retry_after_secs: 60 }
    }
}

/// Answers calls that are not part of the agent API; `None` is 404.
pub type ExtraRoutes = Arc<dyn Fn(&Control, &Request) -> Option<Response> + Send + Sync>;

/// The behaviour of one fake Server. The defaults are the real Server's, without its rate limit.
#[derive(Clone)]
pub struct Options {
    /// 0 lets the system choose.
    pub port: u16,
    /// A path before `/api`, such as `/aaas`.
    pub path_prefix: String,
    pub https: bool,
    /// The prefix of every task id. It is random unless set, so that the test's containers can be identified.
    pub task_prefix: Option<String>,
    pub key_headers: KeyHeaders,
    pub empty_poll: EmptyPoll,
    /// 400, or 409 as older Servers.
    pub accept_refusal: u16,
    pub register_status: u16,
    pub upload_status: u16,
    /// After this time without a heartbeat a service is offline (PROTOCOL 3).
    pub heartbeat_timeout: Duration,
    /// The interval of that check.
    pub check_interval: Duration,
    /// A task that is requeued more often than this fails.
    pub max_retries: u32,
    pub rate_limit: Option<RateLimit>,
    /// A request's body must have arrived within this time, else 408 (PROTOCOL 7).
    pub body_deadline: Duration,
    pub max_upload_bytes: u64,
    /// The body limit of an nginx in front: 413 with HTML before the body is read.
    pub proxy_body_limit: Option<u64>,
    /// An idle connection is closed after this time.
    pub idle_timeout: Duration,
    /// Whether each answer has a date, as the real Server's: an agent then does without the list of files before its first
    /// upload, which many tests are about.
    pub dates: bool,
    /// The number of requests that the log keeps.
    pub keep_requests: usize,
    pub extra_routes: Option<ExtraRoutes>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 0,
            path_prefix: String::new(),
            https: false,
            task_prefix: None,
            key_headers: KeyHeaders::All,
            empty_poll: EmptyPoll::Json,
            accept_refusal: 400,
            register_status: 201,
            upload_status: 200,
            heartbeat_timeout: Duration::from_secs(60),
            check_interval: Duration::from_secs(10),
            max_retries: 3,
            rate_limit: None,
            body_deadline: Duration::from_secs(30),
            max_upload_bytes: 50 * 1024 * 1024,
            proxy_body_limit: None,
            idle_timeout: Duration::from_secs(75),
            dates: false,
            keep_requests: 100_000,
            extra_routes: None,
        }
    }
}
