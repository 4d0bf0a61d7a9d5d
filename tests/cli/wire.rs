//! Addresses and headers of the calls (PROTOCOL, "Addresses and headers").

use crate::support::agent::Agent;
use crate::support::secs;
use crate::support::server::{FakeServer, KeyHeaders, Options, Request};

/// All calls of an agent that runs for a few seconds, with the last heartbeat.
fn calls_of(server: &FakeServer, fragment: &str) -> Vec<Request> {
    let agent = Agent::builder(server).without_engine().config(fragment).build();
    let mut running = agent.start();
    server.wait_until("polls", secs(20), |server| {
        server.requests_to("poll").len() >= 2 && server.requests_to("heartbeat").len() >= 2
    });
    #[cfg(unix)]
    running.terminate(secs(20));
    running.kill9();
    server.requests()
}

#[test]
fn every_call_carries_all_three_headers() {
    // The fake Server accepts any one of the headers here, so the test checks all three itself.
    let server = FakeServer::start_with(Options { key_headers: KeyHeaders::Either, ..Options::default() });
    let (service_id, api_key) = server.service();
    for call in calls_of(&server, "") {
        assert_eq!(call.headers.get("x-service-id"), Some(service_id.as_str()), "{call}");
        assert_eq!(call.headers.get("x-api-key"), Some(api_key.as_str()), "{call}");
        assert_eq!(call.headers.get("authorization"), Some(format!("Bearer {api_key}").as_str()), "{call}");
    }
}

#[test]
fn the_api_key_is_sent_in_headers_only() {
    let server = FakeServer::start();
    let (_, api_key) = server.service();
    for call in calls_of(&server, "") {
        assert!(!call.path.contains(&api_key) && !call.body.to_string().contains(&api_key), "{call}");
    }
}

#[test]
fn call_paths_follow_the_protocol() {
    let server = FakeServer::start();
    let (service_id, _) = server.service();
    let paths = ["heartbeat", "poll"].map(|call| format!("/api/v1/agent/{service_id}/{call}"));
    for call in calls_of(&server, "") {
        assert!(call.method == "POST" && paths.contains(&call.path), "{call}");
    }
}

#[test]
fn a_base_url_may_have_a_path_prefix() {
    let server = FakeServer::start_with(Options { path_prefix: "/lab/aaas".to_owned(), ..Options::default() });
    for call in calls_of(&server, "") {
        assert!(call.path.starts_with("/lab/aaas/api/v1/agent/"), "{call}");
        assert_eq!(call.status, Some(200), "{call}");
    }
}

#[test]
fn trailing_slashes_of_the_base_url_are_ignored() {
    let server = FakeServer::start_with(Options { path_prefix: "/aaas".to_owned(), ..Options::default() });
    for call in calls_of(&server, &format!("[server]\nbase_url = \"{}//\"", server.url())) {
        assert!(call.path.starts_with("/aaas/api/v1/agent/"), "{call}");
        assert_eq!(call.status, Some(200), "{call}");
    }
}
