//! Who besides us can read or write what must stay between us and the Server: the configuration file with the key, and
//! the data_dir with everybody's tasks.

use std::path::Path;

use crate::docker::args::shell_line;
use crate::platform;

/// Takes the rights of all other users on a file or folder away, and says so. The error names the command that does it
/// where we may not.
pub fn close(path: &Path, what: &str) -> Result<(), String> {
    match platform::close_to_others(path) {
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
