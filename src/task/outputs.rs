//! What a task wrote: which files are results, which are skipped and why, and under which names they are sent.
//!
//! The container's content is not trusted. Links are never followed, nothing but regular files is opened, no path is
//! resolved out of the workspace, and a file is sent only if the file that was opened is the one that was found (P3).
//!
//! Hard links are no way out. The kernel makes none across two mounts, not even where both show the same file system
//! (link(2), EXDEV), and of the workspace's mount a container sees nothing but the workspace. So everything that has a
//! name in the workspace was made there, or was put there by this agent.
//!
//! However many files there are, only as many as may be delivered are held in memory, and a bounded number of names of
//! the others (P7).

mod scan;
mod selection;
pub mod sending;
#[cfg(all(test, unix))]
mod tests;
pub mod unpack;
mod unreadable;
mod upload_name;

pub use scan::{Pulse, ScanResult, scan};
pub use selection::{Selection, beyond_max_files};
pub use unreadable::{OUTPUT, Unreadable};
pub use upload_name::upload_name;

use std::cmp::Ordering;
use std::fmt;
use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::WORKSPACE;
use crate::os::platform;
use crate::server::protocol::LeftOut;

/// How many skipped files of each kind are named, and how many bytes their names and reasons have at most; the others are
/// counted. So what is no result, of which there may be very much, takes no room from results that aren't delivered.
const NAMED: usize = 1000;
const NAMED_BYTES: usize = 256 * 1024;
/// Why links are skipped.
const SYMBOLIC_LINK: &str = "a symbolic link";
/// Why sockets, FIFOs and devices are skipped.
const NOT_REGULAR: &str = "not a regular file";

/// Why a file is skipped that a lease keeps from being opened.
const LEASED: &str = "can't be read: another program has a lease of it";

/// Why a file is skipped that matches a pattern of `outputs.exclude`.
fn excluded_by(pattern: &str) -> String {
    format!("excluded by `{pattern}` (`outputs.exclude`)")
}

/// The name under which a file is sent or skipped; a dot for the workspace itself.
pub fn shown_name(relative: &Path) -> String {
    if relative.as_os_str().is_empty() { ".".to_owned() } else { upload_name(relative) }
}

/// A file to deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputFile {
    /// The folder that the file must be in.
    root: Arc<Path>,
    /// The path in that folder.
    relative: PathBuf,
    /// The name on the Server: the path relative to the workspace, with `/`.
    pub name: String,
    /// The number of bytes when it was found.
    pub size: u64,
    identity: (u64, u64),
}

/// The order of choice: files under `output/` first, then by name. Where not all can be delivered, the first are.
impl Ord for OutputFile {
    fn cmp(&self, other: &Self) -> Ordering {
        let is_elsewhere = |file: &Self| !file.name.starts_with("output/");
        is_elsewhere(self).cmp(&is_elsewhere(other)).then_with(|| self.name.cmp(&other.name))
    }
}

impl PartialOrd for OutputFile {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// An open file, and what it is.
struct Opened {
    file: File,
    metadata: Metadata,
    identity: (u64, u64),
}

impl OutputFile {
    fn new(root: &Arc<Path>, relative: &Path, name: String, opened: &Opened) -> Self {
        let (size, identity) = (opened.metadata.len(), opened.identity);
        Self { root: Arc::clone(root), relative: relative.to_owned(), name, size, identity }
    }

    /// A copy outside the workspace, where no container can change it.
    pub fn copied(dir: &Path, file: &Path, name: &str) -> io::Result<Self> {
        Ok(Self::new(&dir.into(), file, name.to_owned(), &Self::open_at(dir, file)?))
    }

    /// The opened file says what it is, not the path, which may lead elsewhere by now.
    fn open_at(root: &Path, relative: &Path) -> io::Result<Opened> {
        platform::open_beneath(root, relative).and_then(Self::describe)
    }

    fn describe(file: File) -> io::Result<Opened> {
        Ok(Opened { metadata: file.metadata()?, identity: platform::identity(&file)?, file })
    }

    /// Opens the file for sending and returns its size at that moment.
    ///
    /// # Errors
    /// Why it can't be sent, or not yet.
    pub fn open(&self) -> Result<(File, u64), Unopened> {
        let opened = Self::open_at(&self.root, &self.relative).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => Unopened::Leased,
            _ if platform::is_shortage(&error) => Unopened::Shortage(error.to_string()),
            _ => Unopened::Skip(format!("can't be read: {error}")),
        })?;
        if !opened.metadata.is_file() || opened.identity != self.identity {
            return Err(Unopened::Skip("it was replaced by something else while it was looked at".to_owned()));
        }
        Ok((opened.file, opened.metadata.len()))
    }
}

/// Why a file isn't opened for sending.
#[derive(Debug, PartialEq, Eq)]
pub enum Unopened {
    /// The reason for skipping it.
    Skip(String),
    /// Another program has a lease of it, which the kernel takes away from that program after a while.
    Leased,
    /// This machine has no descriptor or no memory for it now.
    Shortage(String),
}

impl fmt::Display for Unopened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Skip(reason) | Self::Shortage(reason) => reason,
            Self::Leased => LEASED,
        })
    }
}

/// A result that was copied out of the container by the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopiedFile {
    /// The name on the Server.
    pub file: String,
    /// The number that is the copy's file name.
    pub number: usize,
}

/// The results that were copied, once all of them are, and what isn't copied.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Fetched {
    pub files: Vec<CopiedFile>,
    pub skipped: Skipped,
}

/// Files that aren't delivered: some by name, the others as a number.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Skipped {
    /// Files that are no results, such as links.
    pub non_results: Vec<LeftOut>,
    /// Results that go beyond what may be delivered; a person may want to have them from this machine.
    pub undelivered: Vec<LeftOut>,
    /// How many more there are of both kinds.
    pub unnamed: u64,
    /// Of each kind. What was read is added to others, and not added to.
    #[serde(skip)]
    named_bytes: [usize; 2],
}

impl Skipped {
    /// Adds a file that is no result.
    pub fn skip(&mut self, file: String, reason: impl Into<String>) {
        self.unnamed += name(&mut self.non_results, &mut self.named_bytes[0], LeftOut { file, reason: reason.into() });
    }

    /// Adds a result that can't be delivered.
    pub fn skip_deliverable(&mut self, file: String, reason: impl Into<String>) {
        self.unnamed += name(&mut self.undelivered, &mut self.named_bytes[1], LeftOut { file, reason: reason.into() });
    }

    pub fn add(&mut self, other: Self) {
        other.non_results.into_iter().for_each(|left| self.skip(left.file, left.reason));
        other.undelivered.into_iter().for_each(|left| self.skip_deliverable(left.file, left.reason));
        self.unnamed += other.unnamed;
    }
}

/// Adds a file to those of its kind while these are few. Returns how many files aren't named: 1 or 0.
fn name(of_kind: &mut Vec<LeftOut>, bytes: &mut usize, left: LeftOut) -> u64 {
    let with_it = *bytes + left.file.len() + left.reason.len();
    if of_kind.len() >= NAMED || with_it > NAMED_BYTES {
        return 1;
    }
    *bytes = with_it;
    of_kind.push(left);
    0
}

/// Paths in the workspace that are no results: `task.json`, `input/`, and what a mount inside it covered.
#[derive(Debug, Clone)]
pub struct ReservedPaths(Vec<PathBuf>);

impl ReservedPaths {
    /// `mount_targets` are paths in the container.
    pub fn new<'m>(mount_targets: impl IntoIterator<Item = &'m str>) -> Self {
        let mut paths = vec![PathBuf::from("task.json"), PathBuf::from("input")];
        paths.extend(mount_targets.into_iter().filter_map(|target| below_workspace(target).map(PathBuf::from)));
        Self(paths)
    }

    /// Whether a path relative to the workspace is one of them.
    pub fn contains(&self, relative: &Path) -> bool {
        self.0.iter().any(|path| path == relative)
    }

    /// Whether a path is one of them or is in one.
    fn covers(&self, relative: &Path) -> bool {
        self.0.iter().any(|path| relative.starts_with(path))
    }
}

/// The path relative to the workspace of a container's path, if it is in there.
fn below_workspace(target: &str) -> Option<&str> {
    target.strip_prefix(WORKSPACE)?.strip_prefix('/').filter(|rest| !rest.is_empty())
}
