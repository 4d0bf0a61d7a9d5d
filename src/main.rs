//! agent-core works on the tasks of an OpenAaaS Server beside the data, each in a Docker container of its own, and
//! only the results leave.
//!
//! The modules are layers: a module imports from the lines below its own, and from no other.
//!
//! ```text
//! main
//! command
//! cli
//! agent
//! task
//! ledger
//! docker  server
//! config
//! data_dir
//! logging  metrics
//! os
//! shell
//! text  units
//! ```
#![doc = include_str!("manual/promises.md")]
// They panic where the output's reader has closed the pipe; `command::output` doesn't.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod agent;
#[cfg(test)]
mod arbitrary;
mod cli;
mod command;
mod config;
mod data_dir;
mod docker;
mod ledger;
mod logging;
mod metrics;
mod os;
#[cfg(test)]
mod properties;
mod server;
mod shell;
mod task;
mod text;
mod units;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use command::ReportTo;
use logging::{LogFormat, LogTarget};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let detached = matches!(&cli.command, Command::Run(args) if args.detached);
    let log_file = logging::start(cli.log_format, if detached { LogTarget::File } else { LogTarget::StandardError });
    match command::execute(&cli, &log_file) {
        Ok(code) => code,
        Err(failure) => {
            let as_log = detached || cli.log_format == LogFormat::Json;
            failure.report(if as_log { ReportTo::Log } else { ReportTo::StandardError });
            failure.exit_code()
        }
    }
}
