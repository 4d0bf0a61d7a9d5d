//! What a look through a folder comes upon.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;

use super::Place;

/// How many folders deep [`super::walk_contents`] goes.
pub const MAX_DEPTH: usize = 128;

/// What [`super::walk_contents`] comes upon.
pub enum Found<'w> {
    Entry(Entry<'w>),
    /// The path, relative to the folder of the walk, of what can't be looked at or into.
    Unread(&'w Path, Unread),
}

/// A file or folder that [`super::walk_contents`] has found.
pub struct Entry<'w> {
    /// The path relative to the folder of the walk.
    pub path: &'w Path,
    pub kind: EntryKind,
    place: Place<'w>,
}

impl Entry<'_> {
    /// Opens it for reading. A link isn't followed.
    pub fn open(&self) -> io::Result<File> {
        self.place.open()
    }

    /// The size of a file that this user may remove, found without opening it; `None` for all else.
    pub fn removable(&self) -> io::Result<Option<FileSize>> {
        self.place.removable()
    }
}

/// How large a file is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSize {
    pub length: u64,
    /// What it takes of the disk: less than its length if it has holes.
    pub allocated: u64,
}

impl<'w> Found<'w> {
    pub fn entry(path: &'w Path, kind: EntryKind, place: Place<'w>) -> Self {
        Self::Entry(Entry { path, kind, place })
    }
}

/// The kind of an entry when it was found. Another process may replace the entry before it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    File,
    Folder,
    Link,
    /// A device, socket or FIFO.
    Other,
}

/// Why something isn't looked at.
#[derive(Debug)]
pub enum Unread {
    Failed(io::Error),
    TooDeep,
    /// The folder was moved during the walk, which can't go on from there.
    // The walk on Windows goes by paths.
    #[cfg_attr(windows, allow(dead_code))]
    Moved,
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => write!(f, "can't be read: {error}"),
            Self::TooDeep => write!(f, "nested deeper than {MAX_DEPTH} folders"),
            Self::Moved => f.write_str("it was moved while it was looked at, and the rest wasn't looked at"),
        }
    }
}

/// What [`super::walk_contents`] does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It goes on: into the entry, if that is a folder.
    GoOn,
    /// It goes on behind the entry.
    Skip,
    /// It ends.
    Stop,
}
