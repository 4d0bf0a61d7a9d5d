//! Opening a file beneath a folder whose content comes from a container, and isn't trusted: no link redirects it.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;

/// A folder on a path; where the system supports it, without the right to list the folder.
#[cfg(target_os = "linux")]
pub(super) const PASSAGE: OFlag =
    OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
#[cfg(not(target_os = "linux"))]
pub(super) const PASSAGE: OFlag = LISTING;
/// A folder that is listed.
pub(super) const LISTING: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
/// A file to read, not through a link, and without waiting for the other end of a FIFO.
pub(super) const READING: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_NOFOLLOW).union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY).union(OFlag::O_CLOEXEC);

/// Opens the file at `relative` beneath the folder `root` for reading. A link in any part of the path below `root` is an
/// error, and so is a file on another file system.
pub fn open_beneath(root: &Path, relative: &Path) -> io::Result<File> {
    let is_plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
    if !is_plain || relative.as_os_str().is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no path below the folder"));
    }
    let root = openat(AT_FDCWD, root, PASSAGE, Mode::empty())?;
    #[cfg(target_os = "linux")]
    if let Some(opened) = in_one_call(root.as_fd(), relative, READING) {
        return Ok(File::from(opened?));
    }
    Ok(File::from(step_by_step(root, relative)?))
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
        let flags = if parts.peek().is_some() { PASSAGE } else { READING };
        dir = openat(dir.as_fd(), part.as_os_str(), flags, Mode::empty())?;
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
    fn other_file_systems_are_not_entered() {
        if !cfg!(target_os = "linux") {
            return;
        }
        // The one file system that is mounted everywhere below another.
        assert!(File::open("/proc/version").is_ok());
        assert!(open_beneath(Path::new("/"), Path::new("proc/version")).is_err());
    }
}
