//! `status`: the configuration as it is understood, and whether the agent runs.

use std::path::Path;
use std::process::ExitCode;

use super::{Done, Failure};
use crate::config::Config;
use crate::instance;
use crate::state::{ServerTrouble, State, StateFile};

/// What the exit status says where no agent runs.
const NOT_RUNNING: u8 = 3;

/// Prints the lines of README's "Check Status", and below them whether the agent runs.
pub fn status(file: &Path) -> Done {
    let config = Config::load(file)?;
    let data_dir = config.paths.data_dir.display();
    let registered = if config.agent.credentials.is_some() { "Registered" } else { "Not registered" };
    let service_id = config.agent.credentials.as_ref().map_or("-", |credentials| &credentials.service_id);
    println!("OpenAaaS Agent Status");
    println!("====================");
    println!("Config file: {}", config.file.display());
    println!("Data directory: {data_dir}");
    println!("Server URL: {}", config.server.base_url);
    println!("Poll interval: {} seconds", config.server.poll_interval.as_secs());
    println!("Registration status: {registered}");
    println!("Service ID: {service_id}");
    println!("Agent name: {}", config.agent.name);
    println!("Executor configuration:");
    println!("Image: {}", config.executor.image);
    println!("Capacity: {}", config.executor.capacity);
    println!("Timeout: {} minutes", config.executor.timeout_minutes);
    let running = instance::running(&config.paths.data_dir)
        .map_err(|error| Failure::new(format!("`{data_dir}` can't be used: {error}")))?;
    match running {
        Some(Some(pid)) => println!("Running: yes, pid {pid}"),
        Some(None) => println!("Running: yes"),
        None => println!("Running: no"),
    }
    let state =
        running.and_then(|pid| StateFile::of(&config.paths.data_dir).load().filter(|state| Some(state.pid) == pid));
    if let Some(state) = state {
        show(&state);
    }
    for warning in &config.warnings {
        eprintln!("{warning}");
    }
    Ok(if running.is_some() { ExitCode::SUCCESS } else { ExitCode::from(NOT_RUNNING) })
}

/// What the running agent says of itself.
fn show(state: &State) {
    match &state.server_trouble {
        Some(ServerTrouble { unauthorized: true, message }) => println!("Server: unauthorized: {message}"),
        Some(ServerTrouble { message, .. }) => println!("Server: trouble: {message}"),
        None if state.last_heartbeat_at.is_some() => println!("Server: reached"),
        None => println!("Server: not reached yet"),
    }
    match state.last_heartbeat_at {
        Some(at) => println!("Last heartbeat: {at:.0}"),
        None => println!("Last heartbeat: none yet"),
    }
    match &state.not_accepting {
        Some(why) => println!("Accepting tasks: no: {why}"),
        None => println!("Accepting tasks: yes"),
    }
}
