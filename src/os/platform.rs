//! What differs between Unix and Windows, behind one set of functions.
//!
//! Each system has one file with the same public items; nothing else in the program asks which system it is on,
//! but for words that are shown to a person.

#[cfg(unix)]
mod unix;
#[cfg(unix)]
pub use unix::{
    FileLock, close_to_others, detached, free_disk, from_bytes, gated, hide_dir, hide_file, identity, in_own_group,
    keep_owner, kill_group, kill_process, leave_session, open_beneath, open_to_all, open_to_others, other_owner,
    read_both, redirect_output, remove_tree, share_one_heap, start_time, sync_dir, terminate, to_bytes, trim_heap,
    user,
};

#[cfg(windows)]
mod windows;
#[cfg(windows)]
pub use windows::{
    FileLock, close_to_others, detached, free_disk, from_bytes, gated, hide_dir, hide_file, identity, in_own_group,
    keep_owner, kill_group, kill_process, leave_session, open_beneath, open_to_all, open_to_others, other_owner,
    read_both, redirect_output, remove_tree, share_one_heap, start_time, sync_dir, terminate, to_bytes, trim_heap,
    user,
};
