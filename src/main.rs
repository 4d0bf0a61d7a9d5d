//! agent-core works on the tasks of an OpenAaaS Server beside the data, each in a Docker container of its own, and
//! only the results leave.
//!
//! # The way of one task
//!
//! A task is a record on disk that moves through phases: `accepting`, `accepted`, `prepared`, `exited`, `uploaded`,
//! `settled`. It passes through these files in this order. `P1` to `P8` are the promises below.
//!
//! 1. `agent.rs`: the main thread, `Scheduler::run`, polls and heartbeats, and does nothing that can wait for a disk
//!    (P5). Its messages to and from the intake thread are in `agent/messages.rs`.
//! 2. `agent/intake.rs`: the intake thread, `Intake::run`, is the list of its parts. `Admission::check` in
//!    `agent/admission.rs` decides whether a new task may be accepted, and if not, why (P8).
//! 3. `agent/intake/accept.rs`: `Intake::handle_offer` looks at an offer; `Intake::accept` writes the record, then calls
//!    `Client::accept`. Where the answer is lost, `agent/intake/reclaim.rs` asks again; `agent/intake/claim.rs` decides what
//!    the answer means. `agent/intake/cancel.rs` hands a cancellation to the task's worker, or reports that of a task that
//!    isn't here. The table of unfinished tasks is in `agent/task_table.rs`, the queues to the workers in
//!    `agent/workers.rs`.
//! 4. `task/runner.rs`: the worker. `TaskRunner::run` reads the phase and takes that phase's step; after a restart
//!    `agent/intake/recovery.rs` sends the unfinished tasks the same way (P2). The worker writes the record in
//!    `task/handle.rs`.
//! 5. `task/prepare.rs`: the workspace (`task/workspace.rs`) with the input files and `task.json`; `task/file_name.rs`
//!    makes their names safe (P4).
//! 6. `task/container/run.rs`: the container. `ContainerRun::step` starts what was never started, and else looks at what
//!    the engine has under the task's name: something to follow, to replace or to collect, or nothing (P1).
//!    `task/container/launch.rs` has the values of `docker run`, `docker/args.rs` makes the arguments of them, and
//!    `task/container/watch.rs` watches the client and stops the container when that is due.
//! 7. `task/outcome.rs`: from the container's exit to `completed`, `failed` or `cancelled`, with the error message.
//! 8. `task/results.rs`: which files are results, and which stay here (P3). `task/outputs/scan.rs` finds them: every
//!    regular file that isn't in `ReservedPaths` (`task/outputs.rs`) or excluded by `outputs.exclude`.
//!    `task/results/copy_unreadable.rs` copies those that only root may read out of a container that shows the workspace,
//!    and `task/outputs/selection.rs` applies the limits. Before that, `TaskRunner::upload` has the container
//!    removed beside all else (`task/container/removals.rs`); `agent/health.rs` removes one that is still there when its task
//!    is settled.
//! 9. `task/deliver.rs` sends them in the order of `task/outputs/sending.rs`: what people should see comes last; `task/notes.rs`
//!    writes the agent's own files, such as `failure.md`.
//!    `task/upload.rs`: a file that has arrived isn't sent again, however often the agent restarts (P2). After each
//!    answer the ledger has its line before `uploads.jsonl` does; `task/task_client.rs` writes it. If that fails, the step
//!    is tried again later, and the Server's file list says whether the file has to be sent.
//! 10. `task/report.rs`: `complete`, and the record is settled. `agent/health/housekeeping.rs` deletes its files later.
//!
//! Calls to the Server are made by `server/client.rs`, after their caller has taken room in the request budget of
//! `server/budget.rs`; heartbeats need none. Calls to Docker are made by `docker.rs`; the long ones (`run`, `logs`, `cp`)
//! are started and watched by the task's files. Each subcommand has a file below `command/`.
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

use cli::{Cli, Command};
use command::{Failure, ReportTo};
use logging::{LogFormat, LogTarget};
use os::platform;

fn main() -> ExitCode {
    match platform::run_below_first_process() {
        Ok(None) => {}
        Ok(Some(status)) => return ExitCode::from(status),
        Err(error) => {
            let what = "this is the container's first process, which can't start another one";
            let failure = Failure::new(format!("{what}: {error}; start the container with `docker run --init`"));
            failure.report(ReportTo::StandardError);
            return failure.exit_code();
        }
    }
    let cli = Cli::parse_or_exit();
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
