//! `register`: exchanges a one-time token for credentials and stores them.

use std::io::{self, IsTerminal};
use std::path::Path;

use super::backlog::Left;
use super::failure::Failure;
use super::output::{eprint_line, print_line};
use super::registration::register_agent;
use crate::cli::RegisterArgs;
use crate::config::edit::back_up;
use crate::config::{Config, Credentials};
use crate::data_dir::holder::find_holder;
use crate::shell::{Earlier, agent_command, register_command};
use crate::text::escape;

/// Registers the agent of a configuration file.
pub fn register(file: &Path, args: &RegisterArgs) -> Result<(), Failure> {
    let config = Config::load_to_register(file)?;
    let old = Config::load(file).ok().and_then(|config| config.agent.credentials);
    if let Some(old) = &old {
        if !args.replace {
            return Err(already_registered(&config, old));
        }
        let copy =
            back_up(&config.file).map_err(Failure::with_path(&config.file, "can't be copied; it was not changed"))?;
        print_line(format_args!("The old registration is in {}.", copy.display()));
    }
    let token = if args.token == "-" { read_token()? } else { args.token.clone() };
    let name = args.name.as_deref().unwrap_or(&config.agent.name);
    register_agent(&config, &token, name)?;
    if matches!(find_holder(&config.paths.data_dir), Ok(Some(holder)) if holder.is_agent()) {
        let [stop, start] = ["stop", "run-detached"].map(|command| agent_command(&config.file, &[command]));
        print_line(format_args!(
            "An agent is running with the old registration: stop it and start it again, with `{stop}` and `{start}`."
        ));
        return Ok(());
    }
    if let Some(left) = old.and_then(|old| Left::load(&config, &old)) {
        print_line(format_args!("{left}; only the old registration can deliver them."));
    }
    let [check, start] = ["check", "run-detached"].map(|command| agent_command(&config.file, &[command]));
    print_line(format_args!("Next: run `{check}`, then `{start}`."));
    Ok(())
}

fn already_registered(config: &Config, old: &Credentials) -> Failure {
    let left = Left::load(config, old).map(|left| format!("; {left}, which could then not be delivered"));
    Failure::new(format!(
        "registered already, as service {} with {}, so nothing was changed and the token was not used; another registration \
         replaces the key, which the Server doesn't show again{}; to do that all the same, run `{}`",
        escape(&old.service_id),
        config.server.base_url,
        left.unwrap_or_default(),
        register_command(&config.file, Earlier::Replaced)
    ))
}

fn read_token() -> Result<String, Failure> {
    if io::stdin().is_terminal() {
        eprint_line("Registration token:");
    }
    let mut line = String::new();
    io::stdin().read_line(&mut line).map_err(Failure::context("the token can't be read from standard input"))?;
    Ok(line.trim().to_owned())
}
