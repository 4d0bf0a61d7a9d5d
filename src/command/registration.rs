//! Registration with a Server: `register` and `run` use it.

use std::fs;

use super::failure::Failure;
use super::output::print_line;
use crate::config::{Config, edit, is_api_key, is_service_id};
use crate::server::{self, Authorities, ClientError, Registration};
use crate::shell::{Earlier, register_command};
use crate::text::{cut, escape};

/// The shortest key, in characters. A task with the key in its texts isn't accepted, and a shorter one may stand in any.
const KEY_MIN: usize = 8;
/// How many bytes of a text of the Server are printed.
const SHOWN: usize = 200;

/// Registers the agent once. The file is checked to be writable before the token is used.
pub fn register_agent(config: &Config, token: &str, name: &str) -> Result<(), Failure> {
    let file = config.file.display();
    let token = token.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::new("the registration token is empty or has characters that no token has"));
    }
    if name.trim().is_empty() {
        return Err(Failure::new("the agent's name is empty (`--name`); the token was not used and is still good"));
    }
    let text = fs::read(&config.file).map_err(Failure::with_path(&config.file, "can't be read"))?;
    edit::save(&config.file, &text).map_err(|error| {
        Failure::new(format!("`{file}` can't be written: {error}; the token was not used and is still good"))
    })?;
    warn_of_authorities(config);
    let registration = server::register(&config.server, token, config.executor.capacity)
        .map_err(|error| not_accepted(config, &error))?;
    let (service_id, api_key) = (&registration.service_id, &registration.api_key);
    let is_key = is_api_key(api_key) && api_key.len() >= KEY_MIN;
    if !is_service_id(service_id) || !is_key || service_id.contains(api_key) {
        return Err(Failure::new(format!(
            "{} answered with invalid credentials (service_id `{}`), so nothing was stored; the token is used up: see \
             what is wrong with the Server, and get a new token from it",
            config.server.base_url,
            shown(service_id, &registration, token)
        )));
    }
    store(config, &registration, name)?;
    print_line(format_args!("Registered {name} as service {service_id}; the key is in {file}."));
    if let Some(service_name) = &registration.name {
        print_line(format_args!("The Server calls the service {}.", shown(service_name, &registration, token)));
    }
    Ok(())
}

/// Warns of what can't be used of SSL_CERT_FILE and SSL_CERT_DIR.
pub fn warn_of_authorities(config: &Config) {
    Authorities::load(&config.server).problems.iter().for_each(|problem| log::warn!("{problem}"));
}

/// A text of the Server for people, without what is secret in it.
fn shown(text: &str, registration: &Registration, token: &str) -> String {
    let mut text = text.replace(token, "[token]");
    if !registration.api_key.is_empty() {
        text = text.replace(&registration.api_key, "[api_key]");
    }
    escape(&cut(&text, SHOWN))
}

fn not_accepted(config: &Config, error: &ClientError) -> Failure {
    let is_unknown = matches!(error, ClientError::Refused { status: 404, by_server: true, .. });
    let token = if error.may_have_arrived() {
        "the token may have been used; if it isn't accepted again, get a new one from the Server"
    } else if is_unknown {
        "the Server doesn't know the token, or the token was used already; get a new one from the Server"
    } else {
        "the token was not used"
    };
    let message = format!("not registered with {}: {error}; {token}", config.server.base_url);
    if is_unknown { Failure::UnknownToken(message) } else { Failure::new(message) }
}

/// Stores the credentials. If that fails, they are printed, since the Server returns the key only once (PROTOCOL 9).
fn store(config: &Config, registration: &Registration, name: &str) -> Result<(), Failure> {
    let Registration { service_id, api_key, .. } = registration;
    let settings = [
        ("agent", "service_id", service_id.as_str().into()),
        ("agent", "api_key", api_key.as_str().into()),
        ("agent", "name", name.into()),
    ];
    edit::set(&config.file, &settings).map_err(|error| {
        // The only place that prints a key.
        print_line(format_args!("service_id = {service_id:?}\napi_key = {api_key:?}"));
        Failure::new(format!(
            "registered, but `{}` can't be written: {error}; put the two lines above into its [agent] section; the Server \
             doesn't show them again",
            config.file.display()
        ))
    })
}

/// The failure of a command that needs a registration.
pub fn not_registered(config: &Config) -> Failure {
    let command = register_command(&config.file, Earlier::None);
    Failure::new(format!("not registered; run `{command}` with a token from the Server"))
}
