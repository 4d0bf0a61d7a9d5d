//! The walk from `/` to a path, folder by folder, with a check of each: the Unix side of [`crate::os::trust`].

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, openat, readlinkat};
use nix::libc::{S_IFDIR, S_IFLNK, S_IFMT, S_ISVTX};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat, mkdirat};
use nix::unistd::{Uid, geteuid};

use super::Dir;
use super::accounts::Accounts;
use super::files::{fix_new_dir, identity_by, mode_by, read_at};
use super::is_shortage;
use super::namespace::{self, has_access_list, is_windows_drive};
use super::tree::PASSAGE;
use crate::os::platform::{Last, Ownership, Untrusted, Why};

/// How many links are followed on the way to one path, as Linux does it.
const MAX_LINKS: usize = 40;
const OTHERS_WRITE: u32 = 0o002;
const GROUP_WRITES: u32 = 0o020;

/// A path whose folders were checked, held open.
pub struct Walked {
    /// The folders from `/` on, each with its name; the first one has none.
    folders: Vec<(OsString, OwnedFd)>,
    /// The last name, where it isn't a folder.
    file: Option<OsString>,
    /// Whose that file is.
    ownership: Option<Ownership>,
    /// The names at the end of the path that don't exist.
    missing: Vec<OsString>,
    /// The identities of all folders in which a name was looked up, also on the way through links.
    pub passed: Vec<(u64, u64)>,
    /// The paths without links of the same folders.
    pub places: Vec<PathBuf>,
    trusted: Vec<Uid>,
    /// As whom all users appear that this user namespace doesn't know.
    unmapped: Option<u32>,
    /// What is wanted of the end of the path.
    last: Last,
}

/// Where a name led.
enum Step {
    Taken,
    Link(PathBuf),
    Missing,
}

impl Walked {
    /// Walks to an absolute path. Links of trusted users are followed.
    pub fn new(path: &Path, last: Last) -> Result<Self, Untrusted> {
        let at_root = |why: Why| Untrusted { path: "/".into(), why };
        let root = openat(AT_FDCWD, "/", PASSAGE, Mode::empty()).map_err(|error| at_root(error.into()))?;
        // The owner of `/` can replace everything. In a user namespace that may be a user whom it doesn't know, and so may
        // every other user look.
        let owner = fstat(&root).map_err(|error| at_root(error.into()))?.st_uid;
        let unmapped = namespace::unmapped_uid();
        let owner = Some(owner).filter(|owner| Some(*owner) != unmapped).map(Uid::from_raw);
        let mut walked = Self {
            folders: vec![(OsString::new(), root)],
            file: None,
            ownership: None,
            missing: Vec::new(),
            passed: Vec::new(),
            places: Vec::new(),
            trusted: [Uid::from_raw(0), geteuid()].into_iter().chain(owner).collect(),
            unmapped,
            last,
        };
        fstat(walked.top())
            .map_err(Why::from)
            .and_then(|stat| check_mode(&stat, Some(walked.top())))
            .map_err(at_root)?;
        walked.follow(path)?;
        Ok(walked)
    }

    fn follow(&mut self, path: &Path) -> Result<(), Untrusted> {
        let mut names: VecDeque<OsString> = names(path).collect();
        let mut links = 0;
        while let Some(name) = names.pop_front() {
            let path = self.real().join(&name);
            let last = names.is_empty().then_some(self.last);
            let step = self.step(&name, last).map_err(|why| Untrusted { path: path.clone(), why })?;
            match step {
                Step::Taken => {}
                Step::Missing => {
                    self.missing = [name].into_iter().chain(names).collect();
                    return Ok(());
                }
                Step::Link(_) if links == MAX_LINKS => return Err(Untrusted { path, why: Why::TooManyLinks }),
                Step::Link(target) => {
                    links += 1;
                    if target.is_absolute() {
                        self.folders.truncate(1);
                    }
                    names = self::names(&target).chain(names).collect();
                }
            }
        }
        Ok(())
    }

    /// Goes on to a name in the folder that was reached. The last name of the path has its own rule.
    fn step(&mut self, name: &OsStr, last: Option<Last>) -> Result<Step, Why> {
        if name == ".." {
            if self.folders.len() > 1 {
                self.folders.pop();
            }
            return Ok(Step::Taken);
        }
        let parent = fstat(self.top())?;
        self.passed.push(identity_by(&parent));
        self.places.push(self.real());
        let found = match fstatat(self.top(), name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => return Ok(Step::Missing),
            found => found?,
        };
        match found.st_mode & S_IFMT {
            S_IFLNK if !self.is_trusted(found.st_uid) => Err(Why::Link { owner: found.st_uid }),
            S_IFLNK => Ok(Step::Link(readlinkat(self.top(), name)?.into())),
            S_IFDIR => {
                let folder = openat(self.top(), name, PASSAGE, Mode::empty())?;
                let stat = fstat(&folder)?;
                self.check_stat(&stat, &parent, last.unwrap_or(Last::Strict), Some(folder.as_fd()))?;
                if last != Some(Last::Any) {
                    self.check_system(&stat, &parent, folder.as_fd())?;
                }
                self.folders.push((name.to_owned(), folder));
                Ok(Step::Taken)
            }
            _ => {
                let opened = glance(self.top(), name);
                self.check_stat(&found, &parent, last.ok_or(Errno::ENOTDIR)?, opened.as_ref().map(AsFd::as_fd))?;
                if let Some(opened) = opened.as_ref().filter(|_| last != Some(Last::Any)) {
                    self.check_system(&found, &parent, opened.as_fd())?;
                }
                self.file = Some(name.to_owned());
                self.ownership = Some(Ownership { user: found.st_uid, group: found.st_gid });
                Ok(Step::Taken)
            }
        }
    }

    /// The path without links.
    pub fn real(&self) -> PathBuf {
        let folders = self.folders.iter().skip(1).map(|(name, _)| name);
        let rest = self.file.iter().chain(&self.missing);
        let mut path = PathBuf::from("/");
        path.extend(folders.chain(rest));
        path
    }

    /// Whose file the path leads to, where it leads to one that isn't a folder.
    pub fn ownership(&self) -> Option<Ownership> {
        self.ownership
    }

    /// Whether the path leads to something.
    pub fn exists(&self) -> bool {
        self.missing.is_empty()
    }

    /// Makes the missing folders at the end of the path. Each is opened without following a link and checked as if it
    /// had been there: another user may have made it first.
    pub fn make_folders(&mut self, mode: u32) -> Result<(), Untrusted> {
        for name in std::mem::take(&mut self.missing) {
            let path = self.real().join(&name);
            self.make_folder(name, mode).map_err(|why| Untrusted { path, why })?;
        }
        Ok(())
    }

    fn make_folder(&mut self, name: OsString, mode: u32) -> Result<(), Why> {
        if name == ".." {
            return Err(Errno::ENOENT.into());
        }
        match mkdirat(self.top(), name.as_os_str(), Mode::from_bits_truncate(mode as nix::libc::mode_t)) {
            Ok(()) => fix_new_dir(self.top(), &name).map_err(Why::Unreadable)?,
            Err(Errno::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let folder = openat(self.top(), name.as_os_str(), PASSAGE, Mode::empty())?;
        let stat = fstat(&folder)?;
        if !self.is_trusted(stat.st_uid) {
            return Err(self.wrong_owner(stat.st_uid));
        }
        let parent = fstat(self.top())?;
        self.check_system(&stat, &parent, folder.as_fd())?;
        self.folders.push((name, folder));
        Ok(())
    }

    /// The folder at the end of the path.
    pub fn into_folder(mut self) -> Result<Dir, Untrusted> {
        let path = self.real();
        let at = |error: io::Error| Untrusted { path, why: Why::Unreadable(error) };
        if self.file.is_some() || !self.missing.is_empty() {
            return Err(at(Errno::ENOTDIR.into()));
        }
        match self.folders.pop() {
            Some((_, passage)) => Dir::reopen(passage.as_fd()).map_err(at),
            None => Err(at(Errno::ENOENT.into())),
        }
    }

    /// Opens the file at the end of the path to read it, and checks what was opened.
    pub fn into_file(self) -> Result<File, Untrusted> {
        let at = |why: Why| Untrusted { path: self.real(), why };
        let name = self.file.as_ref().ok_or_else(|| at(Errno::EISDIR.into()))?;
        let file = read_at(self.top(), name).map_err(|error| at(Why::Unreadable(error)))?;
        let stat = fstat(&file).map_err(|error| at(error.into()))?;
        if !self.is_trusted(stat.st_uid) {
            return Err(at(self.wrong_owner(stat.st_uid)));
        }
        check_mode(&stat, Some(file.as_fd())).map_err(at)?;
        Ok(file)
    }

    /// Whether a missing name could be made by another user.
    pub fn may_appear(&self) -> io::Result<bool> {
        Ok(!self.exists() && others_write(&fstat(self.top())?, Some(self.top()))?)
    }

    /// Which other users than root and this one can make something in the folder at the end of the path.
    pub fn other_writers(&self) -> Option<String> {
        let stat = fstat(self.top()).ok()?;
        if self.file.is_some() || !self.exists() {
            None
        } else if !self.is_trusted(stat.st_uid) {
            Some(format!("user {}", stat.st_uid))
        } else {
            others_write(&stat, Some(self.top())).ok()?.then(|| "other users".to_owned())
        }
    }

    fn top(&self) -> BorrowedFd<'_> {
        self.folders.last().map_or(AT_FDCWD, |(_, folder)| folder.as_fd())
    }

    fn is_trusted(&self, uid: u32) -> bool {
        self.trusted.contains(&Uid::from_raw(uid))
    }

    fn wrong_owner(&self, owner: u32) -> Why {
        if Some(owner) == self.unmapped { Why::Unmapped } else { Why::Owner { owner } }
    }

    /// Checks the file system that begins here, if one does. One of another user's program may claim any owner.
    fn check_system(&self, stat: &FileStat, parent: &FileStat, opened: BorrowedFd<'_>) -> Result<(), Why> {
        if stat.st_dev == parent.st_dev {
            return Ok(());
        }
        match namespace::fuse_owner(opened, stat).map_err(Why::Unreadable)? {
            Some(owner) if !self.is_trusted(owner) => Err(Why::Fuse { owner }),
            _ => Ok(()),
        }
    }

    /// Checks what a name in `parent` leads to. Where others may write in `parent`, only the sticky bit keeps its entries:
    /// from all but their owners.
    fn check_stat(
        &self,
        stat: &FileStat,
        parent: &FileStat,
        last: Last,
        opened: Option<BorrowedFd<'_>>,
    ) -> Result<(), Why> {
        // On a drive of Windows all files belong to one user and can be written by all. Its mounts are documented.
        if self.last == Last::Any && opened.is_some_and(is_windows_drive) {
            return Ok(());
        }
        // The folder in which the name was looked up is still the last one that was reached.
        let is_kept_by_sticky_bit = || others_write(parent, Some(self.top()));
        if !self.is_trusted(stat.st_uid) && (last != Last::Any || is_kept_by_sticky_bit().map_err(Why::Unreadable)?) {
            return Err(self.wrong_owner(stat.st_uid));
        }
        if last == Last::Strict { check_mode(stat, opened) } else { Ok(()) }
    }
}

impl Dir {
    /// Whether other users than root and this one can write into the folder.
    pub fn others_write(&self) -> io::Result<bool> {
        let folder = self.as_file()?;
        others_write(&fstat(&folder)?, Some(folder.as_fd()))
    }
}

/// The names of a path, with `..` as one of them.
fn names(path: &Path) -> impl DoubleEndedIterator<Item = OsString> + '_ {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    })
}

/// Checks that only its owner can write here, or that the sticky bit protects the entries.
fn check_mode(stat: &FileStat, opened: Option<BorrowedFd<'_>>) -> Result<(), Why> {
    let is_sticky_folder = stat.st_mode & S_IFMT == S_IFDIR && stat.st_mode & S_ISVTX != 0;
    if !is_sticky_folder && others_write(stat, opened).map_err(Why::Unreadable)? {
        Err(Why::Writable { mode: mode_by(stat) })
    } else {
        Ok(())
    }
}

/// Whether other users than root, this user and the owner may write here.
///
/// # Errors
/// The machine has no descriptor to spare to find that out.
pub(super) fn others_write(stat: &FileStat, opened: Option<BorrowedFd<'_>>) -> io::Result<bool> {
    Ok(match mode_by(stat) & (OTHERS_WRITE | GROUP_WRITES) {
        0 => false,
        // The group's rights are also the limit of an access list's entries.
        GROUP_WRITES => !is_owners_group(stat)? || opened.is_some_and(has_access_list),
        _ => true,
    })
}

fn is_owners_group(stat: &FileStat) -> io::Result<bool> {
    // Members of the group `admin` may become root on macOS, and it may write to `/Applications`.
    if cfg!(target_os = "macos") && stat.st_gid == 80 {
        return Ok(true);
    }
    match Accounts::read() {
        Ok(accounts) => Ok(accounts.is_owners_group(stat.st_gid, stat.st_uid)),
        Err(error) if is_shortage(&error) => Err(error),
        Err(_) => Ok(false),
    }
}

/// A descriptor of a file that is only looked at.
#[cfg(target_os = "linux")]
pub(super) fn glance(dir: BorrowedFd<'_>, name: &OsStr) -> Option<OwnedFd> {
    use nix::fcntl::OFlag;
    openat(dir, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty()).ok()
}

#[cfg(not(target_os = "linux"))]
pub(super) fn glance(_dir: BorrowedFd<'_>, _name: &OsStr) -> Option<OwnedFd> {
    None
}

/// The places where a shell looks for a program: itself, if it has a slash.
pub fn program_places(program: &OsStr) -> Vec<PathBuf> {
    if program.as_encoded_bytes().contains(&b'/') {
        return vec![PathBuf::from(program)];
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(program)).collect()
}
