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
// They panic when whoever reads the output has gone; `command::say` doesn't.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod agent;
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
use logging::LogFormat;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let detached = matches!(&cli.command, Command::Run(args) if args.detached);
    logging::start(cli.log_format, detached);
    let done = match &cli.command {
        Command::Init(args) => command::init::init(&cli.config, args),
        Command::Register(args) => command::register::register(&cli.config, args),
        Command::Run(args) => command::run::run(&cli.config, args),
        Command::RunDetached => command::detach::run_detached(&cli.config, cli.log_format),
        Command::Stop(args) => command::stop::stop(&cli.config, args),
        Command::Status(args) => command::status::status(&cli.config, args),
        Command::Check(args) => command::check::check(&cli.config, args),
        Command::Try(args) => command::trial::try_out(&cli.config, args),
        Command::Tasks(args) => command::tasks::tasks(&cli.config, args),
        Command::Logs(args) => command::tasks::logs(&cli.config, args),
        Command::Discard(args) => command::discard::discard(&cli.config, args),
        Command::Ledger(args) => command::ledger::ledger(&cli.config, args),
        Command::Completions(args) => command::completions::completions(args),
        Command::Man(args) => command::manual::man(args),
        Command::Help(args) => command::manual::help(args),
    };
    match done {
        Ok(code) => code,
        Err(failure) => {
            failure.tell(detached || cli.log_format == LogFormat::Json);
            failure.exit_code()
        }
    }
}
