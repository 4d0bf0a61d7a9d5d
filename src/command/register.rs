//! `register`: exchanges a one-time token for credentials and stores them.

use std::io::{self, IsTerminal};
use std::path::Path;

use super::failure::Failure;
use super::output::{eprint_line, print_line};
use super::registration::register_agent;
use crate::cli::RegisterArgs;
use crate::config::Config;
use crate::data_dir::holder::find_holder;

/// Registers the agent of a configuration file.
pub fn register(file: &Path, args: &RegisterArgs) -> Result<(), Failure> {
    let config = Config::load_to_register(file)?;
    let token = if args.token == "-" { read_token()? } else { args.token.clone() };
    let name = args.name.as_deref().unwrap_or(&config.agent.name);
    register_agent(&config, &token, name)?;
    if matches!(find_holder(&config.paths.data_dir), Ok(Some(holder)) if holder.is_agent()) {
        print_line("An agent is running with the old registration: stop it and start it again.");
    }
    Ok(())
}

fn read_token() -> Result<String, Failure> {
    if io::stdin().is_terminal() {
        eprint_line("Registration token:");
    }
    let mut line = String::new();
    io::stdin().read_line(&mut line).map_err(Failure::context("the token can't be read from standard input"))?;
    Ok(line.trim().to_owned())
}
