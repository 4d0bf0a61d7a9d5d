//! `completions` and `man`: what shells and `man` know of the command line, made from its definition.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::aot;
use clap_mangen::Man;

use super::{Done, Failure, answer, say};
use crate::cli::{Cli, CompletionsArgs, ManArgs, Shell};

/// Prints completions.
pub fn completions(args: &CompletionsArgs) -> Done {
    let shell = match args.shell {
        Shell::Bash => aot::Shell::Bash,
        Shell::Zsh => aot::Shell::Zsh,
        Shell::Fish => aot::Shell::Fish,
        Shell::Pwsh => aot::Shell::PowerShell,
    };
    let whole = Cli::command();
    let names: Vec<String> = whole.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    // They know what `man` takes.
    let mut whole = whole.mut_subcommand("man", |man| man.mut_arg("command", |name| name.value_parser(names)));
    let mut script = Vec::new();
    aot::generate(shell, &mut whole, "agent-core", &mut script);
    answer(script)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a manual page, or writes all of them.
pub fn man(args: &ManArgs) -> Done {
    let mut command = Cli::command();
    command.build();
    if let Some(folder) = &args.out {
        return write_all(&command, folder);
    }
    let name = args.command.as_deref();
    let page = match name {
        None => page(&command, Page::Whole),
        Some(name) => match command.find_subcommand(name) {
            Some(found) => page(found, Page::OfACommand),
            None => {
                let message = format!("there is no command `{name}`; `agent-core --help` shows all");
                return Err(Failure::usage(message));
            }
        },
    };
    answer(page?)?;
    Ok(ExitCode::SUCCESS)
}

/// Which page it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Page {
    Whole,
    OfACommand,
}

fn page(command: &clap::Command, which: Page) -> Result<Vec<u8>, Failure> {
    // What is to be read as it is set would be filled into lines.
    let command = if which == Page::Whole { command.clone().after_help("") } else { command.clone() };
    let man = Man::new(command).date(DATE).source(concat!("agent-core ", env!("CARGO_PKG_VERSION"))).manual(MANUAL);
    let mut page = Vec::new();
    let rendered = man.render(&mut page).and_then(|()| page.write_all(SECTIONS.as_bytes()));
    rendered.map_err(|error| Failure::new(format!("the page can't be made: {error}")))?;
    Ok(page)
}

fn write_all(command: &clap::Command, folder: &Path) -> Done {
    let write = |name: &str, page: Vec<u8>| {
        let file = folder.join(format!("{name}.1"));
        fs::write(&file, page).map_err(|error| Failure::new(format!("`{}` can't be written: {error}", file.display())))
    };
    fs::create_dir_all(folder)
        .map_err(|error| Failure::new(format!("`{}` can't be made: {error}", folder.display())))?;
    write("agent-core", page(command, Page::Whole)?)?;
    let commands: Vec<_> = command.get_subcommands().filter(|command| command.get_name() != "help").collect();
    for command in &commands {
        write(&format!("agent-core-{}", command.get_name()), page(command, Page::OfACommand)?)?;
    }
    say(format_args!("Wrote {} pages to {}.", commands.len() + 1, folder.display()));
    Ok(ExitCode::SUCCESS)
}

const MANUAL: &str = "agent-core manual";
/// When the pages were changed last: a page that is made by the program has no date of its own.
const DATE: &str = "2026-11-26";
/// What every page ends with.
const SECTIONS: &str = r#".SH "FIRST STEPS"
.nf
agent\-core init                    and set server.base_url in config.toml
agent\-core register \-\-token rt_...  with a token from the Server
agent\-core check                   says what is missing
agent\-core run                     or run\-detached, for the background
.fi
.SH "EXIT STATUS"
0 done, 1 failed, 2 wrong usage or a configuration file that can't be used, 3 not running (status).
.SH FILES
.TP
config.toml
The configuration, in the current directory unless \-\-config names another place.
.TP
data_dir
The directory of paths.data_dir: agent.log, status.json, metrics.prom, ledger.jsonl, tasks/ and workspaces/.
.SH ENVIRONMENT
.TP
RUST_LOG
How much is logged: error, warn, info (the default), debug, trace or off.
.TP
TZ
The zone of the times that are shown.
.TP
SSL_CERT_FILE
Authorities that are trusted besides the system's.
.TP
HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY
Count only with server.use_system_proxy = true.
.TP
DOCKER_HOST, DOCKER_CONTEXT, ...
As for the docker client, which is what is started.
"#;
