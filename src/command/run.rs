//! `run`: the agent in the foreground.

use std::path::Path;
use std::process::ExitCode;

use super::check_script::check_script;
use super::failure::{CommandResult, Failure};
use super::setup::complete_config;
use crate::agent::{Mode, serve};
use crate::cli::RunArgs;
use crate::data_dir::holder::Role;
use crate::data_dir::instance::Instance;
use crate::data_dir::permissions;
use crate::logging::LogFile;
use crate::os::platform;
use crate::server::proxy::resolve_route;
use crate::task::mounts::check_mounts;
use crate::task::record::{Phase, Store};

/// Works on tasks until a signal comes.
pub fn run(file: &Path, args: &RunArgs, log_file: &LogFile) -> CommandResult {
    platform::share_one_heap();
    if args.detached {
        platform::leave_session().map_err(|error| Failure::new(format!("can't leave the terminal: {error}")))?;
    }
    let (config, credentials) = complete_config(file, args)?;
    for warning in &config.warnings {
        log::warn!("{warning}");
    }
    permissions::restrict(&config.file, "the configuration file with the key").map_err(Failure::new)?;
    let instance =
        Instance::acquire(&config.paths.data_dir, Role::Agent).map_err(|error| Failure::new(error.to_string()))?;
    let in_data_dir =
        |error: std::io::Error| Failure::new(format!("`{}` can't be used: {error}", config.paths.data_dir.display()));
    if args.detached {
        log_file.open(config.paths.data_dir.agent_log()).map_err(in_data_dir)?;
    }
    let store = Store::open(&config.paths.data_dir).map_err(in_data_dir)?;
    // A mount that is missing is no reason to leave running containers and finished results alone.
    if let Err(why) = check_mounts(&config) {
        let work = store.load_all(|_, task| (task.phase < Phase::Settled).then_some(())).map_err(in_data_dir)?.taken;
        if work.is_empty() {
            return Err(Failure::new(why));
        }
    }
    if let Err(why) = check_script(&config) {
        log::error!("{why}; every task will fail");
    }
    if let Some(why) = resolve_route(&config.server).problem() {
        log::warn!("`server.use_system_proxy`: {why}");
    }
    log::info!(
        "agent-core {} for service {} at {}, capacity {}, image {}, data in {}",
        env!("CARGO_PKG_VERSION"),
        credentials.service_id,
        config.server.base_url,
        config.executor.capacity,
        config.executor.image,
        config.paths.data_dir.display()
    );
    serve(config, credentials, &instance, Mode::Serve)?;
    drop(instance);
    Ok(ExitCode::SUCCESS)
}
