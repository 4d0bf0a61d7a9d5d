//! What others could have done to the entries of an open folder.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use nix::fcntl::openat;
use nix::libc::{S_IFDIR, S_IFLNK, S_IFMT, S_IFREG};
use nix::sys::stat::{FileStat, Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use super::files::{Dir, fix_new_dir, mode_by};
use super::tree::LISTING;
use super::walk::{glance, others_write};
use crate::os::missing::if_exists;
use crate::os::platform::{EntryKind, Flaw, Inspected};

const OTHERS: u32 = 0o077;

impl Dir {
    /// The first entry that another user may have made or changed. For a folder in which others could write.
    pub fn foreign_entry(&self) -> io::Result<Option<(OsString, Flaw)>> {
        for name in self.names()? {
            if let Some(flaw) = self.inspect(&name)?.and_then(|found| found.flaw) {
                return Ok(Some((name, flaw)));
            }
        }
        Ok(None)
    }

    /// What is at a name, and whether another user could have made or changed it; `None` if there is nothing.
    pub fn inspect(&self, name: &OsStr) -> io::Result<Option<Inspected>> {
        let Some(stat) = if_exists(self.stat(Path::new(name)))? else { return Ok(None) };
        let kind = match stat.st_mode & S_IFMT {
            S_IFDIR => EntryKind::Folder,
            S_IFREG => EntryKind::File,
            S_IFLNK => EntryKind::Link,
            _ => EntryKind::Other,
        };
        Ok(Some(Inspected { kind, flaw: self.flaw(name, kind, &stat), is_shared: mode_by(&stat) & OTHERS != 0 }))
    }

    fn flaw(&self, name: &OsStr, kind: EntryKind, stat: &FileStat) -> Option<Flaw> {
        // What can't be found out counts as writable.
        let is_writable = || others_write(stat, glance(self.at(), name).as_ref().map(AsFd::as_fd)).unwrap_or(true);
        let is_foreign = ![0, geteuid().as_raw()].contains(&stat.st_uid);
        match kind {
            EntryKind::Link => Some(Flaw::Link),
            _ if is_foreign => Some(Flaw::Foreign),
            EntryKind::Folder => is_writable().then_some(Flaw::WritableFolder),
            EntryKind::File if stat.st_nlink > 1 => Some(Flaw::SecondName),
            EntryKind::File => is_writable().then_some(Flaw::WritableFile),
            EntryKind::Other => Some(Flaw::Odd),
        }
    }

    /// Opens a folder in this one. A link is an error.
    pub fn open_folder(&self, name: &OsStr) -> io::Result<Self> {
        Ok(Self::opened(openat(self.at(), name, LISTING, Mode::empty())?))
    }

    /// Makes an empty folder anew, for its owner only: a process of another user that is in the old one, or has it open,
    /// finds nothing in it any more. A folder that isn't empty is an error.
    pub fn remake_folder(&self, name: &OsStr) -> io::Result<()> {
        unlinkat(self.at(), name, UnlinkatFlags::RemoveDir)?;
        mkdirat(self.at(), name, Mode::S_IRWXU)?;
        fix_new_dir(self.at(), name)
    }
}
