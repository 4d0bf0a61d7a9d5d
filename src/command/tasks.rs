//! `tasks`, `logs` and `discard`: single tasks, by hand.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use jiff::Timestamp;

use super::{Done, Failure};
use crate::cli::{DiscardArgs, LogsArgs, TasksArgs};
use crate::client::Client;
use crate::config::{Config, Secret};
use crate::docker::Docker;
use crate::instance::{self, Instance};
use crate::ledger::Ledger;
use crate::logging::escape;
use crate::prompt;
use crate::record::{Phase, Record, Store, TaskFiles, TaskKey};
use crate::tasks::{TaskView, Tasks};
use crate::units::Span;
use crate::worker::{self, CONTAINER_PREFIX};

/// How often it is looked whether the container of a followed task is there.
const LOOK: Duration = Duration::from_millis(300);

/// Prints what is known of the tasks that are kept here, a line each.
pub fn tasks(file: &Path, args: &TasksArgs) -> Done {
    let config = Config::load(file)?;
    let data_dir = &config.paths.data_dir;
    let tasks = Tasks::load(data_dir, |phase| !args.undelivered || (Phase::Exited..Phase::Settled).contains(&phase))
        .map_err(|error| Failure::new(format!("`{}` can't be read: {error}", data_dir.display())))?;
    let printed = print_tasks(&tasks, args.json);
    match printed {
        // `| head` has seen enough.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            return Err(Failure::new(format!("can't be printed: {error}")));
        }
        _ => {}
    }
    for (dir, error) in &tasks.damaged {
        eprintln!("the record in `{}` can't be read: {error}", dir.display());
    }
    if tasks.all.is_empty() && !args.json {
        eprintln!("No such task is kept in `{}`.", data_dir.display());
    }
    Ok(if tasks.damaged.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_tasks(tasks: &Tasks, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if !json && !tasks.all.is_empty() {
        writeln!(out, "{:<20}  {:<30}  {:<18}  {:>8}  {:>5}  EXIT", "OFFERED", "TASK", "STATE", "FOR", "FILES")?;
    }
    let now = Timestamp::now();
    for task in &tasks.all {
        if json {
            writeln!(out, "{}", serde_json::to_string(task)?)?;
        } else {
            print_task(&mut out, task, now)?;
        }
    }
    out.flush()
}

fn print_task(out: &mut impl Write, task: &TaskView, now: Timestamp) -> io::Result<()> {
    let time = task.since.and_then(|since| Duration::try_from(now.duration_since(since)).ok());
    writeln!(
        out,
        "{:<20}  {:<30}  {:<18}  {:>8}  {:>5}  {}",
        format!("{:.0}", task.offered_at),
        escape(&task.id),
        task.in_words(),
        time.map_or_else(|| "-".to_owned(), |time| Span(time).to_string()),
        task.files_sent,
        task.exit_code.map_or_else(|| "-".to_owned(), |code| code.to_string()),
    )
}

/// A task that is kept here.
fn find(config: &Config, id: &str) -> Result<(TaskFiles, Record), Failure> {
    let data_dir = &config.paths.data_dir;
    let unknown = || {
        Failure::new(format!(
            "no task `{}` is kept in `{}`; `agent-core tasks` shows those that are",
            escape(id),
            data_dir.display()
        ))
    };
    let key = TaskKey::of(id).filter(|_| data_dir.join("tasks").exists()).ok_or_else(unknown)?;
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
    let name = format!("{CONTAINER_PREFIX}{}", files.key());
    let mut said = false;
    while record.phase < Phase::Exited {
        // The engine has all of what it keeps; our own file may lack the end while the container runs.
        let container = docker.inspect(&name).unwrap_or_else(|error| {
            if !said {
                eprintln!("the container can't be asked: {error}");
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

/// Gives up a result that waits for its delivery.
pub fn discard(file: &Path, args: &DiscardArgs) -> Done {
    let config = Config::load(file)?;
    let shown = escape(&args.id);
    check_undelivered(&find(&config, &args.id)?.1)?;
    if !args.yes {
        if !prompt::is_terminal() {
            return Err(Failure::usage("`discard` asks on a terminal only; say `--yes` elsewhere"));
        }
        let question = format!("Give up the result of task {shown}? The Server is told that it failed (yes/no)");
        let answer = prompt::ask(&question, Some("no"), |answer| match answer {
            "yes" | "y" => Ok(true),
            "no" | "n" => Ok(false),
            _ => Err("Please answer yes or no.".to_owned()),
        });
        if !answer.map_err(|error| Failure::new(format!("nothing was discarded: {error}")))? {
            return Err(Failure::new("nothing was discarded"));
        }
    }
    // While an agent has the task, it may be sending it.
    let instance = Instance::take(&config.paths.data_dir).map_err(|error| {
        Failure::new(format!(
            "{error}; stop it first (`agent-core stop`, containers go on), discard, and start it again"
        ))
    })?;
    // Things may have changed since.
    let (files, mut record) = find(&config, &args.id)?;
    check_undelivered(&record)?;
    let credentials = config.agent.credentials.clone().filter(|ours| ours.service_id == record.service_id);
    let key = credentials.as_ref().map_or_else(|| Secret::new(""), |credentials| credentials.api_key.clone());
    let ledger = Ledger::of(&config.paths.data_dir, key);
    let client = credentials.map(|credentials| Client::new(&config.server, credentials));
    let told = worker::discard(&ledger, client.as_ref(), &files, &mut record)
        .map_err(|error| Failure::new(format!("task {shown} can't be discarded: {error}")))?;
    drop(instance);
    match told {
        Ok(()) => println!("Discarded; the Server knows that task {shown} failed."),
        Err(why) => println!("Discarded; the Server doesn't know: {}", escape(&why)),
    }
    println!(
        "Its files stay in {} until their time is over.",
        config.paths.data_dir.join("workspaces").join(files.key().as_str()).display()
    );
    Ok(ExitCode::SUCCESS)
}

fn check_undelivered(record: &Record) -> Result<(), Failure> {
    let id = escape(&record.task.id);
    match record.phase {
        Phase::Exited | Phase::Uploaded => Ok(()),
        Phase::Settled => Err(Failure::new(format!("task {id} is settled: there is nothing to discard"))),
        _ => Err(Failure::new(format!(
            "task {id} hasn't ended: cancel it on the Server, or end all with `agent-core stop --abort`"
        ))),
    }
}
