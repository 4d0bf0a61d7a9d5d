//! Starts the agent on a data_dir and works until it has to end.

use std::io::{self, IsTerminal};
use std::process;
use std::sync::Arc;

use crossbeam_channel::{Sender, bounded, unbounded};

use super::intake::Parts;
use super::shutdown::guard_exit;
use super::{Mode, Scheduler};
use crate::config::{Config, Credentials, SharedConfig};
use crate::data_dir::instance::Instance;
use crate::docker::Docker;
use crate::ledger::Ledger;
use crate::metrics::Counters;
use crate::os::platform;
use crate::os::trust::SearchPath;
use crate::server::Client;
use crate::task::{Context, Ends, Removals, Starts, Store};

/// The exit status after a second signal, as shells report SIGINT.
const INTERRUPTED: i32 = 130;

/// Works on the tasks of a data_dir whose lock this process holds, until a signal comes or `mode` is done.
///
/// # Errors
/// Why the agent couldn't start, or ended before it was asked to.
pub fn serve(config: Config, credentials: Credentials, instance: &Instance, mode: Mode) -> Result<(), String> {
    let data_dir = config.paths.data_dir.clone();
    let unusable = |error: io::Error| format!("`{}` can't be used: {error}", data_dir.display());
    let store = Store::open(&data_dir).map_err(unusable)?;
    let counters = Arc::<Counters>::default();
    let ledger = Ledger::new(instance.folder(), credentials.api_key.clone(), Arc::clone(&counters));
    ledger.make_reserve();
    let worker_client = Client::new(&config.server, credentials, Arc::clone(&counters));
    let client = worker_client.with_own_connections();
    let intake_client = worker_client.with_own_connections();
    let (shutdown, signals) = bounded(1);
    handle_signals(shutdown, [client.clone(), intake_client.clone()])?;
    let (message_sender, messages) = unbounded();
    let docker = Docker::new(&config).map_err(|error| format!("{error}; {}", error.remedy()))?;
    if let Some(folders) = docker.search_path.as_ref().and_then(SearchPath::unsafe_list) {
        log::warn!(
            "other users can put programs into these folders of PATH, so docker doesn't look for its helpers there: {folders}"
        );
    }
    let context = Context {
        ends: Ends::new(docker.clone(), instance.id()),
        removals: Removals::start(docker.clone()).map_err(|error| format!("a thread can't be started: {error}"))?,
        docker,
        shared_config: SharedConfig::new(config),
        client: worker_client,
        ledger,
        folder: instance.folder().clone(),
        instance_id: instance.id().to_owned(),
        messages: message_sender,
        counters,
        starts: Starts::default(),
    };
    let lock = instance.watch().clone();
    let parts = Parts { context, messages, client: intake_client, store, mode, lock };
    Scheduler::start(parts, client, signals).map_err(unusable)?.run()
}

/// The first signal starts a shutdown with a time limit; the second one ends the process at once.
fn handle_signals(shutdown: Sender<()>, clients: [Client; 2]) -> Result<(), String> {
    let mut is_shutting_down = false;
    let handler = move || {
        if is_shutting_down {
            process::exit(INTERRUPTED);
        }
        is_shutting_down = true;
        // The channel holds one message, and one is enough.
        let _ = shutdown.try_send(());
        if let Err(error) = guard_exit(&clients) {
            log::error!("can't start the shutdown watchdog: {error}");
        }
    };
    ctrlc::set_handler(handler).map_err(|error| format!("can't handle signals: {error}"))?;
    // That handler is also one of SIGHUP.
    catch_hang_up()
}

/// From now on SIGHUP doesn't end this process; the agent reads its configuration again for it. At a terminal it ends with
/// that.
///
/// # Errors
/// The system refuses it.
pub fn catch_hang_up() -> Result<(), String> {
    if io::stderr().is_terminal() {
        return Ok(());
    }
    platform::catch_hang_up().map_err(|error| format!("can't handle SIGHUP: {error}"))
}
