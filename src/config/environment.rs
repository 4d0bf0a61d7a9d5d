//! The environment as it was when the configuration was read: no code below `config` asks for a variable.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::Secret;
use crate::os::platform;

/// The key that names the engine.
pub const DOCKER_HOST_KEY: &str = "executor.docker_host";
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
    /// Keys of the file that stand for variables, since cron and systemd have none of a shell's.
    pub keys: VariableKeys,
}

/// What the file says in the place of variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VariableKeys {
    /// `server.proxy`, for each address. It may hold a password.
    pub proxy: Option<Secret>,
    /// `server.ca_file`, in the place of `SSL_CERT_FILE`.
    pub ca_file: Option<PathBuf>,
    /// `executor.docker_host`, in the place of `DOCKER_HOST`.
    pub docker_host: Option<String>,
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
        let keys = VariableKeys::default();
        Self { proxies, ssl_cert_file, ssl_cert_dirs, docker_config, docker_host, docker_context, has_docker_tls, keys }
    }

    /// The same with the values of these keys in the place of the variables'.
    pub fn with_keys(mut self, keys: VariableKeys) -> Self {
        self.ssl_cert_file = keys.ca_file.clone().or(self.ssl_cert_file);
        self.docker_host = keys.docker_host.clone().or(self.docker_host);
        self.keys = keys;
        self
    }

    /// What names [`Environment::ssl_cert_file`].
    pub fn cert_file_source(&self) -> &'static str {
        if self.keys.ca_file.is_some() { "server.ca_file" } else { "SSL_CERT_FILE" }
    }

    /// What names [`Environment::docker_host`].
    pub fn docker_host_source(&self) -> &'static str {
        if self.keys.docker_host.is_some() { DOCKER_HOST_KEY } else { "DOCKER_HOST" }
    }

    /// What names a proxy for this address, with its value: the key alone, or the variables in the order of their
    /// precedence.
    pub fn proxies_for(&self, base_url: &str) -> impl Iterator<Item = (&'static str, &str)> {
        let key = self.keys.proxy.as_ref().map(|proxy| ("server.proxy", proxy.expose()));
        let names = if base_url.starts_with("https:") { HTTPS } else { HTTP };
        let is_alone = key.is_some();
        let variables = names.into_iter().filter_map(|name| Some((name, self.proxies.get(name)?.expose())));
        key.into_iter().chain(variables.filter(move |_| !is_alone))
    }

    /// The hosts without a proxy, separated by commas.
    pub fn no_proxy(&self) -> &str {
        EXCEPTIONS.iter().find_map(|name| self.proxies.get(name)).map_or("", Secret::expose)
    }
}

#[cfg(test)]
mod tests {
    use super::{Environment, VariableKeys};
    use crate::config::Secret;
    use std::path::Path;

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
    fn keys_of_the_file_stand_for_variables() {
        let set = [("HTTP_PROXY", "other:1"), ("SSL_CERT_FILE", "/a"), ("DOCKER_HOST", "tcp://a:1")];
        let keys = VariableKeys {
            proxy: Some(Secret::new("http://u:secret@h:1")),
            ca_file: Some("/b".into()),
            docker_host: Some("unix:///b".to_owned()),
        };
        let environment = environment(&set).with_keys(keys);
        assert_eq!(environment.proxies_for("https://x").collect::<Vec<_>>(), [("server.proxy", "http://u:secret@h:1")]);
        assert_eq!(environment.ssl_cert_file.as_deref(), Some(Path::new("/b")));
        assert_eq!(environment.docker_host.as_deref(), Some("unix:///b"));
        assert_eq!(
            (environment.cert_file_source(), environment.docker_host_source()),
            ("server.ca_file", "executor.docker_host")
        );
        assert!(!format!("{environment:?}").contains("secret"));
    }

    #[test]
    fn a_password_is_not_shown() {
        let environment = environment(&[("HTTP_PROXY", "http://u:secret@h:1")]);
        assert!(!format!("{environment:?}").contains("secret"));
    }
}
