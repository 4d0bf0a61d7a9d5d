//! `register`: trades a one-time token for credentials and stores them.

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use super::{Done, Failure, say};
use crate::cli::RegisterArgs;
use crate::config::{Config, edit, is_api_key, is_service_id};
use crate::data_dir::instance;
use crate::server;
use crate::text::escape;

/// Registers the agent of a configuration file.
pub fn register(file: &Path, args: &RegisterArgs) -> Done {
    let config = Config::load_to_register(file)?;
    let token = if args.token == "-" { read_token()? } else { args.token.clone() };
    let name = args.name.as_deref().unwrap_or(&config.agent.name);
    register_with(&config, &token, name)?;
    if matches!(instance::holder(&config.paths.data_dir), Ok(Some(holder)) if holder.is_agent()) {
        say("An agent is running with the old registration; stop it and start it again.");
    }
    Ok(ExitCode::SUCCESS)
}

/// Registers once. The file is proved writable before the token is spent, and the credentials are printed if saving
/// them fails all the same, since the Server shows the key only this once (PROTOCOL 9).
pub fn register_with(config: &Config, token: &str, name: &str) -> Result<(), Failure> {
    let file = config.file.display();
    let token = token.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::new("the registration token is empty or has characters in it that no token has"));
    }
    if name.trim().is_empty() {
        return Err(Failure::new("the agent's name is empty (`--name`); the token was not used and is still good"));
    }
    let text = fs::read(&config.file).map_err(|error| Failure::new(format!("`{file}` can't be read: {error}")))?;
    edit::save(&config.file, &text).map_err(|error| {
        Failure::new(format!("`{file}` can't be written: {error}; the token was not used and is still good"))
    })?;
    let answer = server::register(&config.server, token, config.executor.capacity).map_err(|error| {
        let fate = if error.may_have_arrived() {
            "the token may have been used; if it isn't accepted again, get a new one from the Server"
        } else if error.status() == Some(404) {
            "the Server doesn't know the token or it was used already; get a new one there"
        } else {
            "the token was not used"
        };
        Failure::new(format!("not registered with {}: {error}; {fate}", config.server.base_url))
    })?;
    if !is_service_id(&answer.service_id) || !is_api_key(&answer.api_key) {
        return Err(Failure::new(format!(
            "{} answered with credentials that can't be any (service_id `{}`), so nothing was stored; the token is used \
             up: see what is wrong with the Server, and get a new one there",
            config.server.base_url,
            escape(&answer.service_id)
        )));
    }
    let settings = [
        ("agent", "service_id", answer.service_id.as_str().into()),
        ("agent", "api_key", answer.api_key.as_str().into()),
        ("agent", "name", name.into()),
    ];
    if let Err(error) = edit::set(&config.file, &settings) {
        // The only place where a key is shown: it would be lost otherwise.
        say(format_args!("service_id = {:?}\napi_key = {:?}", answer.service_id, answer.api_key));
        return Err(Failure::new(format!(
            "registered, but `{file}` can't be written: {error}; put the two lines above into its [agent] section, \
             they are not shown again"
        )));
    }
    say(format_args!("Registered {name} as service {}; the key is in {file}.", answer.service_id));
    if let Some(service_name) = answer.name {
        say(format_args!("The Server calls the service {}.", escape(&service_name)));
    }
    Ok(())
}

fn read_token() -> Result<String, Failure> {
    let mut line = String::new();
    match io::stdin().read_line(&mut line) {
        Ok(_) => Ok(line.trim().to_owned()),
        Err(error) => Err(Failure::new(format!("the token can't be read from standard input: {error}"))),
    }
}
