//! What another user could have done to an entry of a folder.

use std::fmt;

use super::EntryKind;

/// What is at a name.
pub struct Inspected {
    pub kind: EntryKind,
    /// What is wrong with it.
    pub flaw: Option<Flaw>,
    /// Whether others than its owner have any rights on it.
    pub is_shared: bool,
}

/// Why an entry may not be what this user has left there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
// Windows has no such owners and modes.
#[cfg_attr(windows, allow(dead_code))]
pub enum Flaw {
    /// It leads elsewhere.
    Link,
    /// It belongs neither to root nor to this user.
    Foreign,
    /// A file that is also elsewhere.
    SecondName,
    /// Others can make, rename and remove what is in the folder.
    WritableFolder,
    /// Others can change the file.
    WritableFile,
    /// It is a device, a socket or a FIFO.
    Odd,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Link => "a symbolic link",
            Self::Foreign => "another user's",
            Self::SecondName => "a file that has a second name elsewhere",
            Self::WritableFolder => "a folder that others can write to",
            Self::WritableFile => "a file that others can write to",
            Self::Odd => "neither a file nor a folder",
        })
    }
}
