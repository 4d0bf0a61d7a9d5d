//! The configuration of a running agent, which may be read again.

use std::sync::{Arc, PoisonError, RwLock};

use super::Config;

/// The configuration that counts now. The lock is held for as long as it takes to copy a pointer.
#[derive(Debug)]
pub struct SharedConfig(RwLock<Arc<Config>>);

/// What became of a file that was read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reloaded {
    /// The keys whose new values count from now on.
    pub changed: Vec<&'static str>,
    /// The keys whose new values count after a restart only.
    pub kept: Vec<&'static str>,
}

impl SharedConfig {
    pub fn new(config: Config) -> Self {
        Self(RwLock::new(Arc::new(config)))
    }

    /// The present configuration. What is begun with it goes on with it.
    pub fn get(&self) -> Arc<Config> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another configuration in its place, but for what can't change while the agent runs.
    pub fn replace(&self, new: Config) -> Reloaded {
        let old = self.get();
        let (new, reloaded) = merge(&old, new);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        reloaded
    }
}

/// The new configuration with the old one's values of what can't change.
fn merge(old: &Config, mut new: Config) -> (Config, Reloaded) {
    let mut kept = Vec::new();
    let mut keep = |name, differs: bool| {
        if differs {
            kept.push(name);
        }
    };
    keep("server.base_url", old.server.base_url != new.server.base_url);
    keep("server.use_system_proxy", old.server.use_system_proxy != new.server.use_system_proxy);
    keep("server.max_requests_per_minute", old.server.max_requests_per_minute != new.server.max_requests_per_minute);
    keep("agent.service_id, agent.api_key", old.agent.credentials != new.agent.credentials);
    keep("executor.docker", old.executor.docker != new.executor.docker);
    keep(
        "server.proxy, server.ca_file, executor.docker_host",
        old.server.environment.keys != new.server.environment.keys,
    );
    keep("paths.data_dir", old.paths.data_dir != new.paths.data_dir);
    let poll_interval = new.server.poll_interval;
    new.server = super::ServerConfig { poll_interval, ..old.server.clone() };
    new.agent.credentials.clone_from(&old.agent.credentials);
    new.executor.docker.clone_from(&old.executor.docker);
    new.executor.docker_host.clone_from(&old.executor.docker_host);
    new.paths.data_dir = old.paths.data_dir.clone();
    let changed = changed(old, &new);
    (new, Reloaded { changed, kept })
}

/// The keys and sections whose values differ.
fn changed(old: &Config, new: &Config) -> Vec<&'static str> {
    let (was, is) = (&old.executor, &new.executor);
    let (paths_were, paths) = (&old.paths, &new.paths);
    let differ = [
        ("server.poll_interval_secs", old.server.poll_interval != new.server.poll_interval),
        ("agent.name", old.agent.name != new.agent.name),
        ("executor.executor_type and its script or command", was.program != is.program),
        ("executor.image", was.image != is.image),
        ("executor.capacity", was.capacity != is.capacity),
        ("executor.timeout_minutes", was.timeout_minutes != is.timeout_minutes),
        ("executor.idle_timeout_minutes", was.idle_timeout_minutes != is.idle_timeout_minutes),
        ("executor.memory_limit", was.memory_limit != is.memory_limit),
        ("executor.working_dir", was.working_dir != is.working_dir),
        ("executor.env", was.env != is.env),
        ("options of `docker run`", was.options != is.options),
        ("paths.mounts", paths_were.mounts != paths.mounts),
        ("paths.min_free_disk_mb", paths_were.min_free_disk_mb != paths.min_free_disk_mb),
        ("paths.retention_hours", paths_were.retention_hours != paths.retention_hours),
        ("outputs", old.outputs != new.outputs),
    ];
    differ.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::SharedConfig;
    use crate::config::Config;
    use std::path::Path;

    fn config(text: &str) -> Config {
        Config::parse(Path::new("/c/config.toml"), text).unwrap()
    }

    #[test]
    fn what_can_change_changes_and_the_rest_is_named() {
        let shared = SharedConfig::new(config("[server]\nbase_url='http://h'\n[executor]\ncapacity=2\n"));
        let before = shared.get();
        let reloaded = shared.replace(config(
            "[server]\nbase_url='http://other'\npoll_interval_secs=9\n[executor]\ncapacity=5\nimage='i:2'\n\
             [executor.env]\nA='b'\n[paths]\ndata_dir='./other'\n[outputs]\nmax_files=7\n",
        ));
        let changed = ["server.poll_interval_secs", "executor.image", "executor.capacity", "executor.env", "outputs"];
        assert_eq!(reloaded.changed, changed);
        assert_eq!(reloaded.kept, ["server.base_url", "paths.data_dir"]);
        let now = shared.get();
        assert_eq!((now.executor.capacity, now.outputs.max_files, before.executor.capacity), (5, 7, 2));
        assert_eq!((&now.server.base_url, &now.paths.data_dir), (&before.server.base_url, &before.paths.data_dir));
    }

    #[test]
    fn an_unchanged_file_changes_nothing() {
        let text = "[server]\nbase_url='http://h'\n[executor]\ncpus=1.5\ngpus='all'\n";
        let reloaded = SharedConfig::new(config(text)).replace(config(text));
        assert!(reloaded.changed.is_empty() && reloaded.kept.is_empty(), "{reloaded:?}");
    }
}
