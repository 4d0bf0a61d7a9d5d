//! The environment as it was when the configuration was read: no code below `config` asks for a variable.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::Secret;
use crate::os::platform;

/// The variables that may name a proxy for an address, in the order of their precedence.
const HTTPS: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
const HTTP: [&str; 4] = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
/// The variables that may name hosts without a proxy, in the order of their precedence.
const EXCEPTIONS: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// The variables that count for connections to the Server.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// Those that are set and not blank. An address of a proxy may hold a password.
    proxies: BTreeMap<&'static str, Secret>,
    /// `SSL_CERT_FILE`; an empty value counts as none.
    pub ssl_cert_file: Option<PathBuf>,
    /// The folders of `SSL_CERT_DIR`.
    pub ssl_cert_dirs: Vec<PathBuf>,
    /// The folder with the docker client's configuration.
    pub docker_config: Option<PathBuf>,
    /// `DOCKER_HOST`, the address of the engine.
    pub docker_host: Option<String>,
    /// `DOCKER_CONTEXT`, the name of a context of the docker client.
    pub docker_context: Option<String>,
    /// Whether docker checks the engine's certificate (`DOCKER_TLS_VERIFY`).
    pub has_docker_tls: bool,
}

impl Environment {
    /// The environment of this process.
    pub fn from_process() -> Self {
        Self::new(|variable| std::env::var_os(variable))
    }

    /// An environment with these values.
    pub fn new(get: impl Fn(&str) -> Option<OsString>) -> Self {
        let text = |variable: &&str| {
            let value = get(variable)?.into_string().ok()?.trim().to_owned();
            (!value.is_empty()).then(|| Secret::new(value))
        };
        let names = HTTPS.into_iter().chain(HTTP).chain(EXCEPTIONS);
        let proxies = names.filter_map(|name| Some((name, text(&name)?))).collect();
        let ssl_cert_file = get("SSL_CERT_FILE").filter(|file| !file.is_empty()).map(PathBuf::from);
        let ssl_cert_dirs = get("SSL_CERT_DIR").unwrap_or_default();
        let is_named = |folder: &PathBuf| !folder.as_os_str().is_empty();
        let ssl_cert_dirs = std::env::split_paths(&ssl_cert_dirs).filter(is_named).collect();
        let folder = |variable| get(variable).filter(|folder| !folder.is_empty()).map(PathBuf::from);
        // Without HOME, docker asks for the account's home.
        let home = || folder("HOME").or_else(platform::home);
        let docker_config = folder("DOCKER_CONFIG").or_else(|| Some(home()?.join(".docker")));
        let plain =
            |variable| get(variable).and_then(|value| value.into_string().ok()).filter(|value| !value.is_empty());
        let has_docker_tls = get("DOCKER_TLS_VERIFY").is_some_and(|value| !value.is_empty());
        let (docker_host, docker_context) = (plain("DOCKER_HOST"), plain("DOCKER_CONTEXT"));
        Self { proxies, ssl_cert_file, ssl_cert_dirs, docker_config, docker_host, docker_context, has_docker_tls }
    }

    /// The variables that name a proxy for this address with their values, in the order of their precedence.
    pub fn proxies_for(&self, base_url: &str) -> impl Iterator<Item = (&'static str, &str)> {
        let names = if base_url.starts_with("https:") { HTTPS } else { HTTP };
        names.into_iter().filter_map(|name| Some((name, self.proxies.get(name)?.expose())))
    }

    /// The hosts without a proxy, separated by commas.
    pub fn no_proxy(&self) -> &str {
        EXCEPTIONS.iter().find_map(|name| self.proxies.get(name)).map_or("", Secret::expose)
    }
}

#[cfg(test)]
mod tests {
    use super::Environment;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        let get = |name: &str| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| value.into());
        Environment::new(get)
    }

    #[test]
    fn scheme_variables_precede_all_proxy_and_blanks_are_skipped() {
        let set = [("all_proxy", "all:1"), ("http_proxy", " plain:2 "), ("HTTPS_PROXY", " "), ("NO_PROXY", "")];
        let environment = environment(&set);
        let found = |url| environment.proxies_for(url).collect::<Vec<_>>();
        assert_eq!(found("http://h"), [("http_proxy", "plain:2"), ("all_proxy", "all:1")]);
        assert_eq!(found("https://h"), [("all_proxy", "all:1")]);
        assert_eq!((environment.no_proxy(), environment.ssl_cert_file.is_none()), ("", true));
    }

    #[test]
    fn a_password_is_not_shown() {
        let environment = environment(&[("HTTP_PROXY", "http://u:secret@h:1")]);
        assert!(!format!("{environment:?}").contains("secret"));
    }
}
