//! Which proxy the way to the Server takes: that of the environment, as other programs read it, and none unless
//! `server.use_system_proxy` says so.

use std::net::IpAddr;

use ureq::http::Uri;
use ureq::{Proxy, ProxyProtocol};

use crate::config::ServerConfig;

/// The variables that may name a proxy for an address, in the order in which they count: the one for its scheme first.
fn variables(server: &ServerConfig) -> [&'static str; 4] {
    if server.base_url.starts_with("https:") {
        ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
    } else {
        ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
    }
}

fn value(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|value| !value.trim().is_empty())
}

/// The proxy that calls take, if it is of a kind that this program speaks.
pub(super) fn spoken(server: &ServerConfig) -> Option<Proxy> {
    let is_spoken = |proxy: &Proxy| matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https);
    choose(server).map(|(proxy, _)| proxy).filter(is_spoken)
}

/// The proxy, and the variable in which it stands. Whether NO_PROXY excepts the Server from it, it knows.
fn choose(server: &ServerConfig) -> Option<(Proxy, &'static str)> {
    if !server.use_system_proxy {
        return None;
    }
    let excepted = value("NO_PROXY").or_else(|| value("no_proxy")).unwrap_or_default();
    variables(server).into_iter().find_map(|variable| {
        let proxy = Proxy::new(value(variable)?.trim()).ok()?;
        Some((with_exceptions(&proxy, &excepted)?, variable))
    })
}

/// The same proxy, but not for these hosts. A name stands for all below it, too, as with other programs.
fn with_exceptions(proxy: &Proxy, excepted: &str) -> Option<Proxy> {
    let mut builder = Proxy::builder(proxy.protocol()).host(proxy.host()).port(proxy.port());
    if let Some(user) = proxy.username() {
        builder = builder.username(user);
    }
    if let Some(password) = proxy.password() {
        builder = builder.password(password);
    }
    for host in excepted.split(',').map(str::trim).filter(|host| !host.is_empty()) {
        builder = builder.no_proxy(host);
        if host.parse::<IpAddr>().is_err() && !host.starts_with(['.', '*']) {
            builder = builder.no_proxy(&format!(".{host}"));
        }
    }
    builder.build().ok()
}

/// Which way calls to the Server take.
#[derive(Debug, PartialEq, Eq)]
pub enum Way {
    /// Straight, although these variables name a proxy.
    Direct {
        /// The variables that don't count.
        ignored: Vec<&'static str>,
    },
    /// Straight, since NO_PROXY excepts the Server from the proxy of this variable.
    Excepted {
        /// Where the proxy stands.
        variable: &'static str,
    },
    /// Through a proxy.
    Proxy {
        /// Scheme, host and port, without a password.
        address: String,
        /// Where it stands.
        variable: &'static str,
    },
    /// Straight: these variables hold no proxy's address and are passed over.
    Unusable {
        /// The variables.
        variables: Vec<&'static str>,
    },
    /// Straight: the proxy is of a kind that this program doesn't speak, and is passed over.
    Unknown {
        /// Scheme, host and port, without a password.
        address: String,
        /// Where it stands.
        variable: &'static str,
    },
}

impl Way {
    /// The proxy in words, if there is one.
    pub fn proxy(&self) -> Option<String> {
        match self {
            Self::Proxy { address, variable } => Some(format!("the proxy {address}, from {variable}")),
            _ => None,
        }
    }

    /// Why no proxy is used although the configuration wants one.
    pub fn trouble(&self) -> Option<String> {
        match self {
            Self::Unusable { variables } => {
                Some(format!("{} holds no proxy's address, so that none is used", variables.join(", ")))
            }
            Self::Unknown { address, variable } => Some(format!(
                "{address}, from {variable}, is no proxy that takes CONNECT over http:// or https://, so that none is used"
            )),
            Self::Direct { .. } | Self::Excepted { .. } | Self::Proxy { .. } => None,
        }
    }
}

/// Which way calls to the Server take, and by which variable.
pub fn resolve_route(server: &ServerConfig) -> Way {
    let set: Vec<&'static str> = variables(server).into_iter().filter(|variable| value(variable).is_some()).collect();
    if !server.use_system_proxy {
        return Way::Direct { ignored: set };
    }
    let Some((proxy, variable)) = choose(server) else {
        return if set.is_empty() { Way::Direct { ignored: set } } else { Way::Unusable { variables: set } };
    };
    if server.base_url.parse::<Uri>().is_ok_and(|uri| proxy.is_no_proxy(&uri)) {
        return Way::Excepted { variable };
    }
    let scheme = proxy.uri().scheme_str().unwrap_or("http").to_ascii_lowercase();
    let address = format!("{scheme}://{}:{}", proxy.host(), proxy.port());
    match proxy.protocol() {
        ProxyProtocol::Http | ProxyProtocol::Https => Way::Proxy { address, variable },
        _ => Way::Unknown { address, variable },
    }
}

#[cfg(test)]
mod tests {
    use super::with_exceptions;
    use ureq::Proxy;
    use ureq::http::Uri;

    #[test]
    fn exceptions_are_read_as_other_programs_do() {
        let proxy = Proxy::new("http://user:secret@proxy:8080").unwrap();
        let proxy = with_exceptions(&proxy, "localhost, example.org ,.lab.net,,10.0.0.1").unwrap();
        assert_eq!((proxy.host(), proxy.port()), ("proxy", 8080));
        assert_eq!((proxy.username(), proxy.password()), (Some("user"), Some("secret")));
        let is_excepted = |host: &str| proxy.is_no_proxy(&format!("http://{host}/").parse::<Uri>().unwrap());
        for host in ["localhost", "example.org", "aaas.example.org", "a.lab.net", "10.0.0.1"] {
            assert!(is_excepted(host), "{host}");
        }
        for host in ["badexample.org", "example.com", "10.0.0.10", "org"] {
            assert!(!is_excepted(host), "{host}");
        }
    }
}
