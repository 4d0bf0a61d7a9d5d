//! What differs between Unix and Windows, behind one set of functions.
//!
//! Each system has one file with the same public items. The rest of the program asks for the system only in texts for
//! people.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

pub use system::{
    FileLock, detached, free_disk, from_bytes, gated, identity, in_own_group, keep_owner, kill_group, kill_process,
    leave_session, make_dir, make_world_writable, mode_if_shared, open_beneath, open_file, other_owner, read_both,
    redirect_output, remove_tree, restrict_to_owner, set_dir_access, share_one_heap, start_time, sync_dir, terminate,
    to_bytes, user,
};

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// It must not exist yet.
    New,
    /// It is made where it is missing, and is only added to.
    Append,
    /// It is made where it is missing.
    Update,
    /// It must exist, and may be changed.
    Existing,
}

/// Which users a new file or folder is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Its owner.
    Owner,
    /// All users.
    Everyone,
    /// Those that the umask leaves.
    Umask,
}

/// An output of a child process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    Stdout,
    Stderr,
}
