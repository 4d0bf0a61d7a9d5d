//! What differs between Unix and Windows, behind one set of functions.
//!
//! Each system has one file with the same public items. The rest of the program asks for the system only in texts for
//! people.

#[cfg(unix)]
mod unix;
#[cfg(unix)]
pub use unix::{
    FileLock, detached, free_disk, from_bytes, gated, identity, in_own_group, keep_owner, kill_group, kill_process,
    leave_session, make_private, make_private_dir, make_world_writable, mode_if_shared, open_beneath, other_owner,
    read_both, redirect_output, remove_tree, restrict_to_owner, share_one_heap, start_time, sync_dir, terminate,
    to_bytes, user,
};

#[cfg(windows)]
mod windows;
#[cfg(windows)]
pub use windows::{
    FileLock, detached, free_disk, from_bytes, gated, identity, in_own_group, keep_owner, kill_group, kill_process,
    leave_session, make_private, make_private_dir, make_world_writable, mode_if_shared, open_beneath, other_owner,
    read_both, redirect_output, remove_tree, restrict_to_owner, share_one_heap, start_time, sync_dir, terminate,
    to_bytes, user,
};

/// An output of a child process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    Stdout,
    Stderr,
}
