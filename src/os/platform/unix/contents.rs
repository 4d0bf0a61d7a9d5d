//! Looking through a folder whose content comes from a container, which may still change it.
//!
//! Each folder is opened relative to the one that it was found in, so nothing is resolved by its path and no link or mount
//! is followed. What is held doesn't grow with the number of entries: a few open folders, and the path of the current one.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::dir::{Dir, OwningIter, Type};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, openat};
use nix::libc::{S_IFMT, S_IFREG, S_ISVTX, off_t};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::{AccessFlags, Whence, faccessat, geteuid, lseek};

use super::tree::{LISTING, open_child, open_content};
use crate::os::platform::{EntryKind, FileSize, Found, MAX_DEPTH, Next, Unread};

/// How many folders of the current path are open. The others are opened again when the walk comes back to them.
const OPEN: usize = 16;

/// Where an entry is.
#[derive(Clone, Copy)]
pub struct Place<'w> {
    dir: BorrowedFd<'w>,
    name: &'w CStr,
}

impl Place<'_> {
    /// Opens the entry for reading, if it is a file or a folder, and not on another file system.
    pub fn open(&self) -> io::Result<File> {
        Ok(File::from(open_content(self.dir, self.name)?))
    }

    /// The size of the entry, if it is a file that this user may remove: not by what is in it, but by the folder's rights.
    pub fn removable(&self) -> io::Result<Option<FileSize>> {
        let stat = fstatat(self.dir, self.name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        if stat.st_mode & S_IFMT != S_IFREG || !may_remove_from(self.dir, &stat)? {
            return Ok(None);
        }
        let length = u64::try_from(stat.st_size).unwrap_or_default();
        let blocks = u64::try_from(stat.st_blocks).unwrap_or_default();
        Ok(Some(FileSize { length, allocated: blocks.saturating_mul(512) }))
    }
}

/// Calls `visit` for everything below the folder `root`, down to [`MAX_DEPTH`] folders, in no order.
///
/// A folder that another process changes meanwhile may be seen in part, and never one outside `root`.
pub fn walk_contents(root: &Path, visit: &mut dyn FnMut(Found<'_>) -> Next) {
    let opened = openat(AT_FDCWD, root, LISTING, Mode::empty()).and_then(|dir| Level::new(dir, 0));
    match opened {
        Ok(top) => Walk { levels: vec![top], path: PathBuf::new() }.run(visit),
        Err(error) => drop(visit(Found::Unread(Path::new(""), Unread::Failed(error.into())))),
    }
}

/// A folder of the current path.
struct Level {
    /// `None` while it is closed.
    open: Option<OpenFolder>,
    /// Where the listing is, to go on from there when the folder was closed.
    at: Position,
    /// The folder, to find it again.
    identity: (u64, u64),
    /// The length of the path to its parent.
    parent_path: usize,
}

/// A position in a listing. The system tells it only of the beginning of what it has listed at once.
#[derive(Clone, Default)]
struct Position {
    /// The beginning of what was listed last, in the system's own units.
    batch: off_t,
    /// How many entries were read since then.
    in_batch: usize,
    /// How many entries were read in all.
    read: usize,
    /// The name that was read last.
    last: CString,
}

struct OpenFolder {
    dir: OwnedFd,
    /// It has a descriptor of its own, with the same position as `dir`.
    listing: OwningIter,
    /// Where the system goes on when the next entries are listed.
    end: off_t,
}

type Named = (CString, Option<Type>);

impl OpenFolder {
    /// Opens a listing at this position of the system.
    fn new(dir: OwnedFd, start: off_t) -> Result<Self, Errno> {
        if start != 0 {
            lseek(&dir, start, Whence::SeekSet)?;
        }
        // The listing needs a descriptor of its own, which nix doesn't lend out.
        let own = dir.try_clone().map_err(|_| Errno::EMFILE)?;
        let listing = Dir::from_fd(own)?.into_iter();
        Ok(Self { dir, listing, end: start })
    }

    fn read(&mut self, at: &mut Position) -> Option<Result<Named, Errno>> {
        let entry = match self.listing.next()? {
            Ok(entry) => entry,
            Err(error) => return Some(Err(error)),
        };
        match lseek(&self.dir, 0, Whence::SeekCur) {
            Ok(end) if end != self.end => (at.batch, at.in_batch, self.end) = (self.end, 0, end),
            // Without positions, the listing is one batch.
            _ => {}
        }
        at.in_batch += 1;
        at.read += 1;
        entry.file_name().clone_into(&mut at.last);
        Some(Ok((entry.file_name().to_owned(), entry.file_type())))
    }

    /// Reads so many entries again. Returns whether the last of them has this name.
    fn skip(&mut self, count: usize, at: &mut Position, last: &CStr) -> bool {
        (0..count).all(|_| matches!(self.read(at), Some(Ok(_)))) && at.last.as_c_str() == last
    }
}

impl Level {
    fn new(dir: OwnedFd, parent_path: usize) -> Result<Self, Errno> {
        let identity = identity(&dir)?;
        Ok(Self { open: Some(OpenFolder::new(dir, 0)?), at: Position::default(), identity, parent_path })
    }

    fn next(&mut self) -> Option<Result<Named, Errno>> {
        let open = self.open.as_mut()?;
        loop {
            match open.read(&mut self.at)? {
                Ok((name, _)) if matches!(name.to_bytes(), b"." | b"..") => {}
                read => return Some(read),
            }
        }
    }

    /// Opens it again from one of its folders, and returns how many entries were read again for that. It fails if the
    /// folder was moved elsewhere.
    fn reopen(&mut self, child: BorrowedFd<'_>) -> Result<usize, Unread> {
        let before = self.at.clone();
        let mut again = 0;
        // A folder with many deep ones in it isn't read from its beginning after each of them, unless its file system
        // doesn't find the position again.
        for (start, count) in [(before.batch, before.in_batch), (0, before.read)] {
            let mut open = self.open_at(child, start)?;
            self.at = Position { batch: start, read: before.read - count, ..Position::default() };
            let is_there = open.skip(count, &mut self.at, &before.last);
            again += count;
            self.open = Some(open);
            if is_there {
                break;
            }
        }
        Ok(again)
    }

    fn open_at(&self, child: BorrowedFd<'_>, start: off_t) -> Result<OpenFolder, Unread> {
        let failed = |error: Errno| Unread::Failed(error.into());
        let dir = openat(child, c"..", LISTING, Mode::empty()).map_err(failed)?;
        if identity(&dir).map_err(failed)? != self.identity {
            return Err(Unread::Moved);
        }
        OpenFolder::new(dir, start).map_err(failed)
    }
}

struct Walk {
    /// From `root` to the current folder.
    levels: Vec<Level>,
    /// The current folder, relative to `root`.
    path: PathBuf,
}

impl Walk {
    fn run(mut self, visit: &mut dyn FnMut(Found<'_>) -> Next) {
        while let Some(level) = self.levels.last_mut() {
            let next = match level.next() {
                Some(Ok((name, kind))) => self.visit(&name, kind, visit),
                Some(Err(error)) => {
                    let next = visit(Found::Unread(&self.path, Unread::Failed(error.into())));
                    if next == Next::Stop { next } else { self.leave(visit) }
                }
                None => self.leave(visit),
            };
            if next == Next::Stop {
                return;
            }
        }
    }

    fn visit(&mut self, name: &CStr, kind: Option<Type>, visit: &mut dyn FnMut(Found<'_>) -> Next) -> Next {
        let Some(OpenFolder { dir, .. }) = self.levels.last().and_then(|level| level.open.as_ref()) else {
            return Next::Stop;
        };
        let parent_path = self.path.as_os_str().len();
        self.path.push(OsStr::from_bytes(name.to_bytes()));
        let found = match kind.map_or_else(|| look(dir.as_fd(), name), |kind| Ok(Some(kind_of(kind)))) {
            Ok(Some(kind)) => Ok((kind, visit(Found::entry(&self.path, kind, Place { dir: dir.as_fd(), name })))),
            // It was removed meanwhile.
            Ok(None) => Ok((EntryKind::Other, Next::GoOn)),
            Err(error) => Err(Unread::Failed(error.into())),
        };
        let entered = match found {
            Ok((EntryKind::Folder, Next::GoOn)) if self.levels.len() > MAX_DEPTH => Err(Unread::TooDeep),
            Ok((EntryKind::Folder, Next::GoOn)) => open_child(dir.as_fd(), name, LISTING)
                .and_then(|child| Level::new(child, parent_path))
                .map_err(|error| Unread::Failed(error.into())),
            Ok((_, next)) => {
                self.shorten(parent_path);
                return next;
            }
            Err(unread) => Err(unread),
        };
        match entered {
            Ok(level) => {
                self.levels.push(level);
                if let Some(far) = self.levels.len().checked_sub(OPEN + 1) {
                    self.levels[far].open = None;
                }
                Next::GoOn
            }
            Err(unread) => {
                let next = visit(Found::Unread(&self.path, unread));
                self.shorten(parent_path);
                next
            }
        }
    }

    /// Goes back to the parent of the current folder.
    fn leave(&mut self, visit: &mut dyn FnMut(Found<'_>) -> Next) -> Next {
        let Some(left) = self.levels.pop() else { return Next::Stop };
        self.shorten(left.parent_path);
        let (Some(parent), Some(child)) = (self.levels.last_mut(), left.open) else { return Next::GoOn };
        if parent.open.is_some() {
            return Next::GoOn;
        }
        match parent.reopen(child.dir.as_fd()) {
            Ok(_) => Next::GoOn,
            // The way back to the folders above is lost, too.
            Err(unread) => {
                visit(Found::Unread(&self.path, unread));
                Next::Stop
            }
        }
    }

    fn shorten(&mut self, length: usize) {
        let mut bytes = std::mem::take(&mut self.path).into_os_string().into_vec();
        bytes.truncate(length);
        self.path = OsString::from_vec(bytes).into();
    }
}

fn identity(dir: &OwnedFd) -> Result<(u64, u64), Errno> {
    let stat = fstat(dir)?;
    // The types differ between systems.
    #[allow(clippy::unnecessary_cast)]
    Ok((stat.st_dev as u64, stat.st_ino as u64))
}

/// Whether this user may remove the file from the folder, as far as modes and owners say so (unlink(2)).
fn may_remove_from(dir: BorrowedFd<'_>, file: &FileStat) -> Result<bool, Errno> {
    let (folder, user) = (fstat(dir)?, geteuid());
    let is_kept_by_sticky_bit =
        folder.st_mode & S_ISVTX != 0 && !user.is_root() && ![folder.st_uid, file.st_uid].contains(&user.as_raw());
    if is_kept_by_sticky_bit {
        return Ok(false);
    }
    match faccessat(dir, c".", AccessFlags::W_OK | AccessFlags::X_OK, AtFlags::AT_EACCESS) {
        Ok(()) => Ok(true),
        Err(Errno::EACCES | Errno::EROFS) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The kind of an entry whose file system doesn't tell it with the name; `None` if it was removed meanwhile.
fn look(dir: BorrowedFd<'_>, name: &CStr) -> Result<Option<EntryKind>, Errno> {
    let mode = match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()),
        Err(Errno::ENOENT) => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some(match mode {
        SFlag::S_IFDIR => EntryKind::Folder,
        SFlag::S_IFREG => EntryKind::File,
        SFlag::S_IFLNK => EntryKind::Link,
        _ => EntryKind::Other,
    }))
}

fn kind_of(kind: Type) -> EntryKind {
    match kind {
        Type::Directory => EntryKind::Folder,
        Type::File => EntryKind::File,
        Type::Symlink => EntryKind::Link,
        _ => EntryKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::{LISTING, Level, walk_contents};
    use crate::os::platform::{EntryKind, Found, MAX_DEPTH, Next, Unread};
    use nix::fcntl::{AT_FDCWD, openat};
    use nix::sys::stat::Mode;
    use std::collections::HashSet;
    use std::fs;
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    /// The paths of all entries, with those of what isn't looked into after an exclamation mark.
    fn seen(root: &Path, mut each: impl FnMut(&Path)) -> Vec<String> {
        let mut seen = Vec::new();
        walk_contents(root, &mut |found| {
            match found {
                Found::Entry(entry) => {
                    each(entry.path);
                    seen.push(entry.path.display().to_string());
                }
                Found::Unread(path, _) => seen.push(format!("!{}", path.display())),
            }
            Next::GoOn
        });
        seen.sort();
        seen
    }

    #[test]
    fn every_entry_is_seen_once_however_deep_and_wide_the_folders_are() {
        let dir = tempfile::tempdir().unwrap();
        let mut expected = Vec::new();
        // Each of the chains closes the folder that they are in, and there are more of them than names are read ahead.
        for number in 0..300 {
            let chain = format!("top/{number}{}", "/d".repeat(20 + number % 3));
            fs::create_dir_all(dir.path().join(&chain)).unwrap();
            fs::write(dir.path().join(&chain).join("file"), "").unwrap();
            let parents = Path::new(&chain).ancestors().filter(|path| path.components().count() > 1);
            expected.extend(parents.map(|path| path.display().to_string()));
            expected.push(format!("{chain}/file"));
        }
        expected.push("top".to_owned());
        expected.sort();
        assert_eq!(seen(dir.path(), |_| {}), expected);
    }

    #[test]
    fn a_wide_folder_is_not_read_from_its_beginning_again() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..20_000 {
            fs::write(dir.path().join(format!("file-{number}")), "").unwrap();
        }
        fs::create_dir(dir.path().join("folder")).unwrap();
        let open = |path: &Path| openat(AT_FDCWD, path, LISTING, Mode::empty()).unwrap();
        let mut level = Level::new(open(dir.path()), 0).unwrap();
        let child = open(&dir.path().join("folder"));
        let mut names = HashSet::new();
        while let Some(entry) = level.next() {
            assert!(names.insert(entry.unwrap().0), "an entry is read once");
            if names.len() % 1000 == 0 {
                level.open = None;
                let again = level.reopen(child.as_fd()).unwrap();
                assert!(again <= 3000, "{again} entries were read again after {}", names.len());
            }
        }
        assert_eq!(names.len(), 20_001);
    }

    #[test]
    fn folders_beyond_the_greatest_depth_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let deepest = ["d"; MAX_DEPTH].join("/");
        fs::create_dir_all(dir.path().join(&deepest).join("e/f")).unwrap();
        fs::write(dir.path().join(&deepest).join("file"), "").unwrap();
        let seen = seen(dir.path(), |_| {});
        assert_eq!(seen.len(), MAX_DEPTH + 3);
        assert!(seen.contains(&format!("!{deepest}/e")) && seen.contains(&format!("{deepest}/file")));
    }

    #[test]
    fn folders_that_become_links_during_a_walk_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        fs::create_dir_all(root.join("folder")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("PATIENT"), "").unwrap();
        let seen = seen(&root, |path| {
            if path == Path::new("folder") {
                fs::remove_dir(root.join("folder")).unwrap();
                symlink(&outside, root.join("folder")).unwrap();
            }
        });
        assert_eq!(seen, ["!folder", "folder"]);
    }

    #[test]
    fn a_folder_that_is_moved_during_a_walk_ends_it() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        let chain = format!("folder{}", "/d".repeat(30));
        fs::create_dir_all(root.join(&chain)).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("PATIENT"), "").unwrap();
        // The way back from the deepest folder leads to another one now.
        let third = root.join("folder/d/d");
        let seen = seen(&root, |path| {
            if path == Path::new(&chain) {
                fs::rename(&third, outside.join("moved")).unwrap();
            }
        });
        assert!(!seen.iter().any(|path| path.contains("PATIENT")), "{seen:?}");
        assert!(seen.contains(&"!folder/d".to_owned()), "{seen:?}");
    }

    #[test]
    fn a_walk_ends_when_it_is_told_to() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let mut count = 0;
        walk_contents(dir.path(), &mut |_| {
            count += 1;
            Next::Stop
        });
        assert_eq!(count, 1);
        let missing = dir.path().join("missing");
        walk_contents(&missing, &mut |found| {
            assert!(matches!(found, Found::Unread(path, Unread::Failed(_)) if path == Path::new("")));
            count += 1;
            Next::GoOn
        });
        assert_eq!(count, 2);
    }

    #[test]
    fn an_entry_is_opened_where_it_was_found() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d/file"), "four").unwrap();
        symlink("file", dir.path().join("d/link")).unwrap();
        let mut kinds = Vec::new();
        walk_contents(dir.path(), &mut |found| {
            let Found::Entry(entry) = found else { panic!("all can be read") };
            let length = entry.open().ok().map(|file| file.metadata().unwrap().len());
            kinds.push((entry.kind, length.filter(|_| entry.kind == EntryKind::File)));
            assert_eq!(length.is_some(), entry.kind != EntryKind::Link);
            Next::GoOn
        });
        kinds.sort_by_key(|(kind, _)| format!("{kind:?}"));
        assert_eq!(kinds, [(EntryKind::File, Some(4)), (EntryKind::Folder, None), (EntryKind::Link, None)]);
    }
}
