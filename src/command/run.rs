//! `run`: the agent in the foreground.

use std::path::Path;

use super::check_script::check_script;
use super::failure::Failure;
use super::registration::warn_of_authorities;
use super::setup::complete_config;
use crate::agent::{Mode, catch_hang_up, serve};
use crate::cli::RunArgs;
use crate::config::Config;
use crate::data_dir::holder::Role;
use crate::data_dir::instance::Instance;
use crate::data_dir::{AGENT_LOG, permissions};
use crate::logging::LogFile;
use crate::os::platform;
use crate::server::proxy::resolve_route;
use crate::task::mounts::check_mounts;
use crate::task::record::{Phase, Store};

/// Works on tasks until a signal comes.
pub fn run(file: &Path, args: &RunArgs, log_file: &LogFile) -> Result<(), Failure> {
    // What asks a daemon to read its configuration again may come as soon as it is started.
    catch_hang_up().map_err(Failure::new)?;
    platform::share_one_heap();
    if args.detached {
        platform::leave_session().map_err(Failure::context("can't leave the terminal's session"))?;
    }
    let (config, credentials) = complete_config(file, args)?;
    for warning in &config.warnings {
        log::warn!("{warning}");
    }
    permissions::restrict(&config.file, "the configuration file with the key").map_err(Failure::new)?;
    let data_dir = &config.paths.data_dir;
    config.check_data_dir_is_there()?;
    let instance = Instance::acquire(data_dir, Role::Agent)?;
    if let Some(last_used) = config.last_used() {
        last_used.note(instance.id());
    }
    if args.detached {
        log_file.open(instance.folder(), AGENT_LOG).map_err(Failure::unusable(data_dir))?;
    }
    if let Some(pid) = instance.left_by() {
        log::warn!(
            "the agent before this one (pid {pid}) ended without shutting down: it was killed, or the machine went down; its \
             tasks go on"
        );
    }
    check_host(&config)?;
    log::info!(
        "agent-core {} for service {} at {}, capacity {}, image {}, data in {}",
        env!("CARGO_PKG_VERSION"),
        credentials.service_id,
        config.server.base_url,
        config.executor.capacity,
        config.executor.image,
        data_dir.display()
    );
    serve(config, credentials, &instance, Mode::Serve).map_err(Failure::new)
}

/// Checks mounts, script and proxy. A missing mount ends the start only where no task is left to work on: running
/// containers and finished results don't need it.
fn check_host(config: &Config) -> Result<(), Failure> {
    if let Err(why) = check_mounts(config) {
        let data_dir = &config.paths.data_dir;
        let unsettled = Store::open(data_dir)
            .and_then(|store| store.load_all(|_, record| (record.phase < Phase::Settled).then_some(())))
            .map_err(Failure::unusable(data_dir))?;
        if unsettled.taken.is_empty() {
            return Err(Failure::new(why.to_string()));
        }
    }
    if let Err(why) = check_script(config) {
        log::error!("{why}; every task will fail");
    }
    warn_of_authorities(config);
    if let Some(why) = resolve_route(&config.server).problem() {
        log::warn!("`server.use_system_proxy`: {why}");
    }
    Ok(())
}
