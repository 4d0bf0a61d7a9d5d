//! `check`: tries what `run` needs, one by one, and names a remedy for what is wrong.
//!
//! `check` takes no lock, task or slot, sends nothing about the agent to the Server and leaves nothing behind, so that it
//! can be used at any time, also beside a running agent. Every step has a time limit.

mod container_user;
mod engine;
mod machine;
mod probe;
mod program;
mod report;
mod server;
mod start;

use std::path::{Path, absolute};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::ValueEnum;

use super::failure::{CommandResult, Failure};
use super::output::OutputFormat;
use crate::config::{Config, ConfigError};
use crate::data_dir::holder::find_holder;
use crate::shell::agent_command;
use report::{Check, Report};

/// The exit status where the configuration can't be used.
const UNUSABLE: u8 = 2;
/// The exit status after Ctrl+C.
const INTERRUPTED: u8 = 130;

/// Makes all checks. The exit status is 0 only if none has failed.
pub fn check(file: &Path, format: OutputFormat) -> CommandResult {
    let mut report = Report::new(format, handle_signals()?);
    let Some(config) = load_config(file, &mut report) else {
        // Nothing is to be seen from lines about checks that weren't made.
        if format == OutputFormat::Json {
            report.skip_missing(Check::value_variants(), "there is no usable configuration");
        }
        report.finish(&format!("Next: correct that, and run `{}` again; nothing else was tried.", again(file)));
        return Ok(ExitCode::from(UNUSABLE));
    };
    if !report.is_interrupted() {
        let targets = machine::check(&config, &mut report);
        if !report.is_interrupted() {
            engine::check(&config, &targets, &mut report);
        }
    }
    if !report.is_interrupted() {
        server::check(&config, &mut report);
    }
    if report.is_interrupted() {
        report.skip_missing(Check::value_variants(), "interrupted");
        report.finish("Interrupted.");
        return Ok(ExitCode::from(INTERRUPTED));
    }
    let next = match (report.has_failed(), is_running(&config)) {
        (true, _) => format!("Next: mend what is marked ✗, from the first on, and run `{}` again.", again(file)),
        (false, true) => "Ready; the agent runs already.".to_owned(),
        (false, false) => format!("Ready: start the agent with `{}`.", agent_command(&config.file, &["run-detached"])),
    };
    Ok(if report.finish(&next) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn again(file: &Path) -> String {
    agent_command(&absolute(file).unwrap_or_else(|_| file.to_owned()), &["check"])
}

fn is_running(config: &Config) -> bool {
    matches!(find_holder(&config.paths.data_dir), Ok(Some(holder)) if holder.is_agent())
}

/// The first signal ends the checks after the current one, which may have a container to remove; the second one ends the
/// process.
fn handle_signals() -> Result<Arc<AtomicBool>, Failure> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    let handler = move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(INTERRUPTED));
        }
    };
    ctrlc::set_handler(handler).map_err(Failure::context("can't handle signals"))?;
    Ok(interrupted)
}

/// The configuration, if it can be used.
fn load_config(file: &Path, report: &mut Report) -> Option<Config> {
    let loaded = Config::load(file);
    match &loaded {
        Ok(config) if config.warnings.is_empty() => {
            report.pass(Check::Config, format!("`{}`", config.file.display()));
        }
        // `run` starts in spite of warnings, but without what the person has meant by these keys.
        Ok(Config { warnings: problems, .. }) | Err(ConfigError::Wrong(problems)) => {
            problems.iter().for_each(|problem| report.fail_config(problem));
        }
        Err(error) => {
            let remedy = match error {
                ConfigError::Missing(_) => "name the file with `--config`, or make one with `init`",
                _ => "make sure that it is a file and that this user may read it",
            };
            report.fail(Check::Config, error.to_string(), remedy);
        }
    }
    loaded.ok()
}
