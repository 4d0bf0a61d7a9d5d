//! Disk space that is reserved for the record of a task until it is settled.
//!
//! A container may fill the disk. Without a reserve, the record of the container's end would not fit any more: nothing
//! would be delivered, and what isn't delivered isn't removed, so there would never be room again.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::os::files::{create, if_exists, is_full, open_existing, remove_if_exists};

/// The reserve in bytes: enough for a thousand lines of `uploads.jsonl` and as many of the ledger, and for the few
/// times that a record is written.
const KEPT: usize = 512 * 1024;
/// How much of it is released at once, so that another container that goes on writing can't take all of it.
const PIECE: u64 = 16 * 1024;

/// The reserve of one task.
pub struct Reserve {
    path: PathBuf,
}

impl Reserve {
    /// The reserve of the task whose record is in this folder, whether or not it exists.
    pub fn new(dir: &Path) -> Self {
        Self { path: dir.join("reserve") }
    }

    pub fn create(&self) -> io::Result<()> {
        let mut file = create(&self.path)?;
        file.write_all(&vec![b'.'; KEPT])
    }

    /// Calls `write`, and calls it again with another piece of the reserve released while the disk is full and there is
    /// a reserve. What a failed call has written must not matter to the next.
    pub fn write<T>(&self, mut write: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        loop {
            match write() {
                Err(error) if is_full(&error) => {
                    if !self.release_piece().unwrap_or(false) {
                        return Err(error);
                    }
                }
                done => return done,
            }
        }
    }

    /// Releases all of it.
    pub fn remove(&self) -> io::Result<()> {
        remove_if_exists(&self.path)
    }

    /// Returns whether there was something left to release.
    fn release_piece(&self) -> io::Result<bool> {
        let opened = open_existing(&self.path);
        let Some(file) = if_exists(opened)? else { return Ok(false) };
        match file.metadata()?.len().saturating_sub(PIECE) {
            0 => self.remove()?,
            rest => file.set_len(rest)?,
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::{KEPT, PIECE, Reserve};
    use std::io::{Error, ErrorKind};

    #[test]
    fn writes_on_a_full_disk_are_retried_while_the_reserve_lasts() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = Reserve::new(dir.path());
        reserve.create().unwrap();
        let mut tries = 0;
        let third = reserve.write(|| {
            tries += 1;
            if tries < 3 { Err(Error::from(ErrorKind::StorageFull)) } else { Ok(()) }
        });
        third.unwrap();
        let left = dir.path().join("reserve").metadata().unwrap().len();
        assert_eq!(left, KEPT as u64 - 2 * PIECE);
        let never = reserve.write::<()>(|| Err(Error::from(ErrorKind::StorageFull)));
        assert_eq!(never.unwrap_err().kind(), ErrorKind::StorageFull);
        assert!(!dir.path().join("reserve").exists());
        reserve.remove().unwrap();
    }

    #[test]
    fn other_write_errors_keep_the_reserve() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = Reserve::new(dir.path());
        reserve.create().unwrap();
        let refused = reserve.write::<()>(|| Err(Error::from(ErrorKind::PermissionDenied)));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert_eq!(dir.path().join("reserve").metadata().unwrap().len(), KEPT as u64);
    }
}
