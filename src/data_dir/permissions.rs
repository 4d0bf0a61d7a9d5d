//! The rights of other users on files that only the agent may read: the configuration file with the key, and the data_dir
//! with all tasks.

use std::fs;
use std::path::Path;

use crate::data_dir::DataDir;
use crate::os::platform;
use crate::shell::shell_line;

/// Removes the rights of all other users on a file or folder, and logs that. If this user may not do that, the error names
/// the command.
pub fn restrict(path: &Path, what: &str) -> Result<(), String> {
    match platform::restrict_to_owner(path) {
        Ok(None) => Ok(()),
        Ok(Some(before)) => {
            let path = path.display();
            log::warn!("{what} `{path}` was open to other users (mode {before:o}); their rights were removed");
            Ok(())
        }
        Err(error) => {
            let shown = path.display();
            let path = path.to_string_lossy();
            let user = platform::user();
            let commands = [shell_line(["sudo", "chown", &user, &path]), shell_line(["sudo", "chmod", "go=", &path])];
            Err(format!(
                "{what} `{shown}` is open to other users, and this user may not change that ({error}); run `{}`",
                commands.join(" && ")
            ))
        }
    }
}

/// Checks that a folder may become a data_dir: a mistake in the configuration must not lock other users out of a folder of
/// theirs.
pub fn check_folder(data_dir: &DataDir) -> Result<(), String> {
    let shown = data_dir.display();
    if !data_dir.is_dir() {
        return Err(format!("`paths.data_dir` must be a folder, and `{shown}` isn't one"));
    }
    // Already private: nothing to restrict.
    if !matches!(platform::mode_if_shared(data_dir), Ok(Some(_))) || data_dir.instance_id().exists() {
        return Ok(());
    }
    let entries = fs::read_dir(data_dir).map_err(|error| format!("the data_dir `{shown}` can't be read: {error}"))?;
    let foreign = entries.flatten().map(|entry| entry.file_name()).find(|name| {
        let name = name.to_string_lossy();
        // A disk of its own has a lost+found.
        !DataDir::is_own_name(&name) && name != "lost+found"
    });
    match foreign {
        None => Ok(()),
        Some(name) => Err(format!(
            "the data_dir `{shown}` is open to other users and holds `{}`, which is no agent's, so it isn't closed to \
             them; let `paths.data_dir` be a folder of its own, such as `{}`, or run `{}` if it is only the agent's",
            name.to_string_lossy(),
            data_dir.join("agent-core").display(),
            shell_line(["chmod", "go=", &data_dir.to_string_lossy()])
        )),
    }
}

/// Checks that new files in a data_dir belong to its owner: the agent of an ordinary user can't read a record or a ledger
/// of root's. The error names the remedies.
pub fn check_owner(data_dir: &DataDir) -> Result<(), String> {
    // If no file can be made, the next write reports that.
    let Ok(Some(owner)) = platform::other_owner(data_dir) else { return Ok(()) };
    let (user, path) = (platform::user(), data_dir.to_string_lossy());
    Err(format!(
        "the data_dir `{}` belongs to user {owner}, whose agent couldn't read what user {user} writes there; run this \
         as user {owner}, with `{}` before it, or give the folder to user {user} with `{}`",
        data_dir.display(),
        shell_line(["sudo", "-u", &format!("#{owner}")]),
        shell_line(["sudo", "chown", "-R", &user, &path])
    ))
}
