//! Files and folders that have their final mode from the start, and opening without following links.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, renameat};
use nix::libc::{S_IFDIR, S_IFMT};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, fchmodat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use crate::os::platform::{Access, Open};

/// Neither a link nor a terminal, no descriptor for child processes, and no waiting for the other end of a FIFO.
const PLAIN: OFlag = OFlag::O_NOFOLLOW.union(OFlag::O_CLOEXEC).union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY);

/// A folder that is held open, or the working directory: names and paths begin there.
#[derive(Debug)]
pub struct Dir(Option<OwnedFd>);

impl Dir {
    /// The working directory, for absolute paths.
    pub const WORKING: Self = Self(None);

    /// Opens a folder again so that it can be listed and synced.
    pub(super) fn reopen(passage: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self(Some(openat(passage, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | PLAIN, Mode::empty())?)))
    }

    pub(super) fn opened(dir: OwnedFd) -> Self {
        Self(Some(dir))
    }

    pub(super) fn at(&self) -> BorrowedFd<'_> {
        self.0.as_ref().map_or(AT_FDCWD, AsFd::as_fd)
    }

    pub(super) fn as_file(&self) -> io::Result<File> {
        self.0.as_ref().map_or_else(|| File::open("."), |dir| Ok(dir.try_clone()?.into()))
    }

    /// The user that the folder belongs to, if that isn't this one.
    pub fn other_owner(&self) -> io::Result<Option<u32>> {
        let owner = self.as_file()?.metadata()?.uid();
        Ok((owner != geteuid().as_raw()).then_some(owner))
    }

    /// The folder's mode, if others have rights on it.
    pub fn shared_mode(&self) -> io::Result<Option<u32>> {
        let mode = self.as_file()?.metadata()?.mode() & 0o7777;
        Ok((mode & 0o077 != 0).then_some(mode))
    }

    /// Sets the folder's mode.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        change_mode(&self.as_file()?, mode)
    }

    /// Makes renames in the folder survive a power cut.
    pub fn sync(&self) -> io::Result<()> {
        self.as_file()?.sync_all()
    }

    pub(super) fn stat(&self, path: &Path) -> io::Result<FileStat> {
        Ok(fstatat(self.at(), path, AtFlags::AT_SYMLINK_NOFOLLOW)?)
    }

    /// What distinguishes an entry from every other file on this machine.
    pub fn identity_of(&self, path: &Path) -> io::Result<(u64, u64)> {
        Ok(identity_by(&self.stat(path)?))
    }

    /// The length of an entry.
    pub fn length(&self, path: &Path) -> io::Result<u64> {
        Ok(u64::try_from(self.stat(path)?.st_size).unwrap_or_default())
    }

    /// The names in the folder.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        let mut listing = nix::dir::Dir::openat(self.at(), ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())?;
        let mut names = Vec::new();
        for entry in listing.iter() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        Ok(names)
    }

    /// Opens a folder in this one, and makes it where it is missing. A link is an error.
    pub fn make_folder(&self, name: &Path) -> io::Result<Self> {
        match mkdirat(self.at(), name, mode(Access::Umask, 0o755)) {
            Ok(()) => fix_new_dir(self.at(), name.as_os_str())?,
            Err(Errno::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Self(Some(openat(self.at(), name, OFlag::O_RDONLY | OFlag::O_DIRECTORY | PLAIN, Mode::empty())?)))
    }

    /// Renames an entry.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(renameat(self.at(), from, self.at(), to)?)
    }

    /// Removes a file.
    pub fn remove_file(&self, path: &Path) -> io::Result<()> {
        Ok(unlinkat(self.at(), path, UnlinkatFlags::NoRemoveDir)?)
    }
}

/// Opens or creates a file. A link or a file that isn't regular is an error.
///
/// A created file has its mode from the first moment, under any umask: the umask can only remove rights, and those
/// of the owner are added again. A file that was there and is opened for its owner only loses the rights of all others.
pub fn open_file(dir: &Dir, path: &Path, open: Open, access: Access) -> io::Result<File> {
    let flags = match open {
        Open::New => OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL,
        Open::Append => OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_APPEND,
        Open::Update => OFlag::O_RDWR | OFlag::O_CREAT,
        Open::Existing => OFlag::O_RDWR,
        Open::Read => OFlag::O_RDONLY,
    };
    let file = regular(openat(dir.at(), path, flags | PLAIN, mode(access, 0o666)))?;
    let now = file.metadata()?.mode() & 0o777;
    let wanted = match (open, access) {
        (Open::Existing | Open::Read, _) => now,
        (_, Access::Owner) => 0o600,
        (_, Access::Everyone) => 0o666,
        (_, Access::Umask) => now | 0o600,
    };
    if now != wanted {
        change_mode(&file, wanted)?;
    }
    Ok(file)
}

/// Sets the mode of a file or folder. Some file systems keep no modes, and the system's words don't say so.
fn change_mode(file: &File, wanted: u32) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(wanted)).map_err(|error| explain_mode(error, file, wanted))
}

fn explain_mode(error: io::Error, file: &File, wanted: u32) -> io::Error {
    let is_own = file.metadata().is_ok_and(|metadata| is_changeable(&metadata));
    if !is_own || error.kind() != io::ErrorKind::PermissionDenied && error.kind() != io::ErrorKind::Unsupported {
        return error;
    }
    let why =
        format!("its mode can't be set to {wanted:o} ({error}): the file system may keep no modes (vfat, exFAT, CIFS)");
    io::Error::new(error.kind(), why)
}

/// Whether this user may change the mode of a file, if its file system keeps modes.
fn is_changeable(metadata: &Metadata) -> bool {
    let user = geteuid();
    user.is_root() || metadata.uid() == user.as_raw()
}

/// The same for a path. One that can't be looked at counts as another user's.
pub fn may_change_mode(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| is_changeable(&metadata))
}

/// What distinguishes a file from every other one on this machine. The types differ between systems.
#[allow(clippy::unnecessary_cast)]
pub(super) fn identity_by(stat: &FileStat) -> (u64, u64) {
    (stat.st_dev as u64, stat.st_ino as u64)
}

/// The rights on a file. The types differ between systems.
#[allow(clippy::useless_conversion)]
pub(super) fn mode_by(stat: &FileStat) -> u32 {
    u32::from(stat.st_mode) & 0o7777
}

/// What distinguishes the folder that a path leads to from every other file on this machine.
pub fn folder_identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Whether a program of this path can be executed.
pub fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o111 != 0)
}

/// Opens a regular file to read it.
pub(super) fn read_at(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<File> {
    regular(openat(dir, name, OFlag::O_RDONLY | PLAIN, Mode::empty()))
}

fn regular(opened: Result<OwnedFd, Errno>) -> io::Result<File> {
    let file = match opened {
        Ok(file) => File::from(file),
        // The system's words for a link are "too many levels of symbolic links".
        Err(Errno::ELOOP | Errno::EMLINK) => return Err(io::Error::other("it is a symbolic link")),
        Err(error) => return Err(error.into()),
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it isn't a regular file")) }
}

/// Gives a folder that was just made the rights of its owner that the umask has removed.
pub(super) fn fix_new_dir(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let stat = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    // The folder may be another one by now. Then it isn't changed here, and its check finds that.
    if stat.st_uid == geteuid().as_raw() && stat.st_mode & 0o700 != 0o700 && stat.st_mode & S_IFMT == S_IFDIR {
        let mode = Mode::from_bits_truncate(stat.st_mode | 0o700);
        fchmodat(dir, name, mode, FchmodatFlags::NoFollowSymlink).or_else(|error| match error {
            // Older systems have no such call, and this folder can't be a link: only this user can rename it.
            Errno::EOPNOTSUPP | Errno::EINVAL => fchmodat(dir, name, mode, FchmodatFlags::FollowSymlink),
            error => Err(error),
        })?;
    }
    Ok(())
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
        Err(Errno::EACCES) => return fs::set_permissions(path, Permissions::from_mode(wanted)),
        Err(error) => return Err(error.into()),
    };
    if dir.metadata()?.mode() & 0o7777 != wanted {
        change_mode(&dir, wanted)?;
    }
    Ok(())
}

/// The mode at the creation. What is to be open to everyone is opened afterwards, under any umask.
fn mode(access: Access, public: u32) -> Mode {
    let bits = if access == Access::Umask { public } else { public & 0o700 };
    // The type has 16 bits on some systems.
    Mode::from_bits_truncate(bits as nix::libc::mode_t)
}
