//! `logs` without a task: the log of a detached agent, also over its rotation.

use std::fs::File;
use std::io::{self, Read, Write};
use std::thread;
use std::time::Duration;

use super::tail::tail_start;
use crate::cli::LogsArgs;
use crate::command::failure::Failure;
use crate::command::output::ignore_broken_pipe;
use crate::data_dir::DataDir;
use crate::os::files::{if_exists, open_to_read};
use crate::os::platform;
use crate::os::terminal::Shown;

/// How often new lines are looked for.
const LOOK: Duration = Duration::from_millis(300);

/// Prints the agent's log, with `--follow` until the reader goes away.
pub fn show(data_dir: &DataDir, args: &LogsArgs) -> Result<(), Failure> {
    let path = data_dir.agent_log();
    let unreadable = Failure::with_path(&path, "can't be read");
    let Some(mut file) = if_exists(open_to_read(&path)).map_err(&unreadable)? else {
        return Err(Failure::new(format!(
            "there is no `{}`: `run-detached` makes it; `run` logs to standard error, under systemd to its journal",
            path.display()
        )));
    };
    let mut out = Shown::from_flag(args.raw).on(io::stdout());
    tail_start(&mut file, args.tail).map_err(&unreadable)?;
    loop {
        if let Err(error) = copy(&mut file, &mut out) {
            return ignore_broken_pipe(Err(error));
        }
        if !args.follow {
            return Ok(());
        }
        thread::sleep(LOOK);
        // While the agent rotates, there may be no file for a moment.
        if let Some(next) = if_exists(open_to_read(&path)).map_err(&unreadable)? {
            if platform::identity(&next).ok() != platform::identity(&file).ok() {
                // What was written to the old one last.
                if let Err(error) = copy(&mut file, &mut out) {
                    return ignore_broken_pipe(Err(error));
                }
                file = next;
            }
        }
    }
}

fn copy(from: &mut File, out: &mut dyn Write) -> io::Result<()> {
    let mut buffer = [0; 64 * 1024];
    loop {
        match from.read(&mut buffer)? {
            0 => return out.flush(),
            count => out.write_all(&buffer[..count])?,
        }
    }
}
