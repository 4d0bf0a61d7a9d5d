//! Opening a file beneath a folder whose content comes from a container, and isn't trusted: no link redirects it.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::libc::{S_IFDIR, S_IFLNK, S_IFMT, S_IFREG};
#[cfg(target_os = "linux")]
use nix::sys::stat::fstat;
use nix::sys::stat::{FileStat, Mode};
#[cfg(not(target_os = "linux"))]
use nix::{fcntl::AtFlags, sys::stat::fstatat};

/// A folder on a path; where the system supports it, without the right to list the folder.
#[cfg(target_os = "linux")]
pub(super) const PASSAGE: OFlag =
    OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
#[cfg(not(target_os = "linux"))]
pub(super) const PASSAGE: OFlag = LISTING;
/// A file that is only looked at.
#[cfg(target_os = "linux")]
const GLANCE: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
/// A folder that is listed.
pub(super) const LISTING: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
/// A file to read, not through a link, and without waiting for the other end of a FIFO.
const READING: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_NOFOLLOW).union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY).union(OFlag::O_CLOEXEC);

/// Opens the file or folder at `relative` beneath the folder `root` for reading. A link in any part of the path below
/// `root` is an error, and so is a file on another file system. What is neither is an error, too, and isn't opened.
pub fn open_beneath(root: &Path, relative: &Path) -> io::Result<File> {
    let is_plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
    if !is_plain || relative.as_os_str().is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no path below the folder"));
    }
    let root = openat(AT_FDCWD, root, PASSAGE, Mode::empty())?;
    #[cfg(target_os = "linux")]
    if let Some(seen) = in_one_call(root.as_fd(), relative, GLANCE) {
        return Ok(File::from(open_seen(&seen?)?));
    }
    Ok(File::from(step_by_step(root, relative)?))
}

/// Opens an entry of a folder for reading that is a file or a folder, and as [`open_child`] does it.
pub(super) fn open_content(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    #[cfg(target_os = "linux")]
    return open_seen(&open_child(dir, name, GLANCE)?);
    #[cfg(not(target_os = "linux"))]
    {
        check_kind(&fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)?)?;
        open_child(dir, name, READING)
    }
}

/// Opens for reading what a descriptor of [`GLANCE`] stands for, if that is a file or a folder.
#[cfg(target_os = "linux")]
fn open_seen(seen: &OwnedFd) -> Result<OwnedFd, Errno> {
    use std::os::fd::AsRawFd;
    check_kind(&fstat(seen)?)?;
    // This link leads to the file itself, also where another has its name by now (proc(5)).
    let place = format!("/proc/self/fd/{}", seen.as_raw_fd());
    openat(AT_FDCWD, place.as_str(), READING.difference(OFlag::O_NOFOLLOW), Mode::empty())
}

/// A container may have made devices, and opening one can do something: a watchdog starts, a tape is wound back.
fn check_kind(stat: &FileStat) -> Result<(), Errno> {
    match stat.st_mode & S_IFMT {
        S_IFREG | S_IFDIR => Ok(()),
        S_IFLNK => Err(Errno::ELOOP),
        _ => Err(Errno::ENXIO),
    }
}

/// Opens an entry of a folder that is neither a link nor, where the system can tell, on another file system.
pub(super) fn open_child(dir: BorrowedFd<'_>, name: &CStr, flags: OFlag) -> Result<OwnedFd, Errno> {
    #[cfg(target_os = "linux")]
    if let Some(opened) = in_one_call(dir, name, flags) {
        return opened;
    }
    openat(dir, name, flags, Mode::empty())
}

/// Lets the kernel resolve the path beneath the folder. `None` if it can't: before Linux 5.6, or with a filter of system
/// calls that doesn't know this one.
#[cfg(target_os = "linux")]
fn in_one_call<P: NixPath + ?Sized>(root: BorrowedFd<'_>, path: &P, flags: OFlag) -> Option<Result<OwnedFd, Errno>> {
    use nix::fcntl::{OpenHow, ResolveFlag, openat2};
    let how = OpenHow::new().flags(flags).resolve(
        ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS
            | ResolveFlag::RESOLVE_NO_XDEV,
    );
    match openat2(root, path, how) {
        // EAGAIN means that a file was renamed meanwhile and the call should be repeated, which the other way needn't.
        Err(Errno::ENOSYS | Errno::EPERM | Errno::EINVAL | Errno::E2BIG | Errno::EAGAIN) => None,
        answer => Some(answer),
    }
}

fn step_by_step(root: OwnedFd, relative: &Path) -> Result<OwnedFd, Errno> {
    let mut parts = relative.components().peekable();
    let mut dir = root;
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            let name = CString::new(part.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
            #[cfg(target_os = "linux")]
            return open_seen(&openat(dir.as_fd(), name.as_c_str(), GLANCE, Mode::empty())?);
            #[cfg(not(target_os = "linux"))]
            return open_content(dir.as_fd(), &name);
        }
        dir = openat(dir.as_fd(), part.as_os_str(), PASSAGE, Mode::empty())?;
    }
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::{PASSAGE, open_beneath, step_by_step};
    use nix::fcntl::{AT_FDCWD, openat};
    use nix::sys::stat::Mode;
    use std::fs::{self, File};
    use std::io::{self, Read};
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn both(root: &Path, relative: &str) -> [io::Result<String>; 2] {
        let slowly = || {
            let top = openat(AT_FDCWD, root, PASSAGE, Mode::empty())?;
            Ok(File::from(step_by_step(top, Path::new(relative))?))
        };
        let read = |file: io::Result<File>| {
            let mut text = String::new();
            file?.read_to_string(&mut text).map(|_| text)
        };
        [read(open_beneath(root, Path::new(relative))), read(slowly())]
    }

    #[test]
    fn links_in_any_part_of_a_path_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/file"), "inside").unwrap();
        fs::create_dir_all(dir.path().join("outside/b")).unwrap();
        fs::write(dir.path().join("outside/b/file"), "outside").unwrap();
        for (link, to) in [("up", ".."), ("out", "../outside"), ("same", "a"), ("a/b/link", "file")] {
            symlink(to, root.join(link)).unwrap();
        }
        for way in both(&root, "a/b/file") {
            assert_eq!(way.unwrap(), "inside");
        }
        for path in ["out/b/file", "up/outside/b/file", "same/b/file", "a/b/link"] {
            for way in both(&root, path) {
                assert!(way.is_err(), "{path}: {way:?}");
            }
        }
        let outside = dir.path().join("outside/b/file");
        for path in ["", "../outside/b/file", "a/../../outside/b/file", outside.to_str().unwrap()] {
            assert!(open_beneath(&root, Path::new(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn what_is_neither_file_nor_folder_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&dir.path().join("pipe"), Mode::S_IRWXU).unwrap();
        for way in both(dir.path(), "pipe") {
            assert_eq!(way.unwrap_err().raw_os_error(), Some(nix::errno::Errno::ENXIO as i32));
        }
        fs::create_dir(dir.path().join("folder")).unwrap();
        assert!(open_beneath(dir.path(), Path::new("folder")).unwrap().metadata().unwrap().is_dir());
    }

    #[test]
    fn other_file_systems_are_not_entered() {
        if !cfg!(target_os = "linux") {
            return;
        }
        // The one file system that is mounted everywhere below another.
        assert!(File::open("/proc/version").is_ok());
        assert!(open_beneath(Path::new("/"), Path::new("proc/version")).is_err());
    }
}
