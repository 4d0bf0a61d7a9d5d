//! Removing a folder whose content comes from a container, and isn't trusted.
//!
//! A removal needs the same small stack, memory and number of open files at any depth of nesting: nested folders are
//! moved to the top folder first, since a container can nest folders deeper than any stack.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::tree::{LISTING, open_child};

/// How many names are read before their files are removed.
const BATCH: usize = 1024;
/// How many folders within one another may let nothing be moved out of them, such as subvolumes of btrfs, and encrypted
/// folders (fscrypt) without their key. The root of a subvolume can be moved itself, so two are enough there. Each of them
/// is open at the same time.
const CLOSED: usize = 64;

/// Removes a folder with its content, without following links, and without entering another file system that is mounted
/// there. A missing folder is no error. Flags that keep files from being removed are taken away, if this user may do so.
pub fn remove_tree(root: &Path) -> io::Result<()> {
    let top = match openat(AT_FDCWD, root, LISTING, Mode::empty()) {
        Ok(top) => top,
        Err(Errno::ENOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    #[cfg(target_os = "linux")]
    super::flags::accept_all_projects(top.as_fd());
    let mut moved = 0u64;
    loop {
        let names = some_names(top.as_fd(), BATCH)?;
        if names.is_empty() {
            break;
        }
        for name in names {
            if !remove_shallow(&[top.as_fd()], &name)? {
                flatten(&[top.as_fd()], &name, &mut moved)?;
            }
        }
    }
    match unlinkat(AT_FDCWD, root, UnlinkatFlags::RemoveDir) {
        Err(error) if error != Errno::ENOENT => Err(error.into()),
        _ => Ok(()),
    }
}

/// Removes a file, a link, or an empty folder from the last of these folders, each of which is in the one before it.
/// Returns false for a folder that isn't empty.
fn remove_shallow(folders: &[BorrowedFd<'_>], name: &CString) -> Result<bool, Errno> {
    let removed = unlocked(folders, name, |dir| match unlinkat(dir, name.as_c_str(), UnlinkatFlags::RemoveDir) {
        Err(Errno::ENOTDIR) => unlinkat(dir, name.as_c_str(), UnlinkatFlags::NoRemoveDir),
        other => other,
    });
    match removed {
        Ok(()) | Err(Errno::ENOENT) => Ok(true),
        Err(Errno::ENOTEMPTY | Errno::EEXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes a folder of the last of these folders. Its folders that aren't empty become folders of the first one that
/// they can be moved to.
fn flatten(folders: &[BorrowedFd<'_>], name: &CString, moved: &mut u64) -> Result<(), Errno> {
    let (Some(&top), true) = (folders.last(), folders.len() <= CLOSED) else { return Err(Errno::EXDEV) };
    let dir = open_child(top, name, LISTING)?;
    let inner = [folders, &[dir.as_fd()]].concat();
    loop {
        // All of these folders hold some names.
        let children = some_names(dir.as_fd(), BATCH / folders.len())?;
        if children.is_empty() {
            break;
        }
        for child in children {
            while !remove_shallow(&inner, &child)? {
                *moved += 1;
                let Ok(new) = CString::new(format!(".removed-{moved}")) else { return Err(Errno::EINVAL) };
                let renamed = unlocked(&inner, &child, |dir| renameat(dir, child.as_c_str(), top, new.as_c_str()));
                match renamed {
                    Ok(()) => break,
                    // A file has that name; try the next one.
                    Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR) => {}
                    Err(error) if is_closed(error) => {
                        flatten(&inner, &child, moved)?;
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }
    remove_shallow(folders, name).map(drop)
}

/// Whether nothing can be moved out of the folder to this place, although it may be removed.
fn is_closed(error: Errno) -> bool {
    #[cfg(target_os = "linux")]
    if error == Errno::ENOKEY {
        return true;
    }
    error == Errno::EXDEV
}

/// Tries something with an entry of the last of these folders. If a flag of it or of a folder keeps that from being done,
/// takes the flags away and tries again.
fn unlocked(
    folders: &[BorrowedFd<'_>],
    name: &CString,
    attempt: impl Fn(BorrowedFd<'_>) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let Some(&dir) = folders.last() else { return Err(Errno::EINVAL) };
    match attempt(dir) {
        #[cfg(target_os = "linux")]
        Err(Errno::EPERM | Errno::EROFS) if super::flags::unlock(folders, name) => attempt(dir),
        done => done,
    }
}

/// So many of the names in a folder at most; none if it is empty.
fn some_names(dir: BorrowedFd<'_>, most: usize) -> Result<Vec<CString>, Errno> {
    // A new stream, which starts at the first name.
    let mut listing = Dir::from_fd(openat(dir, c".", LISTING, Mode::empty())?)?;
    let mut names = Vec::new();
    for entry in listing.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
        if names.len() == most {
            break;
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::{LISTING, remove_tree};
    use nix::fcntl::{AT_FDCWD, openat};
    use nix::sys::stat::{Mode, mkdirat};
    use std::fs;
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

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
