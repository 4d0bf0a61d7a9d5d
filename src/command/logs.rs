//! `logs`: what a task's container has printed, or the agent itself.

mod agent_log;
mod tail;

use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use super::failure::Failure;
use super::find_task::{find_task, reload};
use super::output::{eprint_line, ignore_broken_pipe};
use crate::cli::LogsArgs;
use crate::config::Config;
use crate::data_dir::holder::find_holder;
use crate::data_dir::{DataDir, instance, permissions};
use crate::docker::{Docker, DockerError, LogRange};
use crate::os::files::open_to_read;
use crate::os::terminal::Shown;
use crate::task::Phase;
use tail::tail_start;

/// How often `--follow` looks for a container that isn't there yet.
const LOOK: Duration = Duration::from_millis(300);

/// Prints the container's output: from the engine while there is a container, and from the task's files afterwards.
pub fn logs(file: &Path, args: &LogsArgs) -> Result<(), Failure> {
    let (config, _) = Config::load_to_look(file)?;
    let data_dir = &config.paths.data_dir;
    permissions::find(data_dir)?;
    config.check_data_dir_is_there()?;
    let Some(id) = &args.id else { return agent_log::show(data_dir, args) };
    let docker = Docker::new(&config)?;
    let (files, mut record) = find_task(&config, id)?;
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
        record = reload(&files)?;
    }
    let shown = Shown::from_flag(args.raw);
    if !args.stderr {
        print_file(&files.stdout(), args.tail, shown.on(io::stdout()))?;
    }
    if !args.stdout {
        print_file(&files.stderr(), args.tail, shown.on(io::stderr()))?;
    }
    Ok(())
}

/// Whether there is a container of this name that belongs to this data_dir.
fn has_container(docker: &Docker, name: &str, data_dir: &DataDir) -> Result<bool, DockerError> {
    let container = docker.inspect(name)?;
    let instance = instance::read_id(data_dir).ok().flatten();
    Ok(container.is_some_and(|container| container.labels.instance.is_some() && container.labels.instance == instance))
}

fn show_by_docker(docker: &Docker, name: &str, args: &LogsArgs) -> Result<(), Failure> {
    let range = if args.follow { LogRange::UntilExit } else { LogRange::UntilNow };
    let shown = Shown::from_flag(args.raw);
    let mut command = docker.logs_command(name, range, args.tail);
    // Where nothing is escaped, docker writes to this process's own streams.
    if shown.is_escaped_for(&io::stdout()) {
        command.stdout(Stdio::piped());
    }
    if shown.is_escaped_for(&io::stderr()) {
        command.stderr(Stdio::piped());
    }
    // Both streams come from one file of the engine's, so that the other one is read in any case.
    if args.stderr {
        command.stdout(Stdio::null());
    }
    if args.stdout {
        command.stderr(Stdio::null());
    }
    let mut child = command.spawn().map_err(Failure::context("`docker logs` can't be started"))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let shown = thread::scope(|scope| {
        let beside = stderr.map(|from| {
            let pass_on = move || pass_on(from, shown.on(io::stderr()));
            thread::Builder::new().name("logs".to_owned()).spawn_scoped(scope, pass_on)
        });
        if let Some(Err(error)) = beside {
            return Err(error);
        }
        stdout.into_iter().for_each(|from| pass_on(from, shown.on(io::stdout())));
        Ok(())
    });
    if let Err(error) = shown {
        // It would wait for ever for a reader.
        let _ = child.kill();
        let _ = child.wait();
        return Err(Failure::context("this machine has no thread to show the output")(error));
    }
    match child.wait().map_err(Failure::context("`docker logs` can't be waited for"))? {
        status if status.success() => Ok(()),
        status => Err(Failure::new(format!("`docker logs {name}` ended with {status}"))),
    }
}

/// Copies an output piece by piece, as it comes. An error means that the terminal is closed; then docker ends, too.
fn pass_on(mut from: impl Read, mut to: impl Write) {
    let mut buffer = [0; 8 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).and_then(|()| to.flush()).is_err() {
            return;
        }
    }
}

fn print_file(path: &Path, tail: Option<usize>, mut out: impl Write) -> Result<(), Failure> {
    match open_to_read(path) {
        Ok(mut file) => {
            tail_start(&mut file, tail).map_err(Failure::with_path(path, "can't be read"))?;
            ignore_broken_pipe(io::copy(&mut file, &mut out).and_then(|_| out.flush()))
        }
        // The container was never started.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::with_path(path, "can't be read")(error)),
    }
}
