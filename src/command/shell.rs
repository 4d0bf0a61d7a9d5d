//! `completions` and `man`: what shells and `man` know of the command line, made from its definition.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::aot;
use clap_mangen::Man;

use super::{Done, Failure, answer};
use crate::cli::{Cli, CompletionsArgs, ManArgs, Shell};

/// Prints completions.
pub fn completions(args: &CompletionsArgs) -> Done {
    let shell = match args.shell {
        Shell::Bash => aot::Shell::Bash,
        Shell::Zsh => aot::Shell::Zsh,
        Shell::Fish => aot::Shell::Fish,
        Shell::Pwsh => aot::Shell::PowerShell,
    };
    let mut script = Vec::new();
    aot::generate(shell, &mut Cli::command(), "agent-core", &mut script);
    answer(script)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a manual page.
pub fn man(args: &ManArgs) -> Done {
    let mut command = Cli::command();
    command.build();
    if let Some(name) = &args.command {
        let Some(found) = command.find_subcommand(name) else {
            let message = format!("there is no command `{name}`; `agent-core --help` shows all");
            return Err(Failure::usage(message));
        };
        command = found.clone();
    }
    let mut page = Vec::new();
    let version = concat!("agent-core ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command).source(version).manual("agent-core manual");
    man.render(&mut page).map_err(|error| Failure::new(format!("the page can't be made: {error}")))?;
    answer(page)?;
    Ok(ExitCode::SUCCESS)
}
