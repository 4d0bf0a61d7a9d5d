//! `agent.log`: a file that is numbered when it is large, and begun again.

use std::fs::File;
use std::io::{self, Write};

use crate::os::files::ignore_missing;
use crate::os::folder::Folder;
use crate::os::platform;

/// The size at which the file is rotated.
const MAX_BYTES: u64 = 10_000_000;
/// How many numbered files are kept: `agent.log.1` is the youngest.
const NUMBERED: u32 = 3;
/// How many bytes are written after a failed rotation before the next try.
const RETRY_AFTER: u64 = 1_000_000;

/// A log file that one process writes.
pub struct RotatingFile {
    folder: Folder,
    name: String,
    file: File,
    bytes: u64,
    /// The size at which the file is rotated next.
    limit: u64,
}

impl RotatingFile {
    /// Opens the file or creates it, readable for its owner only.
    pub fn open(folder: &Folder, name: &str) -> io::Result<Self> {
        let file = folder.append(name)?;
        let bytes = file.metadata()?.len();
        Ok(Self { folder: folder.clone(), name: name.to_owned(), file, bytes, limit: MAX_BYTES })
    }

    /// Writes a line, whole and in one file. If the rotation fails, the old file is continued.
    pub fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        if self.bytes > 0 && self.bytes + line.len() as u64 > self.limit {
            if let Err(error) = self.rotate() {
                self.limit = self.bytes + RETRY_AFTER;
                // This is the logger, so it can't log.
                let path = self.folder.path().join(&self.name);
                writeln!(self.file, "`{}` can't be rotated and grows on: {error}", path.display())?;
            }
        }
        self.file.write_all(line)?;
        self.bytes += line.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        // Before any file is moved, so that without a new file nothing changes.
        let new = format!("{}.new", self.name);
        let file = self.folder.append(&new)?;
        let numbered = |number: u32| format!("{}.{number}", self.name);
        for number in (1..NUMBERED).rev() {
            ignore_missing(self.folder.rename(&numbered(number), &numbered(number + 1)))?;
        }
        ignore_missing(self.folder.rename(&self.name, &numbered(1)))?;
        if let Err(error) = self.folder.rename(&new, &self.name) {
            // The old file is continued, so it gets its name back.
            self.folder.rename(&numbered(1), &self.name)?;
            return Err(error);
        }
        self.file = file;
        (self.bytes, self.limit) = (0, MAX_BYTES);
        // Output that isn't a log line, such as a panic message, belongs to the new file, too.
        platform::redirect_output(&self.file)
    }
}
