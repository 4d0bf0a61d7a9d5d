//! `use_system_proxy`: `false` ignores the proxy variables of the environment, `true` uses them.

use crate::relay::Relay;
use crate::support::agent::{Agent, Builder};
use crate::support::secs;
use crate::support::server::{Control, FakeServer, Options};

const VARIABLES: [&str; 6] = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

const USE_PROXY: &str = "[server]\nuse_system_proxy = true";

fn agent(server: &FakeServer, variables: &[&str], proxy: &str) -> Builder {
    let builder = Agent::builder(server).without_engine();
    variables.iter().fold(builder, |builder, variable| builder.env(variable, proxy))
}

fn wait_for_a_poll(server: &Control) {
    let answered = |server: &Control| server.requests_to("poll").iter().any(|poll| poll.status == Some(200));
    server.wait_until("a poll", secs(20), answered);
}

fn https() -> FakeServer {
    FakeServer::start_with(Options { https: true, ..Options::default() })
}

#[test]
fn a_dead_proxy_in_the_environment_is_ignored() {
    let (server, dead) = (FakeServer::start(), FakeServer::start());
    dead.stop_listening();
    let agent = agent(&server, &VARIABLES, &dead.url()).config("[server]\nuse_system_proxy = false").build();
    let _running = agent.start();
    wait_for_a_poll(&server);
}

#[test]
fn a_dead_proxy_is_ignored_for_an_https_server() {
    let (server, dead) = (https(), FakeServer::start());
    dead.stop_listening();
    let ca = server.ca_pem().to_string_lossy().into_owned();
    let agent = agent(&server, &VARIABLES, &dead.url()).env("SSL_CERT_FILE", ca).build();
    let _running = agent.start();
    wait_for_a_poll(&server);
}

#[test]
fn a_working_proxy_in_the_environment_is_not_used() {
    let (server, proxy) = (FakeServer::start(), Relay::proxy());
    let agent = agent(&server, &VARIABLES, &proxy.url()).build();
    let _running = agent.start();
    wait_for_a_poll(&server);
    assert_eq!(proxy.notes(), [""; 0]);
}

#[test]
fn register_ignores_proxies_in_the_environment() {
    let (server, dead) = (FakeServer::start(), FakeServer::start());
    dead.stop_listening();
    server.add_token("rt_good");
    let agent = agent(&server, &VARIABLES, &dead.url()).unregistered().build();
    agent.run(&["register", "--token", "rt_good"]).expect_code(0);
}

/// Fails the test unless all calls go through the proxy that this variable names, and only to the Server.
fn assert_used(server: &FakeServer, variable: &str) {
    let proxy = Relay::proxy();
    let mut builder = agent(server, &[variable], &proxy.url()).config(USE_PROXY);
    if server.url().starts_with("https") {
        builder = builder.env("SSL_CERT_FILE", server.ca_pem().to_string_lossy());
    }
    let agent = builder.build();
    let before = server.heartbeats().len();
    let _running = agent.start();
    server.wait_until("a heartbeat", secs(20), |server| server.heartbeats().len() > before);
    let authority = server.url().split('/').nth(2).expect("a URL has an authority").to_owned();
    let notes = proxy.notes();
    assert!(!notes.is_empty(), "the proxy of `{variable}` wasn't used");
    assert!(notes.iter().all(|note| *note == format!("CONNECT {authority} HTTP/1.1")), "{variable}: {notes:?}");
}

#[test]
fn calls_to_an_http_server_go_through_the_proxy() {
    let server = FakeServer::start();
    for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        assert_used(&server, variable);
    }
}

#[test]
fn calls_to_an_https_server_go_through_the_proxy() {
    let server = https();
    for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        assert_used(&server, variable);
    }
}

#[test]
fn register_goes_through_the_proxy() {
    let (server, proxy) = (FakeServer::start(), Relay::proxy());
    server.add_token("rt_good");
    let agent = agent(&server, &["HTTP_PROXY"], &proxy.url()).unregistered().config(USE_PROXY).build();
    agent.run(&["register", "--token", "rt_good"]).expect_code(0);
    assert_eq!(proxy.notes().len(), 1);
}

#[test]
fn no_proxy_excludes_the_server() {
    let (server, proxy) = (FakeServer::start(), Relay::proxy());
    for variable in ["NO_PROXY", "no_proxy"] {
        let before = server.heartbeats().len();
        let builder = agent(&server, &["HTTP_PROXY", "ALL_PROXY"], &proxy.url()).config(USE_PROXY);
        let agent = builder.env(variable, "lab.example,127.0.0.1").build();
        let _running = agent.start();
        server.wait_until("a heartbeat", secs(20), |server| server.heartbeats().len() > before);
        assert_eq!(proxy.notes(), [""; 0], "{variable}");
    }
}

#[test]
fn no_proxy_for_another_host_has_no_effect() {
    let (server, proxy) = (FakeServer::start(), Relay::proxy());
    let agent = agent(&server, &["HTTP_PROXY"], &proxy.url()).config(USE_PROXY).env("NO_PROXY", "lab.example").build();
    let _running = agent.start();
    wait_for_a_poll(&server);
    assert!(!proxy.notes().is_empty());
}

/// The HTTP library would connect directly and report nothing.
#[test]
fn an_unsupported_proxy_type_is_reported() {
    let server = FakeServer::start();
    let agent = agent(&server, &["ALL_PROXY"], "socks5://user:hunter2@127.0.0.1:1").config(USE_PROXY).build();
    let mut running = agent.start();
    running.wait_log("socks5://127.0.0.1:1, from ALL_PROXY, is no proxy that takes CONNECT", secs(20));
    assert!(!running.log().contains("hunter2"), "{}", running.log());
}

#[test]
fn an_unreachable_proxy_is_logged_and_retried() {
    let (server, dead) = (FakeServer::start(), FakeServer::start());
    dead.stop_listening();
    let agent = agent(&server, &["HTTP_PROXY"], &dead.url()).config(USE_PROXY).build();
    let mut running = agent.start();
    running.wait_log("the Server can't be reached: Connection refused", secs(20));
    assert_eq!(server.requests().len(), 0);
    assert!(running.is_running());
}

#[test]
fn the_proxy_of_the_other_scheme_is_not_used() {
    let (server, proxy) = (FakeServer::start(), Relay::proxy());
    let agent = agent(&server, &["HTTPS_PROXY", "https_proxy"], &proxy.url()).config(USE_PROXY).build();
    let _running = agent.start();
    server.wait_until("a heartbeat", secs(20), |server| !server.heartbeats().is_empty());
    assert!(proxy.notes().is_empty());
}

#[test]
fn connection_errors_name_the_proxy() {
    let server = FakeServer::start();
    let agent = agent(&server, &["HTTP_PROXY"], "http://user:hunter2@127.0.0.1:1").config(USE_PROXY).build();
    let mut running = agent.start();
    running.wait_log("(by the proxy http://127.0.0.1:1, from HTTP_PROXY)", secs(20));
    assert!(!running.log().contains("hunter2"));
}
