//! Files: the only place that creates them, with folders; those that are replaced in one step, and those that may be
//! missing.
//!
//! What the agent makes is private from the first moment. A file that is created open and closed a moment later can be
//! opened in between, and what is written afterwards is read through that descriptor. Only two kinds are open to others:
//! what a container reads or writes as any user, below a private data_dir; and what a person asked for in a folder of
//! their own.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use super::missing::{if_exists, ignore_missing, remove_if_exists};
use super::platform::{self, Access, Dir, Open};
use super::random::random_u64;

/// What is larger than any file that the agent writes and reads as a whole, in bytes.
const LARGEST: u64 = 64 << 20;
/// How often a file is created in the place of one that another process creates at the same time.
const TRIES: u32 = 10;

/// Creates a file that isn't there yet, readable and writable for its owner only.
pub fn create_new(path: &Path) -> io::Result<File> {
    platform::open_file(&Dir::WORKING, path, Open::New, Access::Owner)
}

/// Creates an empty file, readable and writable for its owner only. An earlier one is removed.
pub fn create(path: &Path) -> io::Result<File> {
    create_over(path, Access::Owner)
}

/// Creates an empty file that a container may read and write as any user. An earlier one is removed. The folder around
/// the workspaces keeps all other users of this machine out.
pub fn create_for_containers(path: &Path) -> io::Result<File> {
    create_over(path, Access::Everyone)
}

fn create_over(path: &Path, access: Access) -> io::Result<File> {
    for _ in 1..TRIES {
        match platform::open_file(&Dir::WORKING, path, Open::New, access) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => remove_if_exists(path)?,
            created => return created,
        }
    }
    platform::open_file(&Dir::WORKING, path, Open::New, access)
}

/// Opens a file to read it and to append to it, or creates it. It is its owner's only from then on.
pub fn append(path: &Path) -> io::Result<File> {
    platform::open_file(&Dir::WORKING, path, Open::Append, Access::Owner)
}

/// Opens a file that exists to read and change it.
pub fn open_existing(path: &Path) -> io::Result<File> {
    platform::open_file(&Dir::WORKING, path, Open::Existing, Access::Owner)
}

/// Opens a regular file to read it. A link is an error, and so is a FIFO, which would block.
pub fn open_to_read(path: &Path) -> io::Result<File> {
    platform::open_file(&Dir::WORKING, path, Open::Read, Access::Owner)
}

/// The bytes of one of the agent's own files. A link, a FIFO, a device and a file of more than 64 MiB are errors.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    read_all(open_to_read(path)?)
}

pub(super) fn read_all(file: File) -> io::Result<Vec<u8>> {
    // With room for all of it and some more, its end is found by two reads; a start reads ten thousand records.
    let room = usize::try_from(file.metadata()?.len().min(LARGEST)).unwrap_or_default();
    let mut bytes = Vec::with_capacity(room + 64);
    if file.take(LARGEST + 1).read_to_end(&mut bytes)? as u64 > LARGEST {
        return Err(io::Error::new(ErrorKind::InvalidData, "it is larger than 64 MiB, so it isn't the agent's"));
    }
    Ok(bytes)
}

/// The text of such a file.
pub fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?).map_err(io::Error::other)
}

/// Makes a folder for its owner only. One that exists is an error.
pub fn make_new_dir(path: &Path) -> io::Result<()> {
    platform::make_dir(path, Access::Owner)
}

/// Makes a folder in which a container may write as any user; one that exists becomes so. Those above it must exist.
pub fn make_dir_for_containers(path: &Path) -> io::Result<()> {
    match platform::make_dir(path, Access::Everyone) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => platform::set_dir_access(path, Access::Everyone),
        made => made,
    }
}

/// Makes a folder and the missing ones above it, each for its owner only. A folder that exists stays as it is.
pub fn make_dirs(path: &Path) -> io::Result<()> {
    let made = match platform::make_dir(path, Access::Owner) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else { return Err(error) };
            make_dirs(parent)?;
            platform::make_dir(path, Access::Owner)
        }
        made => made,
    };
    match made {
        // Another process may have made it at the same time.
        Err(_) if path.is_dir() => Ok(()),
        made => made,
    }
}

/// Whether a write failed since the disk, or this user's part of it, is full.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// What a replaced file survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// A power cut after the call: file and folder are synced.
    PowerCut,
    /// The same, or the old content is there after it: only the file is synced.
    OldOrNew,
    /// A crash of this process only.
    Crash,
}

/// The new content of a file, complete in a temporary file beside it, and private to its owner. Readers of the file see
/// the old content or the new one, never a part. A crash leaves the temporary file, whose name [`is_temporary`] knows.
pub struct Replacement {
    /// The folder in which both names begin.
    dir: Arc<Dir>,
    file: File,
    /// `None` once it has the file's name.
    temporary: Option<PathBuf>,
    path: PathBuf,
    durability: Durability,
}

impl Replacement {
    /// Writes the temporary file. Its name is random, so that no other user can wait for it.
    pub fn write(path: &Path, content: &[u8], durability: Durability) -> io::Result<Self> {
        Self::write_in(&Arc::new(Dir::WORKING), path, durability, |file| file.write_all(content))
    }

    /// The same for content that is written piece by piece.
    pub fn write_by(
        path: &Path,
        durability: Durability,
        write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
    ) -> io::Result<Self> {
        Self::write_in(&Arc::new(Dir::WORKING), path, durability, write)
    }

    /// The same for a file of an open folder.
    pub(super) fn write_in(
        dir: &Arc<Dir>,
        path: &Path,
        durability: Durability,
        write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
    ) -> io::Result<Self> {
        let mut name = OsString::from(path);
        name.push(format!(".{:016x}.tmp", random_u64()));
        let temporary = PathBuf::from(name);
        let file = platform::open_file(dir, &temporary, Open::New, Access::Owner)?;
        let (dir, temporary, path) = (Arc::clone(dir), Some(temporary), path.to_owned());
        let replacement = Self { dir, file, temporary, path, durability };
        let mut content = BufWriter::new(&replacement.file);
        write(&mut content)?;
        content.flush()?;
        drop(content);
        if durability != Durability::Crash {
            replacement.file.sync_all()?;
        }
        Ok(replacement)
    }

    /// The temporary file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Renames the temporary file to the file.
    pub fn commit(mut self) -> io::Result<()> {
        if let Some(temporary) = &self.temporary {
            self.dir.rename(temporary, &self.path)?;
        }
        self.temporary = None;
        match self.path.parent() {
            _ if self.durability != Durability::PowerCut => Ok(()),
            Some(parent) if parent != Path::new("") => platform::sync_dir(parent),
            _ => self.dir.sync(),
        }
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // It may hold the key, and the disk may be full.
            let _ = self.dir.remove_file(temporary);
        }
    }
}

/// Whether a file of this name is a temporary one of [`Replacement`] for the file `of`, or one of older versions.
pub fn is_temporary(name: &str, of: &str) -> bool {
    let middle = name.strip_prefix(of).and_then(|rest| rest.strip_suffix(".tmp"));
    middle.is_some_and(|middle| {
        let is_random = |digits: &str| digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        middle.is_empty() || middle.strip_prefix('.').is_some_and(is_random)
    })
}

#[cfg(all(test, unix))]
mod tests;
