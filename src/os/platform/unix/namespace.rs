//! Where owner and mode of a file say less than they seem to: file systems of other users' programs, those without owners,
//! users that this user namespace doesn't know, and access lists.

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;

use nix::sys::stat::FileStat;

/// As whom all users appear that this user namespace doesn't know; `None` where it knows all.
pub fn unmapped_uid() -> Option<u32> {
    // Other systems have no user namespaces.
    let map = fs::read_to_string("/proc/self/uid_map").ok()?;
    if is_complete(&map) {
        return None;
    }
    let overflow = fs::read_to_string("/proc/sys/kernel/overflowuid").ok();
    // 65534 is the kernel's own choice (user_namespaces(7)).
    Some(overflow.and_then(|text| text.trim().parse().ok()).unwrap_or(65534))
}

/// Whether a map has all user ids: all but the last number, which stands for none.
fn is_complete(map: &str) -> bool {
    let lengths = map.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok());
    lengths.sum::<u64>() >= u64::from(u32::MAX)
}

/// The user whose program answers for a file system (FUSE): that user may claim any owner and mode.
#[cfg(target_os = "linux")]
pub fn fuse_owner(opened: BorrowedFd<'_>, stat: &FileStat) -> io::Result<Option<u32>> {
    use nix::sys::stat::{major, minor};
    // FUSE_SUPER_MAGIC of <linux/magic.h>.
    if nix::sys::statfs::fstatfs(opened)?.filesystem_type().0 != 0x6573_5546 {
        return Ok(None);
    }
    let device = format!("{}:{}", major(stat.st_dev), minor(stat.st_dev));
    let mounts = fs::read(MOUNTS)?;
    let mounts = String::from_utf8_lossy(&mounts);
    let owner = mounts.lines().find_map(|line| fuse_owner_in(line, &device));
    // A mount that isn't in the list may be any user's.
    Ok(Some(owner.unwrap_or(u32::MAX)))
}

#[cfg(target_os = "linux")]
const MOUNTS: &str = "/proc/self/mountinfo";

/// The user that a line of the list names, if it is about this device (proc_pid_mountinfo(5), mount.fuse3(8)).
#[cfg(target_os = "linux")]
fn fuse_owner_in(line: &str, device: &str) -> Option<u32> {
    if line.split(' ').nth(2) != Some(device) {
        return None;
    }
    let options = line.rsplit(' ').next()?;
    // Only root mounts those that name no user, such as virtiofs.
    Some(options.split(',').find_map(|option| option.strip_prefix("user_id=")?.parse().ok()).unwrap_or(0))
}

#[cfg(not(target_os = "linux"))]
pub fn fuse_owner(_opened: BorrowedFd<'_>, _stat: &FileStat) -> io::Result<Option<u32>> {
    Ok(None)
}

/// Whether this is on a drive that WSL shows.
#[cfg(target_os = "linux")]
pub fn is_windows_drive(opened: BorrowedFd<'_>) -> bool {
    // V9FS_MAGIC of <linux/magic.h>.
    nix::sys::statfs::fstatfs(opened).is_ok_and(|system| system.filesystem_type().0 == 0x0102_1997)
}

#[cfg(not(target_os = "linux"))]
pub fn is_windows_drive(_opened: BorrowedFd<'_>) -> bool {
    false
}

/// Whether more users or groups have rights than the mode says.
#[cfg(target_os = "linux")]
pub fn has_access_list(opened: BorrowedFd<'_>) -> bool {
    use std::os::fd::AsRawFd;
    // The system call for descriptors refuses those that are a passage only.
    let Ok(path) = std::ffi::CString::new(format!("/proc/self/fd/{}", opened.as_raw_fd())) else { return true };
    // SAFETY: both names end with NUL and outlive the call, which writes nothing into a buffer of size 0.
    let length =
        unsafe { nix::libc::getxattr(path.as_ptr(), c"system.posix_acl_access".as_ptr(), std::ptr::null_mut(), 0) };
    length >= 0 || !matches!(nix::errno::Errno::last(), nix::errno::Errno::ENODATA | nix::errno::Errno::EOPNOTSUPP)
}

#[cfg(not(target_os = "linux"))]
pub fn has_access_list(_opened: BorrowedFd<'_>) -> bool {
    false
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::{fuse_owner_in, is_complete};

    #[test]
    fn a_map_of_all_users_is_complete() {
        assert!(is_complete("         0          0 4294967295\n"));
        assert!(is_complete("0 100000 65536\n65536 165536 4294901759\n"));
        assert!(!is_complete("0 1000 1\n") && !is_complete("0 1000 1\n1 100000 65536\n") && !is_complete(""));
    }

    #[test]
    fn the_owner_of_a_fuse_mount_is_read() {
        let line =
            "61 29 0:52 / /tmp/x rw,nosuid,nodev,relatime - fuse.sshfs s rw,user_id=1001,group_id=1001,allow_other";
        assert_eq!(fuse_owner_in(line, "0:52"), Some(1001));
        assert_eq!(fuse_owner_in(line, "0:5"), None);
        assert_eq!(fuse_owner_in("61 29 0:52 / /tmp/x rw - virtiofs host rw", "0:52"), Some(0));
    }
}
