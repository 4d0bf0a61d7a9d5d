//! `tasks`: a line for each task that is kept here.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use super::failure::{CommandResult, Failure};
use super::output::{OutputFormat, eprint_line, ignore_broken_pipe, to_json};
use super::task_view::{AgentState, Tasks};
use crate::agent::status_file::State;
use crate::cli::TasksArgs;
use crate::config::Config;
use crate::data_dir::holder::find_holder;
use crate::data_dir::{DataDir, permissions};
use crate::task::record::Phase;
use crate::units::Local;

/// Prints the tasks, from the oldest to the youngest.
pub fn tasks(file: &Path, args: &TasksArgs) -> CommandResult {
    let config = Config::load(file)?;
    let data_dir = &config.paths.data_dir;
    permissions::find(data_dir)?;
    config.check_data_dir_is_there()?;
    let is_wanted = |phase| !args.undelivered || (Phase::Exited..Phase::Settled).contains(&phase);
    let mut tasks = Tasks::load(data_dir, is_wanted).map_err(Failure::with_path(data_dir, "can't be read"))?;
    let agent = add_state(data_dir, &mut tasks);
    ignore_broken_pipe(match OutputFormat::from_flag(args.json) {
        OutputFormat::Text => print_table(&tasks, agent),
        OutputFormat::Json => print_json(&tasks)?,
    })?;
    for (dir, error) in &tasks.damaged {
        eprint_line(format_args!("the record in `{}` can't be read: {error}", dir.display()));
    }
    if tasks.all.is_empty() && !args.json {
        let what = if args.undelivered { "undelivered result" } else { "task" };
        eprint_line(format_args!("No {what} is kept in `{}`.", data_dir.display()));
    }
    Ok(if tasks.damaged.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Adds the reasons that the running agent has published. Returns whether an agent runs.
fn add_state(data_dir: &DataDir, tasks: &mut Tasks) -> AgentState {
    let agent = find_holder(data_dir).ok().flatten().filter(|holder| holder.is_agent());
    let Some(agent) = agent else { return AgentState::NotRunning };
    if let Some(state) = State::load(data_dir).filter(|state| agent.pid == Some(state.pid)) {
        tasks.add_state(&state);
    }
    AgentState::Running
}

fn print_json(tasks: &Tasks) -> Result<io::Result<()>, Failure> {
    let lines = tasks.all.iter().map(to_json).collect::<Result<Vec<_>, _>>()?;
    let mut out = io::stdout().lock();
    Ok(lines.iter().try_for_each(|line| writeln!(out, "{line}")).and_then(|()| out.flush()))
}

fn print_table(tasks: &Tasks, agent: AgentState) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if !tasks.all.is_empty() {
        print_row(&mut out, ["OFFERED", "TASK", "STATE", "SINCE", "FILES", "EXIT"])?;
    }
    for task in &tasks.all {
        let (offered, files) = (Local(task.offered_at).to_string(), task.files_sent.to_string());
        let since = task.since.map_or_else(|| "-".to_owned(), |since| Local(since).to_string());
        let exit_code = task.exit_code.map_or_else(|| "-".to_owned(), |code| code.to_string());
        let exit_code = exit_code + &task.shown_id();
        print_row(&mut out, [&offered, &task.key, task.describe(agent), &since, &files, &exit_code])?;
    }
    out.flush()
}

fn print_row(out: &mut impl Write, [offered, task, state, since, files, exit]: [&str; 6]) -> io::Result<()> {
    writeln!(out, "{offered:<25}  {task:<30}  {state:<19}  {since:<25}  {files:>5}  {exit}")
}
