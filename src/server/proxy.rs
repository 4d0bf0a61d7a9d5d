//! The route to the Server: direct, or through the proxy that the environment names where `server.use_system_proxy`
//! is set.

use std::net::IpAddr;

use ureq::http::Uri;
use ureq::{Proxy, ProxyProtocol};

use crate::config::ServerConfig;

/// The proxy that calls go through, if it is of a kind that this program supports. The value applies NO_PROXY itself.
pub(super) fn supported_proxy(server: &ServerConfig) -> Option<Proxy> {
    chosen_proxy(server).map(|(proxy, _)| proxy).filter(is_supported)
}

fn is_supported(proxy: &Proxy) -> bool {
    matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https)
}

/// The first variable that holds the address of a proxy.
fn chosen_proxy(server: &ServerConfig) -> Option<(Proxy, &'static str)> {
    if !server.use_system_proxy {
        return None;
    }
    let mut proxies = server.environment.proxies_for(&server.base_url);
    proxies.find_map(|(variable, address)| {
        let proxy = Proxy::new(address).ok()?;
        Some((with_exceptions(&proxy, server.environment.no_proxy())?, variable))
    })
}

/// The same proxy, but not for these hosts. A name includes its subdomains, as in other programs.
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

/// How calls reach the Server.
#[derive(Debug, PartialEq, Eq)]
pub enum ProxyRoute {
    /// Direct, although these variables name a proxy.
    Direct { ignored: Vec<&'static str> },
    /// Direct, since NO_PROXY excepts the Server from the proxy of this variable.
    Bypassed { variable: &'static str },
    /// Through a proxy. The address has no password.
    Via { address: String, variable: &'static str },
    /// Direct: none of these variables holds the address of a proxy.
    Invalid { variables: Vec<&'static str> },
    /// Direct: the program doesn't support this kind of proxy. The address has no password.
    Unsupported { address: String, variable: &'static str },
}

impl ProxyRoute {
    /// The proxy and its variable, as a part of an error message.
    pub fn proxy(&self) -> Option<String> {
        match self {
            Self::Via { address, variable } => Some(format!("the proxy {address}, from {variable}")),
            _ => None,
        }
    }

    /// Why calls go through no proxy although the configuration asks for one.
    pub fn problem(&self) -> Option<String> {
        match self {
            Self::Invalid { variables } => {
                Some(format!("{} holds no proxy's address, so that none is used", variables.join(", ")))
            }
            Self::Unsupported { address, variable } => Some(format!(
                "{address}, from {variable}, is no proxy that takes CONNECT over http:// or https://, so that none is used"
            )),
            Self::Direct { .. } | Self::Bypassed { .. } | Self::Via { .. } => None,
        }
    }
}

/// How calls reach the Server, and which variable decides it.
pub fn resolve_route(server: &ServerConfig) -> ProxyRoute {
    let set: Vec<_> = server.environment.proxies_for(&server.base_url).map(|(variable, _)| variable).collect();
    if !server.use_system_proxy || set.is_empty() {
        return ProxyRoute::Direct { ignored: set };
    }
    let Some((proxy, variable)) = chosen_proxy(server) else { return ProxyRoute::Invalid { variables: set } };
    if server.base_url.parse::<Uri>().is_ok_and(|uri| proxy.is_no_proxy(&uri)) {
        return ProxyRoute::Bypassed { variable };
    }
    let scheme = proxy.uri().scheme_str().unwrap_or("http").to_ascii_lowercase();
    let address = format!("{scheme}://{}:{}", proxy.host(), proxy.port());
    if is_supported(&proxy) {
        ProxyRoute::Via { address, variable }
    } else {
        ProxyRoute::Unsupported { address, variable }
    }
}

#[cfg(test)]
mod tests {
    use super::with_exceptions;
    use ureq::Proxy;
    use ureq::http::Uri;

    #[test]
    fn no_proxy_matches_hosts_domains_and_addresses() {
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
