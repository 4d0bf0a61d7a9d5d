//! The rights of other users on files that only the agent may read: the configuration file with the key, and the data_dir
//! with all tasks.

use std::io::{self, ErrorKind};
use std::path::Path;

use thiserror::Error;

use super::prepared::{self, Problem, Then};
use crate::data_dir::DataDir;
use crate::os::folder::Folder;
use crate::os::platform::{self, Dir, Untrusted, Why};
use crate::os::trust;
use crate::shell::shell_line;
use crate::text::escape;

/// The remedy where no command can close a file.
const NO_MODES: &str = "this place keeps no rights of single users (vfat, exFAT, many network drives, a Windows drive in WSL), \
                        or is read-only (a Secret or a configuration of a container): put it on a disk that does, such as \
                        one with ext4, or mount that place again with `umask=077` and the agent's uid, or with the mode \
                        0600 and the agent's user as the owner";

/// Why a data_dir can't be used, with the remedy.
#[derive(Debug, Error)]
pub enum Refusal {
    /// It can't be opened or made.
    #[error("{0}")]
    Unusable(String),
    /// Another user owns it, could change it, or could have done so.
    #[error("{0}")]
    Unsafe(String),
}

/// Removes the rights of all other users on a file, and logs that. If this user may not do that, the error names the
/// command.
pub fn restrict(path: &Path, what: &str) -> Result<(), String> {
    match platform::restrict_to_owner(path) {
        Ok(None) => Ok(()),
        Ok(Some(before)) => {
            warn_of_open(path, what, before);
            Ok(())
        }
        Err(error) if platform::may_change_mode(path) || error.kind() == ErrorKind::ReadOnlyFilesystem => Err(format!(
            "{what} `{}` is open to other users, and its mode can't be changed ({error}); {NO_MODES}",
            path.display()
        )),
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

fn warn_of_open(path: &Path, what: &str, mode: u32) {
    log::warn!("{what} `{}` was open to other users (mode {mode:o}); their rights were removed", path.display());
}

/// Opens a data_dir that this user's agent can use and no other user could have prepared, or returns `None` if there is
/// none. Changes nothing.
///
/// # Errors
/// The path, what is wrong, and the remedy.
pub fn find(data_dir: &DataDir) -> Result<Option<Folder>, Refusal> {
    let Some(folder) = trust::open_folder(data_dir).map_err(|wrong| refuse(data_dir, &wrong))? else { return Ok(None) };
    check(data_dir, &folder)?;
    Ok(Some(folder))
}

/// The same, but makes the data_dir, private to its owner, where it is missing, and closes it to other users, with the
/// folders in it.
pub fn prepare(data_dir: &DataDir) -> Result<Folder, Refusal> {
    let folder = trust::make_folder(data_dir).map_err(|wrong| refuse(data_dir, &wrong))?;
    check(data_dir, &folder)?;
    let unusable = |error: io::Error| {
        let shown = data_dir.display();
        let remedy = if is_without_modes(&error) { format!("; {NO_MODES}") } else { String::new() };
        Refusal::Unsafe(format!("the data_dir `{shown}` can't be closed to other users: {error}{remedy}"))
    };
    let mode = folder.dir().shared_mode().map_err(unusable)?;
    if let Some(mode) = mode {
        let writable = folder.dir().others_write().map_err(unusable)?.then_some(mode);
        folder.dir().set_mode(mode & 0o700).map_err(unusable)?;
        if folder.dir().shared_mode().map_err(unusable)?.is_some() {
            return Err(unusable(io::Error::new(ErrorKind::Unsupported, "the file system keeps no rights")));
        }
        // Something may have been put there since the check. With its old mode the next start looks for that again.
        let checked = check_content(data_dir, folder.dir(), writable);
        if let Err(why) = checked.and_then(|()| check_prepared(data_dir, &folder, Then::Look)) {
            folder.dir().set_mode(mode).map_err(unusable)?;
            return Err(why);
        }
        warn_of_open(data_dir, "the data_dir", mode);
    }
    check_prepared(data_dir, &folder, Then::Close { was_open: mode.is_some() })?;
    Ok(folder)
}

/// Whether this user's own file has a mode that can't be changed.
fn is_without_modes(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::Unsupported)
}

fn refuse(data_dir: &DataDir, wrong: &Untrusted) -> Refusal {
    let shown = data_dir.display();
    match &wrong.why {
        Why::Owner { owner } if wrong.path == **data_dir => refuse_owner(data_dir, *owner),
        Why::Unreadable(_) if data_dir.exists() && !data_dir.is_dir() => {
            Refusal::Unusable(format!("`paths.data_dir` must be a folder, and `{shown}` isn't one"))
        }
        Why::Unreadable(error) => {
            Refusal::Unusable(format!("the data_dir `{shown}` can't be used: `{}`: {error}", wrong.path.display()))
        }
        _ => Refusal::Unsafe(format!("the data_dir `{shown}` isn't safe from other users: {wrong}")),
    }
}

fn refuse_owner(data_dir: &DataDir, owner: u32) -> Refusal {
    let (user, shown) = (platform::user(), data_dir.display());
    let account = platform::other_account(owner).map(|name| format!(" ({})", escape(&name)));
    let whose = format!("user {owner}{}", account.unwrap_or_default());
    let remedy = if owner == 0 {
        format!("let `paths.data_dir` be a new folder, as `{}` makes it", new_folder_command(data_dir))
    } else {
        format!(
            "if that is the account that your agent has, run this as that account; if it isn't, let `paths.data_dir` be a \
             new folder, such as `{}`",
            beside(data_dir)
        )
    };
    Refusal::Unsafe(format!(
        "the data_dir `{shown}` belongs to {whose}, whose agent couldn't read what user {user} writes there; {remedy}"
    ))
}

/// A place for another data_dir.
fn beside(data_dir: &DataDir) -> String {
    format!("{}.new", data_dir.display())
}

/// The command by which root makes a new data_dir for this user. It fails where another user has made one first.
pub fn new_folder_command(data_dir: &DataDir) -> String {
    let (new, user) = (format!("{}.new", data_dir.to_string_lossy()), platform::user());
    [shell_line(["sudo", "mkdir", "-m", "700", &new]), shell_line(["sudo", "chown", &user, &new])].join(" && ")
}

/// What to do instead of repairing a folder in which another user may have prepared something.
fn new_folder(data_dir: &DataDir) -> String {
    format!(
        "let `paths.data_dir` be a new folder, such as `{}`; closing this one would leave in it what others have put there \
         or hold open; results that weren't delivered stay here, and `agent-core man operate` says what to do with them, \
         in \"A data directory that others could change\"",
        beside(data_dir)
    )
}

fn unreadable(data_dir: &DataDir) -> impl Fn(io::Error) -> Refusal + '_ {
    |error| Refusal::Unusable(format!("the data_dir `{}` can't be read: {error}", data_dir.display()))
}

fn check(data_dir: &DataDir, folder: &Folder) -> Result<(), Refusal> {
    let unreadable = unreadable(data_dir);
    // Also root's, which an ordinary user's agent can't write to.
    if let Some(owner) = folder.dir().other_owner().map_err(&unreadable)? {
        return Err(refuse_owner(data_dir, owner));
    }
    if let Some(mode) = folder.dir().shared_mode().map_err(&unreadable)? {
        check_names(data_dir, folder)?;
        let writable = folder.dir().others_write().map_err(&unreadable)?.then_some(mode);
        check_content(data_dir, folder.dir(), writable)?;
    }
    check_prepared(data_dir, folder, Then::Look)
}

/// Checks what is in a data_dir, also where its own mode is closed by now.
fn check_prepared(data_dir: &DataDir, folder: &Folder, then: Then) -> Result<(), Refusal> {
    let shown = data_dir.display();
    prepared::check(folder, then).map_err(|problem| match problem {
        Problem::Unreadable(error) => unreadable(data_dir)(error),
        Problem::Dangling(name) => Refusal::Unusable(format!(
            "the data_dir `{shown}` can't be used: `{}` in it leads to a place that isn't there; mount the disk that it is on",
            name.to_string_lossy()
        )),
        Problem::Untrusted(Untrusted { path, why: Why::Unreadable(error) }) => {
            Refusal::Unusable(format!("the data_dir `{shown}` can't be used: `{}`: {error}", path.display()))
        }
        Problem::Untrusted(wrong) => {
            Refusal::Unsafe(format!("the data_dir `{shown}` isn't safe from other users: {wrong}"))
        }
        Problem::Flaw(path, flaw) => Refusal::Unsafe(format!(
            "the data_dir `{shown}` isn't safe from other users: `{}` in it is {flaw}; {}",
            escape(&path.to_string_lossy()),
            new_folder(data_dir)
        )),
    })
}

/// Checks that a folder that is open to others may become a data_dir: a mistake in the configuration must not lock other
/// users out of a folder of theirs.
fn check_names(data_dir: &DataDir, folder: &Folder) -> Result<(), Refusal> {
    let shown = data_dir.display();
    let names = folder.dir().names().map_err(unreadable(data_dir))?;
    if names.iter().any(|name| *name == *super::INSTANCE_ID) {
        return Ok(());
    }
    let foreign = names.iter().map(|name| name.to_string_lossy()).find(|name| {
        // A disk of its own has a lost+found.
        !DataDir::is_own_name(name) && name != "lost+found"
    });
    match foreign {
        None => Ok(()),
        Some(name) => Err(Refusal::Unsafe(format!(
            "the data_dir `{shown}` is open to other users and holds `{}`, which is no agent's, so it isn't closed to \
             them; let `paths.data_dir` be a folder of its own, such as `{}`",
            escape(&name),
            data_dir.join("agent-core").display()
        ))),
    }
}

/// Checks that nothing in a folder in which others could write, with this mode, is theirs, or leads to another place: the
/// agent would write there. Without the sticky bit they could also exchange the names of what is the agent's.
fn check_content(data_dir: &DataDir, dir: &Dir, writable: Option<u32>) -> Result<(), Refusal> {
    const STICKY: u32 = 0o1000;
    let Some(mode) = writable else { return Ok(()) };
    let (shown, unreadable) = (data_dir.display(), unreadable(data_dir));
    match dir.foreign_entry().map_err(&unreadable)? {
        None if mode & STICKY == 0 => match dir.names().map_err(&unreadable)?.iter().find(|name| *name != "lost+found")
        {
            None => Ok(()),
            Some(name) => Err(Refusal::Unsafe(format!(
                "other users could write to the data_dir `{shown}` (mode {mode:o}), and rename or remove what is in it, such \
                 as `{}`; {}",
                escape(&name.to_string_lossy()),
                new_folder(data_dir)
            ))),
        },
        None => Ok(()),
        Some((name, what)) => Err(Refusal::Unsafe(format!(
            "other users could write to the data_dir `{shown}` (mode {mode:o}), and `{}` in it is {what}; {}",
            escape(&name.to_string_lossy()),
            new_folder(data_dir)
        ))),
    }
}
