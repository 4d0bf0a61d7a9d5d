//! The subcommands, one file each, and what several of them use.

mod backlog;
mod check;
mod check_script;
mod completions;
mod detach;
mod discard;
mod failure;
mod find_agent;
mod find_task;
mod init;
mod ledger;
mod logs;
mod manual;
mod output;
mod pause;
mod prompt;
mod register;
mod registration;
mod reload;
mod run;
mod service;
mod setup;
mod show;
mod status;
mod stop;
mod style;
mod table;
mod task_command;
mod task_view;
mod tasks;
mod time_range;
mod trial;
mod unregister;
mod wait;

use std::process::ExitCode;

use crate::cli::{Cli, Command};
use crate::config::{find_file, find_new_file};
use crate::logging::LogFile;
use failure::CommandResult;
pub use failure::{Failure, ReportTo};
use output::OutputFormat;

/// Executes the command of a command line. A detached agent opens the log file in its data_dir.
pub fn execute(cli: &Cli, log_file: &LogFile) -> CommandResult {
    let file = &find_file(cli.config.as_deref());
    match &cli.command {
        // These have exit statuses of their own.
        Command::Status { json } => return status::status(file, OutputFormat::from_flag(*json)),
        Command::Check { json } => return check::check(file, OutputFormat::from_flag(*json)),
        Command::Try(args) => return trial::try_out(file, args),
        Command::Tasks(args) => return tasks::tasks(file, args),
        Command::Stop(args) => return stop::stop(file, args, cli.log_format, log_file),
        Command::Init(args) => init::init(&find_new_file(cli.config.as_deref()), args)?,
        Command::Register(args) => register::register(file, args)?,
        Command::Unregister(args) => unregister::unregister(file, args)?,
        Command::Run(args) => run::run(file, args, log_file)?,
        Command::RunDetached => detach::run_detached(file, cli.log_format)?,
        Command::Show(args) => show::show(file, args)?,
        Command::Pause(args) => pause::pause(file, args)?,
        Command::Resume => pause::resume(file)?,
        Command::Reload(args) => reload::reload(file, args)?,
        Command::Logs(args) => logs::logs(file, args)?,
        Command::Paste(args) => task_command::task_command(file, args)?,
        Command::Discard(args) => discard::discard(file, args, log_file)?,
        Command::Ledger(args) => ledger::ledger(file, args)?,
        Command::Service => service::service(file)?,
        Command::Completions { shell } => completions::completions(*shell)?,
        Command::Man(args) => manual::man(args)?,
        Command::Help { page } => manual::help(page.as_deref())?,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod properties;
