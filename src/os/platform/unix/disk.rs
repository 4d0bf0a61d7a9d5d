//! What a disk takes, and what SELinux says of it.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;

/// How many bytes are written as a proof: a block of most file systems.
const BLOCK: usize = 4096;

/// Why no new file can be written in a folder, if none can: a full disk or quota, one without free inodes, one that the
/// system has made read-only after an error, or too many open files. The file that is tried has no name, and so is never
/// left behind. Where the file system has no such files, this isn't known.
#[cfg(target_os = "linux")]
pub fn write_error(dir: &Path) -> Option<io::Error> {
    let file = OpenOptions::new().write(true).mode(0o600).custom_flags(libc::O_TMPFILE).open(dir);
    match file.and_then(|mut file| file.write_all(&[0; BLOCK])) {
        Err(error) if is_unsupported(&error) => None,
        written => written.err(),
    }
}

#[cfg(target_os = "linux")]
fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL | libc::ENOENT))
}

/// It isn't known.
#[cfg(not(target_os = "linux"))]
pub fn write_error(_dir: &Path) -> Option<io::Error> {
    None
}

/// The label that SELinux has for a file or folder; `None` where there is none, or it can't be read.
#[cfg(target_os = "linux")]
pub fn selinux_label(path: &Path) -> Option<String> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut label = [0u8; 256];
    // SAFETY: both texts end with a NUL, and the length is the buffer's.
    let length =
        unsafe { libc::getxattr(path.as_ptr(), c"security.selinux".as_ptr(), label.as_mut_ptr().cast(), label.len()) };
    let label = label.get(..usize::try_from(length).ok()?)?;
    Some(String::from_utf8_lossy(label).trim_end_matches('\0').to_owned())
}

/// There is no SELinux.
#[cfg(not(target_os = "linux"))]
pub fn selinux_label(_path: &Path) -> Option<String> {
    None
}
