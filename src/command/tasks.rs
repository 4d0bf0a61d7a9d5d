//! `tasks` and `logs`: single tasks, looked at by hand.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use super::{Done, Failure, eprint_line, printed};
use crate::agent::status_file::StatusFile;
use crate::cli::{LogsArgs, TasksArgs};
use crate::command::task_view::{AgentState, Tasks};
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::data_dir::instance;
use crate::docker::Docker;
use crate::task::record::{Phase, Record, Store, TaskFiles, TaskKey};
use crate::text::escape;
use crate::units::Local;

/// How often it is looked whether the container of a followed task is there.
const LOOK: Duration = Duration::from_millis(300);

/// Prints what is known of the tasks that are kept here, a line each.
pub fn tasks(file: &Path, args: &TasksArgs) -> Done {
    let config = Config::load(file)?;
    let data_dir = &config.paths.data_dir;
    let mut tasks =
        Tasks::load(data_dir, |phase| !args.undelivered || (Phase::Exited..Phase::Settled).contains(&phase))
            .map_err(|error| Failure::new(format!("`{}` can't be read: {error}", data_dir.display())))?;
    let agent = add_reasons(data_dir, &mut tasks);
    printed(print_tasks(&tasks, agent, args.json))?;
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
    let agent = instance::holder(data_dir).ok().flatten().filter(|holder| holder.is_agent());
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

/// A task that is kept here.
pub(super) fn find(config: &Config, id: &str) -> Result<(TaskFiles, Record), Failure> {
    let data_dir = &config.paths.data_dir;
    let unknown = || {
        Failure::new(format!(
            "no task `{}` is kept in `{}`; `agent-core tasks` shows those that are",
            escape(id),
            data_dir.display()
        ))
    };
    let key = TaskKey::from_id(id).filter(|_| data_dir.tasks().exists()).ok_or_else(unknown)?;
    let unreadable = |error: io::Error| Failure::new(format!("the record of task {key} can't be read: {error}"));
    let files = Store::open(data_dir).map_err(unreadable)?.task(&key);
    let record = files.load().map_err(unreadable)?.ok_or_else(unknown)?;
    Ok((files, record))
}

/// Prints what a task's container has printed.
pub fn logs(file: &Path, args: &LogsArgs) -> Done {
    let config = Config::load(file)?;
    let (files, mut record) = find(&config, &args.id)?;
    let docker = Docker::new(&config.executor.docker);
    let name = files.key().container_name();
    let (mut said, mut waiting) = (false, false);
    while record.phase < Phase::Exited {
        // The engine has all of what it keeps; our own file may lack the end while the container runs.
        let container = docker.inspect(&name).unwrap_or_else(|error| {
            if !said {
                eprint_line(format_args!("the container can't be asked: {error}"));
                said = true;
            }
            None
        });
        let is_ours = instance::id_of(&config.paths.data_dir);
        if container.is_some_and(|container| container.instance.is_some() && container.instance == is_ours) {
            let shown = docker.logs_command(&name, args.follow).status();
            return match shown {
                Ok(status) if status.success() => Ok(ExitCode::SUCCESS),
                Ok(status) => Err(Failure::new(format!("`docker logs {name}` ended with {status}"))),
                Err(error) => Err(Failure::new(format!("`docker logs` can't be started: {error}"))),
            };
        }
        if !args.follow {
            break;
        }
        if !matches!(instance::holder(&config.paths.data_dir), Ok(Some(_))) {
            eprint_line("There is no container now, and no agent is running that would go on with the task.");
            break;
        }
        if !waiting {
            eprint_line("There is no container now; waiting for one …");
            waiting = true;
        }
        thread::sleep(LOOK);
        (_, record) = find(&config, &args.id)?;
    }
    print_file(&files.stdout(), &mut io::stdout().lock())?;
    print_file(&files.stderr(), &mut io::stderr().lock())?;
    Ok(ExitCode::SUCCESS)
}

fn print_file(path: &Path, out: &mut impl Write) -> Result<(), Failure> {
    let copied = match File::open(path) {
        Ok(mut file) => io::copy(&mut file, out).and_then(|_| out.flush()),
        // It never started.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => Err(error),
    };
    match copied {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("`{}` can't be shown: {error}", path.display())))
        }
        _ => Ok(()),
    }
}
