//! Failures of `register`: the message tells whether the token was used.

use crate::folder::names_in;
use crate::support::agent::{Agent, Finished};
use crate::support::server::{FakeServer, Fault, Match, Moment, Response};
use serde_json::json;
use std::fs;

const REGISTER: [&str; 3] = ["register", "--token", "rt_good"];

fn unregistered(server: &FakeServer) -> Agent {
    server.add_token("rt_good");
    Agent::builder(server).without_engine().unregistered().build()
}

/// Registers under a fault; expects exit status 1, one request and an unchanged file.
fn register_under(fault: Fault) -> Finished {
    let server = FakeServer::start();
    let agent = unregistered(&server);
    let before = agent.config_text();
    server.fault(Match::path("register"), fault);
    let done = agent.run(&REGISTER);
    done.expect_code(1);
    assert_eq!(done.stdout, "");
    assert_eq!(server.requests().len(), 1, "a token is sent once");
    assert_eq!(agent.config_text(), before);
    assert_eq!(names_in(agent.dir()), ["config.toml"]);
    done
}

const IN_DOUBT: &str = "the token may have been used";
const STILL_GOOD: &str = "the token was not used";

#[test]
fn an_unknown_token_is_reported_with_a_remedy() {
    let server = FakeServer::start();
    let agent = unregistered(&server);
    let before = agent.config_text();
    let done = agent.run(&["register", "--token", "rt_wrong"]);
    done.expect_code(1)
        .expect_stderr("answered 404")
        .expect_stderr("NotFound: 注册令牌无效或已被使用")
        .expect_stderr("get a new one");
    assert_eq!(agent.config_text(), before);
    assert_eq!(server.requests().len(), 1);
    assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
}

#[test]
fn a_used_token_is_reported_as_used() {
    let server = FakeServer::start();
    let agent = unregistered(&server);
    agent.run(&REGISTER).expect_code(0);
    let first = agent.config_text();
    agent.run(&["register", "--replace", "--token", "rt_good"]).expect_code(1).expect_stderr("used already");
    assert_eq!(agent.config_text(), first);
}

#[test]
fn a_server_error_leaves_the_token_in_doubt() {
    register_under(Fault::status(500)).expect_stderr("answered 500").expect_stderr(IN_DOUBT);
}

#[test]
fn a_proxys_error_page_leaves_the_token_in_doubt() {
    register_under(Fault::html(502)).expect_stderr("answered 502").expect_stderr(IN_DOUBT);
}

#[test]
fn a_page_instead_of_an_answer_leaves_the_token_in_doubt() {
    register_under(Fault::html(200)).expect_stderr("HTML").expect_stderr(IN_DOUBT);
}

#[test]
fn a_lost_answer_leaves_the_token_in_doubt() {
    register_under(Fault::AnswerLost).expect_stderr("no usable answer").expect_stderr(IN_DOUBT);
}

#[test]
fn a_truncated_answer_leaves_the_token_in_doubt() {
    register_under(Fault::Truncated).expect_stderr("no usable answer").expect_stderr(IN_DOUBT);
}

#[test]
fn a_refused_request_leaves_the_token_unused() {
    register_under(Fault::status(400)).expect_stderr("answered 400: Injected: 服务器故障").expect_stderr(STILL_GOOD);
}

#[test]
fn a_redirect_is_not_followed() {
    let other = FakeServer::start();
    other.add_token("rt_good");
    let place = format!("{}/api/v1/agent/register", other.url());
    let response = Response::new(307, "text/plain", "").header("location", &place);
    register_under(Fault::Answer(response)).expect_stderr(&format!("a redirect to {place}")).expect_stderr("base_url");
    assert_eq!(other.requests().len(), 0);
}

#[test]
fn a_refused_connection_leaves_the_token_unused() {
    let server = FakeServer::start();
    let agent = unregistered(&server);
    server.stop_listening();
    agent.run(&REGISTER).expect_code(1).expect_stderr(&server.url()).expect_stderr(STILL_GOOD);
    server.resume();
    agent.run(&REGISTER).expect_code(0);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn an_unknown_host_leaves_the_token_unused() {
    let server = FakeServer::start();
    // A name with an empty part is invalid, so no name server is asked.
    let agent = Agent::builder(&server).without_engine().config("[server]\nbase_url = \"http://no..such\"").build();
    let done = agent.run(&["register", "--replace", "--token", "rt_good"]);
    done.expect_code(1).expect_stderr("can't be reached: `no..such` has no address").expect_stderr(STILL_GOOD);
}

#[test]
fn an_invalid_token_is_not_sent() {
    let server = FakeServer::start();
    let agent = unregistered(&server);
    for wrong in ["", "rt good", "rt_\u{201c}good\u{201d}"] {
        agent.run(&["register", "--token", wrong]).expect_code(1).expect_stderr("registration token");
    }
    agent.invoke(&["register", "--token", "-"]).stdin("").run().expect_code(1).expect_stderr("registration token");
    assert_eq!(server.requests().len(), 0);
}

/// The name is so long that no temporary file can be made beside it. Unlike a file mode, that stops root, too.
#[test]
fn no_token_is_sent_when_the_file_can_not_be_replaced() {
    let server = FakeServer::start();
    let agent = unregistered(&server);
    let name = format!("{}.toml", "n".repeat(250));
    let path = agent.write(&name, agent.config_text());
    let done = agent.run(&["--config", &name, "register", "--token", "rt_good"]);
    done.expect_code(1).expect_stderr(&path.display().to_string()).expect_stderr("still good");
    assert_eq!(server.requests().len(), 0);
    assert_eq!(fs::read_to_string(path).unwrap(), agent.config_text());
}

/// Root may write everywhere, so the program runs without that capability.
#[cfg(target_os = "linux")]
#[test]
fn no_token_is_sent_when_the_folder_is_read_only() {
    use crate::folder::set_mode;
    let server = FakeServer::start();
    let agent = unregistered(&server);
    let before = agent.config_text();
    let mut invocation = agent.invoke(&REGISTER);
    if nix::unistd::geteuid().is_root() {
        invocation = invocation.through(&["setpriv", "--bounding-set=-dac_override", "--"]);
    }
    set_mode(agent.dir(), 0o555);
    let done = invocation.run();
    set_mode(agent.dir(), 0o755);
    done.expect_code(1).expect_stderr("Permission denied").expect_stderr("the token was not used and is still good");
    assert_eq!(server.requests().len(), 0);
    assert_eq!(agent.config_text(), before);
}

/// Registers while the file is spoiled between the call and its answer; the key must not be lost.
fn register_while(spoil: impl Fn(&std::path::Path) + Send + Sync + 'static) {
    let server = FakeServer::start();
    let agent = unregistered(&server);
    let file = agent.config_path();
    server.fault(Match::path("register"), Fault::call(Moment::Effected, move |_| spoil(&file)));
    let done = agent.run(&REGISTER);
    let service = server.services().pop().expect("a service");
    done.expect_code(1).expect_stderr("registered, but").expect_stderr("[agent]");
    let shown = format!("service_id = \"{}\"\napi_key = \"{}\"\n", service.id, service.api_key);
    assert_eq!(done.stdout, shown);
    assert!(!done.stderr.contains(&service.api_key), "{}", done.stderr);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn the_key_is_printed_when_a_folder_replaced_the_file() {
    register_while(|file| {
        fs::remove_file(file).expect("remove the file");
        fs::create_dir(file).expect("make a folder in its place");
    });
}

#[test]
fn the_key_is_printed_when_the_file_was_removed() {
    register_while(|file| fs::remove_file(file).expect("remove the file"));
}

#[test]
fn the_key_is_printed_when_the_file_is_no_longer_toml() {
    register_while(|file| fs::write(file, "[server\n").expect("spoil the file"));
}

#[test]
fn invalid_credentials_are_not_stored() {
    for (service_id, api_key) in [
        ("svc/../x", "ak_1_0123456789abcdef"),
        ("svc\u{1b}[2J", "ak_1_0123456789abcdef"),
        ("", "ak_1_0123456789abcdef"),
        ("..", "ak_1_0123456789abcdef"),
        (".", "ak_1_0123456789abcdef"),
        ("svc-1", "a b"),
        ("svc_ak_0123456789abcdef", "ak_0123456789abcdef"),
        ("svc-1", "e"),
    ] {
        let answer = json!({"service_id": service_id, "name": "n", "api_key": api_key, "status": "online"});
        let done = register_under(Fault::Answer(Response::json(200, &answer)));
        done.expect_stderr("nothing was stored").expect_stderr("the token is used up");
        assert!(!done.stderr.contains('\u{1b}') && !done.stderr.contains("ak_1"), "{:?}", done.stderr);
    }
}

#[test]
fn a_key_in_the_services_name_is_not_shown() {
    let server = FakeServer::start();
    let answer = json!({"service_id": "svc-1", "name": "lab ak_secret_0123456789", "api_key": "ak_secret_0123456789", "status": "online"});
    server.fault(Match::path("register"), Fault::Answer(Response::json(201, &answer)));
    let done = unregistered(&server).run(&REGISTER);
    done.expect_code(0).expect_stdout("The Server calls the service lab [api_key].");
    assert!(!done.stdout.contains("ak_secret_0123456789"), "{}", done.stdout);
}

#[test]
fn long_words_of_the_server_are_cut_and_the_token_is_hidden() {
    let long = "w".repeat(50_000);
    let invalid = json!({"service_id": format!("svc/{long}"), "name": long, "api_key": "ak_1_0123456789abcdef"});
    let done = register_under(Fault::Answer(Response::json(200, &invalid)));
    assert!(done.stderr.len() < 1000, "{}", done.stderr.len());
    let invalid = json!({"service_id": "rt_good/..", "name": "n", "api_key": "ak_1_0123456789abcdef"});
    let done = register_under(Fault::Answer(Response::json(200, &invalid)));
    done.expect_stderr("service_id `[token]/..`");
    for message in ["unknown token rt_good".to_owned(), format!("{}rt_good{long}", "x".repeat(480))] {
        let done = register_under(Fault::Answer(Response::json(400, &json!({"error": "Bad", "message": message}))));
        assert!(done.stderr.len() < 1000 && !done.stderr.contains("rt_g"), "{}", done.stderr);
    }
}

#[test]
fn server_messages_are_escaped_for_the_terminal() {
    let error = json!({"error": "Bad\u{1b}]0;title\u{7}", "message": "line\nagent-core: forged \u{9b}31m"});
    let done = register_under(Fault::Answer(Response::json(400, &error)));
    assert_eq!(done.stderr.lines().count(), 1, "{:?}", done.stderr);
    assert!(!done.stderr.trim_end().contains(char::is_control), "{:?}", done.stderr);

    let server = FakeServer::start();
    let agent = unregistered(&server);
    let answer =
        json!({"service_id": "svc-1", "name": "n\u{1b}[31m\nx", "api_key": "ak_0123456789abcdef", "status": "online"});
    server.fault(Match::path("register"), Fault::Answer(Response::json(200, &answer)));
    let done = agent.run(&REGISTER);
    done.expect_code(0).expect_stdout("calls the service n\\u{1b}[31m\\nx.");
}
