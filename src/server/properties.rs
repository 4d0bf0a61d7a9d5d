use std::ffi::OsString;
use std::time::{Duration, SystemTime};

use proptest::collection::vec;
use proptest::prelude::*;

use super::answer::parse_retry_after;
use super::offer::PollAnswer;
use super::probe::ahead;
use super::protocol::{ErrorBody, ListedFile, Registration, Task, Uploaded};
use super::proxy::resolve_route;
use super::retry::Backoff;
use crate::arbitrary::{changed, json, text};
use crate::config::{Environment, ServerConfig};

proptest! {
    #[test]
    fn answers_of_any_shape_parse_or_fail(value in json(), bytes in vec(any::<u8>(), 0..200)) {
        for text in [value.to_string().into_bytes(), bytes] {
            // A valid offer is the same after it was read back from the record.
            if let Ok(task) = serde_json::from_slice::<Task>(&text) {
                let again: Task = serde_json::from_str(&serde_json::to_string(&task).expect("write it")).expect("read it");
                prop_assert_eq!(again, task);
            }
            let _ = PollAnswer::read(text.clone());
            let body = [b"{\"has_task\":true,\"task\": ", &text[..], b" }"].concat();
            let _: Result<ListedFile, _> = serde_json::from_slice(&text);
            if let Ok(PollAnswer { offer: Some(offer), .. }) = PollAnswer::read(body) {
                if let Ok(task) = offer.parse() {
                    prop_assert_eq!(task, serde_json::from_slice::<Task>(&text).expect("an offer is a task"));
                }
            }
            let _ = ErrorBody::read(&text);
            let _: Result<Registration, _> = serde_json::from_slice(&text);
            let _: Result<Uploaded, _> = serde_json::from_slice(&text);
        }
    }

    #[test]
    fn any_retry_after_makes_a_short_pause(text in prop_oneof![text(), "[0-9]{0,25}", changed(DATE)]) {
        let asked = parse_retry_after(&text, SystemTime::now());
        prop_assert!(Backoff::default().next(asked) <= Duration::from_secs(602), "{text:?}: {asked:?}");
    }

    #[test]
    fn any_date_of_the_server_is_compared(text in prop_oneof![text(), changed(DATE)]) {
        if let Ok(date) = httpdate::parse_http_date(&text) {
            let now = SystemTime::now();
            prop_assert!(ahead(date, now, now).is_finite());
        }
    }

    #[test]
    fn no_password_of_any_proxy_is_shown(
        proxy in prop_oneof![text(), changed("http://user:secretword@proxy.example:8080/x")],
        excepted in prop_oneof![text(), changed("localhost,.example.org,10.0.0.0/8,[::1],*")],
        base_url in prop_oneof![Just("https://server.example:8443/x"), Just("http://[::1]:8080"), Just("http://10.0.0.1")],
    ) {
        let environment = Environment::new(|name| match name {
            "HTTPS_PROXY" | "HTTP_PROXY" => Some(OsString::from(&proxy)),
            "NO_PROXY" => Some(OsString::from(&excepted)),
            _ => None,
        });
        let server = ServerConfig {
            base_url: base_url.to_owned(),
            poll_interval: Duration::from_secs(5),
            use_system_proxy: true,
            environment,
            max_requests_per_minute: 0,
        };
        let route = resolve_route(&server);
        // A replaced `@` makes the password a part of the host.
        if proxy.contains("secretword@proxy.") {
            prop_assert!(!format!("{:?}{:?}", route.proxy(), route.problem()).contains("secretword"), "{route:?}");
        }
    }
}

const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
