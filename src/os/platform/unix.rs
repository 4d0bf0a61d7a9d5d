//! The Unix side of [`super`].

mod tree;

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::fd::{AsFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStderr, ChildStdout, Command, Stdio};
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, Flock, FlockArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::statvfs::statvfs;
use nix::unistd::{Pid, close, dup2_stderr, dup2_stdout, geteuid, setsid};

pub use tree::{open_beneath, remove_tree};

/// Makes the command the leader of a process group of its own, so that a Ctrl+C in our terminal doesn't reach it and
/// [`kill_group`] ends it with all that it started.
pub fn in_own_group(command: &mut Command) {
    command.process_group(0);
}

/// A command that starts `program` only after a line has come on its standard input, and ends without starting it
/// when the input closes first.
///
/// A process that must be found again after a crash is written down between the spawn and that line: if we die in
/// between, it never does anything. Its process id and start time stay the same, since the shell replaces itself.
pub fn gated(program: &OsStr, args: &[OsString]) -> (Command, Option<&'static [u8]>) {
    let mut command = Command::new("/bin/sh");
    command
        .arg("-c")
        .arg(r#"read -r go && exec "$@" </dev/null"#)
        .arg("agent-core-gate")
        .arg(program)
        .args(args)
        .stdin(Stdio::piped());
    (command, Some(b"go\n"))
}

/// Kills a process group at once. A group that is gone already is no error.
pub fn kill_group(leader: u32) -> io::Result<()> {
    match killpg(pid(leader)?, Signal::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Asks a process to end (SIGTERM).
pub fn terminate(process: u32) -> io::Result<()> {
    match kill(pid(process)?, Signal::SIGTERM) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Kills a process at once.
pub fn kill_process(process: u32) -> io::Result<()> {
    match kill(pid(process)?, Signal::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Lets all threads share one heap, before there is a second thread, and keeps large buffers out of it.
///
/// glibc gives up to eight heaps a processor to threads that come and go, and each keeps the most that it was ever used
/// for: that looks like a leak for days. ReservedPaths wait more than they allocate, so they don't need more than one. Buffers
/// for files come and go between small things that stay; as mappings of their own they leave no holes there.
pub fn share_one_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use nix::libc::{M_ARENA_MAX, M_MMAP_THRESHOLD, mallopt};
        // SAFETY: it takes two numbers and may be called at any time.
        let done = unsafe { mallopt(M_ARENA_MAX, 1) != 0 && mallopt(M_MMAP_THRESHOLD, OWN_MAPPING) != 0 };
        if !done {
            log::debug!("the allocator keeps its heaps");
        }
    }
}

/// From so many bytes on, an allocation is a mapping of its own.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const OWN_MAPPING: nix::libc::c_int = 8 * 1024;

/// Gives memory back to the system that was freed, wherever in the heap it lies: after hundreds of tasks the agent then
/// has what it had after the first.
pub fn trim_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: it takes a number and may be called at any time, by any thread.
        let _gave_some = unsafe { nix::libc::malloc_trim(0) };
    }
}

/// Leaves the terminal's session, so that its end doesn't reach this process, and closes what else was left open by
/// whoever started it: a lock or a pipe of a cron job would be held for as long as the agent runs. To be called before
/// anything is opened.
pub fn leave_session() -> io::Result<()> {
    setsid()?;
    let open = match fs::read_dir("/dev/fd") {
        Ok(open) => open,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let inherited: Vec<RawFd> = open.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for descriptor in inherited.into_iter().filter(|descriptor| *descriptor > 2) {
        match close(descriptor) {
            // That of the folder itself, which is closed already.
            Ok(()) | Err(Errno::EBADF) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// When a process started, in the system's own words; two processes that had the same id differ in it.
/// `None` if there is no such process.
pub fn start_time(process: u32) -> Option<String> {
    if cfg!(target_os = "linux") {
        // proc(5): field 22 of stat; the second field, in brackets, may itself hold blanks and brackets.
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        let (_, fields) = stat.rsplit_once(')')?;
        // One that has ended and that nobody has asked for yet.
        if fields.trim_start().starts_with(['Z', 'X']) {
            return None;
        }
        return fields.split_whitespace().nth(19).map(str::to_owned);
    }
    let listed = Command::new("ps").args(["-o", "lstart=", "-p", &process.to_string()]).output().ok()?;
    let text = String::from_utf8_lossy(&listed.stdout).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// Lets nobody but the owner into a folder.
pub fn make_private_dir(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(0o700))
}

/// The mode of a file or folder on which others than its owner have rights.
pub fn mode_if_shared(path: &Path) -> io::Result<Option<u32>> {
    const OTHERS: u32 = 0o077;
    let mode = fs::metadata(path)?.permissions().mode() & 0o7777;
    Ok((mode & OTHERS != 0).then_some(mode))
}

/// Takes the rights of everybody but the owner on a file or folder away. Returns its mode before, if it had to be
/// changed.
pub fn restrict_to_owner(path: &Path) -> io::Result<Option<u32>> {
    let Some(before) = mode_if_shared(path)? else { return Ok(None) };
    fs::set_permissions(path, Permissions::from_mode(before & !0o077))?;
    if mode_if_shared(path)?.is_some() {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "the file system keeps no rights"));
    }
    Ok(Some(before))
}

/// Our user, as `chown` takes it.
pub fn user() -> String {
    geteuid().to_string()
}

/// Whose a folder is, where what we make in it isn't theirs. That is tried, since some file systems give everything to
/// one user.
pub fn other_owner(dir: &Path) -> io::Result<Option<String>> {
    let owner = fs::metadata(dir)?.uid();
    if owner == geteuid().as_raw() {
        return Ok(None);
    }
    let probe = dir.join(format!(".owner-{}", std::process::id()));
    // The folder is somebody else's, who may have put a link there: nothing that exists is opened, or removed.
    let made = match File::create_new(&probe) {
        Ok(made) => made,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(Some(owner.to_string())),
        Err(error) => return Err(error),
    };
    let ours = made.metadata().map(|metadata| metadata.uid());
    fs::remove_file(&probe)?;
    Ok((ours? != owner).then(|| owner.to_string()))
}

/// Gives a file that takes another one's place to that one's owner.
pub fn keep_owner(of: &Path, file: &File) -> io::Result<()> {
    let (old, new) = (fs::metadata(of)?, file.metadata()?);
    if (old.uid(), old.gid()) == (new.uid(), new.gid()) {
        return Ok(());
    }
    match fchown(file, Some(old.uid()), Some(old.gid())) {
        // Who isn't in the old one's group keeps the file readable for its user, and that is what counts.
        Err(_) if old.uid() == new.uid() => Ok(()),
        owned => owned,
    }
}

/// Lets nobody but the owner read or write a file.
pub fn make_private(file: &File) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(0o600))
}

/// Lets everybody write into a folder, or read a file: a container may run as any uid.
pub fn make_world_writable(path: &Path) -> io::Result<()> {
    let mode = if path.is_dir() { 0o777 } else { 0o666 };
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// How many bytes we may still write to the disk that a folder is on.
pub fn free_disk(path: &Path) -> io::Result<u64> {
    let disk = statvfs(path)?;
    // The types differ between systems.
    #[allow(clippy::useless_conversion)]
    Ok(u64::from(disk.blocks_available()).saturating_mul(u64::from(disk.fragment_size())))
}

/// What tells an open file from every other one on this machine, whatever it is called.
pub fn identity(file: &File) -> io::Result<(u64, u64)> {
    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Makes a rename within this folder outlive a power cut.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// A name as the bytes that the system has for it.
pub fn to_bytes(name: &OsStr) -> Cow<'_, [u8]> {
    Cow::Borrowed(name.as_bytes())
}

/// The path that the system's bytes stand for, if they are one here.
pub fn from_bytes(path: &[u8]) -> Option<&Path> {
    Some(Path::new(OsStr::from_bytes(path)))
}

/// Makes a file this process's standard output and standard error.
pub fn redirect_output(file: &File) -> io::Result<()> {
    dup2_stdout(file)?;
    dup2_stderr(file)?;
    Ok(())
}

/// The command that runs `program` in the background (README, "Foreground and background run": `nohup`). The program has to call
/// [`leave_session`] itself: it handles SIGHUP, so that `nohup` alone would not protect it.
pub fn detached(program: &Path, args: &[OsString]) -> Command {
    let mut command = Command::new("nohup");
    command.arg(program).args(args);
    command
}

/// Reads both outputs of a child until they are closed or the deadline has come, without a thread of their own.
/// `take` gets what comes; the flag is true for standard output. Returns whether both were closed in time.
pub fn read_both(
    stdout: ChildStdout,
    stderr: ChildStderr,
    deadline: Instant,
    take: &mut dyn FnMut(bool, &[u8]),
) -> io::Result<bool> {
    let mut sources: [Option<Box<dyn Source>>; 2] = [Some(Box::new(stdout)), Some(Box::new(stderr))];
    for source in sources.iter().flatten() {
        fcntl(source.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    let mut buffer = [0; 16 * 1024];
    loop {
        let mut waiting: Vec<PollFd<'_>> =
            sources.iter().flatten().map(|source| PollFd::new(source.as_fd(), PollFlags::POLLIN)).collect();
        if waiting.is_empty() {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        match poll(&mut waiting, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        for (index, slot) in sources.iter_mut().enumerate() {
            let Some(source) = slot else { continue };
            match source.read(&mut buffer) {
                Ok(0) => *slot = None,
                Ok(count) => take(index == 0, &buffer[..count]),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

trait Source: Read + AsFd {}

impl<T: Read + AsFd> Source for T {}

/// An advisory lock on a file, held until it is dropped or the process ends however it ends.
pub struct FileLock(Flock<File>);

impl FileLock {
    /// Takes the lock, or gives the file back when another process holds it.
    pub fn try_new(file: File) -> io::Result<Result<Self, File>> {
        Self::try_lock(file, FlockArg::LockExclusiveNonblock)
    }

    /// Takes a lock that several may hold at once, or gives the file back when somebody holds the other kind.
    pub fn try_shared(file: File) -> io::Result<Result<Self, File>> {
        Self::try_lock(file, FlockArg::LockSharedNonblock)
    }

    fn try_lock(file: File, kind: FlockArg) -> io::Result<Result<Self, File>> {
        match Flock::lock(file, kind) {
            Ok(lock) => Ok(Ok(Self(lock))),
            Err((file, Errno::EWOULDBLOCK)) => Ok(Err(file)),
            Err((_, error)) => Err(error.into()),
        }
    }

    /// The locked file.
    pub fn file(&self) -> &File {
        &self.0
    }
}

fn pid(process: u32) -> io::Result<Pid> {
    // 0 and 1 would mean our own group and, negated, every process there is.
    match i32::try_from(process) {
        Ok(raw) if raw > 1 => Ok(Pid::from_raw(raw)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{process} is no process id"))),
    }
}
