//! Files and folders that have their final mode from the start, and opening without following links.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};

use crate::os::platform::{Access, Open};

/// Neither a link nor a terminal, no descriptor for child processes, and no waiting for the other end of a FIFO.
const PLAIN: OFlag = OFlag::O_NOFOLLOW.union(OFlag::O_CLOEXEC).union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY);

/// Opens or creates a file. A link or a file that isn't regular is an error.
///
/// A created file has its mode from the first moment, whatever the umask is: the umask can only remove rights, and those
/// of the owner are added again. A file that was there and is opened for its owner only loses the rights of all others.
pub fn open_file(path: &Path, open: Open, access: Access) -> io::Result<File> {
    open_file_at(AT_FDCWD, path, open, access)
}

pub(super) fn open_file_at(dir: BorrowedFd<'_>, path: &Path, open: Open, access: Access) -> io::Result<File> {
    let flags = match open {
        Open::New => OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL,
        Open::Append => OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_APPEND,
        Open::Update => OFlag::O_RDWR | OFlag::O_CREAT,
        Open::Existing => OFlag::O_RDWR,
    };
    let file = match openat(dir, path, flags | PLAIN, mode(access, 0o666)) {
        Ok(file) => File::from(file),
        // The system's words for a link are "too many levels of symbolic links".
        Err(Errno::ELOOP | Errno::EMLINK) => return Err(io::Error::other("it is a symbolic link")),
        Err(error) => return Err(error.into()),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it isn't a regular file"));
    }
    let now = metadata.mode() & 0o777;
    let wanted = match (open, access) {
        (Open::Existing, _) => now,
        (_, Access::Owner) => 0o600,
        (_, Access::Everyone) => 0o666,
        (_, Access::Umask) => now | 0o600,
    };
    if now != wanted {
        file.set_permissions(Permissions::from_mode(wanted))?;
    }
    Ok(file)
}

/// Makes a folder. One that exists, or anything else of this name, is an error.
pub fn make_dir(path: &Path, access: Access) -> io::Result<()> {
    mkdirat(AT_FDCWD, path, mode(access, 0o777))?;
    if access != Access::Umask {
        set_dir_access(path, access)?;
    }
    Ok(())
}

/// Sets the mode of a folder. A link to one is an error.
pub fn set_dir_access(path: &Path, access: Access) -> io::Result<()> {
    let wanted = if access == Access::Everyone { 0o777 } else { 0o700 };
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | PLAIN;
    let dir = match openat(AT_FDCWD, path, flags, Mode::empty()) {
        Ok(dir) => File::from(dir),
        // The umask took the owner's own rights. The folder was just made and is empty.
        Err(Errno::EACCES) => return std::fs::set_permissions(path, Permissions::from_mode(wanted)),
        Err(error) => return Err(error.into()),
    };
    if dir.metadata()?.mode() & 0o7777 != wanted {
        dir.set_permissions(Permissions::from_mode(wanted))?;
    }
    Ok(())
}

/// The mode at the creation. What is to be open to everyone is opened afterwards, whatever the umask is.
fn mode(access: Access, public: u32) -> Mode {
    let bits = if access == Access::Umask { public } else { public & 0o700 };
    // The type has 16 bits on some systems.
    Mode::from_bits_truncate(bits as nix::libc::mode_t)
}
