//! https with the host's trust store: a private authority is trusted when the host trusts it.

use crate::relay::Relay;
use crate::support::agent::Agent;
use crate::support::docker::wait_until;
use crate::support::secs;
use crate::support::server::{FakeServer, Options};
use base64::prelude::{BASE64_STANDARD, Engine};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

fn https() -> FakeServer {
    FakeServer::start_with(Options { https: true, ..Options::default() })
}

fn ca(server: &FakeServer) -> String {
    server.ca_pem().to_string_lossy().into_owned()
}

#[test]
fn a_private_authority_in_ssl_cert_file_is_trusted() {
    let server = https();
    let agent = Agent::builder(&server).without_engine().env("SSL_CERT_FILE", ca(&server)).build();
    let running = agent.start();
    server.wait_until("polls", secs(20), |server| {
        server.requests_to("poll").iter().filter(|poll| poll.status == Some(200)).count() >= 2
    });
    assert!(agent.config_text().contains("https://"));
    assert!(!running.log().contains("Server can't be reached"), "{}", running.log());
}

#[test]
fn an_untrusted_certificate_is_logged_and_calls_are_retried() {
    let server = https();
    // A failed handshake is no request, so the relay counts the connections.
    let relay = Relay::to(&server.url());
    let base_url = format!("[server]\nbase_url = \"https://{}\"", relay.authority());
    let agent = Agent::builder(&server).without_engine().config(&base_url).build();
    let mut running = agent.start();
    running.wait_log("its certificate isn't trusted", secs(20));
    running.wait_log("SSL_CERT_FILE", secs(20));
    // The first two heartbeats come at the start and when the engine's state is known; the third is a retry.
    wait_until("another try", secs(20), || relay.notes().len() >= 3);
    assert!(running.is_running());
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn another_authority_is_not_trusted() {
    let (server, other) = (https(), https());
    let agent = Agent::builder(&server).without_engine().env("SSL_CERT_FILE", ca(&other)).build();
    let mut running = agent.start();
    running.wait_log("its certificate isn't trusted", secs(20));
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn register_sends_no_token_to_an_untrusted_server() {
    let server = https();
    server.add_token("rt_good");
    let agent = Agent::builder(&server).without_engine().unregistered().build();
    let register = ["register", "--token", "rt_good"];
    let done = agent.run(&register);
    done.expect_code(1).expect_stderr("certificate isn't trusted").expect_stderr("the token was not used");
    assert_eq!(server.requests().len(), 0);
    agent.invoke(&register).env("SSL_CERT_FILE", ca(&server)).run().expect_code(0);
}

#[test]
fn https_to_an_http_port_is_explained_and_keeps_the_token() {
    let server = FakeServer::start();
    // Most http servers answer a TLS handshake like this.
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let base_url = format!("https://{}", listener.local_addr().expect("an address"));
    let answering = thread::spawn(move || {
        let (mut connection, _) = listener.accept().expect("a connection");
        connection.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").expect("answer");
        // Waits until the client has read the answer and closes the connection.
        let _ = connection.read_to_end(&mut Vec::new());
    });
    let settings = format!("[server]\nbase_url = '{base_url}'");
    let agent = Agent::builder(&server).without_engine().unregistered().config(&settings).build();
    let done = agent.run(&["register", "--token", "rt_good"]);
    done.expect_code(1).expect_stderr("its port doesn't speak https").expect_stderr("the token was not used");
    answering.join().expect("the listener ends");
}

/// What SSL_CERT_FILE and SSL_CERT_DIR can name by mistake, with what is said of it.
fn useless_places(agent: &Agent, server: &FakeServer) -> Vec<(&'static str, String, &'static str)> {
    let pem = fs::read_to_string(server.ca_pem()).expect("the authority");
    let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let path = |name: &str, content: &[u8]| {
        fs::write(agent.path(name), content).expect("write a file");
        agent.path(name).to_string_lossy().into_owned()
    };
    fs::create_dir(agent.path("none")).expect("make a folder");
    vec![
        ("SSL_CERT_FILE", agent.path("gone.pem").to_string_lossy().into_owned(), "which isn't there"),
        ("SSL_CERT_FILE", path("empty.pem", b""), "which is empty"),
        (
            "SSL_CERT_FILE",
            path("ca.der", &BASE64_STANDARD.decode(text).expect("base64")),
            "which is in DER form: convert it",
        ),
        ("SSL_CERT_FILE", agent.path("none").to_string_lossy().into_owned(), "which is a folder"),
        ("SSL_CERT_DIR", agent.path("none").to_string_lossy().into_owned(), "which has no file with a certificate"),
        ("SSL_CERT_DIR", agent.path("gone").to_string_lossy().into_owned(), "which isn't there"),
    ]
}

#[test]
fn authorities_that_can_not_be_read_are_named() {
    let server = https();
    server.add_token("rt_good");
    let agent = Agent::builder(&server).without_engine().build();
    for (variable, place, why) in useless_places(&agent, &server) {
        let named = format!("{variable} names `{place}`, {why}");
        let with = |arguments: &[&str]| agent.invoke(arguments).env(variable, &place);
        with(&["check"]).run().expect_code(1).expect_stdout(&named);
        let register = with(&["register", "--replace", "--token", "rt_good"]).run();
        register.expect_code(1).expect_stderr(&named).expect_stderr("the token was not used");
        let mut running = with(&["run"]).start();
        running.wait_log("its certificate isn't trusted", secs(20));
        assert!(running.log().contains(&format!("UnknownIssuer; {named}")), "{}", running.log());
        assert!(running.terminate(secs(20)).success());
    }
    // Beside another one that is good, it is said all the same.
    let ca = ca(&server);
    let gone = agent.path("gone").to_string_lossy().into_owned();
    let both = |arguments: &[&str]| agent.invoke(arguments).env("SSL_CERT_FILE", &ca).env("SSL_CERT_DIR", &gone);
    both(&["check"]).run().expect_stdout(&format!("the certificate is trusted, but SSL_CERT_DIR names `{gone}`"));
    let mut running = both(&["run"]).start();
    running.wait_log("SSL_CERT_DIR names", secs(20));
    server.wait_until("a heartbeat", secs(20), |server| !server.heartbeats().is_empty());
}
