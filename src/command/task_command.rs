//! `command`: the `docker run` command of a task, for a shell.

use std::path::Path;

use super::failure::Failure;
use super::find_task::find_task;
use super::output::print_output;
use crate::cli::CommandArgs;
use crate::config::Config;
use crate::data_dir::permissions;
use crate::os::files::{if_exists, read_text};

/// Prints the command as it is stored.
pub fn task_command(file: &Path, args: &CommandArgs) -> Result<(), Failure> {
    let (config, _) = Config::load_to_look(file)?;
    permissions::find(&config.paths.data_dir)?;
    config.check_data_dir_is_there()?;
    let (files, _) = find_task(&config, &args.id)?;
    let script = files.command();
    let text = if_exists(read_text(&script)).map_err(Failure::with_path(&script, "can't be read"))?;
    let text = text.ok_or_else(|| Failure::new(format!("no container of task {} was ever started", files.key())))?;
    // The first line names the shell.
    let lines: String =
        text.lines().filter(|line| !line.starts_with("#!")).map(|line| line.to_owned() + "\n").collect();
    print_output(lines)
}
