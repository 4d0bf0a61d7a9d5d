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
    let script = String::from_utf8(script).map_err(Failure::context("the completions are no text"))?;
    print_output(with_task_names(shell, script))
}

/// Where a command takes a task, these shells ask the program for the names of those that are kept.
fn with_task_names(shell: Shell, script: String) -> String {
    match shell {
        Shell::Bash => script + include_str!("completions/ids.bash"),
        Shell::Fish => script + include_str!("completions/ids.fish"),
        Shell::Zsh => {
            // What follows the last colon says how a value is completed.
            let is_task = |line: &str| {
                line.ends_with("]:TASK_ID:' \\") || line.starts_with("'--task=[") || line.starts_with("':id -- ")
            };
            let complete = |line: &str| match line.strip_suffix(":' \\").filter(|_| is_task(line)) {
                Some(line) => format!("{line}:_agent-core_ids' \\\n"),
                None => format!("{line}\n"),
            };
            let script: String = script.lines().map(complete).collect();
            let end = script.rfind("\nif [ ").map_or(script.len(), |end| end + 1);
            script[..end].to_owned() + include_str!("completions/ids.zsh") + &script[end..]
        }
        _ => script,
    }
}
