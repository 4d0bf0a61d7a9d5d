//! A Server that answers with a redirect: the key is sent to the configured address only.

use crate::support::agent::Agent;
use crate::support::secs;
use crate::support::server::{FakeServer, Fault, Match, Response};

fn assert_not_followed(status: u16) {
    let (server, other) = (FakeServer::start(), FakeServer::start());
    let place = format!("{}/api/v1/elsewhere", other.url());
    let response = Response::new(status, "text/html", "<html>moved</html>").header("location", &place);
    server.fault(Match::any(), Fault::Answer(response));
    let agent = Agent::builder(&server).without_engine().build();
    let mut running = agent.start();
    running.wait_log(&format!("the Server answered {status}: a redirect to {place}"), secs(10));
    running.wait_log("set `server.base_url`", secs(20));
    server.wait_until("another try", secs(20), |server| server.requests().len() >= 2);
    let asked = other.requests();
    assert!(asked.is_empty(), "{asked:#?}");
}

#[test]
fn a_redirect_of_302_is_not_followed() {
    assert_not_followed(302);
}

/// A client that follows a 307 repeats method, body and headers.
#[test]
fn a_redirect_of_307_is_not_followed() {
    assert_not_followed(307);
}
