//! `agent.log`: a file that starts anew when it is large, and leaves its predecessors under numbers.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::os::platform;

/// From so many bytes on, a new file is begun.
const LARGE: u64 = 10_000_000;
/// How many predecessors are kept: `agent.log.1` is the youngest.
const KEPT: u32 = 3;
/// After a rotation that failed, so many more bytes are written before the next try.
const AFTER_FAILURE: u64 = 1_000_000;

/// See the module. Only one process may have it.
pub struct RotatingFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    /// At how many bytes the file is to be rotated.
    limit: u64,
}

impl RotatingFile {
    /// Goes on with the file, or makes it, readable for its owner only.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let file = open(&path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path, file, bytes, limit: LARGE })
    }

    /// Writes a whole line. It is in one file, and never lost: where a new file can't be begun, the old one goes on.
    pub fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        if self.bytes > 0 && self.bytes + line.len() as u64 > self.limit {
            if let Err(error) = self.rotate() {
                self.limit = self.bytes + AFTER_FAILURE;
                // The logger can't be used inside the logger.
                writeln!(self.file, "`{}` can't be rotated and grows on: {error}", self.path.display())?;
            }
        }
        self.file.write_all(line)?;
        self.bytes += line.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        // Before anything is moved: where there can't be a new file, all stays as it is.
        let new = self.path.with_extension("log.new");
        let file = open(&new)?;
        for number in (1..KEPT).rev() {
            rename_if_there(&numbered(&self.path, number), &numbered(&self.path, number + 1))?;
        }
        let youngest = numbered(&self.path, 1);
        rename_if_there(&self.path, &youngest)?;
        if let Err(error) = fs::rename(&new, &self.path) {
            // Lines go on into the old file, so it gets its name back.
            fs::rename(&youngest, &self.path)?;
            return Err(error);
        }
        self.file = file;
        (self.bytes, self.limit) = (0, LARGE);
        // What isn't a log line, such as a panic's words, belongs to the new file too.
        platform::redirect_output(&self.file)
    }
}

fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    platform::make_private(&file)?;
    Ok(file)
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number}"));
    name.into()
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
