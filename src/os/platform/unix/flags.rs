//! Flags of files and folders that keep root itself from removing them: a container may set them, on some file systems
//! and with some capabilities.

use std::ffi::CString;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::libc::{c_int, c_long};
use nix::sys::stat::fstat;
use nix::{ioctl_read, ioctl_read_bad, ioctl_write_ptr, ioctl_write_ptr_bad, request_code_read, request_code_write};

use super::tree::open_content;

/// `chattr +i` and `chattr +a`.
const IMMUTABLE: c_int = 0x10;
const APPEND_ONLY: c_int = 0x20;
/// A subvolume of btrfs that may only be read, and the inode number of each subvolume's root.
const SUBVOLUME_READ_ONLY: u64 = 1 << 1;
const SUBVOLUME_ROOT: u64 = 256;

// The size in the two numbers is that of a long, and the value is an int (ioctl_iflags(2)).
ioctl_read_bad!(get_flags, request_code_read!(b'f', 1, size_of::<c_long>()), c_int);
ioctl_write_ptr_bad!(set_flags, request_code_write!(b'f', 2, size_of::<c_long>()), c_int);
ioctl_read!(get_subvolume_flags, 0x94, 25, u64);
ioctl_write_ptr!(set_subvolume_flags, 0x94, 26, u64);

/// The attributes of a file (`struct fsxattr`): the first number has the flags.
type Attributes = [u32; 7];
ioctl_read!(get_attributes, b'X', 31, Attributes);
ioctl_write_ptr!(set_attributes, b'X', 32, Attributes);
/// What is made in the folder gets its project (ioctl_xfs_fsgetxattr(2), FS_XFLAG_PROJINHERIT).
const PROJECT_INHERIT: u32 = 0x200;

/// Lets folders of any project be moved into this one, where that is this user's right. A container may have given the
/// folder a project, and then the kernel moves nothing of another project there.
pub fn accept_all_projects(folder: BorrowedFd<'_>) {
    let mut attributes = Attributes::default();
    // SAFETY: the descriptor is open, and the call writes a `struct fsxattr`, which has seven numbers.
    let read = unsafe { get_attributes(folder.as_raw_fd(), &raw mut attributes) };
    if read.is_err() || attributes[0] & PROJECT_INHERIT == 0 {
        return;
    }
    attributes[0] &= !PROJECT_INHERIT;
    // SAFETY: the descriptor is open, and the call reads a `struct fsxattr`.
    if let Err(error) = unsafe { set_attributes(folder.as_raw_fd(), &raw const attributes) } {
        log::debug!("a folder keeps its project: {error}");
    }
}

/// Takes these flags away from the folders, and from an entry of the last one. Returns whether there was one.
pub fn unlock(folders: &[BorrowedFd<'_>], name: &CString) -> bool {
    let child = folders.last().and_then(|dir| open_content(*dir, name).ok());
    let all = folders.iter().copied().chain(child.as_ref().map(AsFd::as_fd));
    // Each of them, since several may have flags.
    all.fold(false, |changed, file| make_mutable(file) | make_writable(file) | changed)
}

fn make_mutable(file: BorrowedFd<'_>) -> bool {
    let mut flags: c_int = 0;
    // SAFETY: the descriptor is open, and the call writes an int.
    if unsafe { get_flags(file.as_raw_fd(), &raw mut flags) }.is_err() || flags & (IMMUTABLE | APPEND_ONLY) == 0 {
        return false;
    }
    flags &= !(IMMUTABLE | APPEND_ONLY);
    // SAFETY: the descriptor is open, and the call reads an int.
    unsafe { set_flags(file.as_raw_fd(), &raw const flags) }.is_ok()
}

fn make_writable(file: BorrowedFd<'_>) -> bool {
    if !fstat(file).is_ok_and(|stat| stat.st_ino == SUBVOLUME_ROOT) {
        return false;
    }
    let mut flags: u64 = 0;
    // SAFETY: the descriptor is open, and the call writes 64 bits.
    let read = unsafe { get_subvolume_flags(file.as_raw_fd(), &raw mut flags) };
    if read.is_err() || flags & SUBVOLUME_READ_ONLY == 0 {
        return false;
    }
    flags &= !SUBVOLUME_READ_ONLY;
    // SAFETY: the descriptor is open, and the call reads 64 bits.
    unsafe { set_subvolume_flags(file.as_raw_fd(), &raw const flags) }.is_ok()
}

#[cfg(test)]
mod tests {
    use super::unlock;
    use nix::sys::stat::Mode;
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::thread;
    use std::time::Duration;

    #[test]
    fn a_device_or_pipe_is_not_opened_to_take_its_flags_away() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        let (opened, is_opened) = channel();
        // The writer waits for a reader.
        let writer = {
            let pipe = pipe.clone();
            thread::spawn(move || opened.send(fs::OpenOptions::new().write(true).open(pipe).is_ok()))
        };
        thread::sleep(Duration::from_millis(100));
        assert!(!unlock(&[File::open(dir.path()).unwrap().as_fd()], &c"pipe".to_owned()));
        assert_eq!(is_opened.recv_timeout(Duration::from_millis(200)), Err(RecvTimeoutError::Timeout));
        let _reader = File::open(&pipe).unwrap();
        assert!(is_opened.recv().unwrap());
        writer.join().unwrap().unwrap();
    }
}
