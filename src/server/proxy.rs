//! The route to the Server: direct, or through the proxy that the environment names where `server.use_system_proxy`
//! is set.

use ureq::http::Uri;
use ureq::{Proxy, ProxyProtocol};

use super::no_proxy::{Target, is_excepted};
use crate::config::ServerConfig;

/// The proxy that calls go through, if it is of a kind that this program supports, and NO_PROXY doesn't except the
/// Server.
pub(super) fn supported_proxy(server: &ServerConfig) -> Option<Proxy> {
    chosen_proxy(server).map(|(proxy, _)| proxy).filter(|proxy| is_supported(proxy) && !is_bypassed(server))
}

/// Whether NO_PROXY excepts the Server.
fn is_bypassed(server: &ServerConfig) -> bool {
    let Ok(uri) = server.base_url.parse::<Uri>() else { return false };
    let default_port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    let target = Target { host: uri.host().unwrap_or_default(), port: uri.port_u16().unwrap_or(default_port) };
    is_excepted(target, server.environment.no_proxy())
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
    proxies.find_map(|(variable, address)| Some((without_exceptions(&Proxy::new(address).ok()?)?, variable)))
}

/// The same proxy without the library's own reading of NO_PROXY.
fn without_exceptions(proxy: &Proxy) -> Option<Proxy> {
    let mut builder = Proxy::builder(proxy.protocol()).host(proxy.host()).port(proxy.port());
    if let Some(user) = proxy.username() {
        builder = builder.username(user);
    }
    if let Some(password) = proxy.password() {
        builder = builder.password(password);
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
    if is_bypassed(server) {
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
