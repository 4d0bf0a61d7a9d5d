//! A folder whose content comes from a container: opening a file beneath it, and removing it.
//!
//! Neither trusts the content. No link redirects the opening, and a removal needs the same small stack and the same few
//! open files at any depth of nesting.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use nix::NixPath;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

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

/// How many names are read before their files are removed.
const BATCH: usize = 1024;

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

/// Removes a folder with its content, without following links. A missing folder is no error.
///
/// Nested folders are moved to the top folder first, so that neither memory nor open files grow with the depth: a
/// container can nest folders deeper than any stack.
pub fn remove_tree(root: &Path) -> io::Result<()> {
    let top = match openat(AT_FDCWD, root, LISTING, Mode::empty()) {
        Ok(top) => top,
        Err(Errno::ENOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut moved = 0u64;
    loop {
        let names = some_names(top.as_fd())?;
        if names.is_empty() {
            break;
        }
        for name in names {
            if !remove_shallow(top.as_fd(), &name)? {
                flatten(top.as_fd(), &name, &mut moved)?;
            }
        }
    }
    match unlinkat(AT_FDCWD, root, UnlinkatFlags::RemoveDir) {
        Err(error) if error != Errno::ENOENT => Err(error.into()),
        _ => Ok(()),
    }
}

/// Removes a file, a link, or an empty folder. Returns false for a folder that isn't empty.
fn remove_shallow(dir: BorrowedFd<'_>, name: &CString) -> Result<bool, Errno> {
    let removed = match unlinkat(dir, name.as_c_str(), UnlinkatFlags::RemoveDir) {
        Err(Errno::ENOTDIR) => unlinkat(dir, name.as_c_str(), UnlinkatFlags::NoRemoveDir),
        other => other,
    };
    match removed {
        Ok(()) | Err(Errno::ENOENT) => Ok(true),
        Err(Errno::ENOTEMPTY | Errno::EEXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes a folder of `top`. Its folders that aren't empty become folders of `top`.
fn flatten(top: BorrowedFd<'_>, name: &CString, moved: &mut u64) -> Result<(), Errno> {
    let dir = openat(top, name.as_c_str(), LISTING, Mode::empty())?;
    loop {
        let children = some_names(dir.as_fd())?;
        if children.is_empty() {
            break;
        }
        for child in children {
            while !remove_shallow(dir.as_fd(), &child)? {
                *moved += 1;
                let Ok(new) = CString::new(format!(".removed-{moved}")) else { return Err(Errno::EINVAL) };
                match renameat(dir.as_fd(), child.as_c_str(), top, new.as_c_str()) {
                    Ok(()) => break,
                    // A file has that name; try the next one.
                    Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
    remove_shallow(top, name).map(drop)
}

/// Some of the names in a folder; none if it is empty.
fn some_names(dir: BorrowedFd<'_>) -> Result<Vec<CString>, Errno> {
    // A new stream, which starts at the first name.
    let mut listing = Dir::from_fd(openat(dir, c".", LISTING, Mode::empty())?)?;
    let mut names = Vec::new();
    for entry in listing.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
        if names.len() == BATCH {
            break;
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::{LISTING, PASSAGE, open_beneath, remove_tree, step_by_step};
    use nix::fcntl::{AT_FDCWD, openat};
    use nix::sys::stat::{Mode, mkdirat};
    use std::fs::{self, File};
    use std::io::{self, Read};
    use std::os::fd::AsFd;
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

    #[test]
    fn deep_and_wide_trees_are_removed_without_link_targets() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("kept")).unwrap();
        fs::write(dir.path().join("kept/file"), "x").unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("wide/er")).unwrap();
        for number in 0..3000 {
            fs::write(root.join(format!("wide/er/{number}")), "").unwrap();
        }
        // The names that a removal uses itself.
        fs::create_dir_all(root.join(".removed-1/.removed-2/.removed-3/deep")).unwrap();
        fs::write(root.join(".removed-2"), "").unwrap();
        symlink("../kept", root.join("link")).unwrap();
        symlink("../../../kept", root.join("wide/er/link")).unwrap();
        // Deeper than a path may be long, and than most processes may have files open.
        let mut at = openat(AT_FDCWD, &root, LISTING, Mode::empty()).unwrap();
        for _ in 0..5000 {
            mkdirat(at.as_fd(), c"d", Mode::S_IRWXU).unwrap();
            at = openat(at.as_fd(), c"d", LISTING, Mode::empty()).unwrap();
        }
        drop(at);
        remove_tree(&root).unwrap();
        assert!(!root.exists());
        assert_eq!(fs::read_to_string(dir.path().join("kept/file")).unwrap(), "x");
        remove_tree(&root).unwrap();
    }
}
