//! Files that are replaced in one step, and files that may be missing.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub use super::missing::{if_exists, ignore_missing, remove_if_exists};
use super::platform;

/// What a replaced file survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// A power cut after the call: file and folder are synced.
    PowerCut,
    /// A crash of this process only.
    Crash,
}

/// Replaces a file, or makes it, readable for its owner only. Readers see the old content or the new one, never a part.
///
/// # Errors
/// The old file is as it was. A temporary file may be left beside it, which the next call replaces.
pub fn replace(path: &Path, content: &[u8], durability: Durability) -> io::Result<()> {
    Replacement::write(path, content, durability)?.commit()
}

/// The new content of a file, complete in a temporary file beside it: the two steps of [`replace`], for a caller that has
/// to act between them.
pub struct Replacement {
    temporary: PathBuf,
    path: PathBuf,
    durability: Durability,
}

impl Replacement {
    /// Writes the temporary file, `{path}.tmp`.
    pub fn write(path: &Path, content: &[u8], durability: Durability) -> io::Result<Self> {
        let mut name = OsString::from(path);
        name.push(".tmp");
        let temporary = PathBuf::from(name);
        let mut file = File::create(&temporary)?;
        platform::make_private(&file)?;
        file.write_all(content)?;
        if durability == Durability::PowerCut {
            file.sync_all()?;
        }
        Ok(Self { temporary, path: path.to_owned(), durability })
    }

    /// Renames the temporary file to the file.
    pub fn commit(self) -> io::Result<()> {
        fs::rename(&self.temporary, &self.path)?;
        match self.path.parent() {
            Some(dir) if self.durability == Durability::PowerCut => platform::sync_dir(dir),
            _ => Ok(()),
        }
    }
}
