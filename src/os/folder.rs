//! A folder that is held open. What is opened in it is found there, wherever its path leads by then.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{Durability, Replacement, if_exists, ignore_missing, is_full, read_all};
use super::platform::{self, Access, Dir, Open};

/// An open folder. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
    dir: Arc<Dir>,
}

impl Folder {
    /// The folder that this path led to when it was checked.
    pub(super) fn new(path: &Path, dir: Dir) -> Self {
        Self { path: path.to_owned(), dir: Arc::new(dir) }
    }

    /// The path by which it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open folder itself.
    pub fn dir(&self) -> &Arc<Dir> {
        &self.dir
    }

    /// Opens a file to read it and to append to it, or creates it, as [`super::files::append`] does.
    pub fn append(&self, name: &str) -> io::Result<File> {
        self.open(name, Open::Append)
    }

    /// Opens a file to read and change it, or creates it.
    pub fn open_or_create(&self, name: &str) -> io::Result<File> {
        self.open(name, Open::Update)
    }

    /// Opens a file to read and change it, or returns `None` if it is missing.
    pub fn open_existing(&self, name: &str) -> io::Result<Option<File>> {
        if_exists(self.open(name, Open::Existing))
    }

    fn open(&self, name: &str, open: Open) -> io::Result<File> {
        platform::open_file(&self.dir, Path::new(name), open, Access::Owner)
    }

    /// The text of a small file, or `None` if it is missing.
    pub fn read(&self, name: &str) -> io::Result<Option<String>> {
        let Some(file) = if_exists(self.open(name, Open::Read))? else { return Ok(None) };
        String::from_utf8(read_all(file)?).map(Some).map_err(io::Error::other)
    }

    /// Opens a folder in this one that belongs to this user, and makes it where it is missing: its mode follows the umask.
    pub fn make_folder_by_umask(&self, name: &OsStr) -> io::Result<Self> {
        let dir = self.dir.make_folder(Path::new(name))?;
        if dir.other_owner()?.is_some() || dir.others_write()? {
            return Err(io::Error::other("another user has made this folder or may write to it"));
        }
        Ok(Self::new(&self.path.join(name), dir))
    }

    /// Creates a file that a person asked for: its mode follows the umask. One that exists is an error.
    pub fn create_new_by_umask(&self, name: &OsStr) -> io::Result<File> {
        platform::open_file(&self.dir, Path::new(name), Open::New, Access::Umask)
    }

    /// Writes such a file. An earlier one is removed.
    pub fn write_by_umask(&self, name: &str, content: &[u8]) -> io::Result<()> {
        self.remove(name)?;
        self.create_new_by_umask(OsStr::new(name))?.write_all(content)
    }

    /// Replaces a file in one step, by [`Replacement`].
    pub fn replace(&self, name: &str, content: &[u8], durability: Durability) -> io::Result<()> {
        Replacement::write_in(&self.dir, Path::new(name), durability, |file| file.write_all(content))?.commit()
    }

    /// Replaces a small text in one step. Where the disk is full, the text is written over the earlier one, in the room that
    /// the file has, with empty lines behind it. A reader may see a part of it then.
    ///
    /// # Errors
    /// It can't be replaced, and there is no earlier one or it has less room.
    pub fn replace_text(&self, name: &str, text: &[u8]) -> io::Result<()> {
        match self.replace(name, text, Durability::Crash) {
            Err(full) if is_full(&full) => match self.open_existing(name)? {
                Some(file) => overwrite(&file, text),
                None => Err(full),
            },
            replaced => replaced,
        }
    }

    /// The length of a file, or `None` if it is missing.
    pub fn length(&self, name: &str) -> io::Result<Option<u64>> {
        if_exists(self.dir.length(Path::new(name)))
    }

    /// Renames a file.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.dir.rename(Path::new(from), Path::new(to))
    }

    /// Removes a file. A missing one is no error.
    pub fn remove(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        ignore_missing(self.dir.remove_file(Path::new(name.as_ref())))
    }

    /// Makes renames in the folder survive a power cut.
    pub fn sync(&self) -> io::Result<()> {
        self.dir.sync()
    }

    /// Whether the path leads to another folder by now, or to none. On a disk that can't be read that isn't known.
    pub fn is_replaced(&self) -> bool {
        match (platform::folder_identity(&self.path), self.dir.identity_of(Path::new("."))) {
            (Ok(there), Ok(here)) => there != here,
            (Err(error), _) => matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
            (Ok(_), Err(_)) => false,
        }
    }
}

/// Writes over what a file has, without a free block of the disk: behind the text are empty lines up to the file's end.
///
/// # Errors
/// The file has too little room, or can't be written.
pub fn overwrite(mut file: &File, text: &[u8]) -> io::Result<()> {
    let metadata = file.metadata()?;
    let length = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    if text.len() as u64 > platform::allocated(&metadata).max(metadata.len()) {
        return Err(io::Error::from(io::ErrorKind::StorageFull));
    }
    let mut content = text.to_vec();
    content.resize(length.max(text.len()), b'\n');
    file.rewind()?;
    file.write_all(&content)
}
