//! agent-core works on the tasks of an OpenAaaS Server beside the data, each in a Docker container of its own, and
//! only the results leave.
//!
//! # The way of one task
//!
//! A task is a record on disk that moves through phases: `accepting`, `accepted`, `prepared`, `exited`, `uploaded`,
//! `settled`. These files change it, in this order. `P1` to `P8` are the promises below.
//!
//! 1. `agent.rs`: the main thread. `Scheduler::poll` gets an offer or a cancellation; it polls and heartbeats, and does
//!    nothing that can wait for a disk (P5). Its messages to and from the intake thread are in `agent/messages.rs`.
//! 2. `agent/intake.rs`: the intake thread. `Intake::run` is the list of its parts. `agent/admission.rs` decides whether
//!    a new task may be accepted, and if not, why (P8).
//! 3. `agent/accept.rs`: `Intake::handle_offer` writes the record, then calls `accept`. A lost answer ends in
//!    `agent/reclaim.rs`, a cancellation in `agent/cancel.rs`. The table of unfinished tasks is in
//!    `agent/task_table.rs`, the queues to the workers in `agent/workers.rs`.
//! 4. `task/runner.rs`: the worker. `TaskRunner::run` reads the phase and takes that phase's step; a restart after a
//!    crash takes the same way, from `agent/recovery.rs` (P2).
//! 5. `task/prepare.rs`: the workspace (`task/workspace.rs`) with the input files and `task.json`; `task/file_name.rs`
//!    makes their names safe (P4).
//! 6. `task/container/run.rs`: the container, by what the engine has under the task's name: started, followed, replaced or
//!    collected (P1). The arguments of `docker run` are made in `docker/args.rs`, and the client is watched in
//!    `task/container/watch.rs`.
//! 7. `task/outcome.rs`: from the container's exit to `completed`, `failed` or `cancelled`.
//! 8. `task/results.rs`: which files are results, and which stay here (P3): found by `task/outputs/scan.rs`, chosen by
//!    `task/outputs/selection.rs`. Then `task/container.rs` removes the container.
//! 9. `task/upload.rs`: sends each file once, however often the agent restarts (P2). The ledger has each transfer first.
//! 10. `task/report.rs`: `complete`, and the record is settled. `agent/health/housekeeping.rs` deletes its files later.
//!
//! Every call to the Server goes through `server/client.rs`, within the request budget of `server/budget.rs`; every call
//! to Docker through `docker.rs`. Each subcommand has a file below `command/`.
//!
//! # The layers
//!
//! A module imports from the lines below its own, and from no other; a test holds that.
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
