//! Which engine the docker client asks: variables, or a context, choose another one than the system's.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;

use crate::config::{DOCKER_HOST_KEY, Environment};
use crate::os::timeout::with_timeout;

/// What chooses the engine, in the order of precedence that the client has.
#[derive(Debug, Clone, Default)]
pub struct EngineChoice {
    /// The address in `executor.docker_host` or `DOCKER_HOST`.
    host: Option<String>,
    /// Which of them.
    host_source: &'static str,
    /// `DOCKER_CONTEXT`.
    context: Option<String>,
    /// The folder with the client's configuration.
    settings: Option<PathBuf>,
}

/// The part of the client's `config.json` that chooses an engine.
#[derive(Deserialize)]
struct Settings {
    #[serde(rename = "currentContext")]
    current_context: Option<String>,
}

impl EngineChoice {
    pub fn new(environment: &Environment) -> Self {
        Self {
            host: environment.docker_host.clone(),
            host_source: environment.docker_host_source(),
            context: environment.docker_context.clone(),
            settings: environment.docker_config.clone(),
        }
    }

    /// Gives a docker client the address that the configuration file names.
    pub fn set_for(&self, command: &mut Command) {
        if let Some(host) = &self.host {
            command.env("DOCKER_HOST", host);
        }
    }

    /// The address that the configuration file names: a shell doesn't have it.
    pub fn host_of_file(&self) -> Option<&str> {
        self.host.as_deref().filter(|_| self.host_source == DOCKER_HOST_KEY)
    }

    /// How the engine was chosen that doesn't answer, as a part of an error message. Cron, systemd and sudo don't keep the
    /// variables of a shell, so that an agent may ask another engine than the person who looks for the reason.
    pub fn describe(&self) -> String {
        if let Some(host) = &self.host {
            return format!("asked at `{host}`, which {} names", self.host_source);
        }
        let unset = "DOCKER_HOST isn't set";
        if let Some(context) = &self.context {
            return format!("{unset}; asked in the context `{context}`, which DOCKER_CONTEXT names");
        }
        match self.current_context() {
            Some(context) => format!("{unset}; asked in the docker context `{context}` of this user"),
            None => format!("{unset}, so the system's engine is asked; a rootless or other one has to be named in it"),
        }
    }

    /// The context that the client's configuration names. One that can't be read is no reason to say more.
    fn current_context(&self) -> Option<String> {
        let file = self.settings.as_ref()?.join("config.json");
        let text = with_timeout(move || fs::read(file).ok())??;
        let settings: Settings = serde_json::from_slice(&text).ok()?;
        settings.current_context.filter(|context| !context.is_empty() && context != "default")
    }
}

#[cfg(test)]
mod tests {
    use super::EngineChoice;
    use crate::config::Environment;
    use std::fs;

    #[test]
    fn what_has_chosen_the_engine_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let settings = dir.path().to_str().unwrap();
        let describe = |set: &[(&str, &str)]| {
            let get = |name: &str| set.iter().find(|(other, _)| *other == name).map(|(_, value)| value.into());
            EngineChoice::new(&Environment::new(get)).describe()
        };
        let own = ("DOCKER_CONFIG", settings);
        assert!(describe(&[own]).starts_with("DOCKER_HOST isn't set, so the system's engine is asked"));
        fs::write(dir.path().join("config.json"), r#"{"currentContext":"rootless"}"#).unwrap();
        assert!(describe(&[own]).contains("context `rootless` of this user"));
        let named = describe(&[own, ("DOCKER_CONTEXT", "lab")]);
        assert!(named.contains("context `lab`, which DOCKER_CONTEXT names"), "{named}");
        let at = describe(&[own, ("DOCKER_CONTEXT", "lab"), ("DOCKER_HOST", "unix:///run/x.sock")]);
        assert_eq!(at, "asked at `unix:///run/x.sock`, which DOCKER_HOST names");
        fs::write(dir.path().join("config.json"), "{").unwrap();
        assert!(describe(&[own]).contains("the system's engine"));
    }
}
