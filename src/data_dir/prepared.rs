//! What another user may have prepared in a data_dir.
//!
//! The data_dir's own mode says nothing about that. It may have been another one before, and a process that was in an
//! inner folder then still is, and writes there if that folder's mode lets it. So each folder of the agent's is looked
//! at, with what is in it, and one that others can write to is never repaired: an empty one is made anew, any other is
//! refused.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use super::{DISCARD_REQUESTS, DataDir, TASKS, TRIALS, WORKSPACES};
use crate::os::files::if_exists;
use crate::os::folder::Folder;
use crate::os::platform::{Dir, EntryKind, Flaw, Inspected, Untrusted};
use crate::os::trust;
use crate::text::escape;

/// How many workspaces are named that others could get into.
const NAMED: usize = 5;

/// What to do with folders that are open to others, and that no other user can have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// Only look.
    Look,
    /// Close them.
    Close {
        /// Whether others could get into the data_dir until now.
        was_open: bool,
    },
}

/// Why a data_dir can't be used.
#[derive(Debug)]
pub(super) enum Problem {
    /// Another user could have made or changed what is at this path, relative to the data_dir.
    Flaw(PathBuf, Flaw),
    /// Another user could change what one of its folders leads to.
    Untrusted(Untrusted),
    /// A link in it, to a place that isn't there.
    Dangling(OsString),
    /// It couldn't be looked at.
    Unreadable(io::Error),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error)
    }
}

/// Looks through what the agent uses in a data_dir: for links, for files of other users, and for what others can change.
pub(super) fn check(data_dir: &Folder, then: Then) -> Result<(), Problem> {
    for name in data_dir.dir().names()? {
        if [TASKS, WORKSPACES, TRIALS, DISCARD_REQUESTS].iter().any(|folder| name == **folder) {
            check_folder(data_dir, &name, then)?;
        } else if DataDir::is_own_name(&name.to_string_lossy()) {
            check_entry(data_dir.dir(), Path::new(""), &name)?;
        }
    }
    Ok(())
}

/// What is at a name, if no other user can have made or changed it. Devices and FIFOs are refused where they are opened.
fn check_entry(dir: &Dir, path: &Path, name: &OsStr) -> Result<Option<Inspected>, Problem> {
    let found = dir.inspect(name)?;
    match found.as_ref().and_then(|found| found.flaw) {
        None | Some(Flaw::Odd) => Ok(found),
        Some(flaw) => Err(Problem::Flaw(path.join(name), flaw)),
    }
}

/// Checks a folder of the agent's with all in it. It may be on another disk, by a link of this user's.
fn check_folder(data_dir: &Folder, name: &OsStr, then: Then) -> Result<(), Problem> {
    let Some(found) = data_dir.dir().inspect(name)? else { return Ok(()) };
    if found.flaw == Some(Flaw::Foreign) {
        return Err(Problem::Flaw(name.into(), Flaw::Foreign));
    }
    let opened = trust::open_folder(&data_dir.path().join(name)).map_err(Problem::Untrusted)?;
    let Some(folder) = opened else {
        return if found.kind == EntryKind::Link { Err(Problem::Dangling(name.to_owned())) } else { Ok(()) };
    };
    let dir = folder.dir();
    if dir.others_write()? {
        return match then {
            _ if found.kind == EntryKind::Link || !dir.names()?.is_empty() => {
                Err(Problem::Flaw(name.into(), Flaw::WritableFolder))
            }
            Then::Look => Ok(()),
            Then::Close { .. } => Ok(data_dir.dir().remake_folder(name)?),
        };
    }
    let mode = dir.shared_mode()?;
    if name == WORKSPACES {
        if let (Then::Close { was_open: true }, Some(mode)) = (then, mode) {
            warn_of_workspaces(&folder, mode)?;
        }
    } else {
        for child in dir.names()? {
            let Some(found) = check_entry(dir, Path::new(name), &child)? else { continue };
            // No other user can get below a closed folder.
            if name == TASKS && found.kind == EntryKind::Folder && found.is_shared {
                check_task(dir, &child, then)?;
            }
        }
    }
    close(dir, then)
}

/// Checks the folder of a task's record.
fn check_task(tasks: &Dir, name: &OsStr, then: Then) -> Result<(), Problem> {
    let Some(dir) = if_exists(tasks.open_folder(name))? else { return Ok(()) };
    let path = Path::new(TASKS).join(name);
    for file in dir.names()? {
        check_entry(&dir, &path, &file)?;
    }
    close(&dir, then)
}

fn close(dir: &Dir, then: Then) -> Result<(), Problem> {
    if let (Then::Close { .. }, Some(mode)) = (then, dir.shared_mode()?) {
        dir.set_mode(mode & 0o700)?;
    }
    Ok(())
}

/// Names the workspaces in which others could write, since containers may write there as any user.
fn warn_of_workspaces(workspaces: &Folder, mode: u32) -> io::Result<()> {
    let is_open = |name: &OsString| {
        let found = workspaces.dir().inspect(name);
        found.is_ok_and(|found| found.is_some_and(|found| found.flaw == Some(Flaw::WritableFolder)))
    };
    let open: Vec<String> = workspaces.dir().names()?.iter().filter(|name| is_open(name)).map(shown).collect();
    if open.is_empty() {
        return Ok(());
    }
    let more = open.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    log::warn!(
        "other users could get into `{}` (mode {mode:o}) and could read and change what is in {}{more}; a process of theirs \
         that is in such a workspace stays there; look at the results of these tasks",
        workspaces.path().display(),
        open[..open.len().min(NAMED)].join(", ")
    );
    Ok(())
}

fn shown(name: &OsString) -> String {
    format!("`{}`", escape(&name.to_string_lossy()))
}
