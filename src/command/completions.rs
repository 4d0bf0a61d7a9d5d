//! `completions`: what a shell knows of the command line, made from its definition.

use clap::builder::PossibleValuesParser;
use clap::{Command, CommandFactory};
use clap_complete::aot::{Shell, generate};

use super::failure::Failure;
use super::manual;
use super::output::print_output;
use crate::cli::Cli;

/// Prints completions.
pub fn completions(shell: Shell) -> Result<(), Failure> {
    let mut whole = Cli::command();
    // The parser takes any word for a page, so that it can answer an unknown one with all of them. Shells complete pages
    // as subcommands here: fish and PowerShell complete no values of an argument without a flag.
    for command in ["man", "help"] {
        let pages = manual::pages().into_iter().map(|(name, about)| Command::new(name).about(about));
        let no_words = PossibleValuesParser::new([""; 0]);
        let add_pages =
            |command: Command| command.mut_arg("page", |page| page.value_parser(no_words)).subcommands(pages);
        whole = whole.mut_subcommand(command, add_pages);
    }
    let mut script = Vec::new();
    generate(shell, &mut whole, "agent-core", &mut script);
    print_output(script)
}
