//! Takes results out of the archive that `docker cp` sends, under the same policy as those that are read in place.
//!
//! Nothing of the archive but the bytes of regular files is written, each under a number, so that names, links, devices
//! and modes in it have no effect here.

mod budget;
mod listed;

use std::collections::{HashMap, HashSet};
use std::fs::Metadata;
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use tar::EntryType;

use super::selection::{beyond_max_files, beyond_max_total, beyond_path_bytes, check_size, most_path_bytes};
use super::{CopiedFile, NOT_REGULAR, ReservedPaths, SYMBOLIC_LINK, Skipped, excluded_by, shown_name};
use crate::config::{OutputsConfig, PathKind};
use crate::docker::archive::{Archive, Member};
use crate::os::files;
use crate::os::platform::{self, MAX_DEPTH, Unread};
use budget::LimitedReader;
use listed::ListedFolders;

pub use budget::Budget;

/// The longest path that `docker cp` carries in any case: it leaves out what has a path of more than 4095 bytes in the
/// engine's folder for the container, without a word.
pub const LONGEST: usize = 3600;
/// Why something with a longer path isn't delivered.
pub const TOO_LONG: &str = "only the engine can read it, and `docker cp` leaves out what has so long a path";
/// Why a further name of a file isn't delivered.
const NOT_EITHER: &str = "another name of a file that isn't delivered";

/// Why a file without room isn't delivered.
const NO_ROOM: &str = "only the engine can read it, and its copy can't be written: no storage space";

/// What was extracted.
#[derive(Debug, Clone, Default)]
pub struct Extracted {
    /// The files, each under its own number.
    pub files: Vec<CopiedFile>,
    /// What else was in the archive, and why it isn't a result.
    pub skipped: Skipped,
    /// Names of which each should be in the archive, until it is seen there.
    pub missing: HashSet<String>,
    /// How many more should be in the archive, and weren't seen there.
    unnamed_missing: u64,
    /// The first folder that only the engine can list.
    pub closed_folder: Option<String>,
    bytes: u64,
    path_bytes: usize,
    listed: ListedFolders,
    /// The number of each path, for files with more than one name.
    numbers: HashMap<PathBuf, usize>,
    /// Results whose bytes stand in the archive under a name that is no result, with that name.
    awaited: HashMap<PathBuf, Vec<String>>,
    /// How many bytes these paths and names have.
    awaited_bytes: usize,
}

/// Which members of an archive are extracted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// The results.
    Results,
    /// The bytes of results that are another name of what is no result. The archive has them before that is known.
    OtherNames,
}

/// Where and by which rules an archive is extracted.
pub struct ExtractOptions<'o> {
    /// The folder for the files.
    pub into: &'o Path,
    /// The workspace. What this agent's user can read there isn't extracted.
    pub workspace: &'o Path,
    /// The path relative to the workspace of what is in the archive.
    pub base: &'o Path,
    /// What was extracted from another archive before.
    pub done: Option<&'o Path>,
    pub pass: Pass,
    pub reserved: &'o ReservedPaths,
    pub limits: &'o OutputsConfig,
    /// How many bytes the disk must have left.
    pub keep_free: u64,
    /// Whether a file without room is left out, and the next one is tried.
    pub leaves_out: bool,
    pub budget: &'o Budget,
}

/// Why an archive wasn't extracted to its end.
#[derive(Debug)]
pub enum UnpackError {
    /// It broke off, or is no archive.
    Archive(io::Error),
    /// A file can't be written here.
    Local(io::Error),
    /// The disk has no room for a file of so many bytes.
    NoRoom(u64),
    /// More was read than may be.
    TooLarge,
}

impl Extracted {
    /// Nothing yet, of what should have these names.
    pub fn expecting((names, unnamed_missing): (&[String], u64)) -> Self {
        Self { missing: names.iter().cloned().collect(), unnamed_missing, ..Self::default() }
    }

    /// Whether the same archive has to be read once more, in [`Pass::OtherNames`].
    pub fn needs_other_names(&self) -> bool {
        !self.awaited.is_empty()
    }

    /// Names the results whose bytes weren't in the archive. To be called after the last pass over it.
    pub fn end_archive(&mut self) {
        self.awaited_bytes = 0;
        for name in std::mem::take(&mut self.awaited).into_values().flatten() {
            self.skipped.skip_deliverable(name, NOT_EITHER);
        }
    }

    /// Doesn't expect anything more: what wasn't read isn't known.
    pub fn forget_missing(&mut self) {
        self.missing.clear();
        self.unnamed_missing = 0;
    }

    /// What isn't delivered, when every archive was read.
    pub fn finish(mut self) -> Skipped {
        self.skipped.unnamed += self.unnamed_missing;
        for name in self.missing {
            self.skipped.skip_deliverable(name, "only the engine can read it, and its archive doesn't have it");
        }
        if let Some(folder) = self.closed_folder {
            self.skipped.skip(folder + "/", "only the engine can list it; sockets in it, if any, are not named");
        }
        self.skipped
    }

    /// Puts an earlier state back, and removes the files that came after it, also one that wasn't written to its end: the
    /// next ones take their numbers.
    pub fn revert(&mut self, before: Self, into: &Path) -> io::Result<()> {
        let numbers = before.files.len()..=self.files.len();
        *self = before;
        for number in numbers {
            files::remove_if_exists(&into.join(number.to_string()))?;
        }
        Ok(())
    }

    /// Extracts what only the engine can read, of an archive that is read as far as the budget lasts.
    pub fn unpack(&mut self, source: impl Read, options: &ExtractOptions<'_>) -> Result<(), UnpackError> {
        let mut archive = Archive::new(LimitedReader { source, budget: options.budget });
        match self.add_all(&mut archive, options) {
            Err(UnpackError::Archive(error)) if error.kind() == io::ErrorKind::FileTooLarge => {
                Err(UnpackError::TooLarge)
            }
            done => done,
        }
    }

    fn add_all<R: Read>(&mut self, archive: &mut Archive<R>, options: &ExtractOptions<'_>) -> Result<(), UnpackError> {
        while let Some(member) = archive.next_member().map_err(UnpackError::Archive)? {
            self.add(&member, archive, options)?;
        }
        Ok(())
    }

    fn add(
        &mut self,
        member: &Member,
        content: &mut impl Read,
        options: &ExtractOptions<'_>,
    ) -> Result<(), UnpackError> {
        let Some(relative) = below(options.base, &member.path) else {
            let path = String::from_utf8_lossy(&member.path).escape_default().to_string();
            self.skipped.skip(path, "its path leads elsewhere");
            return Ok(());
        };
        if options.pass == Pass::OtherNames {
            return self.add_awaited(&relative, (member, content), options);
        }
        let exclude = &options.limits.exclude;
        let depth = relative.components().count();
        let is_done = options.done.is_some_and(|done| relative.starts_with(done));
        if is_done || options.reserved.covers(&relative) || exclude.holds_above(&relative) || depth > MAX_DEPTH + 1 {
            return Ok(());
        }
        let name = shown_name(&relative);
        let was_expected = self.missing.remove(&name);
        let was_found = relative.parent().is_some_and(|parent| self.listed.contains(parent, options.workspace));
        let path_kind = if member.kind == EntryType::Directory { PathKind::Folder } else { PathKind::File };
        if let Some(pattern) = exclude.pattern_for(&relative, path_kind) {
            if !was_found {
                self.skipped.skip(name + path_kind.suffix(), excluded_by(pattern));
            }
            return Ok(());
        }
        let is_unreadable = match member.kind {
            EntryType::Directory if was_found && depth > MAX_DEPTH => return Ok(()),
            EntryType::Directory => !self.add_folder(&relative, name, options),
            EntryType::Regular | EntryType::Continuous | EntryType::Link => {
                let here = if was_found { readable_size(options.workspace, &relative) } else { None };
                if let Some(allocated) = here {
                    // It is read where it lies. Its holes count, since they are bytes of the archive. Another name of it
                    // has no bytes there.
                    options.budget.allow(allocated.min(member.size));
                    return Ok(());
                }
                if member.kind == EntryType::Link {
                    let other = member.link.as_ref().and_then(|path| below(options.base, path));
                    self.add_link(other, name, options)?;
                } else {
                    self.write_file(content, member.size, (&relative, name), options)?;
                }
                true
            }
            _ if was_found => return Ok(()),
            kind => {
                self.skipped.skip(name, if kind == EntryType::Symlink { SYMBOLIC_LINK } else { NOT_REGULAR });
                false
            }
        };
        if was_found && is_unreadable && !was_expected && relative.as_os_str().len() <= LONGEST {
            self.unnamed_missing = self.unnamed_missing.saturating_sub(1);
        }
        Ok(())
    }

    /// Returns whether the scan has listed the folder.
    fn add_folder(&mut self, relative: &Path, name: String, options: &ExtractOptions<'_>) -> bool {
        if relative.components().count() > MAX_DEPTH {
            self.skipped.skip_deliverable(name + "/", Unread::TooDeep.to_string());
            return false;
        }
        if self.listed.contains(relative, options.workspace) {
            return true;
        }
        let length = |path: &Path| path.as_os_str().len();
        if length(relative) > LONGEST && relative.parent().is_none_or(|parent| length(parent) <= LONGEST) {
            self.skipped.skip_deliverable(name.clone() + "/", TOO_LONG);
        }
        self.closed_folder.get_or_insert(name);
        false
    }

    /// Another name of a file that is in the archive, or can be read in the workspace under its first name.
    fn add_link(
        &mut self,
        other: Option<PathBuf>,
        name: String,
        options: &ExtractOptions<'_>,
    ) -> Result<(), UnpackError> {
        let Some(other) = other else {
            self.skipped.skip_deliverable(name, NOT_EITHER);
            return Ok(());
        };
        if let Some(number) = self.numbers.get(&other).copied() {
            match self.check_room(0, &name, options.limits) {
                Ok(()) => self.push(name, number),
                Err(reason) => self.skipped.skip_deliverable(name, reason),
            }
            return Ok(());
        }
        let here = platform::open_beneath(options.workspace, &other).ok();
        let here = here.and_then(|file| Some((file.metadata().ok().filter(Metadata::is_file)?.len(), file)));
        if let Some((size, mut file)) = here {
            return self.write_file(&mut file, size, (&other, name), options);
        }
        let held = self.awaited_bytes + other.as_os_str().len() + name.len();
        if is_no_result(&other, options) && held <= most_path_bytes(options.limits) {
            self.awaited_bytes = held;
            self.awaited.entry(other).or_default().push(name);
        } else {
            self.skipped.skip_deliverable(name, NOT_EITHER);
        }
        Ok(())
    }

    /// Writes a file of the archive under the names that are results.
    fn add_awaited(
        &mut self,
        relative: &Path,
        (member, content): (&Member, &mut impl Read),
        options: &ExtractOptions<'_>,
    ) -> Result<(), UnpackError> {
        if !matches!(member.kind, EntryType::Regular | EntryType::Continuous) {
            return Ok(());
        }
        let mut names = self.awaited.remove(relative).unwrap_or_default().into_iter();
        if let Some(first) = names.next() {
            self.write_file(content, member.size, (relative, first), options)?;
        }
        names.try_for_each(|name| self.add_link(Some(relative.to_owned()), name, options))
    }

    fn push(&mut self, name: String, number: usize) {
        self.path_bytes += name.len();
        self.files.push(CopiedFile { file: name, number });
    }

    /// Whether a file of this size may be delivered beside those that there are.
    fn check_room(&self, size: u64, name: &str, limits: &OutputsConfig) -> Result<(), String> {
        check_size(size, limits)?;
        if self.files.len() >= limits.max_files {
            return Err(beyond_max_files(limits));
        }
        if self.path_bytes + name.len() > most_path_bytes(limits) {
            return Err(beyond_path_bytes(limits));
        }
        if self.bytes.saturating_add(size) > limits.max_total { Err(beyond_max_total(limits)) } else { Ok(()) }
    }

    /// Writes a file of this size, unless it goes beyond the limits. Its other names in the archive are given by this path.
    fn write_file(
        &mut self,
        from: &mut impl Read,
        size: u64,
        (path, name): (&Path, String),
        options: &ExtractOptions<'_>,
    ) -> Result<(), UnpackError> {
        if let Err(reason) = self.check_room(size, &name, options.limits) {
            self.skipped.skip_deliverable(name, reason);
            return Ok(());
        }
        if platform::free_disk(options.into).map_err(UnpackError::Local)? < size.saturating_add(options.keep_free) {
            if !options.leaves_out {
                return Err(UnpackError::NoRoom(size));
            }
            self.skipped.skip_deliverable(name, NO_ROOM);
            return Ok(());
        }
        let number = self.files.len();
        let mut file = files::create_new(&options.into.join(number.to_string())).map_err(UnpackError::Local)?;
        copy(from, &mut file, size)?;
        // The record will say that it is here, so it has to outlive a power cut as the record does.
        file.sync_all().map_err(UnpackError::Local)?;
        self.bytes += size;
        self.numbers.insert(path.to_owned(), number);
        self.push(name, number);
        Ok(())
    }
}

/// Whether nothing is sent under this name, for any file.
fn is_no_result(relative: &Path, options: &ExtractOptions<'_>) -> bool {
    let exclude = &options.limits.exclude;
    options.reserved.covers(relative)
        || exclude.holds_above(relative)
        || exclude.pattern_for(relative, PathKind::File).is_some()
        || relative.components().count() > MAX_DEPTH + 1
}

/// How many bytes of the disk a file of the workspace takes, if this agent's user can read it.
fn readable_size(workspace: &Path, relative: &Path) -> Option<u64> {
    let file = platform::open_beneath(workspace, relative).ok()?;
    file.metadata().ok().map(|metadata| platform::allocated(&metadata))
}

/// Copies exactly this many bytes.
fn copy(from: &mut impl Read, to: &mut impl Write, size: u64) -> Result<(), UnpackError> {
    let mut buffer = vec![0; 64 * 1024];
    let mut left = size;
    while left > 0 {
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let count = match from.read(&mut buffer[..room]) {
            Ok(0) => return Err(UnpackError::Archive(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(UnpackError::Archive(error)),
        };
        to.write_all(&buffer[..count]).map_err(UnpackError::Local)?;
        left = left.saturating_sub(count as u64);
    }
    Ok(())
}

/// The path of an entry relative to the workspace. The first part of the entry's path is the name of the archive's
/// base.
fn below(base: &Path, path: &[u8]) -> Option<PathBuf> {
    let path = platform::from_bytes(path)?;
    let mut parts = path.components().filter(|part| *part != Component::CurDir);
    let first = parts.next()?;
    let mut relative = base.to_owned();
    for part in parts {
        match part {
            Component::Normal(name) => relative.push(name),
            _ => return None,
        }
    }
    matches!(first, Component::Normal(_) | Component::RootDir).then_some(relative)
}

#[cfg(all(test, unix))]
mod tests;
#[cfg(all(test, target_os = "linux"))]
mod trees;
