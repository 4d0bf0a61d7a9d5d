//! Paths on Windows, where rights are inherited from the folder: nothing is checked.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::os::platform::{Flaw, Inspected, Last, Ownership, Untrusted, Why};

/// A folder by its path.
#[derive(Debug)]
pub struct Dir(Option<PathBuf>);

impl Dir {
    /// The working directory, for absolute paths.
    pub const WORKING: Self = Self(None);

    pub(super) fn path(&self, path: &Path) -> PathBuf {
        self.0.as_deref().map_or_else(|| path.to_owned(), |dir| dir.join(path))
    }

    /// The user that the folder belongs to, if that isn't this one.
    pub fn other_owner(&self) -> io::Result<Option<u32>> {
        Ok(None)
    }

    /// The folder's mode, if others have rights on it.
    pub fn shared_mode(&self) -> io::Result<Option<u32>> {
        Ok(None)
    }

    /// Whether other users can write into the folder.
    pub fn others_write(&self) -> io::Result<bool> {
        Ok(false)
    }

    /// An entry that another user may have made.
    pub fn foreign_entry(&self) -> io::Result<Option<(OsString, Flaw)>> {
        Ok(None)
    }

    /// What another user could have made or changed: nothing is looked for.
    pub fn inspect(&self, _name: &OsStr) -> io::Result<Option<Inspected>> {
        Ok(None)
    }

    /// Opens a folder in this one.
    pub fn open_folder(&self, name: &OsStr) -> io::Result<Self> {
        Ok(Self(Some(self.path(Path::new(name)))))
    }

    /// Makes an empty folder anew.
    pub fn remake_folder(&self, name: &OsStr) -> io::Result<()> {
        let path = self.path(Path::new(name));
        fs::remove_dir(&path)?;
        fs::create_dir(path)
    }

    /// A folder can't be synced.
    pub fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    /// Sets the folder's mode: there is none.
    pub fn set_mode(&self, _mode: u32) -> io::Result<()> {
        Ok(())
    }

    /// What distinguishes an entry from every other file on this machine.
    pub fn identity_of(&self, path: &Path) -> io::Result<(u64, u64)> {
        folder_identity(&self.path(path))
    }

    /// The length of an entry.
    pub fn length(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(self.path(path))?.len())
    }

    /// Opens a folder in this one, and makes it where it is missing.
    pub fn make_folder(&self, name: &Path) -> io::Result<Self> {
        let path = self.path(name);
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(Self(Some(path))),
        }
    }

    /// Renames an entry.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    /// Removes a file.
    pub fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(self.path(path))
    }

    /// The names in the folder.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        fs::read_dir(self.path(Path::new(".")))?.map(|entry| entry.map(|entry| entry.file_name())).collect()
    }
}

/// A path that was looked up.
pub struct Walked {
    path: PathBuf,
    /// The identities of the folders on the way: they aren't needed where nothing is checked.
    pub passed: Vec<(u64, u64)>,
    /// The paths without links of the folders on the way.
    pub places: Vec<PathBuf>,
}

impl Walked {
    /// Walks to an absolute path.
    pub fn new(path: &Path, _last: Last) -> Result<Self, Untrusted> {
        let mut walked = Self { path: path.to_owned(), passed: Vec::new(), places: Vec::new() };
        walked.places.extend(walked.real().parent().map(Path::to_owned));
        Ok(walked)
    }

    /// The path without links.
    pub fn real(&self) -> PathBuf {
        fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone())
    }

    /// Whose file it leads to: nothing is known of that.
    pub fn ownership(&self) -> Option<Ownership> {
        None
    }

    /// Whether the path leads to something.
    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Whether a missing name could be made by another user.
    pub fn may_appear(&self) -> io::Result<bool> {
        Ok(false)
    }

    /// Which other users can make something in the folder at the end of the path.
    pub fn other_writers(&self) -> Option<String> {
        None
    }

    /// Makes the missing folders at the end of the path.
    pub fn make_folders(&mut self, _mode: u32) -> Result<(), Untrusted> {
        fs::create_dir_all(&self.path).map_err(|error| self.unreadable(error))
    }

    /// The folder at the end of the path.
    pub fn into_folder(self) -> Result<Dir, Untrusted> {
        if self.path.is_dir() {
            Ok(Dir(Some(self.path)))
        } else {
            Err(self.unreadable(io::ErrorKind::NotADirectory.into()))
        }
    }

    /// Opens the file at the end of the path to read it.
    pub fn into_file(self) -> Result<File, Untrusted> {
        File::open(&self.path).map_err(|error| self.unreadable(error))
    }

    fn unreadable(&self, error: io::Error) -> Untrusted {
        Untrusted { path: self.path.clone(), why: Why::Unreadable(error) }
    }
}

/// What distinguishes the file that a path leads to from every other one on this machine.
pub fn folder_identity(path: &Path) -> io::Result<(u64, u64)> {
    super::identity(&File::open(path)?)
}

/// Whether a program of this path can be executed.
pub fn is_executable(path: &Path) -> bool {
    path.is_file()
}

/// The places where a program is looked for: itself, if it has a folder.
pub fn program_places(program: &OsStr) -> Vec<PathBuf> {
    let program = Path::new(program).with_extension("exe");
    if program.parent().is_some_and(|folder| folder != Path::new("")) {
        return vec![program];
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(&program)).collect()
}
