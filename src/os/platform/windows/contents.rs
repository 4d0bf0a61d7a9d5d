//! Looking through a folder whose content comes from a container.

use std::fs::{self, File, Metadata, ReadDir};
use std::io;
use std::path::Path;

use super::{is_link, open_beneath};
use crate::os::platform::{EntryKind, FileSize, Found, MAX_DEPTH, Next, Unread};

/// Where an entry of [`walk_contents`] is.
#[derive(Clone, Copy)]
pub struct Place<'w>(&'w Path);

impl Place<'_> {
    /// Opens the entry for reading, if it isn't a link.
    pub fn open(&self) -> io::Result<File> {
        match (self.0.parent(), self.0.file_name()) {
            (Some(dir), Some(name)) => open_beneath(dir, Path::new(name)),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// The length of the entry, if it is a file. Which parts of it take room on the disk isn't asked for.
    pub fn removable(&self) -> io::Result<Option<FileSize>> {
        let metadata = fs::symlink_metadata(self.0)?;
        let size = FileSize { length: metadata.len(), allocated: metadata.len() };
        Ok((kind_of(&metadata) == EntryKind::File).then_some(size))
    }
}

/// Calls `visit` for everything below the folder `root`, down to [`MAX_DEPTH`] folders, in no order. Links aren't
/// followed.
pub fn walk_contents(root: &Path, visit: &mut dyn FnMut(Found<'_>) -> Next) {
    let mut path = root.to_owned();
    let mut levels = match fs::read_dir(root) {
        Ok(entries) => vec![entries],
        Err(error) => {
            visit(Found::Unread(Path::new(""), Unread::Failed(error)));
            return;
        }
    };
    while let Some(entries) = levels.last_mut() {
        let entry = entries.next();
        let relative = |path: &Path| path.strip_prefix(root).unwrap_or(path).to_owned();
        let next = match entry {
            None => {
                levels.pop();
                path.pop();
                continue;
            }
            Some(Err(error)) => visit(Found::Unread(&relative(&path), Unread::Failed(error))),
            Some(Ok(entry)) => {
                path.push(entry.file_name());
                let shown = relative(&path);
                let (next, inside) = match entry.metadata() {
                    Ok(metadata) => look_at(&path, &shown, (kind_of(&metadata), levels.len()), visit),
                    Err(error) => (visit(Found::Unread(&shown, Unread::Failed(error))), None),
                };
                match inside {
                    Some(entries) => levels.push(entries),
                    None => drop(path.pop()),
                }
                next
            }
        };
        if next == Next::Stop {
            return;
        }
    }
}

/// Visits an entry, and lists it if the walk is to go into it.
fn look_at(
    path: &Path,
    relative: &Path,
    (kind, depth): (EntryKind, usize),
    visit: &mut dyn FnMut(Found<'_>) -> Next,
) -> (Next, Option<ReadDir>) {
    let next = visit(Found::entry(relative, kind, Place(path)));
    if kind != EntryKind::Folder || next != Next::GoOn {
        return (next, None);
    }
    let listed = if depth > MAX_DEPTH { Err(Unread::TooDeep) } else { fs::read_dir(path).map_err(Unread::Failed) };
    match listed {
        Ok(entries) => (Next::GoOn, Some(entries)),
        Err(unread) => (visit(Found::Unread(relative, unread)), None),
    }
}

fn kind_of(metadata: &Metadata) -> EntryKind {
    match metadata {
        link if is_link(link) => EntryKind::Link,
        folder if folder.is_dir() => EntryKind::Folder,
        file if file.is_file() => EntryKind::File,
        _ => EntryKind::Other,
    }
}
