//! Finds the results in a workspace.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::unpack::{LONGEST, TOO_LONG};
use super::{
    LEASED, NOT_REGULAR, OutputFile, ReservedPaths, SYMBOLIC_LINK, Selection, Skipped, Unreadable, excluded_by,
    shown_name, upload_name,
};
use crate::config::{OutputsConfig, PathKind};
use crate::os::platform::{self, Entry, EntryKind, Found, Next, Unread};

/// The longest path that a file is opened by when it is sent (path_resolution(7)).
const PATH_MAX: usize = 4095;
/// Why what wasn't looked at in time isn't delivered.
const TOO_LATE: &str = "looking for results took too long, and the rest was not looked at";

/// Whether a scan goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pulse {
    GoOn,
    /// Its result isn't wanted.
    Stop,
    /// It has taken too long.
    TooLate,
}

/// What is in a workspace.
#[derive(Debug, Default)]
pub struct ScanResult {
    /// Whether it took too long, so that a part of the workspace wasn't looked at.
    pub is_cut: bool,
    /// Whether a file can't be opened while another program has a lease of it (fcntl(2), `F_SETLEASE`). The kernel takes
    /// that lease away after `/proc/sys/fs/lease-break-time`, 45 s as a rule, counted from the first try to open the file.
    pub has_leased: bool,
    /// What this machine had no descriptor or no memory to look at, and why.
    pub shortage: Option<String>,
    /// Whether there is no workspace.
    pub is_missing: bool,
    /// Whether there is a folder with nothing in it, as under a mount that hides it from the container.
    pub has_empty_folder: bool,
    /// The results, in the order of choice.
    pub files: Vec<OutputFile>,
    pub skipped: Skipped,
    /// What may hold results and can't be read.
    pub unreadable: Unreadable,
}

/// Looks through a workspace for results: every regular file that isn't reserved and may leave this machine. `pulse` is
/// called for each entry and may end the scan.
pub fn scan(
    workspace: &Path,
    reserved: &ReservedPaths,
    limits: &OutputsConfig,
    mut pulse: impl FnMut() -> Pulse,
) -> ScanResult {
    let root = workspace.into();
    let (found, selection) = (ScanResult::default(), Selection::new(limits));
    let mut scan = Scan { root: &root, reserved, limits, selection, found, entered: None };
    platform::walk_contents(workspace, &mut |seen| {
        match pulse() {
            Pulse::GoOn => {}
            Pulse::Stop => return Next::Stop,
            Pulse::TooLate => {
                scan.found.is_cut = true;
                scan.found.skipped.skip_deliverable(shown_name(Path::new("")), TOO_LATE);
                return Next::Stop;
            }
        }
        match seen {
            Found::Entry(entry) => scan.enter(&entry),
            Found::Unread(path, unread) => {
                scan.entered = None;
                scan.found.add_unread(path, unread);
                if scan.found.shortage.is_some() { Next::Stop } else { Next::GoOn }
            }
        }
    });
    let Scan { selection, mut found, entered, .. } = scan;
    found.has_empty_folder |= entered.is_some();
    found.files = selection.finish(&mut found.skipped);
    found.skipped.non_results.sort_by(|a, b| a.file.cmp(&b.file));
    found
}

struct Scan<'s> {
    root: &'s Arc<Path>,
    reserved: &'s ReservedPaths,
    limits: &'s OutputsConfig,
    selection: Selection<'s>,
    found: ScanResult,
    /// The folder whose content comes next, if it has any.
    entered: Option<PathBuf>,
}

impl Scan<'_> {
    fn enter(&mut self, entry: &Entry<'_>) -> Next {
        self.found.has_empty_folder |= self.entered.take().is_some_and(|folder| !entry.path.starts_with(folder));
        let next = self.look_at(entry);
        if entry.kind == EntryKind::Folder && next == Next::GoOn {
            self.entered = Some(entry.path.to_owned());
        }
        next
    }

    fn look_at(&mut self, entry: &Entry<'_>) -> Next {
        if self.reserved.contains(entry.path) {
            return Next::Skip;
        }
        let kind = if entry.kind == EntryKind::Folder { PathKind::Folder } else { PathKind::File };
        let skipped = &mut self.found.skipped;
        if let Some(pattern) = self.limits.exclude.pattern_for(entry.path, kind) {
            // A folder is named once for everything in it.
            skipped.skip(upload_name(entry.path) + kind.suffix(), excluded_by(pattern));
            return Next::Skip;
        }
        match entry.kind {
            EntryKind::Folder => {}
            EntryKind::Link => skipped.skip(upload_name(entry.path), SYMBOLIC_LINK),
            EntryKind::Other => skipped.skip(upload_name(entry.path), NOT_REGULAR),
            EntryKind::File => self.look_at_file(entry),
        }
        Next::GoOn
    }

    fn look_at_file(&mut self, entry: &Entry<'_>) {
        let skipped = &mut self.found.skipped;
        if entry.path.as_os_str().len() > PATH_MAX {
            skipped.skip_deliverable(upload_name(entry.path), format!("its path is longer than {PATH_MAX} bytes"));
            return;
        }
        match entry.open().and_then(OutputFile::describe) {
            Ok(opened) if !opened.metadata.is_file() => skipped.skip(upload_name(entry.path), NOT_REGULAR),
            Ok(opened) => {
                let name = upload_name(entry.path);
                self.selection.push(OutputFile::new(self.root, entry.path, name, &opened));
            }
            Err(error) => self.found.add_unread(entry.path, Unread::Failed(error)),
        }
    }
}

impl ScanResult {
    fn add_unread(&mut self, path: &Path, unread: Unread) {
        match unread {
            Unread::Failed(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                if path.as_os_str().len() > LONGEST {
                    return self.skipped.skip_deliverable(upload_name(path), TOO_LONG);
                }
                self.unreadable.add(path);
            }
            Unread::Failed(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.has_leased = true;
                self.skipped.skip_deliverable(shown_name(path), LEASED);
            }
            Unread::Failed(error) if platform::is_shortage(&error) => {
                self.shortage = Some(format!("`{}` can't be looked at now: {error}", shown_name(path)));
            }
            // It was removed meanwhile.
            Unread::Failed(error) if error.kind() == io::ErrorKind::NotFound && !path.as_os_str().is_empty() => {}
            other => {
                self.is_missing = matches!(&other, Unread::Failed(error) if error.kind() == io::ErrorKind::NotFound);
                self.skipped.skip_deliverable(shown_name(path), other.to_string());
            }
        }
    }
}
