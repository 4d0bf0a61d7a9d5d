//! Whose path it is: the one rule for the files that decide what this program does.
//!
//! A path is trusted if nobody but root and this user can change what it leads to, as sshd's `StrictModes` wants it for
//! keys: each folder from `/` on belongs to one of the two, and no other user may write to it, except where the sticky
//! bit keeps its entries to their owners; and no link on the way is another user's. Links of the two are followed step by
//! step, with the same checks. The last part of the path is checked as opened, so nothing can be changed in between.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf, absolute};

use super::folder::Folder;
use super::platform::{self, Last, Ownership, Untrusted, Walked, Why};

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

/// A folder that a person asked for, or the place where it is to be made. The folders on the way are held open: a task may
/// replace one of them by a link of root's, where root's container has a mount that it may write to.
pub struct FolderPlace {
    path: PathBuf,
    walked: Walked,
}

impl FolderPlace {
    /// Checks the path.
    pub fn find(path: &Path) -> Result<Self, Untrusted> {
        let path = absolute(path).unwrap_or_else(|_| path.to_owned());
        let walked = Walked::new(&path, Last::Strict)?;
        Ok(Self { path, walked })
    }

    /// Opens the folder, and makes it, and the missing ones above it, as [`make_folder_by_umask`] does.
    pub fn make(mut self) -> Result<Folder, Untrusted> {
        self.walked.make_folders(0o755)?;
        self.walked.into_folder().map(|dir| Folder::new(&self.path, dir))
    }
}

/// Opens a folder that a person asked for, and makes it, and the missing ones above it, where only this user can write
/// and the umask says who can read.
pub fn make_folder_by_umask(path: &Path) -> Result<Folder, Untrusted> {
    FolderPlace::find(path)?.make()
}

/// The place of a file that is to be made or replaced, behind links of root and this user, and whose the file there is.
pub fn place_of_file(file: &Path) -> Result<(PathBuf, Option<Ownership>), Untrusted> {
    let file = absolute(file).unwrap_or_else(|_| file.to_owned());
    Walked::new(&file, Last::Owner).map(|walked| (walked.real(), walked.ownership()))
}

/// Checks a folder that another program is about to look up by this path: no other user can put something in its place.
///
/// A container may have given the folder itself to any user.
pub fn check_place(folder: &Path) -> Result<(), Untrusted> {
    let parent = folder.parent().unwrap_or(Path::new("/"));
    Walked::new(parent, Last::Strict)?;
    Walked::new(folder, Last::Any).map(drop)
}

/// The path of a program's file, if there is one.
fn find_program(program: &OsStr) -> Option<PathBuf> {
    platform::program_places(program).into_iter().find(|place| platform::is_executable(place))
}

/// Checks a program that is about to be executed, and returns its file. That file is to be executed, and no name to be
/// looked up in PATH: another user could put a program of that name into an earlier folder meanwhile.
///
/// A missing program is no error here.
pub fn check_program(program: &OsStr) -> Result<Option<PathBuf>, Untrusted> {
    let is_path = Path::new(program).parent().is_some_and(|folder| folder != Path::new(""));
    // A path leads to one place, also while there is no program.
    let at_path = || if is_path { Some(PathBuf::from(program)) } else { None };
    let Some(place) = find_program(program).or_else(at_path) else { return Ok(None) };
    let place = absolute(&place).unwrap_or(place);
    let walked = Walked::new(&place, Last::Strict)?;
    if walked.may_appear() {
        return Err(Untrusted { path: place, why: Why::MayAppear });
    }
    Ok(walked.exists().then_some(place))
}

/// A folder of PATH in which another user could put a program of this name, before the folder that has it.
pub fn open_folder_before(program: &OsStr) -> Option<PathBuf> {
    let places = platform::program_places(program).into_iter().take_while(|place| !platform::is_executable(place));
    let mut places = places.map(|place| absolute(&place).unwrap_or(place));
    let is_open = |place: &PathBuf| match Walked::new(place, Last::Strict) {
        Ok(walked) => walked.may_appear(),
        Err(wrong) => !matches!(wrong.why, Why::Unreadable(_)),
    };
    places.find(is_open)?.parent().map(Path::to_owned)
}
