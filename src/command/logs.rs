//! `logs`: what a task's container has printed.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::failure::Failure;
use super::find_task::find_task;
use super::output::{eprint_line, ignore_broken_pipe};
use crate::cli::LogsArgs;
use crate::config::Config;
use crate::data_dir::holder::find_holder;
use crate::data_dir::{DataDir, instance};
use crate::docker::{Docker, DockerError, LogRange};
use crate::task::Phase;

/// How often `--follow` looks for a container that isn't there yet.
const LOOK: Duration = Duration::from_millis(300);

/// Prints the container's output: from the engine while there is a container, and from the task's files afterwards.
pub fn logs(file: &Path, args: &LogsArgs) -> Result<(), Failure> {
    let config = Config::load(file)?;
    let data_dir = &config.paths.data_dir;
    let docker = Docker::new(&config.executor.docker)?;
    let (files, mut record) = find_task(&config, &args.id)?;
    let name = files.key().container_name();
    let (mut has_warned, mut is_waiting) = (false, false);
    while record.phase < Phase::Exited {
        // While the container runs, the task's files may lack the end of its output; the engine has all of it.
        let is_there = has_container(&docker, &name, data_dir).unwrap_or_else(|error| {
            if !has_warned {
                eprint_line(format_args!("can't inspect the container: {error}"));
                has_warned = true;
            }
            false
        });
        if is_there {
            return show_by_docker(&docker, &name, args);
        }
        if !args.follow {
            break;
        }
        if !matches!(find_holder(data_dir), Ok(Some(_))) {
            eprint_line("There is no container now, and no agent is running that would continue the task.");
            break;
        }
        if !is_waiting {
            eprint_line("There is no container now; waiting for one …");
            is_waiting = true;
        }
        thread::sleep(LOOK);
        (_, record) = find_task(&config, &args.id)?;
    }
    print_file(&files.stdout(), &mut io::stdout().lock())?;
    print_file(&files.stderr(), &mut io::stderr().lock())
}

/// Whether there is a container of this name that belongs to this data_dir.
fn has_container(docker: &Docker, name: &str, data_dir: &DataDir) -> Result<bool, DockerError> {
    let container = docker.inspect(name)?;
    let instance = instance::read_id(data_dir).ok().flatten();
    Ok(container.is_some_and(|container| container.instance.is_some() && container.instance == instance))
}

fn show_by_docker(docker: &Docker, name: &str, args: &LogsArgs) -> Result<(), Failure> {
    let range = if args.follow { LogRange::UntilExit } else { LogRange::UntilNow };
    let status = docker.logs_command(name, range).status();
    match status.map_err(Failure::context("`docker logs` can't be started"))? {
        status if status.success() => Ok(()),
        status => Err(Failure::new(format!("`docker logs {name}` ended with {status}"))),
    }
}

fn print_file(path: &Path, out: &mut impl Write) -> Result<(), Failure> {
    match File::open(path) {
        Ok(mut file) => ignore_broken_pipe(io::copy(&mut file, out).and_then(|_| out.flush())),
        // The container was never started.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::with_path(path, "can't be read")(error)),
    }
}
