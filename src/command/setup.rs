//! The first `run`: asks for a configuration or a registration that is missing.

use std::io;
use std::path::{Path, absolute};

use super::failure::Failure;
use super::output::eprint_line;
use super::prompt;
use super::registration::{not_registered, register_agent};
use crate::cli::RunArgs;
use crate::config::{Config, ConfigError, Credentials, Environment, clean_base_url, default_of, edit};
use crate::data_dir::{last_used, permissions};
use crate::docker::Docker;
use crate::os::platform;
use crate::server;

/// Loads the configuration with its credentials. At a terminal, or with `--interactive`, it asks for what is missing.
pub fn complete_config(file: &Path, args: &RunArgs) -> Result<(Config, Credentials), Failure> {
    let may_ask = !args.detached && (args.interactive || prompt::is_terminal());
    let mut config = match Config::load(file) {
        Err(ConfigError::Missing(_)) if may_ask => {
            ask_for_config(file)?;
            Config::load(file)?
        }
        loaded => loaded?,
    };
    if config.agent.credentials.is_none() && may_ask {
        ask_for_registration(&config)?;
        config = Config::load(file)?;
    }
    let Some(credentials) = config.agent.credentials.clone() else {
        return Err(not_registered(&config));
    };
    Ok((config, credentials))
}

fn ask_for_config(file: &Path) -> Result<(), Failure> {
    let unanswered = Failure::context("no configuration was made");
    eprint_line(format_args!(
        "There is no configuration file `{}` yet. Press Enter to accept a value in brackets. Ctrl+C ends this: nothing is \
         written before the last answer.",
        file.display()
    ));
    if platform::user() == "0" {
        eprint_line(
            "As root: an agent for the whole machine has its file in /etc/agent-core, its data in /var/lib/agent-core and a \
             user of its own; README says how, in \"Build & install\".",
        );
    }
    let base_url = ask_for_server(file).map_err(&unanswered)?;
    let data_dir = prompt::ask("Data directory", default_of("paths.data_dir").as_deref(), |answer| {
        let data_dir = with_setting(file, ("paths", "data_dir", answer.into()))?.paths.data_dir;
        permissions::find(&data_dir).map_err(|refused| refused.to_string())?;
        Ok(answer.to_owned())
    })
    .map_err(&unanswered)?;
    let image = prompt::ask("Executor image", default_of("executor.image").as_deref(), |answer| {
        with_setting(file, ("executor", "image", answer.into())).map(|_| answer.to_owned())
    })
    .map_err(&unanswered)?;
    try_image(file, &image);
    let capacity = prompt::ask("Tasks at once", default_of("executor.capacity").as_deref(), |answer| {
        let number: i64 = answer.parse().map_err(|_| "It must be a number.".to_owned())?;
        with_setting(file, ("executor", "capacity", number.into())).map(|_| number)
    })
    .map_err(&unanswered)?;
    let settings = [
        ("server", "base_url", base_url.into()),
        ("paths", "data_dir", data_dir.into()),
        ("executor", "image", image.into()),
        ("executor", "capacity", capacity.into()),
    ];
    // All answers or no file: the next start asks only where there is no file.
    let written =
        edit::apply(edit::TEMPLATE, &settings).and_then(|text| Ok(edit::create(file, text.as_bytes()).map(drop)?));
    written.map_err(Failure::with_path(file, "can't be written"))?;
    eprint_line(format_args!("Created {}.", file.display()));
    last_used::forget(file).map_err(Failure::context("the note of the earlier data_dir can't be removed"))
}

/// Asks for the Server's address until one answers, or is given twice.
fn ask_for_server(file: &Path) -> io::Result<String> {
    let mut default = "http://127.0.0.1:8080".to_owned();
    let mut is_unreached = false;
    loop {
        let base_url = prompt::ask("Server address", Some(&default), |answer| {
            if !answer.contains("://") {
                return Err(format!("Write the scheme, too: http://{answer} or https://{answer}?"));
            }
            clean_base_url(answer).map_err(|wrong| format!("It {wrong}."))
        })?;
        // Without a person there is no other answer.
        if !prompt::is_terminal() || (is_unreached && base_url == default) {
            return Ok(base_url);
        }
        let config = with_setting(file, ("server", "base_url", base_url.as_str().into())).map_err(io::Error::other)?;
        match server::probe::probe(&config.server, None) {
            Ok(_) => {
                eprint_line(format_args!("{base_url} answers."));
                return Ok(base_url);
            }
            Err(unanswered) => eprint_line(format_args!(
                "{base_url} can't be reached: {}. Press Enter to keep it all the same, or write another one.",
                unanswered.why
            )),
        }
        (is_unreached, default) = (true, base_url);
    }
}

/// Says what is wrong with Docker or the image. The agent takes no task before that is mended, so it can be kept.
fn try_image(file: &Path, image: &str) {
    if !prompt::is_terminal() {
        return;
    }
    let Ok(mut config) = with_setting(file, ("executor", "image", image.into())) else { return };
    config.server.environment = Environment::from_process();
    let why = match Docker::new(&config).map(|docker| docker.has_image(image)) {
        Ok(Ok(true)) => return,
        Ok(Ok(false)) => {
            format!("The image `{image}` isn't on this machine: build or pull it; the agent takes no task before that.")
        }
        Ok(Err(error)) => format!("Docker can't be used: {error}"),
        Err(error) => format!("Docker can't be used: {error}"),
    };
    eprint_line(why);
}

/// The configuration that the template becomes with this value, or why the value is wrong.
fn with_setting(file: &Path, setting: edit::Setting<'_>) -> Result<Config, String> {
    let text = edit::apply(edit::TEMPLATE, &[setting]).map_err(|error| error.to_string())?;
    let file = absolute(file).map_err(|error| error.to_string())?;
    Config::parse(&file, &text).map_err(|error| match error {
        ConfigError::Wrong(problems) => problems.iter().map(|problem| problem.message.as_str()).collect(),
        other => other.to_string(),
    })
}

fn ask_for_registration(config: &Config) -> Result<(), Failure> {
    eprint_line(format_args!("This agent isn't registered with {} yet.", config.server.base_url));
    let check =
        |answer: &str| if answer.is_empty() { Err("A token is needed.".to_owned()) } else { Ok(answer.to_owned()) };
    let unanswered = Failure::context("not registered");
    loop {
        let token = prompt::ask("Registration token (rt_…)", None, check).map_err(&unanswered)?;
        let name = prompt::ask_or_default("Agent name", &config.agent.name).map_err(&unanswered)?;
        match register_agent(config, &token, &name) {
            Err(refused @ Failure::UnknownToken(_)) if prompt::is_terminal() => eprint_line(refused),
            done => return done,
        }
    }
}
