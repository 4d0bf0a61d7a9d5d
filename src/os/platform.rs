//! What differs between Unix and Windows, behind one set of functions.
//!
//! Each system has one file with the same public items. The rest of the program asks for the system only in texts for
//! people.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::text::escape;

mod flaw;
mod found;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

pub use flaw::{Flaw, Inspected};
pub use found::{Entry, EntryKind, FileSize, Found, MAX_DEPTH, Next, Unread};
use system::Place;
pub use system::{
    ChildOutputs, Dir, FileLock, LAUNCHER, Walked, account_of, allocated, boot_time, catch_hang_up, detached,
    disk_size, folder_identity, free_disk, from_bytes, gated, has_ended, home, identity, in_own_group, is_executable,
    is_of_other_boot, is_short_of_files, is_shortage, is_started_at, keep_owner, kill_group, kill_process, leashed,
    leave_session, longest_name, make_dir, make_world_writable, may_change_mode, mode_if_shared, most_processes,
    open_beneath, open_file, other_account, program_places, redirect_output, remove_tree, restrict_to_owner,
    run_below_first_process, selinux_label, set_dir_access, share_one_heap, start_time, subordinate_to, sync_dir,
    take_hang_up, terminate, to_bytes, user, wait_readable, walk_contents, write_error,
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
    /// It must exist, and is read only.
    Read,
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

/// Whose a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ownership {
    /// The user's id.
    pub user: u32,
    /// The group's id.
    pub group: u32,
}

/// What is wanted of the last part of a path whose folders are all to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// What is wanted of the folders.
    Strict,
    /// It belongs to root or this user, and its mode doesn't matter.
    Owner,
    /// No other user can replace it.
    Any,
}

/// A part of a path that another user could change.
#[derive(Debug)]
pub struct Untrusted {
    /// The path up to that part.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: Why,
}

/// How another user could change what a path leads to.
#[derive(Debug)]
// Windows has no such owners and modes.
#[cfg_attr(windows, allow(dead_code))]
pub enum Why {
    /// It belongs to that user.
    Owner {
        /// The user's id.
        owner: u32,
    },
    /// Others may write to it.
    Writable {
        /// The rights on it.
        mode: u32,
    },
    /// It is that user's link.
    Link {
        /// The user's id.
        owner: u32,
    },
    /// It is on a file system that this user's program answers for (FUSE), with any owner and mode.
    Fuse {
        /// The user's id.
        owner: u32,
    },
    /// It belongs to a user that this user namespace doesn't know: root or any other.
    Unmapped,
    /// There are more links than systems follow.
    TooManyLinks,
    /// It doesn't exist, and others may make it.
    MayAppear,
    /// It couldn't be looked at.
    Unreadable(io::Error),
}

#[cfg(unix)]
impl From<nix::errno::Errno> for Why {
    fn from(error: nix::errno::Errno) -> Self {
        Self::Unreadable(error.into())
    }
}

impl Untrusted {
    /// Whether this machine had no descriptor or no memory to look at the path. That says nothing about the path.
    pub fn is_shortage(&self) -> bool {
        matches!(&self.why, Why::Unreadable(error) if is_shortage(error))
    }
}

impl std::error::Error for Untrusted {}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = escape(&self.path.to_string_lossy());
        // No command that takes or closes it: what was prepared there, or is held open, would stay the other user's.
        match &self.why {
            Why::Owner { owner } => {
                let name = other_account(*owner).map(|name| format!(" ({})", escape(&name))).unwrap_or_default();
                write!(
                    f,
                    "`{shown}` belongs to user {owner}{name} and not to this user ({}), so that user could replace what is \
                     there; if that is the account that your agent has, run this as that account; if it isn't, use \
                     nothing of it, but a new place that only you and root can write to",
                    user()
                )
            }
            Why::Writable { mode } => write!(
                f,
                "other users may write to `{shown}` (mode {mode:o}), so what is there may be theirs; use a new place that \
                 only you and root can write to"
            ),
            Why::Link { owner } => {
                write!(
                    f,
                    "`{shown}` is a link of user {owner}, and that user can make it lead elsewhere; write the path that it leads to"
                )
            }
            Why::Fuse { owner } => {
                write!(
                    f,
                    "`{shown}` is on a file system (FUSE) of user {owner}, whose program says what is there; write a path that \
                     isn't below it"
                )
            }
            Why::Unmapped => {
                write!(
                    f,
                    "`{shown}` belongs to a user that this user namespace (`/proc/self/uid_map`) doesn't know, and who may be \
                     any user; run this outside the namespace, or write the path of a folder of this user's"
                )
            }
            Why::TooManyLinks => {
                write!(f, "there are too many links on the way to `{shown}`; write the path that they lead to")
            }
            Why::MayAppear => write!(f, "`{shown}` doesn't exist, and another user could make it"),
            Why::Unreadable(error) => write!(f, "`{shown}` can't be looked at: {error}"),
        }
    }
}

/// An output of a child process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    Stdout,
    Stderr,
}
