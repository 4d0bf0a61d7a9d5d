//! `agent.log`: a file that is numbered when it is large, and begun again.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::os::files::{append, ignore_missing};
use crate::os::platform;

/// The size at which the file is rotated.
const MAX_BYTES: u64 = 10_000_000;
/// How many numbered files are kept: `agent.log.1` is the youngest.
const NUMBERED: u32 = 3;
/// How many bytes are written after a failed rotation before the next try.
const RETRY_AFTER: u64 = 1_000_000;

/// A log file that one process writes.
pub struct RotatingFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    /// The size at which the file is rotated next.
    limit: u64,
}

impl RotatingFile {
    /// Opens the file or creates it, readable for its owner only.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let file = append(&path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path, file, bytes, limit: MAX_BYTES })
    }

    /// Writes a line, whole and in one file. If the rotation fails, the old file is continued.
    pub fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        if self.bytes > 0 && self.bytes + line.len() as u64 > self.limit {
            if let Err(error) = self.rotate() {
                self.limit = self.bytes + RETRY_AFTER;
                // This is the logger, so it can't log.
                writeln!(self.file, "`{}` can't be rotated and grows on: {error}", self.path.display())?;
            }
        }
        self.file.write_all(line)?;
        self.bytes += line.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        // Before any file is moved, so that without a new file nothing changes.
        let new = self.path.with_extension("log.new");
        let file = append(&new)?;
        for number in (1..NUMBERED).rev() {
            ignore_missing(fs::rename(numbered(&self.path, number), numbered(&self.path, number + 1)))?;
        }
        let youngest = numbered(&self.path, 1);
        ignore_missing(fs::rename(&self.path, &youngest))?;
        if let Err(error) = fs::rename(&new, &self.path) {
            // The old file is continued, so it gets its name back.
            fs::rename(&youngest, &self.path)?;
            return Err(error);
        }
        self.file = file;
        (self.bytes, self.limit) = (0, MAX_BYTES);
        // Output that isn't a log line, such as a panic message, belongs to the new file, too.
        platform::redirect_output(&self.file)
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number}"));
    name.into()
}
