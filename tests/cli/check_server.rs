//! `check` on the way to the Server: name, connection, TLS, credentials and clock.

use crate::check::{Checked, builder, tidy};
use crate::relay::Relay;
use crate::support::agent::Builder;
use crate::support::secs;
use crate::support::server::{FakeServer, Fault, Match, Options, Response, http_date};
use serde_json::json;
use std::time::{Duration, Instant, SystemTime};

#[test]
fn an_unregistered_agent_fails_with_the_register_command() {
    let server = FakeServer::start();
    let agent = tidy(builder(&server).unregistered());
    let checked = Checked::of(&agent);
    checked.expect_failed("credentials", "register --token rt_…");
    checked.expect(&[("server", "passed")]);
}

#[test]
fn refused_keys_are_reported_by_their_cause() {
    let server = FakeServer::start();
    let (service, key) = server.service();
    let (other, _) = server.add_service();
    for (service, key, words) in [(&service, "ak_wrong", "401"), (&other, key.as_str(), "401")] {
        let agent = tidy(builder(&server).service(service, key));
        let checked = Checked::of(&agent);
        checked.expect_failed("credentials", words);
        checked.expect_failed("credentials", "register again with `agent-core --config");
        assert!(!checked.done.stdout.contains(key), "the key is shown");
    }
    for (status, words) in [(403, "belongs to another service"), (500, "created again"), (429, "too many calls")] {
        let fault = server.fault(Match::path("list").skip(1), Fault::status(status));
        let checked = Checked::of(&tidy(builder(&server)));
        checked.expect_failed("credentials", words);
        server.remove_fault(fault);
    }
}

#[test]
fn a_wrong_path_in_the_base_url_is_reported() {
    let server = FakeServer::start();
    let agent = tidy(builder(&server).config(&format!("[server]\nbase_url = '{}/wrong'", server.url())));
    let checked = Checked::of(&agent);
    checked.expect_failed("server", "404");
    checked.expect_failed("server", "server.base_url");
    checked.expect(&[("tcp", "passed"), ("credentials", "skipped")]);
}

#[test]
fn a_proxys_page_does_not_pass_as_the_server() {
    let server = FakeServer::start();
    for (status, words) in [(502, "502"), (200, "asks for no key")] {
        let fault = server.fault(Match::path("list"), Fault::html(status));
        Checked::of(&tidy(builder(&server))).expect_failed("server", words);
        server.remove_fault(fault);
    }
}

/// The Server knows the key also where the call has none.
#[test]
fn a_key_in_the_servers_words_is_not_shown() {
    let server = FakeServer::start();
    let (_, key) = server.service();
    let words = json!({"error": key, "message": format!("the key is {key}")});
    server.fault(Match::path("list"), Fault::Answer(Response::json(500, &words)));
    let agent = tidy(builder(&server));
    Checked::of(&agent).expect_failed("server", "the key is [api_key]");
    for args in [&["check"][..], &["check", "--json"]] {
        let done = agent.run(args);
        assert!(!done.stdout.contains(&key) && !done.stderr.contains(&key), "{}", done.stdout);
    }
}

#[test]
fn every_way_to_write_this_machines_address_is_warned_of() {
    let server = FakeServer::start();
    let url = server.url();
    for host in ["localhost", "127.0.0.1", "127.1", "2130706433", "0.0.0.0"] {
        let written = url.replace("127.0.0.1", host);
        let checked = Checked::of(&tidy(builder(&server).config(&format!("[server]\nbase_url = '{written}'"))));
        checked.expect(&[("address", "warned"), ("server", "passed")]);
    }
    // A certificate can't be taken with the port.
    let other = builder(&server).config("[server]\nbase_url = 'https://127.0.0.1:8443'");
    Checked::of(&tidy(other)).expect(&[("address", "passed")]);
    let proxied = builder(&server).config("[server]\nbase_url = 'http://192.0.2.1:80'\nuse_system_proxy = true");
    let proxied = proxied.env("HTTP_PROXY", &url);
    Checked::of(&tidy(proxied)).expect(&[("address", "warned")]);
}

#[test]
fn an_engine_that_another_user_could_be_is_warned_of() {
    let server = FakeServer::start();
    let open = tempfile::tempdir().expect("make a folder");
    std::fs::set_permissions(open.path(), std::os::unix::fs::PermissionsExt::from_mode(0o1777)).expect("open it");
    let socket = format!("unix://{}/missing.sock", open.path().display());
    let cases = [("tcp://127.0.0.1:22375", "warned"), (&socket, "warned"), ("unix:///var/run/docker.sock", "passed")];
    for (host, status) in cases {
        let agent = tidy(builder(&server).config("[executor]\ndocker = './docker'").env("DOCKER_HOST", host));
        agent.write_script("docker", "#!/bin/sh\necho 28\n");
        assert_eq!(Checked::of(&agent).status("engine"), status, "{host}");
    }
}

#[test]
fn a_refused_connection_differs_from_an_unknown_host() {
    let server = FakeServer::start();
    server.stop_listening();
    let checked = Checked::of(&tidy(builder(&server)));
    checked.expect_failed("tcp", "refused");
    checked.expect(&[("dns", "passed"), ("server", "skipped"), ("credentials", "skipped"), ("clock", "skipped")]);
    let nameless = builder(&server).config("[server]\nbase_url = 'https://no-such-host.invalid'");
    let checked = Checked::of(&tidy(nameless));
    checked.expect_failed("dns", "no-such-host.invalid");
    checked.expect(&[("tcp", "skipped"), ("tls", "skipped"), ("server", "skipped")]);
}

#[test]
fn untrusted_certificates_and_plain_http_fail_the_tls_check() {
    let https = FakeServer::start_with(Options { https: true, ..Options::default() });
    let checked = Checked::of(&tidy(builder(&https)));
    checked.expect_failed("tls", "isn't trusted");
    checked.expect_failed("tls", "SSL_CERT_FILE");
    checked.expect(&[("tcp", "passed"), ("server", "skipped")]);
    let trusting = builder(&https).env("SSL_CERT_FILE", https.ca_pem().to_string_lossy());
    Checked::of(&tidy(trusting)).expect(&[("tls", "passed"), ("server", "passed"), ("credentials", "passed")]);
    let http = FakeServer::start();
    let wrong = http.url().replace("http://", "https://");
    let checked = Checked::of(&tidy(builder(&http).config(&format!("[server]\nbase_url = '{wrong}'"))));
    checked.expect_failed("tls", "speaks https");
    checked.expect(&[("tcp", "passed"), ("server", "skipped")]);
}

#[test]
fn check_gives_up_a_silent_server_after_ten_seconds() {
    let server = FakeServer::start();
    server.fault(Match::any(), Fault::NeverAnswer);
    let began = Instant::now();
    let checked = Checked::of(&tidy(builder(&server)));
    checked.expect_failed("server", "no answer in time");
    checked.expect(&[("tcp", "passed"), ("credentials", "skipped")]);
    assert!(began.elapsed() < secs(30), "{:?}", began.elapsed());
}

#[test]
fn a_wrong_clock_is_detected_by_the_servers_date() {
    let server = FakeServer::start();
    let agent = tidy(builder(&server));
    let now = SystemTime::now;
    let off = Duration::from_secs(3600);
    for (date, status, words) in
        [(now(), "passed", "the same time"), (now() + off, "failed", "behind"), (now() - off, "failed", "ahead of")]
    {
        let fault =
            server.fault(Match::path("list").times(1), Fault::status_with_header(401, "date", &http_date(date)));
        let checked = Checked::of(&agent);
        let clock = checked.one("clock");
        let said = clock["detail"].as_str().unwrap();
        // On a loaded machine time passes between the date and the call.
        assert!(clock["status"] == status && (said.contains(words) || said.contains("s apart")), "{clock}");
        server.remove_fault(fault);
    }
}

#[test]
fn the_proxy_and_its_variable_are_named_without_the_password() {
    let (server, proxy) = (FakeServer::start(), Relay::proxy());
    let authority = proxy.authority();
    let address = format!("http://user:hunter2@{authority}");
    let with = |builder: Builder| tidy(builder.env("http_proxy", &*address));
    let checked = Checked::of(&with(builder(&server).config("[server]\nuse_system_proxy = true")));
    assert_eq!(checked.one("proxy")["detail"], format!("http://{authority}, from http_proxy"));
    checked.expect(&[("tcp", "passed"), ("server", "passed"), ("credentials", "passed")]);
    assert!(!proxy.notes().is_empty() && !checked.done.stdout.contains("hunter2"));

    let excepted = builder(&server).config("[server]\nuse_system_proxy = true").env("NO_PROXY", "127.0.0.1");
    let detail = &Checked::of(&with(excepted)).one("proxy")["detail"].clone();
    assert!(detail.as_str().unwrap().contains("NO_PROXY"), "{detail}");
    let detail = &Checked::of(&with(builder(&server))).one("proxy")["detail"].clone();
    assert!(detail.as_str().unwrap().contains("what http_proxy holds doesn't count"), "{detail}");
    let unusable = builder(&server).config("[server]\nuse_system_proxy = true").env("HTTP_PROXY", "::nonsense::");
    Checked::of(&tidy(unusable)).expect_failed("proxy", "HTTP_PROXY");
    let socks = builder(&server).config("[server]\nuse_system_proxy = true").env("ALL_PROXY", "socks5://127.0.0.1:1");
    let checked = Checked::of(&tidy(socks));
    checked.expect_failed("proxy", "socks5://127.0.0.1:1, from ALL_PROXY");
    checked.expect_failed("proxy", "none is used");
    assert_eq!(checked.one("tcp")["detail"], format!("{} accepts connections", server.url()));
}
