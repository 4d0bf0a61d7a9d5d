//! What differs between Unix and Windows, behind one set of functions.
//!
//! Each system has one file with the same public items. The rest of the program asks for the system only in texts for
//! people.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::shell::shell_line;

mod found;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

pub use found::{Entry, EntryKind, Found, MAX_DEPTH, Next, Unread};
use system::Place;
pub use system::{
    Dir, FileLock, LAUNCHER, Walked, allocated, detached, disk_size, folder_identity, free_disk, from_bytes, gated,
    identity, in_own_group, is_executable, is_short_of_files, is_started_at, keep_owner, kill_group, kill_process,
    leave_session, make_dir, make_world_writable, mode_if_shared, open_beneath, open_file, other_account,
    program_places, read_both, redirect_output, remove_tree, restrict_to_owner, set_dir_access, share_one_heap,
    start_time, sync_dir, terminate, to_bytes, user, walk_contents,
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

/// What is wanted of the last part of a path whose folders are all to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// What is wanted of the folders.
    Strict,
    /// It belongs to root or this user, and its mode doesn't matter.
    Owner,
    /// Nobody else can replace it.
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
        /// The user's id that it belongs to.
        owner: u32,
    },
    /// It is that user's link.
    Link {
        /// The user's id.
        owner: u32,
    },
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

impl std::error::Error for Untrusted {}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shown, path, user) = (self.path.display(), self.path.to_string_lossy(), user());
        match &self.why {
            Why::Owner { owner } => {
                let run_as = shell_line(["sudo", "-u", &format!("#{owner}")]);
                let give = shell_line(["sudo", "chown", &user, &path]);
                write!(
                    f,
                    "`{shown}` belongs to user {owner} and not to this user ({user}), so that user could replace what is there; run \
                     this as user {owner}, with `{run_as}` before it, or give it to user {user} with `{give}`"
                )
            }
            Why::Writable { mode, owner } => {
                let close = ["sudo", "chmod", "go-w", &path];
                let close = shell_line(close.into_iter().skip(usize::from(owner.to_string() == user)));
                write!(f, "other users may write to `{shown}` (mode {mode:o}); run `{close}`")
            }
            Why::Link { owner } => {
                write!(
                    f,
                    "`{shown}` is a link of user {owner}, and that user can make it lead elsewhere; write the path that it leads to"
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
