//! `unregister`: forgets the key of an agent whose work is done. The protocol has no call for that.

use std::path::Path;

use super::backlog::Left;
use super::failure::Failure;
use super::output::print_line;
use crate::cli::UnregisterArgs;
use crate::config::{Config, edit};
use crate::data_dir::holder::Role;
use crate::data_dir::instance::{Instance, InstanceError};
use crate::data_dir::{last_used, permissions};
use crate::shell::agent_command;
use crate::text::escape;

/// Removes service_id and api_key from the file.
pub fn unregister(file: &Path, args: &UnregisterArgs) -> Result<(), Failure> {
    let config = Config::load(file)?;
    let Some(credentials) = &config.agent.credentials else {
        print_line("The agent is not registered.");
        return Ok(());
    };
    if !args.force {
        config.check_data_dir_is_there()?;
    }
    // The lock is held until the key is gone: an agent that started meanwhile would take tasks with it.
    let _held = match permissions::find(&config.paths.data_dir)? {
        Some(_) => {
            Some(Instance::acquire(&config.paths.data_dir, Role::Unregister).map_err(|error| explain(&config, error))?)
        }
        None => None,
    };
    if let Some(left) = if args.force { None } else { Left::load(&config, &credentials.service_id)? } {
        return Err(Failure::new(format!(
            "{left}, so the key was not removed; start the agent and end it with `{}`, or lose that work with `{}`",
            agent_command(&config.file, &["stop", "--drain"]),
            agent_command(&config.file, &["unregister", "--force"])
        )));
    }
    edit::remove(&config.file, "agent", &["service_id", "api_key"])
        .map_err(Failure::with_path(&config.file, "can't be written"))?;
    last_used::forget(&config.file).map_err(Failure::context("the note of the data_dir can't be removed"))?;
    print_line(format_args!(
        "Unregistered: service {} and its key are no longer in {}.",
        escape(&credentials.service_id),
        config.file.display()
    ));
    print_line(
        "Copies of that file (`.bak`) may still have the key. Have the service deleted on the Server: the key stays valid.",
    );
    Ok(())
}

fn explain(config: &Config, error: InstanceError) -> Failure {
    match error {
        InstanceError::Held(holder) if holder.is_agent() => {
            Failure::new(format!("{holder}; stop it first with `{}`", agent_command(&config.file, &["stop"])))
        }
        error => error.into(),
    }
}
