//! What `run` needs of the Server: a way there, the right one at its end, and a key that it takes.

use std::net::IpAddr;

use ureq::http::Uri;

use super::report::{Check, Report};
use crate::config::{Config, Credentials};
use crate::server::probe::{Answered, Unanswered, probe};
use crate::server::proxy::{ProxyRoute, resolve_route};
use crate::server::{ClientError, Step};
use crate::shell::register_command;

/// How far apart the two clocks may be. Nothing that the agent does for a task rests on the Server's clock, but people
/// lay its log and ledger beside the Server's, where a minute is what decides between online and offline (PROTOCOL 3),
/// and an hour off makes certificates invalid. A clock that is set by the network is right to well under a second.
const CLOCKS_APART_SECS: f64 = 60.0;

const ALL: [(Step, Check); 4] =
    [(Step::Name, Check::Dns), (Step::Connection, Check::Tcp), (Step::Tls, Check::Tls), (Step::Answer, Check::Server)];

/// Looks at all of it.
pub fn check(config: &Config, report: &mut Report) {
    let route = resolve_route(&config.server);
    proxy(&route, report);
    let answered = match probe(&config.server, None) {
        Ok(answered) => {
            steps(config, &route, None, report);
            server(config, answered.refusal.as_ref(), report);
            Some(answered)
        }
        Err(unanswered) => {
            steps(config, &route, Some(&unanswered), report);
            None
        }
    };
    credentials(config, report);
    clock(answered, report);
}

fn proxy(route: &ProxyRoute, report: &mut Report) {
    match route {
        ProxyRoute::Direct { ignored } if ignored.is_empty() => report.pass(Check::Proxy, "none"),
        ProxyRoute::Direct { ignored } => report.pass(
            Check::Proxy,
            format!("none: what {} holds doesn't count (`server.use_system_proxy = false`)", ignored.join(", ")),
        ),
        ProxyRoute::Bypassed { variable } => {
            report.pass(Check::Proxy, format!("none: NO_PROXY excepts the Server from the one in {variable}"));
        }
        ProxyRoute::Via { address, variable } => report.pass(Check::Proxy, format!("{address}, from {variable}")),
        ProxyRoute::Invalid { .. } | ProxyRoute::Unsupported { .. } => report.fail(
            Check::Proxy,
            route.problem().unwrap_or_default(),
            "write it as http://HOST:PORT, or set `server.use_system_proxy = false`",
        ),
    }
}

/// The way as far as it went.
fn steps(config: &Config, route: &ProxyRoute, unanswered: Option<&Unanswered>, report: &mut Report) {
    let uri = config.server.base_url.parse::<Uri>().ok();
    let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
    let is_https = config.server.base_url.starts_with("https:");
    let (whom, names) = match route {
        ProxyRoute::Via { address, variable } => (format!("the proxy {address}"), format!("the proxy in {variable}")),
        _ => (config.server.base_url.clone(), format!("`{host}`")),
    };
    for (step, check) in ALL {
        if step == Step::Tls && !is_https {
            report.skip(check, "the address is http://, without encryption");
            continue;
        }
        match unanswered {
            Some(unanswered) if unanswered.step == step => {
                let remedy = match step {
                    Step::Name => {
                        format!("correct `server.base_url` or this machine's name service; {names} is asked for")
                    }
                    Step::Connection => {
                        let proxies = match route {
                            ProxyRoute::Direct { ignored } if !ignored.is_empty() => {
                                "; if the way leads through a proxy, set `server.use_system_proxy = true`"
                            }
                            _ => "",
                        };
                        format!("see that {whom} is up and that no firewall is in between{proxies}")
                    }
                    Step::Tls => {
                        "see that the Server's port speaks https and that this machine trusts its certificate \
                                  (its authority's file can be named in SSL_CERT_FILE); is this machine's clock right?"
                            .to_owned()
                    }
                    Step::Answer => format!("see what answers at {whom}; is it http:// or https://?"),
                };
                report.fail(check, &unanswered.why, remedy);
            }
            Some(unanswered) if unanswered.step < step => report.skip(check, "not tried"),
            _ => match step {
                Step::Name
                    if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
                        && !matches!(route, ProxyRoute::Via { .. }) =>
                {
                    report.pass(check, format!("{host} is an address"));
                }
                Step::Name => report.pass(check, format!("{names} has an address")),
                Step::Connection => report.pass(check, format!("{whom} takes connections")),
                Step::Tls => report.pass(check, "the certificate is trusted"),
                // Who it is that answers is another question.
                Step::Answer => {}
            },
        }
    }
}

/// Without a key the Server says 401 (PROTOCOL 8); whoever says something else is another one.
fn server(config: &Config, refusal: Option<&ClientError>, report: &mut Report) {
    let url = &config.server.base_url;
    let remedy = "correct `server.base_url`, with its path if it has one, or see what is wrong with the Server or a \
                  proxy before it";
    match refusal {
        Some(ClientError::Refused { status: 401 | 403, by_server: true, .. }) => {
            report.pass(Check::Server, format!("the Server at {url} answers"));
        }
        Some(error) => {
            report.fail(Check::Server, format!("at {url} it is not the Server's API that answers: {error}"), remedy);
        }
        None => report.fail(
            Check::Server,
            format!("at {url} it is not the Server's API that answers: it asks for no key"),
            remedy,
        ),
    }
}

fn credentials(config: &Config, report: &mut Report) {
    let register = register_command(&config.file);
    let Some(Credentials { service_id, .. }) = &config.agent.credentials else {
        report.fail(Check::Credentials, "not registered", format!("run `{register}` with a token from the Server"));
        return;
    };
    if !report.has_passed(Check::Server) {
        report.skip(Check::Credentials, "the Server doesn't answer as it should");
        return;
    }
    let error = match probe(&config.server, config.agent.credentials.as_ref()) {
        Ok(Answered { refusal: None | Some(ClientError::Refused { status: 404, by_server: true, .. }), .. }) => {
            report.pass(Check::Credentials, format!("the Server takes the key of {service_id}"));
            return;
        }
        Ok(Answered { refusal: Some(error), .. }) => error,
        Err(unanswered) => {
            report.fail(Check::Credentials, unanswered.why, "try again; the same call without a key was answered");
            return;
        }
    };
    let remedy = error.remedy(&register);
    let remedy = remedy.unwrap_or_else(|| "see what is wrong with the Server or a proxy before it".to_owned());
    report.fail(Check::Credentials, error.to_string(), remedy);
}

fn clock(answered: Option<Answered>, report: &mut Report) {
    let Some(Answered { ahead_secs, .. }) = answered else {
        report.skip(Check::Clock, "nobody answers");
        return;
    };
    let Some(ahead) = ahead_secs else {
        report.skip(Check::Clock, "the Server's answer says no time (`Date`)");
        return;
    };
    let apart = ahead.abs();
    if apart <= CLOCKS_APART_SECS {
        let how = if apart < 1.0 { "the same time".to_owned() } else { format!("{apart:.0} s apart") };
        report.pass(Check::Clock, format!("the Server's clock and ours: {how}"));
        return;
    }
    let which = if ahead > 0.0 { "behind" } else { "ahead of" };
    report.fail(
        Check::Clock,
        format!("this machine's clock is {apart:.0} s {which} the Server's"),
        "set the one that is wrong by the network (`timedatectl set-ntp true`)",
    );
}
