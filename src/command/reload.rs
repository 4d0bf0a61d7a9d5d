//! `reload`: has the running agent read the configuration file again.

use std::path::Path;
use std::time::Duration;

use super::failure::Failure;
use super::find_agent::running_agent;
use super::output::{eprint_line, print_line};
use super::wait::wait_for;
use crate::agent::status_file::{Reload, State};
use crate::cli::ReloadArgs;
use crate::config::Config;
use crate::data_dir::holder::find_holder;
use crate::data_dir::instance::ReloadRequest;
use crate::data_dir::permissions;
use crate::os::random::random_id;

/// How long the agent may take: it looks for requests every second, but an `accept` may hold it up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks the agent and prints what it says.
pub fn reload(file: &Path, args: &ReloadArgs) -> Result<(), Failure> {
    let config = Config::load(file).map_err(|error| match error {
        error if running_agent(file).is_some() => {
            Failure::usage(format!("{error}\nNothing has changed: the running agent goes on as before."))
        }
        error => error.into(),
    })?;
    let data_dir = &config.paths.data_dir;
    permissions::find(data_dir)?;
    let holder = find_holder(data_dir).map_err(Failure::unusable(data_dir))?.filter(|holder| holder.is_agent());
    let Some(holder) = holder else {
        return Err(Failure::new(format!(
            "no agent runs on `{}`; one reads the file when it is started (where `paths.data_dir` was changed, the agent \
             on the earlier one has to be stopped first)",
            data_dir.display()
        )));
    };
    let pid =
        holder.pid.ok_or_else(|| Failure::new("an agent is running, but its pid can't be read from agent.lock"))?;
    let id = random_id();
    let log_level = args.log_level.clone().unwrap_or_default();
    let request = ReloadRequest { id, log_level };
    request.send(data_dir, pid).map_err(Failure::context("the agent can't be asked"))?;
    let answer = wait_for(PATIENCE, || {
        let state = State::load(data_dir).filter(|state| state.pid == pid)?;
        state.last_reload.filter(|reload| reload.id == request.id)
    });
    match answer {
        None => Err(Failure::new(format!(
            "the agent (pid {pid}) hasn't read the file within {} s and will do so as soon as it can; its log says what \
             came of it",
            PATIENCE.as_secs()
        ))),
        Some(Reload { error: Some(error), .. }) => {
            Err(Failure::new(format!("{error}\nNothing has changed: the running agent goes on as before.")))
        }
        Some(Reload { lines, .. }) => {
            print_line(format_args!("The agent (pid {pid}) has read {}.", config.file.display()));
            lines.iter().for_each(print_line);
            config.warnings.iter().for_each(eprint_line);
            Ok(())
        }
    }
}
