//! Files that may be missing. Part of [`super::files`], apart from it since [`super::platform`] needs it, too.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

/// The result of an operation on a file or folder; `None` if it is missing.
pub fn if_exists<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The result of an operation on a file or folder, where a missing one is no error.
pub fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    if_exists(result).map(drop)
}

/// Removes a file. A missing one is no error.
pub fn remove_if_exists(path: &Path) -> io::Result<()> {
    ignore_missing(fs::remove_file(path))
}
