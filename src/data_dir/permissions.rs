//! Who besides us can read or write what must stay between us and the Server: the configuration file with the key, and
//! the data_dir with everybody's tasks.

use std::fs;
use std::path::Path;

use crate::data_dir::DataDir;
use crate::os::platform;
use crate::shell::shell_line;

/// Takes the rights of all other users on a file or folder away, and says so. The error names the command that does it
/// where we may not.
pub fn close(path: &Path, what: &str) -> Result<(), String> {
    match platform::restrict_to_owner(path) {
        Ok(None) => Ok(()),
        Ok(Some(before)) => {
            let path = path.display();
            log::warn!("{what} `{path}` was open to other users (mode {before:o}); now it is its owner's alone");
            Ok(())
        }
        Err(error) => {
            let shown = path.display();
            let path = path.to_string_lossy();
            let user = platform::user();
            let commands = [shell_line(["sudo", "chown", &user, &path]), shell_line(["sudo", "chmod", "go=", &path])];
            Err(format!(
                "{what} `{shown}` is open to other users, and we may not change that ({error}); run `{}`",
                commands.join(" && ")
            ))
        }
    }
}

/// What agents put into a data_dir, and what a disk of its own has there.
const OURS: [&str; 14] = [
    "agent.lock",
    "agent.pid",
    "agent.log",
    "status.json",
    "metrics",
    "ledger.jsonl",
    "tasks",
    "workspaces",
    "try",
    "discard",
    "drain",
    "instance_id",
    "lost+found",
    ".check",
];

/// Makes sure that a folder may become a data_dir: one that others use, too, must not be closed to them because of a slip
/// in the configuration.
pub fn check_folder(data_dir: &DataDir) -> Result<(), String> {
    let shown = data_dir.display();
    if !data_dir.is_dir() {
        return Err(format!("`paths.data_dir` must be a folder, and `{shown}` isn't one"));
    }
    // Where nobody else has rights, nothing is taken from anybody.
    if !matches!(platform::mode_if_shared(data_dir), Ok(Some(_))) || data_dir.instance_id().exists() {
        return Ok(());
    }
    let entries = fs::read_dir(data_dir).map_err(|error| format!("the data_dir `{shown}` can't be read: {error}"))?;
    let foreign = entries.flatten().map(|entry| entry.file_name()).find(|name| {
        let name = name.to_string_lossy();
        !OURS.iter().any(|ours| name.starts_with(ours))
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

/// Makes sure that what we write into a data_dir is its owner's: a record or a ledger that root has left there can't be
/// read by the agent of an ordinary user any more. The error names the ways out.
pub fn check_owner(data_dir: &DataDir) -> Result<(), String> {
    // Where nothing can be written, whoever tries next says so.
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
