//! What `run` needs of the Server: a way to it, its API at the other end, and a key that it accepts.

use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use ureq::http::Uri;

use super::report::{Check, Report};
use crate::config::{Config, Credentials, ServerConfig};
use crate::os::own_address::first_unprivileged_port;
use crate::server::probe::{Answered, Unanswered, probe, probe_without_key};
use crate::server::proxy::{ProxyRoute, resolve_route};
use crate::server::{Authorities, ClientError, Step, address_on_this_machine};
use crate::shell::{Earlier, register_command};

/// How far apart the two clocks may be. No task depends on the Server's clock, but people compare the agent's log and
/// ledger with the Server's, where a minute decides between online and offline (PROTOCOL 3), and an hour makes
/// certificates invalid. A clock that is set by the network is right to well under a second.
const CLOCKS_APART_SECS: f64 = 60.0;

/// How often the Server has to refuse the key.
const PROBES: u32 = 3;
const PROBE_PAUSE: Duration = Duration::from_millis(500);

const STEPS: [(Step, Check); 4] =
    [(Step::Name, Check::Dns), (Step::Connection, Check::Tcp), (Step::Tls, Check::Tls), (Step::Answer, Check::Server)];

/// The remedy where something answers that isn't the Server's API.
const WRONG_SERVER: &str = "correct `server.base_url`, with its path if it has one, or see what is wrong with the Server \
                            or a proxy before it";

pub fn check(config: &Config, report: &mut Report) {
    let route = resolve_route(&config.server);
    check_address(&config.server.base_url, &route, report);
    check_proxy(config.server.use_system_proxy, &route, report);
    let way = WayToServer::new(config, &route);
    let answered = probe_without_key(&config.server, config.agent.credentials.as_ref());
    way.report_steps(answered.as_ref().err(), report);
    if let Ok(Answered { refusal, .. }) = &answered {
        check_api(config, refusal.as_ref(), report);
    }
    check_credentials(config, report);
    check_clock(answered.ok(), report);
}

/// Warns of an address of this machine that any user may take.
fn check_address(base_url: &str, route: &ProxyRoute, report: &mut Report) {
    let (peer, shown) = match route {
        ProxyRoute::Via { address, .. } => {
            (address.as_str(), format!("{base_url} is reached through {address}, which"))
        }
        _ => (base_url, base_url.to_owned()),
    };
    let first = first_unprivileged_port();
    // A certificate on the way to the Server, or to the proxy, can't be taken with the port.
    let is_plain = !base_url.starts_with("https:") && !peer.starts_with("https:");
    let Some(address) = address_on_this_machine(peer).filter(|address| is_plain && address.port() >= first) else {
        return report.pass(Check::Address, base_url);
    };
    let port = if first == 0 { String::new() } else { format!(", or a port below {first}") };
    report.warn(
        Check::Address,
        format!(
            "{shown} leads to {address} on this machine, where any of its users may listen while the Server doesn't listen \
             on that very address; such a user gets the key and can offer tasks"
        ),
        format!("where others have accounts here, let the Server use https://{port}"),
    );
}

fn check_proxy(is_wanted: bool, route: &ProxyRoute, report: &mut Report) {
    match route {
        ProxyRoute::Direct { .. } if is_wanted => report.fail(
            Check::Proxy,
            "`server.use_system_proxy = true`, and no variable of this environment names a proxy for this address",
            "set HTTPS_PROXY or HTTP_PROXY also where the agent is started (a crontab takes lines `NAME=value`, systemd \
             `Environment=`), or set `server.use_system_proxy = false`",
        ),
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

/// The steps of a call to the Server, as they are reported.
struct WayToServer<'c> {
    base_url: &'c str,
    server: &'c ServerConfig,
    host: String,
    route: &'c ProxyRoute,
    /// The proxy's or the Server's address, for connections.
    peer: String,
    /// What has to be resolved by the name service.
    name: String,
}

impl<'c> WayToServer<'c> {
    fn new(config: &'c Config, route: &'c ProxyRoute) -> Self {
        let base_url = config.server.base_url.as_str();
        let host = base_url.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_owned)).unwrap_or_default();
        let (peer, name) = match route {
            ProxyRoute::Via { address, variable } => {
                (format!("the proxy {address}"), format!("the proxy in {variable}"))
            }
            _ => (base_url.to_owned(), format!("`{host}`")),
        };
        Self { base_url, server: &config.server, host, route, peer, name }
    }

    /// Reports each step up to the one that got no answer.
    fn report_steps(&self, unanswered: Option<&Unanswered>, report: &mut Report) {
        let is_https = self.base_url.starts_with("https:");
        for (step, check) in STEPS {
            if step == Step::Tls && !is_https {
                report.unneeded(check, "the address is http://, without encryption");
                continue;
            }
            match unanswered {
                Some(unanswered) if unanswered.step == step => {
                    report.fail(check, self.explain(unanswered), self.remedy(step))
                }
                Some(unanswered) if unanswered.step < step => report.skip(check, "not tried"),
                _ => self.pass(step, check, report),
            }
        }
    }

    /// Why a step got no answer, and at which port where the address names none.
    fn explain(&self, unanswered: &Unanswered) -> String {
        let why = unanswered.why.trim_start_matches("io: ");
        let names_port = self.base_url.parse::<Uri>().is_ok_and(|uri| uri.port().is_some());
        if unanswered.step != Step::Connection || names_port || matches!(self.route, ProxyRoute::Via { .. }) {
            return why.to_owned();
        }
        let port = if self.base_url.starts_with("https:") { 443 } else { 80 };
        format!("port {port}, since `server.base_url` names none: {why}")
    }

    fn pass(&self, step: Step, check: Check, report: &mut Report) {
        let is_address = self.host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        match step {
            Step::Name if is_address && !matches!(self.route, ProxyRoute::Via { .. }) => {
                report.pass(check, format!("{} is an address", self.host));
            }
            Step::Name => report.pass(check, format!("{} has an address", self.name)),
            Step::Connection => report.pass(check, format!("{} accepts connections", self.peer)),
            Step::Tls => match Authorities::load(self.server).problems.as_slice() {
                [] => report.pass(check, "the certificate is trusted"),
                problems => report.warn(
                    check,
                    format!("the certificate is trusted, but {}", problems.join("; ")),
                    "correct what the variable names, or unset it: the authorities of this system count in any case",
                ),
            },
            // `check_api` reports whether the answer is the Server's.
            Step::Answer => {}
        }
    }

    fn remedy(&self, step: Step) -> String {
        let (peer, name) = (&self.peer, &self.name);
        match step {
            Step::Name => format!("correct `server.base_url` or this machine's name service; {name} is asked for"),
            Step::Connection if matches!(self.route, ProxyRoute::Via { .. }) => {
                format!("make sure that {peer} is up, lets the agent CONNECT to the Server, and reaches it")
            }
            Step::Connection => {
                let proxies = match self.route {
                    ProxyRoute::Direct { ignored } if !ignored.is_empty() => {
                        "; if the way leads through a proxy, set `server.use_system_proxy = true`"
                    }
                    _ => "",
                };
                format!("make sure that {peer} is up and that no firewall is in between{proxies}")
            }
            Step::Tls => {
                "make sure that the Server's port speaks https and that this machine trusts its certificate (its \
                          authority's file can be named in SSL_CERT_FILE); is this machine's clock right?"
                    .to_owned()
            }
            Step::Answer => format!("see what answers at {peer}; is it http:// or https://?"),
        }
    }
}

/// Without a key the Server answers 401 (PROTOCOL 8); any other answer is another program's.
fn check_api(config: &Config, refusal: Option<&ClientError>, report: &mut Report) {
    let url = &config.server.base_url;
    let why = match refusal {
        Some(ClientError::Refused { status: 401 | 403, by_server: true, .. }) => {
            return report.pass(Check::Server, format!("the Server at {url} answers"));
        }
        Some(error) => error.to_string(),
        None => "it asks for no key".to_owned(),
    };
    let remedy = match url.split_once("/api/") {
        Some((before, _)) => format!("set `server.base_url` to \"{before}\": the agent adds `/api/v1` itself"),
        None => WRONG_SERVER.to_owned(),
    };
    report.fail(Check::Server, format!("what answers at {url} is not the Server's API: {why}"), remedy);
}

fn check_credentials(config: &Config, report: &mut Report) {
    let Some(Credentials { service_id, .. }) = &config.agent.credentials else {
        let register = register_command(&config.file, Earlier::None);
        let remedy = format!("run `{register}` with a token from the Server");
        return report.fail(Check::Credentials, "not registered", remedy);
    };
    if !report.has_passed(Check::Server) {
        return report.skip(Check::Credentials, "the Server doesn't answer as it should");
    }
    let error = match probe_repeatedly(config) {
        Ok(Answered { refusal: None | Some(ClientError::Refused { status: 404, by_server: true, .. }), .. }) => {
            return report.pass(Check::Credentials, format!("the Server accepts the key of {service_id}"));
        }
        Ok(Answered { refusal: Some(error), .. }) => error,
        Err(unanswered) => {
            let remedy = "try again; the same call without a key was answered";
            return report.fail(Check::Credentials, unanswered.why, remedy);
        }
    };
    let remedy = error.remedy(&register_command(&config.file, Earlier::Replaced));
    let remedy = remedy.unwrap_or_else(|| "see what is wrong with the Server or a proxy before it".to_owned());
    report.fail(Check::Credentials, error.to_string(), remedy);
}

/// Asks again where the Server refuses the key: the remedy abandons the work of the old registration.
fn probe_repeatedly(config: &Config) -> Result<Answered, Unanswered> {
    let ask = || probe(&config.server, config.agent.credentials.as_ref());
    let mut answer = ask();
    for _ in 1..PROBES {
        match &answer {
            Ok(Answered { refusal: Some(error), .. }) if error.may_need_registration() => {
                thread::sleep(PROBE_PAUSE);
                answer = ask();
            }
            _ => break,
        }
    }
    answer
}

fn check_clock(answered: Option<Answered>, report: &mut Report) {
    let Some(Answered { ahead_secs, .. }) = answered else {
        return report.skip(Check::Clock, "the Server doesn't answer");
    };
    let Some(ahead) = ahead_secs else {
        return report.skip(Check::Clock, "the Server's answer has no time (`Date`)");
    };
    let apart = ahead.abs();
    if apart <= CLOCKS_APART_SECS {
        let how = if apart < 1.0 { "the same time".to_owned() } else { format!("{apart:.0} s apart") };
        return report.pass(Check::Clock, format!("the Server's clock and ours: {how}"));
    }
    let which = if ahead > 0.0 { "behind" } else { "ahead of" };
    report.fail(
        Check::Clock,
        format!("this machine's clock is {apart:.0} s {which} the Server's"),
        "set the one that is wrong by the network (`timedatectl set-ntp true`)",
    );
}
