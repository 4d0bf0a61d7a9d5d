//! Whose path it is: the one rule for the files that decide what this program does.
//!
//! A path is trusted if nobody but root and this user can change what it leads to, as sshd's `StrictModes` wants it for
//! keys: each folder from `/` on belongs to one of the two, and no other user may write to it, except where the sticky
//! bit keeps its entries to their owners; and no link on the way is another user's. Links of the two are followed step by
//! step, with the same checks. The last part of the path is checked as opened, so nothing can be changed in between.

use std::ffi::OsStr;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf, absolute};

use super::folder::Folder;
use super::platform::{self, Last, Untrusted, Walked, Why};

/// Opens a file to read it, or returns `None` if there is none.
pub fn open_file(path: &Path) -> Result<Option<File>, Untrusted> {
    let walked = Walked::new(path, Last::Strict)?;
    if !walked.exists() {
        return Ok(None);
    }
    walked.into_file().map(Some)
}

/// Opens a folder whose own mode doesn't matter, or returns `None` if there is none.
pub fn open_folder(path: &Path) -> Result<Option<Folder>, Untrusted> {
    let walked = Walked::new(path, Last::Owner)?;
    if !walked.exists() {
        return Ok(None);
    }
    walked.into_folder().map(|dir| Some(Folder::new(path, dir)))
}

/// Opens a folder whose own mode doesn't matter, and makes it, and the missing ones above it, for this user only.
pub fn make_folder(path: &Path) -> Result<Folder, Untrusted> {
    let mut walked = Walked::new(path, Last::Owner)?;
    walked.make_folders(0o700)?;
    walked.into_folder().map(|dir| Folder::new(path, dir))
}

/// Checks the folder in which a file is to be made.
pub fn check_folder_of(file: &Path) -> Result<(), Untrusted> {
    let file = absolute(file).unwrap_or_else(|_| file.to_owned());
    Walked::new(file.parent().unwrap_or(Path::new("/")), Last::Strict).map(drop)
}

/// The path of a program's file, if there is one.
pub fn find_program(program: &OsStr) -> Option<PathBuf> {
    platform::program_places(program).into_iter().find(|place| platform::is_executable(place))
}

/// Checks a program that is about to be executed. One that is looked up in PATH is checked together with the folders of
/// PATH up to its own: another user could put a program of that name into an earlier one.
///
/// A missing program is no error here.
pub fn check_program(program: &OsStr) -> Result<(), Untrusted> {
    for place in platform::program_places(program) {
        let place = absolute(&place).unwrap_or(place);
        let walked = match Walked::new(&place, Last::Strict) {
            // Another user's folder that this user can't enter holds no program for it.
            Err(Untrusted { why: Why::Unreadable(error), .. })
                if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::NotADirectory) =>
            {
                continue;
            }
            walked => walked?,
        };
        if walked.may_appear() {
            return Err(Untrusted { path: place, why: Why::MayAppear });
        }
        if walked.exists() && platform::is_executable(&place) {
            return Ok(());
        }
    }
    Ok(())
}
