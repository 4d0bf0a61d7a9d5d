//! The Unix side of [`super`].

mod accounts;
mod child;
mod contents;
mod disk;
mod files;
#[cfg(target_os = "linux")]
mod first_process;
#[cfg(target_os = "linux")]
mod flags;
mod hang_up;
mod inspect;
mod namespace;
mod remove;
mod tree;
mod walk;

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::statvfs::statvfs;
use nix::unistd::{Pid, Uid, User, close, dup2_stderr, dup2_stdout, geteuid, setsid};

pub use accounts::{most_processes, subordinate_to};
pub use child::{ChildOutputs, has_ended, wait_readable};
pub use contents::{Place, walk_contents};
pub use disk::{selinux_label, write_error};
pub use files::{Dir, folder_identity, is_executable, make_dir, may_change_mode, open_file, set_dir_access};
#[cfg(target_os = "linux")]
pub use first_process::run_below_first_process;
pub use hang_up::{catch_hang_up, take_hang_up};
pub use remove::remove_tree;
pub use tree::open_beneath;
pub use walk::{Walked, program_places};

use super::Ownership;
use crate::os::missing::if_exists;

/// Whether a call failed since this process, or the whole machine, has no descriptor or no memory for it at this moment.
/// That says nothing about the file.
pub fn is_shortage(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS))
}

/// Makes the command the leader of a process group of its own, so that a Ctrl+C in the terminal doesn't reach it and
/// [`kill_group`] ends it with all processes that it started.
pub fn in_own_group(command: &mut Command) {
    command.process_group(0);
}

/// A command that starts `program` when it reads a line on its standard input, and ends without starting it when the
/// input closes first.
///
/// The caller records the process between the spawn and that line, so that it is found after a crash: an agent that
/// crashes in between closes the input. Process id and start time stay the same, since the shell replaces itself.
pub fn gated(program: &OsStr, args: &[OsString]) -> (Command, Option<&'static [u8]>) {
    let mut command = Command::new("/bin/sh");
    command
        .arg("-c")
        // docker makes the file of the container's id with the rights that the umask leaves.
        .arg(r#"umask 077 && read -r go && exec "$@" </dev/null"#)
        .arg("agent-core-gate")
        .arg(program)
        .args(args)
        .stdin(Stdio::piped());
    (command, Some(b"go\n"))
}

/// A command that runs `program` and ends with this process, however that ends: a second process of its group waits for the
/// end of its standard input, and kills it then.
pub fn leashed(program: &OsStr, args: &[OsString]) -> Command {
    let mut command = Command::new("/bin/sh");
    let script = r#"exec 3<&0 </dev/null
{ read -r end <&3; kill -9 $$; } >/dev/null 2>&1 &
exec "$@" 3<&-"#;
    command.args(["-c", script, "agent-core-leash"]).arg(program).args(args).stdin(Stdio::piped());
    command
}

/// Only Linux has containers with a first process of their own.
#[cfg(not(target_os = "linux"))]
pub fn run_below_first_process() -> io::Result<Option<u8>> {
    Ok(None)
}

/// Kills a process group. A group that has ended is no error.
pub fn kill_group(leader: u32) -> io::Result<()> {
    // Negated, 1 means every process on the machine.
    if leader == 1 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "1 leads no group of ours"));
    }
    ignore_ended(killpg(pid(leader)?, Signal::SIGKILL))
}

/// Asks a process to end (SIGTERM). One that has ended is no error.
pub fn terminate(process: u32) -> io::Result<()> {
    ignore_ended(kill(pid(process)?, Signal::SIGTERM))
}

/// Kills a process. One that has ended is no error.
pub fn kill_process(process: u32) -> io::Result<()> {
    ignore_ended(kill(pid(process)?, Signal::SIGKILL))
}

fn ignore_ended(signalled: Result<(), Errno>) -> io::Result<()> {
    match signalled {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Lets all threads share one heap, and keeps large buffers out of it. To be called while there is one thread.
///
/// glibc gives threads up to eight heaps a processor, and each heap keeps its largest size, which looks like a leak for
/// days. Workers wait more than they allocate, so one heap is enough. Buffers for files live for a short time between
/// small values that live long; as mappings of their own they leave no holes in the heap. After 1500 tasks, four at a
/// time, the agent's own memory is 3.3 MB, as after the first hundred; without this it is 7 MB.
pub fn share_one_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use nix::libc::{M_ARENA_MAX, M_MMAP_THRESHOLD, mallopt};
        // SAFETY: the function takes two numbers and may be called at any time.
        let done = unsafe { mallopt(M_ARENA_MAX, 1) != 0 && mallopt(M_MMAP_THRESHOLD, OWN_MAPPING) != 0 };
        if !done {
            log::debug!("the allocator can't be limited to one heap");
        }
    }
}

/// The size from which an allocation is a mapping of its own.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const OWN_MAPPING: nix::libc::c_int = 8 * 1024;

/// Leaves the terminal's session, so that its end doesn't reach this process, and closes the files that the parent
/// process left open: a lock or a pipe of a cron job would be held for as long as the agent runs. To be called before
/// any file is opened.
pub fn leave_session() -> io::Result<()> {
    setsid()?;
    let Some(open) = if_exists(fs::read_dir("/dev/fd"))? else { return Ok(()) };
    let inherited: Vec<RawFd> = open.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for descriptor in inherited.into_iter().filter(|descriptor| *descriptor > 2) {
        match close(descriptor) {
            // The descriptor of the folder itself, which is closed already.
            Ok(()) | Err(Errno::EBADF) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Stands between the ticks of a start time and the boot that they count from.
const BOOT: char = '@';

/// When this machine was booted, in seconds since 1970, as its clock says now. Only Linux tells.
pub fn boot_time() -> Option<i64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// Whether a start time, by [`start_time`], is known to be of another boot than this one.
pub fn is_of_other_boot(started: &str) -> bool {
    started.split_once(BOOT).is_some_and(|(_, boot)| !boot.is_empty() && boot != boot_id())
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Whether the process is the one that had this start time, by [`start_time`] or by an older version, which didn't name
/// the boot.
pub fn is_started_at(process: u32, started: &str) -> bool {
    start_time(process).is_some_and(|now| {
        let ticks = now.split_once(BOOT).map(|(ticks, _)| ticks);
        now == started || ticks == Some(started)
    })
}

/// When a process started, in the system's own format. It distinguishes two processes that had the same id. `None` if
/// there is no such process.
pub fn start_time(process: u32) -> Option<String> {
    if cfg!(target_os = "linux") {
        // proc(5): field 22 of stat; the second field, in brackets, may itself hold blanks and brackets.
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        let (_, fields) = stat.rsplit_once(')')?;
        // It has ended, and its parent has not fetched its status yet.
        if fields.trim_start().starts_with(['Z', 'X']) {
            return None;
        }
        let ticks = fields.split_whitespace().nth(19)?;
        // The ticks count from the boot, so that a process of another boot may have the same ones.
        return Some(format!("{ticks}{BOOT}{}", boot_id()));
    }
    let listed = Command::new("/bin/ps").args(["-o", "lstart=", "-p", &process.to_string()]).output().ok()?;
    let text = String::from_utf8_lossy(&listed.stdout).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// The mode of a file or folder, if other users than its owner have rights on it.
pub fn mode_if_shared(path: &Path) -> io::Result<Option<u32>> {
    const OTHERS: u32 = 0o077;
    let mode = fs::metadata(path)?.permissions().mode() & 0o7777;
    Ok((mode & OTHERS != 0).then_some(mode))
}

/// Removes the rights of all users but the owner on a file or folder. Returns its mode before, if it had to be changed.
pub fn restrict_to_owner(path: &Path) -> io::Result<Option<u32>> {
    let Some(before) = mode_if_shared(path)? else { return Ok(None) };
    fs::set_permissions(path, Permissions::from_mode(before & !0o077))?;
    if mode_if_shared(path)?.is_some() {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "the file system keeps no rights"));
    }
    Ok(Some(before))
}

/// The user of this process, as `chown` reads it.
pub fn user() -> String {
    geteuid().to_string()
}

/// The home of this process's user, as its account names it.
pub fn home() -> Option<PathBuf> {
    User::from_uid(geteuid()).ok().flatten().map(|account| account.dir)
}

/// The name of the account of this machine with this uid, unless it is this process's own user.
pub fn other_account(uid: u32) -> Option<String> {
    let account = User::from_uid(Uid::from_raw(uid)).ok().flatten()?;
    (account.uid != geteuid()).then_some(account.name)
}

/// The account that a file or folder belongs to, if it isn't this process's own.
pub fn account_of(path: &Path) -> Option<String> {
    path.symlink_metadata().ok().and_then(|found| other_account(found.uid()))
}

/// Gives a file that will replace another one to the owner of that one.
pub fn keep_owner(old: Ownership, file: &File) -> io::Result<()> {
    let new = file.metadata()?;
    if old == (Ownership { user: new.uid(), group: new.gid() }) {
        return Ok(());
    }
    match fchown(file, Some(old.user), Some(old.group)) {
        // Only a member of the group may give a file to it. Then the file stays readable for its user at least.
        Err(_) if old.user == new.uid() => Ok(()),
        owned => owned,
    }
}

/// Lets all users write into a folder, or read and write a file: a container may run as any uid.
pub fn make_world_writable(path: &Path) -> io::Result<()> {
    let mode = if path.is_dir() { 0o777 } else { 0o666 };
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// How many bytes this user may still write to the disk of a folder.
pub fn free_disk(path: &Path) -> io::Result<u64> {
    let disk = statvfs(path)?;
    // The types differ between systems.
    #[allow(clippy::useless_conversion)]
    Ok(u64::from(disk.blocks_available()).saturating_mul(u64::from(disk.fragment_size())))
}

/// How many bytes a name in this folder has at most. What can't be asked counts as having no limit of its own.
pub fn longest_name(path: &Path) -> usize {
    statvfs(path).map_or(usize::MAX, |disk| usize::try_from(disk.name_max()).unwrap_or(usize::MAX))
}

/// How many bytes the disk of a folder has, free or not.
pub fn disk_size(path: &Path) -> io::Result<u64> {
    let disk = statvfs(path)?;
    // The types differ between systems.
    #[allow(clippy::useless_conversion)]
    Ok(u64::from(disk.blocks()).saturating_mul(u64::from(disk.fragment_size())))
}

/// Whether the disk of a folder has so few files left that it may be full of them soon: fewer than 10,000, and fewer than
/// a twentieth of those that it can have. Not every file system has a limit.
pub fn is_short_of_files(path: &Path) -> io::Result<bool> {
    let disk = statvfs(path)?;
    Ok(disk.files() > 0 && disk.files_available() < (disk.files() / 20).min(10_000))
}

/// How many bytes of the disk a file takes: fewer than its length if it has holes.
pub fn allocated(metadata: &Metadata) -> u64 {
    metadata.blocks().saturating_mul(512)
}

/// What distinguishes an open file from every other one on this machine, also after a rename.
pub fn identity(file: &File) -> io::Result<(u64, u64)> {
    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Makes a rename within this folder survive a power cut.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The bytes of a name.
pub fn to_bytes(name: &OsStr) -> Cow<'_, [u8]> {
    Cow::Borrowed(name.as_bytes())
}

/// The path of these bytes, if they are one on this system.
pub fn from_bytes(path: &[u8]) -> Option<&Path> {
    Some(Path::new(OsStr::from_bytes(path)))
}

/// Makes a file this process's standard output and standard error.
pub fn redirect_output(file: &File) -> io::Result<()> {
    dup2_stdout(file)?;
    dup2_stderr(file)?;
    Ok(())
}

/// The program that starts the agent in the background.
pub const LAUNCHER: &str = "nohup";

/// The command that runs `program` in the background, by [`LAUNCHER`]'s file (README, "Foreground and background run": `nohup`). The program has to call
/// [`leave_session`] itself: it handles SIGHUP, so that `nohup` alone would not protect it.
pub fn detached(launcher: &Path, program: &Path, args: &[OsString]) -> Command {
    let mut command = Command::new(launcher);
    command.arg(program).args(args);
    command
}

/// An advisory lock on a file, held until it is dropped or the process ends in any way.
pub struct FileLock(Flock<File>);

impl FileLock {
    /// Locks the file, or returns it while another process holds the lock.
    pub fn try_new(file: File) -> io::Result<Result<Self, File>> {
        Self::try_lock(file, FlockArg::LockExclusiveNonblock)
    }

    /// Takes a lock that several processes may hold at once, or returns the file while one holds the exclusive lock.
    pub fn try_shared(file: File) -> io::Result<Result<Self, File>> {
        Self::try_lock(file, FlockArg::LockSharedNonblock)
    }

    fn try_lock(file: File, kind: FlockArg) -> io::Result<Result<Self, File>> {
        match Flock::lock(file, kind) {
            Ok(lock) => Ok(Ok(Self(lock))),
            Err((file, Errno::EWOULDBLOCK)) => Ok(Err(file)),
            Err((_, error @ (Errno::ENOLCK | Errno::EOPNOTSUPP | Errno::ENOSYS))) => Err(io::Error::new(
                io::Error::from(error).kind(),
                format!(
                    "its file system has no locks ({}): use a local disk; NFS needs its lock manager (`rpc.statd`)",
                    error.desc()
                ),
            )),
            Err((_, error)) => Err(error.into()),
        }
    }

    /// The locked file.
    pub fn file(&self) -> &File {
        &self.0
    }
}

fn pid(process: u32) -> io::Result<Pid> {
    // 0 means this process's own group.
    match i32::try_from(process) {
        Ok(raw) if raw > 0 => Ok(Pid::from_raw(raw)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{process} is no process id"))),
    }
}
