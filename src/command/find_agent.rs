//! The agent that runs on a configuration file that has mistakes.

use std::path::Path;

use super::failure::Failure;
use crate::config::{Config, ConfigError};
use crate::data_dir::holder::find_holder;
use crate::data_dir::permissions;

/// The pid of an agent that runs on the data_dir that a file names, which may be wrong in other places.
pub fn running_agent(file: &Path) -> Option<u32> {
    let data_dir = Config::data_dir_of(file).filter(|data_dir| permissions::find(data_dir).is_ok());
    let holder = data_dir.and_then(|data_dir| find_holder(&data_dir).ok().flatten());
    holder.filter(|holder| holder.is_agent()).and_then(|holder| holder.pid)
}

/// The error of the configuration, and the pid of an agent that runs on the data_dir that the file names.
pub fn name_running_agent(file: &Path, error: ConfigError) -> Failure {
    match running_agent(file) {
        Some(pid) => Failure::usage(format!(
            "{error}\nThe agent (pid {pid}) is still running; correct the file, or stop the agent with `kill {pid}`."
        )),
        None => error.into(),
    }
}
