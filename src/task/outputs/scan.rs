//! Finds the results in a workspace.

use std::io;
use std::path::Path;
use std::sync::Arc;

use walkdir::{DirEntry, WalkDir};

use super::{
    NOT_REGULAR, OutputFile, ReservedPaths, SYMBOLIC_LINK, Selection, Skipped, Unreadable, excluded_by, upload_name,
};
use crate::config::{OutputsConfig, PathKind};

/// What is in a workspace.
#[derive(Debug, Default)]
pub struct ScanResult {
    /// The results, in the order of delivery.
    pub files: Vec<OutputFile>,
    pub skipped: Skipped,
    /// What may hold results and can't be read.
    pub unreadable: Vec<Unreadable>,
}

/// Looks through a workspace for results: every regular file that isn't reserved and may leave this machine.
pub fn scan(workspace: &Path, reserved: &ReservedPaths, limits: &OutputsConfig) -> ScanResult {
    let mut found = ScanResult::default();
    let mut selection = Selection::new(limits);
    let root: Arc<Path> = workspace.into();
    let mut excluded = Skipped::default();
    let is_wanted = |entry: &DirEntry| {
        let path = relative(workspace, entry.path());
        if reserved.contains(path) {
            return false;
        }
        let kind = if entry.file_type().is_dir() { PathKind::Folder } else { PathKind::File };
        let pattern = limits.exclude.pattern_for(path, kind);
        if let Some(pattern) = pattern {
            // A folder is named once for everything in it.
            excluded.skip(upload_name(path) + kind.suffix(), excluded_by(pattern));
        }
        pattern.is_none()
    };
    for entry in WalkDir::new(workspace).min_depth(1).follow_links(false).into_iter().filter_entry(is_wanted) {
        match entry {
            Ok(entry) => found.add(&mut selection, &root, &entry),
            Err(error) => found.add_failed(workspace, &error),
        }
    }
    found.skipped.add(excluded);
    found.files = selection.finish(&mut found.skipped);
    found.skipped.non_results.sort_by(|a, b| a.file.cmp(&b.file));
    found
}

fn relative<'p>(workspace: &Path, path: &'p Path) -> &'p Path {
    path.strip_prefix(workspace).unwrap_or(path)
}

impl ScanResult {
    fn add(&mut self, selection: &mut Selection<'_>, root: &Arc<Path>, entry: &DirEntry) {
        let kind = entry.file_type();
        if kind.is_dir() {
            return;
        }
        let path = relative(root, entry.path());
        let name = upload_name(path);
        if kind.is_symlink() {
            self.skipped.skip(name, SYMBOLIC_LINK);
        } else if !kind.is_file() {
            self.skipped.skip(name, NOT_REGULAR);
        } else {
            match OutputFile::open_at(root, path) {
                Ok(opened) if !opened.metadata.is_file() => self.skipped.skip(name, NOT_REGULAR),
                Ok(opened) => selection.push(OutputFile::new(root, path, name, &opened)),
                Err(error) => self.add_unreadable(path, &error),
            }
        }
    }

    /// An entry that can't be listed.
    fn add_failed(&mut self, workspace: &Path, error: &walkdir::Error) {
        let path = relative(workspace, error.path().unwrap_or(workspace));
        match error.io_error() {
            Some(why) => self.add_unreadable(path, why),
            None => self.skipped.skip_deliverable(upload_name(path), "can't be read"),
        }
    }

    fn add_unreadable(&mut self, path: &Path, error: &io::Error) {
        let name = upload_name(path);
        if error.kind() == io::ErrorKind::PermissionDenied {
            self.unreadable.push(Unreadable { path: path.to_owned(), name });
        } else {
            self.skipped.skip_deliverable(name, format!("can't be read: {error}"));
        }
    }
}
