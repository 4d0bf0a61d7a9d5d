//! Whose path it is: the one rule for the files that decide what this program does.
//!
//! A path is trusted if only root and this user can change what it leads to, as sshd's `StrictModes` wants it for
//! keys: each folder from `/` on belongs to one of the two, and no other user may write to it, except where the sticky
//! bit keeps its entries to their owners; and no link on the way is another user's. Links of the two are followed step by
//! step, with the same checks. The last part of the path is checked as opened, so nothing can be changed in between.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf, absolute};
use std::process::Command;

use super::folder::Folder;
use super::platform::{self, Last, Ownership, Untrusted, Walked, Why};
use super::timeout::with_timeout;

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

/// The account whose file or folder keeps this user from reading a file, if only root can have put it there.
pub fn account_of(file: &Path) -> Option<String> {
    let file = absolute(file).ok()?;
    // What can't be looked at is in a folder that can.
    let place = file.ancestors().find(|place| place.symlink_metadata().is_ok())?;
    let parent = Walked::new(place.parent()?, Last::Strict).ok()?;
    // In a folder with the sticky bit, any user could have made it.
    if parent.other_writers().is_some() { None } else { platform::account_of(place) }
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
    check_presence(&place, &walked)?;
    Ok(walked.exists().then_some(place))
}

/// A folder of PATH in which another user could put a program of this name, before the folder that has it.
pub fn open_folder_before(program: &OsStr) -> Option<PathBuf> {
    let places = platform::program_places(program).into_iter().take_while(|place| !platform::is_executable(place));
    let mut places = places.map(|place| absolute(&place).unwrap_or(place));
    let is_open = |place: &PathBuf| match Walked::new(place, Last::Strict) {
        Ok(walked) => walked.may_appear().unwrap_or(false),
        Err(wrong) => !matches!(wrong.why, Why::Unreadable(_)),
    };
    places.find(is_open)?.parent().map(Path::to_owned)
}

/// How deep the folders with settings of a program are looked through.
const SETTINGS_DEPTH: usize = 4;

/// Checks what a program reads of a folder with its settings: the folder, and these entries with all that is in them. What
/// isn't there must not be for another user to make. What this user can't reach, its programs can't read either.
pub fn check_settings(folder: &Path, entries: &[&str]) -> Result<(), Untrusted> {
    let folder = absolute(folder).unwrap_or_else(|_| folder.to_owned());
    check_below(&folder, 0)?;
    entries.iter().try_for_each(|entry| check_below(&folder.join(entry), SETTINGS_DEPTH))
}

fn check_below(path: &Path, depth: usize) -> Result<(), Untrusted> {
    let walked = match Walked::new(path, Last::Strict) {
        Err(wrong) if matches!(wrong.why, Why::Unreadable(_)) && !wrong.is_shortage() => return Ok(()),
        walked => walked?,
    };
    check_presence(path, &walked)?;
    if depth == 0 || !walked.exists() {
        return Ok(());
    }
    // The sticky bit keeps what is there, and not what is added.
    if walked.other_writers().is_some() {
        return Err(Untrusted { path: path.join("…"), why: Why::MayAppear });
    }
    // A file has no entries.
    let Ok(names) = walked.into_folder().and_then(|dir| dir.names().map_err(|error| unreadable(path, error))) else {
        return Ok(());
    };
    names.iter().try_for_each(|name| check_below(&path.join(name), depth - 1))
}

/// Checks a file that docker is to read.
pub fn check_file(path: &Path) -> Result<(), Untrusted> {
    check_presence(path, &Walked::new(path, Last::Strict)?)
}

/// Checks the path of a socket whose mode says who may use it.
pub fn check_socket(path: &Path) -> Result<(), Untrusted> {
    match Walked::new(path, Last::Owner) {
        Err(Untrusted { why: Why::Unreadable(_), .. }) => Ok(()),
        walked => check_presence(path, &walked?),
    }
}

fn check_presence(path: &Path, walked: &Walked) -> Result<(), Untrusted> {
    match walked.may_appear() {
        Ok(false) => Ok(()),
        Ok(true) => Err(Untrusted { path: path.to_owned(), why: Why::MayAppear }),
        Err(error) => Err(unreadable(path, error)),
    }
}

fn unreadable(path: &Path, error: io::Error) -> Untrusted {
    Untrusted { path: path.to_owned(), why: Why::Unreadable(error) }
}

/// The folders in which programs are looked for. Another program looks a helper up in all of them, and doesn't check where
/// it finds one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SearchPath {
    /// Those in which only root and this user can put a program, as the value of `PATH`.
    pub safe: OsString,
    /// The others.
    pub unsafe_folders: Vec<PathBuf>,
}

/// Where PATH is looked for programs when it names a folder that doesn't answer.
const USUAL_FOLDERS: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

impl SearchPath {
    /// That of this process, or `None` where it has none.
    pub fn of_process() -> Option<Self> {
        let path = std::env::var_os("PATH")?;
        let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
        let usual = || Self::of(USUAL_FOLDERS.map(PathBuf::from).to_vec());
        Some(with_timeout(move || Self::of(folders)).unwrap_or_else(usual))
    }

    fn of(folders: Vec<PathBuf>) -> Self {
        let (mut safe, mut unsafe_folders) = (Vec::new(), Vec::new());
        for folder in folders {
            // An empty one is the folder in which this process runs.
            let folder = absolute(Path::new(".").join(folder)).unwrap_or_default();
            match Walked::new(&folder, Last::Strict) {
                Ok(walked) if walked.other_writers().is_none() && matches!(walked.may_appear(), Ok(false)) => {
                    safe.push(folder);
                }
                // Nothing is found in it.
                Err(Untrusted { why: Why::Unreadable(_), .. }) => {}
                _ => unsafe_folders.push(folder),
            }
        }
        let safe = std::env::join_paths(safe).unwrap_or_default();
        // An empty one would be the folder in which the program runs.
        Self { safe: if safe.is_empty() { NOWHERE.into() } else { safe }, unsafe_folders }
    }

    /// Lets a program find others in the safe folders only.
    pub fn set_for(&self, command: &mut Command) {
        command.env("PATH", &self.safe);
    }

    /// The other folders, for people.
    pub fn unsafe_list(&self) -> Option<String> {
        let shown: Vec<String> = self.unsafe_folders.iter().map(|folder| format!("`{}`", folder.display())).collect();
        (!shown.is_empty()).then(|| shown.join(", "))
    }
}

/// A folder in which nothing is.
const NOWHERE: &str = "/dev/null";
