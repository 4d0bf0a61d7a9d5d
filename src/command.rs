//! The subcommands, one file each, and what several of them use.

mod backlog;
mod check;
mod check_script;
mod completions;
mod detach;
mod discard;
mod failure;
mod find_task;
mod init;
mod ledger;
mod logs;
mod manual;
mod output;
mod prompt;
mod register;
mod registration;
mod run;
mod setup;
mod show;
mod status;
mod stop;
mod style;
mod table;
mod task_view;
mod tasks;
mod time_range;
mod trial;
mod wait;

use std::process::ExitCode;

use crate::cli::{Cli, Command};
use crate::logging::LogFile;
use failure::CommandResult;
pub use failure::{Failure, ReportTo};
use output::OutputFormat;

/// Executes the command of a command line. A detached agent opens the log file in its data_dir.
pub fn execute(cli: &Cli, log_file: &LogFile) -> CommandResult {
    match &cli.command {
        // These have exit statuses of their own.
        Command::Status { json } => return status::status(&cli.config, OutputFormat::from_flag(*json)),
        Command::Check { json } => return check::check(&cli.config, OutputFormat::from_flag(*json)),
        Command::Try(args) => return trial::try_out(&cli.config, args),
        Command::Tasks(args) => return tasks::tasks(&cli.config, args),
        Command::Init(args) => init::init(&cli.config, args)?,
        Command::Register(args) => register::register(&cli.config, args)?,
        Command::Run(args) => run::run(&cli.config, args, log_file)?,
        Command::RunDetached => detach::run_detached(&cli.config, cli.log_format)?,
        Command::Stop(args) => stop::stop(&cli.config, args)?,
        Command::Show(args) => show::show(&cli.config, args)?,
        Command::Logs(args) => logs::logs(&cli.config, args)?,
        Command::Discard(args) => discard::discard(&cli.config, args)?,
        Command::Ledger(args) => ledger::ledger(&cli.config, args)?,
        Command::Completions { shell } => completions::completions(*shell)?,
        Command::Man(args) => manual::man(args)?,
        Command::Help { page } => manual::help(page.as_deref())?,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod properties;
