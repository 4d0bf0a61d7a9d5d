//! The Windows side of [`super`].

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::fs::{MetadataExt, OpenOptionsExt};
use std::os::windows::io::AsRawHandle;
use std::os::windows::process::CommandExt;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use windows_sys::Win32::Foundation::{CloseHandle, ERROR_LOCK_VIOLATION, FILETIME, HANDLE, WAIT_TIMEOUT};
use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, FILE_ATTRIBUTE_REPARSE_POINT, FILE_FLAG_OPEN_REPARSE_POINT, GetDiskFreeSpaceExW,
    GetFileInformationByHandle, LOCK_FILE_FLAGS, LOCKFILE_EXCLUSIVE_LOCK, LOCKFILE_FAIL_IMMEDIATELY, LockFileEx,
};
use windows_sys::Win32::System::IO::OVERLAPPED;
use windows_sys::Win32::System::Threading::{
    CREATE_NEW_PROCESS_GROUP, GetProcessTimes, OpenProcess, PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_SYNCHRONIZE,
    WaitForSingleObject,
};

mod child;
mod contents;
mod walk;

pub use child::{ChildOutputs, has_ended, leashed, wait_readable};
pub use contents::{Place, walk_contents};
pub use walk::{Dir, Walked, folder_identity, is_executable, program_places};

use super::{Access, Open, Ownership};
use crate::os::missing::ignore_missing;

/// Whether a call failed since this process, or the whole machine, has no handle or no memory for it at this moment. That
/// says nothing about the file.
pub fn is_shortage(error: &io::Error) -> bool {
    use windows_sys::Win32::Foundation::{
        ERROR_NO_SYSTEM_RESOURCES, ERROR_NOT_ENOUGH_MEMORY, ERROR_OUTOFMEMORY, ERROR_TOO_MANY_OPEN_FILES,
    };
    let code = error.raw_os_error().and_then(|code| u32::try_from(code).ok());
    matches!(
        code,
        Some(ERROR_TOO_MANY_OPEN_FILES | ERROR_NOT_ENOUGH_MEMORY | ERROR_OUTOFMEMORY | ERROR_NO_SYSTEM_RESOURCES)
    )
}

/// Access lists are inherited from the folder.
pub fn may_change_mode(_: &Path) -> bool {
    true
}

/// How many bytes a name in a folder has at most.
pub fn longest_name(_: &Path) -> usize {
    255
}

/// Windows has no first process that others depend on.
pub fn run_below_first_process() -> io::Result<Option<u8>> {
    Ok(None)
}

/// Makes the command the leader of a process group of its own, so that a Ctrl+C in the console doesn't reach it.
pub fn in_own_group(command: &mut Command) {
    command.creation_flags(CREATE_NEW_PROCESS_GROUP);
}

/// The command that runs `program`. Windows has no gate: the process runs from the spawn on, and after a crash between
/// the spawn and its record only the container's name prevents a second start.
pub fn gated(program: &OsStr, args: &[OsString]) -> (Command, Option<&'static [u8]>) {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    (command, None)
}

/// Kills a process and all processes that it started. One that has ended is no error.
pub fn kill_group(leader: u32) -> io::Result<()> {
    if !is_alive(leader) {
        return Ok(());
    }
    let killed = Command::new("taskkill").args(["/T", "/F", "/PID", &leader.to_string()]).output()?;
    if killed.status.success() || !is_alive(leader) {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&killed.stderr).trim().to_owned()))
}

/// Kills a process: a program in another console can't be asked to end.
pub fn terminate(process: u32) -> io::Result<()> {
    kill_group(process)
}

/// Kills a process. One that has ended is no error.
pub fn kill_process(process: u32) -> io::Result<()> {
    kill_group(process)
}

/// Windows has no SIGHUP.
pub fn catch_hang_up() -> io::Result<()> {
    Ok(())
}

/// Windows has no SIGHUP.
pub fn take_hang_up() -> bool {
    false
}

/// All threads share one heap on Windows.
pub fn share_one_heap() {}

/// Windows has no sessions of terminals.
pub fn leave_session() -> io::Result<()> {
    Ok(())
}

fn is_alive(process: u32) -> bool {
    Process::open(process).is_some_and(|process| {
        // SAFETY: the handle is open until `process` is dropped.
        unsafe { WaitForSingleObject(process.0, 0) == WAIT_TIMEOUT }
    })
}

/// Whether the process is the one that had this start time.
pub fn is_started_at(process: u32, started: &str) -> bool {
    start_time(process).as_deref() == Some(started)
}

/// When this machine was booted: the engine's containers run in a virtual machine, with boots of its own.
pub fn boot_time() -> Option<i64> {
    None
}

/// Whether a start time, by [`start_time`], is known to be of another boot than this one. It doesn't name the boot.
pub fn is_of_other_boot(_started: &str) -> bool {
    false
}

/// When a process started, in the system's own format. It distinguishes two processes that had the same id. `None` if
/// there is no such process.
pub fn start_time(process: u32) -> Option<String> {
    let process = Process::open(process)?;
    let zero = FILETIME { dwLowDateTime: 0, dwHighDateTime: 0 };
    let (mut created, mut exited, mut kernel, mut user) = (zero, zero, zero, zero);
    // SAFETY: the handle is open and the four structures outlive the call.
    let done = unsafe { GetProcessTimes(process.0, &mut created, &mut exited, &mut kernel, &mut user) };
    (done != 0).then(|| format!("{}.{}", created.dwHighDateTime, created.dwLowDateTime))
}

/// Opens or creates a file. A link is an error. Rights are inherited from the folder.
pub fn open_file(dir: &Dir, path: &Path, open: Open, _access: Access) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(FILE_FLAG_OPEN_REPARSE_POINT);
    match open {
        Open::New => options.write(true).create_new(true),
        Open::Append => options.append(true).create(true),
        Open::Update => options.write(true).create(true).truncate(false),
        Open::Existing => options.write(true),
        Open::Read => &mut options,
    };
    let file = options.open(dir.path(path))?;
    if is_link(&file.metadata()?) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a link"));
    }
    Ok(file)
}

/// Makes a folder. Rights are inherited from the folder around it.
pub fn make_dir(path: &Path, _access: Access) -> io::Result<()> {
    fs::create_dir(path)
}

/// Rights are inherited from the folder.
pub fn set_dir_access(_path: &Path, _access: Access) -> io::Result<()> {
    Ok(())
}

/// Files under a user's own folders are private by their inherited access list.
pub fn mode_if_shared(_path: &Path) -> io::Result<Option<u32>> {
    Ok(None)
}

/// Files under a user's own folders are private by their inherited access list.
pub fn restrict_to_owner(_path: &Path) -> io::Result<Option<u32>> {
    Ok(None)
}

/// The user of this process, for a command that is shown to a person.
pub fn user() -> String {
    std::env::var("USERNAME").unwrap_or_default()
}

/// The home of this process's user: USERPROFILE names it.
pub fn home() -> Option<PathBuf> {
    std::env::var_os("USERPROFILE").map(PathBuf::from)
}

/// Containers run in a virtual machine, whose users have no accounts here.
pub fn other_account(_uid: u32) -> Option<String> {
    None
}

/// Files don't say whose they are in this way.
pub fn account_of(_path: &Path) -> Option<String> {
    None
}

/// The system has no limit of processes.
pub fn most_processes() -> Option<(u64, &'static str)> {
    None
}

/// The other account that may take an id; see [`other_account`].
pub fn subordinate_to(_uid: u32, _gid: Option<u32>) -> Option<(&'static str, String)> {
    None
}

/// Access lists are inherited from the folder.
pub fn keep_owner(_old: Ownership, _file: &File) -> io::Result<()> {
    Ok(())
}

/// Windows can't replace the outputs of a running process. They stay in the old file; log lines don't go there.
pub fn redirect_output(_file: &File) -> io::Result<()> {
    Ok(())
}

/// Docker Desktop gives containers the rights of the user who shares the folder.
pub fn make_world_writable(_path: &Path) -> io::Result<()> {
    Ok(())
}

/// How many bytes this user may still write to the disk of a folder.
pub fn free_disk(path: &Path) -> io::Result<u64> {
    disk_space(path).map(|(free, _)| free)
}

/// How many bytes the disk of a folder has, free or not.
pub fn disk_size(path: &Path) -> io::Result<u64> {
    disk_space(path).map(|(_, size)| size)
}

/// It isn't known.
pub fn write_error(_dir: &Path) -> Option<io::Error> {
    None
}

/// There is no SELinux.
pub fn selinux_label(_path: &Path) -> Option<String> {
    None
}

/// NTFS has no limit of files that is met before that of bytes.
pub fn is_short_of_files(_path: &Path) -> io::Result<bool> {
    Ok(false)
}

/// The free and all bytes of a disk.
fn disk_space(path: &Path) -> io::Result<(u64, u64)> {
    let wide: Vec<u16> = path.as_os_str().encode_wide().chain([0]).collect();
    let (mut free, mut size) = (0, 0);
    // SAFETY: `wide` ends with a zero and outlives the call; the pointer of the third result may be null.
    let done = unsafe { GetDiskFreeSpaceExW(wide.as_ptr(), &mut free, &mut size, std::ptr::null_mut()) };
    if done == 0 { Err(io::Error::last_os_error()) } else { Ok((free, size)) }
}

/// Opens the file at `relative` beneath the folder `root` for reading. A link in any part of the path below `root` is an
/// error.
pub fn open_beneath(root: &Path, relative: &Path) -> io::Result<File> {
    let mut path = root.to_owned();
    let mut parts = relative.components().peekable();
    let not_below = || io::Error::new(io::ErrorKind::InvalidInput, "no path below the folder");
    if parts.peek().is_none() {
        return Err(not_below());
    }
    while let Some(part) = parts.next() {
        let Component::Normal(name) = part else { return Err(not_below()) };
        path.push(name);
        if parts.peek().is_some() && is_link(&fs::symlink_metadata(&path)?) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a link"));
        }
    }
    let file = OpenOptions::new().read(true).custom_flags(FILE_FLAG_OPEN_REPARSE_POINT).open(path)?;
    if is_link(&file.metadata()?) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a link"));
    }
    Ok(file)
}

fn is_link(metadata: &Metadata) -> bool {
    metadata.file_attributes() & FILE_ATTRIBUTE_REPARSE_POINT != 0
}

/// Removes a folder with its content, without following links. A missing folder is no error.
pub fn remove_tree(root: &Path) -> io::Result<()> {
    ignore_missing(fs::remove_dir_all(root))
}

/// How many bytes of the disk a file takes, as far as its length says so.
pub fn allocated(metadata: &Metadata) -> u64 {
    metadata.len()
}

/// What distinguishes an open file from every other one on this machine, also after a rename.
pub fn identity(file: &File) -> io::Result<(u64, u64)> {
    let mut info = BY_HANDLE_FILE_INFORMATION::default();
    // SAFETY: the handle is open and the structure outlives the call.
    let done = unsafe { GetFileInformationByHandle(file.as_raw_handle() as HANDLE, &mut info) };
    if done == 0 {
        return Err(io::Error::last_os_error());
    }
    let index = u64::from(info.nFileIndexHigh) << 32 | u64::from(info.nFileIndexLow);
    Ok((u64::from(info.dwVolumeSerialNumber), index))
}

/// NTFS journals renames by itself; a folder can't be synced.
pub fn sync_dir(_path: &Path) -> io::Result<()> {
    Ok(())
}

/// A name as bytes: UTF-8, with unpaired surrogates replaced.
pub fn to_bytes(name: &OsStr) -> Cow<'_, [u8]> {
    match name.to_string_lossy() {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

/// The path of these bytes, if they are UTF-8.
pub fn from_bytes(path: &[u8]) -> Option<&Path> {
    std::str::from_utf8(path).ok().map(Path::new)
}

/// The program that starts the agent in the background.
pub const LAUNCHER: &str = "cmd";

/// The command that runs `program` in the background, by [`LAUNCHER`]'s file (README, "Foreground and background run": `cmd /C start /B`).
pub fn detached(launcher: &Path, program: &Path, args: &[OsString]) -> Command {
    let mut command = Command::new(launcher);
    command.args(["/C", "start", "/B", ""]).arg(program).args(args);
    command
}

/// A lock on a file, held until it is dropped or the process ends in any way.
pub struct FileLock(File);

impl FileLock {
    /// Locks the file, or returns it while another process holds the lock.
    pub fn try_new(file: File) -> io::Result<Result<Self, File>> {
        Self::try_lock(file, LOCKFILE_EXCLUSIVE_LOCK)
    }

    /// Takes a lock that several processes may hold at once, or returns the file while one holds the exclusive lock.
    pub fn try_shared(file: File) -> io::Result<Result<Self, File>> {
        Self::try_lock(file, 0)
    }

    fn try_lock(file: File, kind: LOCK_FILE_FLAGS) -> io::Result<Result<Self, File>> {
        // SAFETY: an all-zero OVERLAPPED is the documented start value.
        let mut overlapped: OVERLAPPED = unsafe { std::mem::zeroed() };
        // The locked byte is far behind the text, so that other processes can read which one holds the lock.
        overlapped.Anonymous.Anonymous.OffsetHigh = 1;
        let flags = kind | LOCKFILE_FAIL_IMMEDIATELY;
        // SAFETY: the handle is open and `overlapped` outlives the call, which returns when it is done.
        let locked = unsafe { LockFileEx(file.as_raw_handle() as HANDLE, flags, 0, 1, 0, &mut overlapped) };
        if locked != 0 {
            return Ok(Ok(Self(file)));
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() == Some(ERROR_LOCK_VIOLATION as i32) { Ok(Err(file)) } else { Err(error) }
    }

    /// The locked file.
    pub fn file(&self) -> &File {
        &self.0
    }
}

struct Process(HANDLE);

impl Process {
    fn open(process: u32) -> Option<Self> {
        // SAFETY: no pointer is passed; a null handle means failure.
        let handle = unsafe { OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION | PROCESS_SYNCHRONIZE, 0, process) };
        (!handle.is_null()).then_some(Self(handle))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SAFETY: the handle is open, and nothing else closes it.
        unsafe { CloseHandle(self.0) };
    }
}
