//! `tasks`: a line for each task that is kept here.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use super::failure::{CommandResult, Failure};
use super::output::{eprint_line, ignore_broken_pipe};
use super::task_view::{AgentState, Tasks};
use crate::agent::status_file::StatusFile;
use crate::cli::TasksArgs;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::data_dir::holder::find_holder;
use crate::task::record::Phase;
use crate::text::escape;
use crate::units::Local;

/// Prints what is known of the tasks that are kept here, a line each.
pub fn tasks(file: &Path, args: &TasksArgs) -> CommandResult {
    let config = Config::load(file)?;
    let data_dir = &config.paths.data_dir;
    let mut tasks =
        Tasks::load(data_dir, |phase| !args.undelivered || (Phase::Exited..Phase::Settled).contains(&phase))
            .map_err(|error| Failure::new(format!("`{}` can't be read: {error}", data_dir.display())))?;
    let agent = add_reasons(data_dir, &mut tasks);
    ignore_broken_pipe(print_tasks(&tasks, agent, args.json))?;
    for (dir, error) in &tasks.damaged {
        eprint_line(format_args!("the record in `{}` can't be read: {error}", dir.display()));
    }
    if tasks.all.is_empty() && !args.json {
        eprint_line(format_args!("No such task is kept in `{}`.", data_dir.display()));
    }
    Ok(if tasks.damaged.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Adds what the running agent says of them. Returns whether there is one.
fn add_reasons(data_dir: &DataDir, tasks: &mut Tasks) -> AgentState {
    let agent = find_holder(data_dir).ok().flatten().filter(|holder| holder.is_agent());
    let Some(agent) = agent else { return AgentState::Away };
    if let Some(state) = StatusFile::new(data_dir).load().filter(|state| agent.pid == Some(state.pid)) {
        tasks.add_reasons(&state);
    }
    AgentState::Running
}

fn print_tasks(tasks: &Tasks, agent: AgentState, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if !json && !tasks.all.is_empty() {
        print_line(&mut out, ["OFFERED", "TASK", "STATE", "SINCE", "FILES", "EXIT"])?;
    }
    for task in &tasks.all {
        if json {
            writeln!(out, "{}", serde_json::to_string(task)?)?;
            continue;
        }
        print_line(
            &mut out,
            [
                &Local(task.offered_at).to_string(),
                &escape(&task.id),
                task.describe(agent),
                &task.since.map_or_else(|| "-".to_owned(), |since| Local(since).to_string()),
                &task.files_sent.to_string(),
                &task.exit_code.map_or_else(|| "-".to_owned(), |code| code.to_string()),
            ],
        )?;
    }
    out.flush()
}

fn print_line(out: &mut impl Write, [offered, task, state, since, files, exit]: [&str; 6]) -> io::Result<()> {
    writeln!(out, "{offered:<25}  {task:<30}  {state:<19}  {since:<25}  {files:>5}  {exit}")
}
