//! Takes results out of the archive that `docker cp` sends, under the same policy as those that are read in place.
//!
//! Nothing of the archive but the bytes of regular files is written, each under a number, so that names, links, devices
//! and modes in it have no effect here.

use std::collections::{HashMap, HashSet};
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use tar::EntryType;

use super::selection::{beyond_max_files, beyond_max_total, check_size};
use super::{CopiedFile, NOT_REGULAR, ReservedPaths, SYMBOLIC_LINK, Skipped, excluded_by, shown_name};
use crate::config::{OutputsConfig, PathKind};
use crate::docker::archive::{Archive, Member};
use crate::os::files;
use crate::os::platform::{self, MAX_DEPTH, Unread};

/// The longest path that `docker cp` carries in any case: it leaves out what has a path of more than 4095 bytes in the
/// engine's folder for the container, without a word.
pub const LONGEST: usize = 3600;
/// Why something with a longer path isn't delivered.
pub const TOO_LONG: &str = "only the engine can read it, and `docker cp` leaves out what has so long a path";

/// What was extracted.
#[derive(Debug, Clone, Default)]
pub struct Extracted {
    /// The files, each under its own number.
    pub files: Vec<CopiedFile>,
    /// What else was in the archive, and why it isn't a result.
    pub skipped: Skipped,
    /// Names of which each should be in the archive, until it is seen there.
    pub missing: HashSet<String>,
    /// The first folder that only the engine can list.
    pub closed_folder: Option<String>,
    bytes: u64,
    /// The folder that was looked at last, and whether it can be listed.
    last_folder: Option<(PathBuf, bool)>,
    /// The number of each path, for files with more than one name.
    numbers: HashMap<PathBuf, usize>,
}

/// Where and by which rules an archive is extracted.
pub struct ExtractOptions<'o> {
    /// The folder for the files.
    pub into: &'o Path,
    /// The workspace. What this agent's user can read there isn't extracted.
    pub workspace: &'o Path,
    /// The path relative to the workspace of what is in the archive.
    pub base: &'o Path,
    pub reserved: &'o ReservedPaths,
    pub limits: &'o OutputsConfig,
    /// How many bytes the disk must have left.
    pub keep_free: u64,
    pub budget: &'o Budget,
}

/// How many bytes of archives are read, over all archives of a task.
#[derive(Debug)]
pub struct Budget {
    read: AtomicU64,
    limit: AtomicU64,
}

impl Budget {
    pub fn new(limit: u64) -> Self {
        Self { read: AtomicU64::new(0), limit: AtomicU64::new(limit) }
    }

    /// How many bytes were read.
    pub fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Whether more was read than may be.
    pub fn is_exceeded(&self) -> bool {
        self.read() > self.limit.load(Ordering::Relaxed)
    }

    /// What [`Self::restore`] puts back.
    pub fn spent(&self) -> [u64; 2] {
        [&self.read, &self.limit].map(|count| count.load(Ordering::Relaxed))
    }

    /// Doesn't count what was read since then.
    pub fn restore(&self, [read, limit]: [u64; 2]) {
        self.read.store(read, Ordering::Relaxed);
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Doesn't count so many bytes.
    fn allow(&self, bytes: u64) {
        self.limit.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Why an archive wasn't extracted to its end.
#[derive(Debug)]
pub enum UnpackError {
    /// It broke off, or is no archive.
    Archive(io::Error),
    /// A file can't be written here.
    Local(io::Error),
    /// More was read than may be.
    TooLarge,
}

/// Reads as long as the budget lasts.
struct LimitedReader<'b, R> {
    source: R,
    budget: &'b Budget,
}

impl<R: Read> Read for LimitedReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.budget.is_exceeded() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let count = self.source.read(buffer)?;
        self.budget.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl Extracted {
    /// Nothing yet, of what should have these names.
    pub fn expecting(names: &[String]) -> Self {
        Self { missing: names.iter().cloned().collect(), ..Self::default() }
    }

    /// What isn't delivered, when every archive was read.
    pub fn finish(mut self) -> Skipped {
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
        let exclude = &options.limits.exclude;
        let depth = relative.components().count();
        if options.reserved.covers(&relative) || exclude.holds_above(&relative) || depth > MAX_DEPTH + 1 {
            return Ok(());
        }
        let name = shown_name(&relative);
        self.missing.remove(&name);
        // What can be listed was found by the scan.
        let was_found = relative.parent().is_some_and(|parent| self.is_listed(parent, options));
        let kind = member.kind;
        let path_kind = if kind == EntryType::Directory { PathKind::Folder } else { PathKind::File };
        if let Some(pattern) = exclude.pattern_for(&relative, path_kind) {
            if !was_found {
                self.skipped.skip(name + path_kind.suffix(), excluded_by(pattern));
            }
            return Ok(());
        }
        match kind {
            EntryType::Directory if was_found && depth > MAX_DEPTH => {}
            EntryType::Directory => self.add_folder(&relative, name, options),
            EntryType::Regular | EntryType::Continuous | EntryType::Link => {
                let here = if was_found { platform::open_beneath(options.workspace, &relative).ok() } else { None };
                if let Some(metadata) = here.and_then(|file| file.metadata().ok()) {
                    // It is read where it lies. Its holes count, since they are bytes of the archive. Another name of it
                    // has no bytes there.
                    options.budget.allow(platform::allocated(&metadata).min(member.size));
                    return Ok(());
                }
                if kind == EntryType::Link {
                    let other = member.link.as_ref().and_then(|path| below(options.base, path));
                    return self.add_link(other, (relative, name), options);
                }
                return self.write_file(content, member.size, (relative, name), options);
            }
            _ if was_found => {}
            EntryType::Symlink => self.skipped.skip(name, SYMBOLIC_LINK),
            _ => self.skipped.skip(name, NOT_REGULAR),
        }
        Ok(())
    }

    /// Whether this agent's user can list a folder of the workspace. The entries of one folder mostly come together.
    fn is_listed(&mut self, folder: &Path, options: &ExtractOptions<'_>) -> bool {
        if let Some((_, is_listed)) = self.last_folder.as_ref().filter(|(last, _)| last == folder) {
            return *is_listed;
        }
        let opened = match folder.as_os_str().is_empty() {
            true => File::open(options.workspace),
            false => platform::open_beneath(options.workspace, folder),
        };
        self.last_folder = Some((folder.to_owned(), opened.is_ok()));
        opened.is_ok()
    }

    fn add_folder(&mut self, relative: &Path, name: String, options: &ExtractOptions<'_>) {
        if relative.components().count() > MAX_DEPTH {
            return self.skipped.skip_deliverable(name + "/", Unread::TooDeep.to_string());
        }
        if self.is_listed(relative, options) {
            return;
        }
        let length = |path: &Path| path.as_os_str().len();
        if length(relative) > LONGEST && relative.parent().is_none_or(|parent| length(parent) <= LONGEST) {
            self.skipped.skip_deliverable(name.clone() + "/", TOO_LONG);
        }
        self.closed_folder.get_or_insert(name);
    }

    /// Another name of a file that is in the archive, or can be read in the workspace under its first name.
    fn add_link(
        &mut self,
        other: Option<PathBuf>,
        (relative, name): (PathBuf, String),
        options: &ExtractOptions<'_>,
    ) -> Result<(), UnpackError> {
        let number = other.as_ref().and_then(|path| self.numbers.get(path).copied());
        if let Some(number) = number.filter(|_| self.files.len() < options.limits.max_files) {
            self.files.push(CopiedFile { file: name, number });
            return Ok(());
        }
        let here = other.and_then(|path| platform::open_beneath(options.workspace, &path).ok());
        let here = here.and_then(|file| Some((file.metadata().ok().filter(Metadata::is_file)?.len(), file)));
        if let (None, Some((size, mut file))) = (number, here) {
            return self.write_file(&mut file, size, (relative, name), options);
        }
        self.skipped.skip_deliverable(name, "another name of a file that isn't delivered");
        Ok(())
    }

    /// Whether a file of this size may be delivered beside those that there are.
    fn check_room(&self, size: u64, limits: &OutputsConfig) -> Result<(), String> {
        check_size(size, limits)?;
        if self.files.len() >= limits.max_files {
            return Err(beyond_max_files(limits));
        }
        if self.bytes + size > limits.max_total { Err(beyond_max_total(limits)) } else { Ok(()) }
    }

    /// Writes a file of this size, unless it goes beyond the limits.
    fn write_file(
        &mut self,
        from: &mut impl Read,
        size: u64,
        (relative, name): (PathBuf, String),
        options: &ExtractOptions<'_>,
    ) -> Result<(), UnpackError> {
        if let Err(reason) = self.check_room(size, options.limits) {
            self.skipped.skip_deliverable(name, reason);
            return Ok(());
        }
        if platform::free_disk(options.into).map_err(UnpackError::Local)? < size.saturating_add(options.keep_free) {
            return Err(UnpackError::Local(io::ErrorKind::StorageFull.into()));
        }
        let number = self.files.len();
        let mut file = files::create_new(&options.into.join(number.to_string())).map_err(UnpackError::Local)?;
        copy(from, &mut file, size)?;
        // The record will say that it is here, so it has to outlive a power cut as the record does.
        file.sync_all().map_err(UnpackError::Local)?;
        self.bytes += size;
        self.numbers.insert(relative, number);
        self.files.push(CopiedFile { file: name, number });
        Ok(())
    }
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
