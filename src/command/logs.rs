//! `logs`: what a task's container has printed.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use super::failure::{CommandResult, Failure};
use super::find_task::find_task;
use super::output::eprint_line;
use crate::cli::LogsArgs;
use crate::config::Config;
use crate::data_dir::holder::find_holder;
use crate::data_dir::instance;
use crate::docker::{Docker, LogRange};
use crate::task::record::Phase;

/// How often it is looked whether the container of a followed task is there.
const LOOK: Duration = Duration::from_millis(300);

/// Prints what a task's container has printed.
pub fn logs(file: &Path, args: &LogsArgs) -> CommandResult {
    let config = Config::load(file)?;
    let (files, mut record) = find_task(&config, &args.id)?;
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
        let is_ours = instance::read_id(&config.paths.data_dir).ok().flatten();
        if container.is_some_and(|container| container.instance.is_some() && container.instance == is_ours) {
            let range = if args.follow { LogRange::UntilExit } else { LogRange::UntilNow };
            let shown = docker.logs_command(&name, range).status();
            return match shown {
                Ok(status) if status.success() => Ok(ExitCode::SUCCESS),
                Ok(status) => Err(Failure::new(format!("`docker logs {name}` ended with {status}"))),
                Err(error) => Err(Failure::new(format!("`docker logs` can't be started: {error}"))),
            };
        }
        if !args.follow {
            break;
        }
        if !matches!(find_holder(&config.paths.data_dir), Ok(Some(_))) {
            eprint_line("There is no container now, and no agent is running that would go on with the task.");
            break;
        }
        if !waiting {
            eprint_line("There is no container now; waiting for one …");
            waiting = true;
        }
        thread::sleep(LOOK);
        (_, record) = find_task(&config, &args.id)?;
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
