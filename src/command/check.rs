//! `check`: tries what `run` needs, one by one, and says of what is wrong how it is mended.
//!
//! It takes no lock, no task and no slot, says nothing of the agent to the Server, and leaves nothing behind: it can be
//! run at any time, also beside a running agent. Everything that it asks has a deadline.

mod engine;
mod machine;
mod report;
mod server;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::failure::{CommandResult, Failure};
use crate::cli::CheckArgs;
use crate::config::{Config, ConfigError};
use report::{Check, Form, Report};

/// The exit status after a Ctrl+C.
const INTERRUPTED: u8 = 130;

/// Looks at everything. The exit status is 0 only where nothing is wrong.
pub fn check(file: &Path, args: &CheckArgs) -> CommandResult {
    let leaving = Arc::new(AtomicBool::new(false));
    let form = if args.json { Form::Json } else { Form::Lines };
    let mut report = Report::new(form, Arc::clone(&leaving));
    let handler = move || {
        // The first one waits for what has been begun, since a container may have to be removed.
        if leaving.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(INTERRUPTED));
        }
    };
    ctrlc::set_handler(handler).map_err(|error| Failure::new(format!("signals can't be handled: {error}")))?;
    let config = match load(file, &mut report) {
        Ok(config) => config,
        Err(code) => {
            report.skip_rest("there is no usable configuration");
            report.close();
            return Ok(ExitCode::from(code));
        }
    };
    let parts: [&dyn Fn(&mut Report); 2] = [
        &|report| {
            let here = machine::check(&config, report);
            if !report.is_left() {
                engine::check(&config, &here, report);
            }
        },
        &|report| server::check(&config, report),
    ];
    for part in parts {
        if !report.is_left() {
            part(&mut report);
        }
    }
    if report.is_left() {
        report.skip_rest("interrupted");
        report.close();
        return Ok(ExitCode::from(INTERRUPTED));
    }
    Ok(if report.close() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The configuration. Without one, the exit status.
fn load(file: &Path, report: &mut Report) -> Result<Config, u8> {
    match Config::load(file) {
        Ok(config) => {
            if config.warnings.is_empty() {
                report.pass(Check::Config, format!("`{}`", config.file.display()));
            }
            // `run` starts with them. But somebody meant something by them that isn't so.
            config.warnings.iter().for_each(|warning| report.fail_config(warning));
            Ok(config)
        }
        Err(ConfigError::Wrong(problems)) => {
            problems.iter().for_each(|problem| report.fail_config(problem));
            Err(2)
        }
        Err(error) => {
            let remedy = match error {
                ConfigError::Missing(_) => "name the file with `--config`, or make one with `init`",
                _ => "see that it is a file, and that this user may read it",
            };
            report.fail(Check::Config, error.to_string(), remedy);
            Err(2)
        }
    }
}
