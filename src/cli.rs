//! The command line: names, options and help texts, nothing else.

mod try_args;
mod usual_names;

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::aot::Shell;

use crate::logging::LogFormat;
pub use try_args::TryArgs;

/// Works on the tasks of an OpenAaaS Server beside the data, each in a Docker container of its own
#[derive(Debug, Parser)]
#[command(
    name = "agent-core",
    version,
    max_term_width = 80,
    disable_help_subcommand = true,
    after_help = "First steps:\n  \
        1. agent-core init                   and set server.base_url in config.toml\n  \
        2. agent-core register --token rt_…  with a token from the Server\n  \
        3. agent-core run                    or run-detached, for the background\n\n\
        The manual: agent-core man TOPIC\n  \
        config, operate, check, try, ledger, security, troubleshooting,\n  \
        protocol, promises\n\n\
        Exit status: 0 done, 1 failed, 2 wrong usage or configuration,\n\
        3 not running (status)"
)]
pub struct Cli {
    /// The configuration file [default: config.toml here, else that of
    /// AGENT_CORE_CONFIG, else /etc/agent-core/config.toml]
    #[arg(short, long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath, display_order = 1000)]
    pub config: Option<PathBuf>,

    /// The format of log lines: `human`, or `json` for one object per line
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Human, hide_possible_values = true, display_order = 1001)]
    pub log_format: LogFormat,

    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a configuration file with every key and its default
    Init(InitArgs),
    /// Register with the Server and store service_id and api_key in the file
    #[command(after_help = "The token works once. A person with access to the Server gets it there.")]
    Register(RegisterArgs),
    /// Forget service_id and api_key, when the work of this registration is done
    #[command(after_help = "The Server doesn't take part: have the service deleted there, too, since its \
        key stays valid. The agent must not run.")]
    Unregister(UnregisterArgs),
    /// Work on tasks in the foreground, until Ctrl+C or SIGTERM
    #[command(after_help = "Containers keep running when the agent ends, \
        and the next start follows them to their end.")]
    Run(RunArgs),
    /// Work on tasks in the background, with the log in {data_dir}/agent.log
    RunDetached,
    /// Stop the agent that runs on this configuration's data_dir
    #[command(after_help = "Without an option, containers keep running, \
        and the next start follows them to their end.")]
    Stop(StopArgs),
    /// Accept no new task until `resume`, also over restarts
    #[command(after_help = "Running tasks go on, and their results are sent. The agent stays up and \
        tells the Server that it has no free slot. `status` shows who has paused it.")]
    Pause(PauseArgs),
    /// End a pause, or take `stop --drain` back
    Resume,
    /// Have the running agent read the configuration file again
    #[command(after_help = "Tasks that run go on with what counted when they began. What only a restart \
        changes is named: the Server, the registration, data_dir, the docker client. A file with mistakes \
        changes nothing. SIGHUP does the same.")]
    Reload(ReloadArgs),
    /// Show the configuration, whether the agent runs, and what it is doing
    Status {
        /// Print one JSON object instead of lines
        #[arg(long)]
        json: bool,
    },
    /// Check what `run` needs, one by one, and show what is wrong and what to do
    #[command(after_help = "It takes no task and changes nothing, so it can be used beside a \
        running agent.\n\nExit status: 0 nothing is wrong, 1 a check has failed, 2 the configuration \
        can't be used, 130 interrupted")]
    Check {
        /// Print one JSON object at the end instead of lines
        #[arg(long)]
        json: bool,
    },
    /// Run one task without a Server, and show what would be sent
    #[command(after_help = "The same workspace, container and rules as for a real task. It needs no \
        registration and can be used beside a running agent.\n\n\
        Exit status: that of the container; 124 timed out, 125 the container couldn't \
        be started, 130 interrupted, 1 another failure, 2 wrong usage or configuration")]
    Try(TryArgs),
    /// List the tasks that are kept here, from the youngest to the oldest
    #[command(after_help = "On a terminal, lines are cut to its width and ids to what tells them apart; \
        every command takes the begin of an id. With `--json` the oldest comes first.")]
    Tasks(TasksArgs),
    /// Show everything about one task: prompt, files, outcome, times
    Show(ShowArgs),
    /// Show what a task's container has printed, or the agent's own log
    Logs(LogsArgs),
    /// Print a task's `docker run` command, which can be pasted into a shell
    #[command(after_help = "It does the task's work once more in the same workspace, and sends nothing. \
        The command is also in {data_dir}/tasks/NAME/command.sh.")]
    #[command(name = "command")]
    Paste(CommandArgs),
    /// Discard a result that can't be delivered
    #[command(after_help = "The Server gets one report that the task failed. The result's files stay \
        in the data directory for `paths.retention_hours`. If an agent runs, it discards the result, \
        and this command waits for that.")]
    Discard(DiscardArgs),
    /// Show what this machine has received and sent, file by file
    #[command(after_help = "The ledger is {data_dir}/ledger.jsonl with its older files, ledger.jsonl.1 \
        and so on. It can be read while the agent runs.")]
    Ledger(LedgerArgs),
    /// Print a unit file of systemd for this installation
    #[command(after_help = "Write it as root:\n  \
        agent-core service > /etc/systemd/system/agent-core.service\n  \
        systemctl daemon-reload && systemctl enable --now agent-core")]
    Service,
    /// Print completions for a shell
    #[command(after_help = "For this session of bash:\n  \
        source <(agent-core completions bash)\n\
        For all later ones:\n  \
        agent-core completions bash > /etc/bash_completion.d/agent-core")]
    Completions {
        /// Which shell: bash, zsh, fish or powershell
        #[arg(
            hide_possible_values = true,
            value_parser = PossibleValuesParser::new(["bash", "zsh", "fish", "powershell"])
                .try_map(|name| name.parse::<Shell>())
        )]
        shell: Shell,
    },
    /// Show a page of the manual: of a topic, a command, or agent-core
    #[command(after_help = "Where standard output is no terminal, it prints the page's roff.\n\
        To install all pages:\n  agent-core man --out /usr/local/share/man/man1")]
    Man(ManArgs),
    /// Print the help of a command, or the page of a topic as plain text
    Help {
        /// A topic, such as `config`, or a command, such as `run`
        page: Option<String>,
    },
}

#[derive(Debug, Args)]
pub struct ManArgs {
    /// A topic, such as `config`, or a command, such as `run`
    #[arg(value_name = "PAGE", conflicts_with = "out")]
    pub page: Option<String>,

    /// Write all pages to this folder
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct InitArgs {
    /// Replace a file that exists, but keep its registration, with the Server's
    /// address and data_dir; the old file becomes config.toml.bak
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct UnregisterArgs {
    /// Also where tasks or results of this registration are left here, which
    /// could then not be delivered
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct RegisterArgs {
    /// The registration token, `rt_…`, or `-` to read it from standard input
    #[arg(long, value_name = "TOKEN", value_hint = ValueHint::Other, allow_hyphen_values = true)]
    pub token: String,

    /// The agent's name, stored in the file
    #[arg(long, value_name = "NAME", value_hint = ValueHint::Other)]
    pub name: Option<String>,

    /// Replace a registration that the file has; the old file, with its key,
    /// becomes config.toml.bak
    #[arg(long)]
    pub replace: bool,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// Ask for missing settings also where standard input is no terminal
    #[arg(long)]
    pub interactive: bool,

    /// Started by run-detached
    #[arg(long, hide = true)]
    pub detached: bool,
}

#[derive(Debug, Args)]
pub struct StopArgs {
    /// Let the agent accept no new task and end when everything is delivered,
    /// and wait for its end (before a reboot or an upgrade)
    #[arg(long, conflicts_with = "abort")]
    pub drain: bool,

    /// Also stop the containers and report their tasks as failed
    #[arg(long)]
    pub abort: bool,

    /// Started by another stop
    #[arg(long, hide = true)]
    pub in_child: bool,
}

#[derive(Debug, Args)]
pub struct PauseArgs {
    /// For how long: 30min, 2h, 1d, 1w; without it until `resume`
    #[arg(long = "for", value_name = "TIME", value_hint = ValueHint::Other)]
    pub length: Option<String>,

    /// Why, for those who look at `status`
    #[arg(long, value_name = "TEXT", value_hint = ValueHint::Other, allow_hyphen_values = true)]
    pub note: Option<String>,
}

#[derive(Debug, Args)]
pub struct ReloadArgs {
    /// Also change how much is logged, until the next start: error, warn, info,
    /// debug or trace
    #[arg(
        long,
        value_name = "LEVEL",
        hide_possible_values = true,
        value_parser = PossibleValuesParser::new(["error", "warn", "info", "debug", "trace"])
    )]
    pub log_level: Option<String>,
}

#[derive(Debug, Args)]
pub struct TasksArgs {
    /// Only tasks that have ended and whose result isn't delivered
    #[arg(long)]
    pub undelivered: bool,

    /// Only tasks that have failed
    #[arg(long)]
    pub failed: bool,

    /// Only tasks that were offered from this time on: 7d, yesterday, 2026-11,
    /// 2026-11-30, or a time
    #[arg(long, value_name = "DATE", value_hint = ValueHint::Other)]
    pub since: Option<String>,

    /// Only so many, the youngest
    #[arg(short, long, value_name = "N", value_hint = ValueHint::Other)]
    pub number: Option<usize>,

    /// Cut nothing to the terminal's width
    #[arg(long)]
    pub no_trunc: bool,

    /// Print the names only, for completions
    #[arg(long, hide = true)]
    pub ids: bool,

    /// Print one JSON object per task
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The task's name or the begin of it, as `tasks` shows it, or its id on
    /// the Server
    #[arg(allow_hyphen_values = true, value_hint = ValueHint::Other)]
    pub id: String,

    /// Print one JSON object instead of lines
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The task's name or the begin of it, as `tasks` shows it, or its id on
    /// the Server; without it, the agent's own log is shown
    #[arg(allow_hyphen_values = true, value_hint = ValueHint::Other)]
    pub id: Option<String>,

    /// Continue until the container has ended
    #[arg(short, long)]
    pub follow: bool,

    /// Only the last lines of each stream, so many
    #[arg(long, value_name = "N", value_hint = ValueHint::Other)]
    pub tail: Option<usize>,

    /// Only what the container wrote to its standard output
    #[arg(long, requires = "id", conflicts_with = "stderr")]
    pub stdout: bool,

    /// Only what the container wrote to its standard error
    #[arg(long, requires = "id")]
    pub stderr: bool,

    /// Let the container's output control the terminal, with colours and all else
    #[arg(long)]
    pub raw: bool,
}

#[derive(Debug, Args)]
pub struct CommandArgs {
    /// The task's name, as `tasks` shows it, or its id on the Server
    #[arg(allow_hyphen_values = true, value_hint = ValueHint::Other)]
    pub id: String,
}

#[derive(Debug, Args)]
pub struct DiscardArgs {
    /// The task's name or the begin of it, as `tasks` shows it, or its id on
    /// the Server
    #[arg(allow_hyphen_values = true, value_hint = ValueHint::Other)]
    pub id: String,

    /// Don't ask for confirmation
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct LedgerArgs {
    /// Only this task, by its name, the begin of its name, or its id on the
    /// Server
    #[arg(long, value_name = "ID", value_hint = ValueHint::Other, allow_hyphen_values = true)]
    pub task: Option<String>,

    /// Only from this time on: a day (2026-11-01, yesterday) or month (2026-11)
    /// from its begin, a time ago (12h, 7d, 2w), or a time
    #[arg(long, value_name = "DATE", value_hint = ValueHint::Other)]
    pub since: Option<String>,

    /// Only up to this time, or to the end of this day or month
    #[arg(long, value_name = "DATE", value_hint = ValueHint::Other)]
    pub until: Option<String>,

    /// Only what has left this machine, or may have left it
    #[arg(long)]
    pub out: bool,

    /// Add it up, by day and task
    #[arg(long, conflicts_with = "json")]
    pub sum: bool,

    /// Cut nothing to the terminal's width
    #[arg(long)]
    pub no_trunc: bool,

    /// Print the lines as they are stored, one JSON object per line
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
