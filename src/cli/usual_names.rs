//! A wrong command line: what it is answered with.

use clap::Parser;
use clap::error::{ContextKind, ContextValue};

use super::Cli;

impl Cli {
    /// The command line of this process. Where it is wrong, the process ends with what is wrong, and with what other
    /// programs call `start` and `restart`.
    pub fn parse_or_exit() -> Self {
        Self::try_parse().unwrap_or_else(|error| with_usual_names(error).exit())
    }
}

fn with_usual_names(mut error: clap::Error) -> clap::Error {
    let meant: &[&str] = match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(word)) if word == "start" => &["run-detached"],
        Some(ContextValue::String(word)) if word == "restart" => &["stop", "run-detached"],
        _ => return error,
    };
    let meant = meant.iter().map(|&name| name.to_owned()).collect();
    error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(meant));
    error
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::Parser;

    #[test]
    fn start_and_restart_are_answered_with_what_they_are_here() {
        let said =
            |word: &str| super::with_usual_names(Cli::try_parse_from(["agent-core", word]).unwrap_err()).to_string();
        assert!(said("start").contains("'run-detached'") && !said("start").contains("'status'"), "{}", said("start"));
        assert!(said("restart").contains("'stop', 'run-detached'"), "{}", said("restart"));
    }
}
