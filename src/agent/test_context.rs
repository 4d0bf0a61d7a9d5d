//! What an agent is made of, for tests without a Server and an engine.

use std::path::Path;
use std::sync::Arc;

use crate::config::{Config, Credentials, Secret, SharedConfig};
use crate::docker::Docker;
use crate::ledger::Ledger;
use crate::os::trust::make_folder;
use crate::server::Client;
use crate::task::record::Store;
use crate::task::{Context, Ends, Removals, Starts};

/// The context and the records of an agent in this folder. `paths` is the section of this name in its configuration.
pub fn test_context(dir: &Path, paths: &str) -> (Arc<Context>, Store) {
    let text = format!("[server]\nbase_url='http://h'\n[paths]\n{paths}\n");
    let config = Config::parse(&dir.join("config.toml"), &text).unwrap();
    let credentials = Credentials { service_id: "s".to_owned(), api_key: Secret::new("k") };
    let store = Store::open(&config.paths.data_dir).unwrap();
    let folder = make_folder(&config.paths.data_dir).unwrap();
    let docker = Docker { program: "/nonexistent/docker".into(), ..Docker::default() };
    let context = Context {
        client: Client::new(&config.server, credentials, Arc::default()),
        ends: Ends::new(docker.clone(), ""),
        removals: Removals::start(docker.clone()).unwrap(),
        docker,
        ledger: Ledger::new(&folder, Secret::new(""), Arc::default()),
        folder,
        instance_id: String::new(),
        messages: crossbeam_channel::unbounded().0,
        counters: Arc::default(),
        starts: Starts::default(),
        shared_config: SharedConfig::new(config),
    };
    (Arc::new(context), store)
}
