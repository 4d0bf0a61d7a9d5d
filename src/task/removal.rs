//! The removal of what tasks leave on this machine.

use std::io;
use std::path::Path;

use super::TaskFiles;
use super::ledger_entries::removed_here;
use super::task_ledger::TaskLedger;
use super::uploads::Uploads;
use crate::config::ExecutorConfig;
use crate::docker::args::RemovalSpec;
use crate::docker::{Docker, DockerError, INSTANCE_LABEL};
use crate::ledger::Ledger;
use crate::os::platform;
use crate::os::trust::check_place;
use crate::shell::shell_line;

/// What the names begin with of containers that remove what is in a folder.
const REMOVER_PREFIX: &str = "open-aaas-remove-";

/// What a removal may use.
#[derive(Clone, Copy)]
pub struct Remover<'r> {
    pub docker: &'r Docker,
    pub executor: &'r ExecutorConfig,
    /// The agent that the label of its containers names; those of a trial have none.
    pub owner: Option<&'r str>,
}

impl Remover<'_> {
    /// Removes a folder that containers have written to. Containers may leave files that only their own user can remove:
    /// these are removed by a container of the executor's image, as root.
    ///
    /// # Errors
    /// The reason, and the command that removes the folder.
    pub fn remove(&self, dir: &Path) -> Result<(), String> {
        if platform::remove_tree(dir).is_ok() {
            return Ok(());
        }
        let place = check_place(dir).map_err(|wrong| wrong.to_string());
        let in_container = place.and_then(|()| self.remove_in_container(dir).map_err(|error| error.to_string()));
        let Err(error) = platform::remove_tree(dir) else { return Ok(()) };
        Err(match in_container {
            Ok(()) => explain(&error, dir),
            Err(words) => format!("{error}; in a container: {words}; run `{}`", command(dir, &[CHATTR, SUBVOLUMES])),
        })
    }

    fn remove_in_container(&self, dir: &Path) -> Result<(), DockerError> {
        let folder = dir.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{REMOVER_PREFIX}{folder}");
        let labels = self.owner.map(|owner| vec![(INSTANCE_LABEL, owner.to_owned())]).unwrap_or_default();
        self.docker.remove_content(&RemovalSpec { name: &name, labels, executor: self.executor, dir })
    }
}

/// Words of a command before and behind the folder.
type Words = (&'static [&'static str], &'static [&'static str]);

/// Takes away the flags that keep root from removing files.
const CHATTR: Words = (&["chattr", "-R", "-ia"], &[]);
/// The same for subvolumes of btrfs that may only be read.
const SUBVOLUMES: Words =
    (&["find"], &["-type", "d", "-inum", "256", "-execdir", "btrfs", "property", "set", "{}", "ro", "false", ";"]);

fn explain(error: &io::Error, dir: &Path) -> String {
    let before: &[Words] = match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => &[SUBVOLUMES],
        // EPERM, and not EACCES.
        io::ErrorKind::PermissionDenied if error.raw_os_error() == Some(1) => &[CHATTR],
        _ => &[],
    };
    format!("{error}; run `{}`", command(dir, before))
}

/// The command that removes the folder, after others.
fn command(dir: &Path, before: &[Words]) -> String {
    let dir = dir.to_string_lossy();
    if before.is_empty() {
        return shell_line(["sudo", "rm", "-rf", &dir]);
    }
    let line = |(first, last): &Words| shell_line(first.iter().copied().chain([&*dir]).chain(last.iter().copied()));
    let removal: Words = (&["rm", "-rf"], &[]);
    let lines: Vec<String> = before.iter().chain([&removal]).map(line).collect();
    shell_line(["sudo", "sh", "-c", &lines.join("; ")])
}

/// Writes into the ledger that a task's files that the Server never got are removed from this machine.
pub fn log_removed(ledger: &Ledger, files: &TaskFiles, reason: &str) -> io::Result<()> {
    let Some(record) = files.load()? else { return Ok(()) };
    let uploads = Uploads::read(files)?;
    TaskLedger::new(ledger, files, &record).append(vec![removed_here(&uploads, reason)])
}

#[cfg(test)]
mod tests {
    use super::{CHATTR, SUBVOLUMES, command, explain};
    use std::io;
    use std::path::Path;

    #[test]
    fn the_command_fits_what_kept_the_folder() {
        let dir = Path::new("/data/workspaces/a b");
        assert_eq!(command(dir, &[]), "sudo rm -rf '/data/workspaces/a b'");
        let whole = command(dir, &[CHATTR, SUBVOLUMES]);
        let words = shlex::split(&whole).unwrap();
        assert_eq!(words[..3], ["sudo", "sh", "-c"]);
        assert_eq!(
            words[3],
            "chattr -R -ia '/data/workspaces/a b'; find '/data/workspaces/a b' -type d -inum 256 -execdir btrfs property \
             set '{}' ro false ';'; rm -rf '/data/workspaces/a b'"
        );
        let told = |code| explain(&io::Error::from_raw_os_error(code), dir);
        if cfg!(target_os = "linux") {
            assert!(told(30).contains("btrfs property set") && !told(30).contains("chattr"), "{}", told(30));
            assert!(told(1).contains("chattr -R -ia"), "{}", told(1));
            assert!(told(13).ends_with("; run `sudo rm -rf '/data/workspaces/a b'`"), "{}", told(13));
        }
    }
}
