//! `register`: exchanges a one-time token for credentials and stores them.

use std::io::{self, IsTerminal};
use std::path::Path;

use super::backlog::Left;
use super::failure::Failure;
use super::output::{eprint_line, print_line};
use super::registration::register_agent;
use crate::cli::RegisterArgs;
use crate::config::Config;
use crate::config::edit::{back_up, read_old, texts};
use crate::data_dir::holder::find_holder;
use crate::shell::{Earlier, agent_command, register_command};
use crate::text::escape;

/// Registers the agent of a configuration file.
pub fn register(file: &Path, args: &RegisterArgs) -> Result<(), Failure> {
    let config = Config::load_to_register(file)?;
    let old = old_registration(&config)?;
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
    let left = old.and_then(|service_id| left_of(&config, &service_id));
    if matches!(find_holder(&config.paths.data_dir), Ok(Some(holder)) if holder.is_agent()) {
        let start = agent_command(&config.file, &["run-detached"]);
        let (stop, why) = match left {
            // The running agent still has the old key.
            Some(left) => (&["stop", "--drain"][..], format!(" {left}: let it deliver them first.")),
            None => (&["stop"][..], String::new()),
        };
        let stop = agent_command(&config.file, stop);
        print_line(format_args!(
            "An agent is running with the old registration.{why} Stop it and start it again, with `{stop}` and `{start}`."
        ));
        return Ok(());
    }
    if let Some(left) = left {
        print_line(format_args!("{left}; only the old registration can deliver them."));
    }
    let [check, start] = ["check", "run-detached"].map(|command| agent_command(&config.file, &[command]));
    print_line(format_args!("Next: run `{check}`, then `{start}`."));
    Ok(())
}

/// The service of the registration that the file has, also where something else in its section is wrong: what the file says
/// of it is replaced, and the Server doesn't show the key again. Empty where there is a key without a service.
fn old_registration(config: &Config) -> Result<Option<String>, Failure> {
    let bytes = read_old(&config.file).map_err(Failure::with_path(&config.file, "can't be read"))?;
    let text = String::from_utf8_lossy(&bytes);
    let [service_id, api_key] = texts(&text, [("agent", "service_id"), ("agent", "api_key")]).unwrap_or_default();
    Ok(api_key.map(|_| service_id.unwrap_or_default()))
}

/// What is left of a registration, in words; also that this can't be found out.
fn left_of(config: &Config, service_id: &str) -> Option<String> {
    match Left::load(config, service_id) {
        Ok(left) => left.map(|left| left.to_string()),
        Err(error) => Some(format!("what is left of that registration isn't known ({error})")),
    }
}

fn already_registered(config: &Config, old: &str) -> Failure {
    let left = left_of(config, old).map(|left| format!("; {left}, which could then not be delivered"));
    Failure::new(format!(
        "registered already, as service {} with {}, so nothing was changed and the token was not used; another registration \
         replaces the key, which the Server doesn't show again{}; to do that all the same, run `{}`",
        if old.is_empty() { "(none is named)".to_owned() } else { escape(old) },
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
