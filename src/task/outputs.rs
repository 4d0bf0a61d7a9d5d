//! What a task wrote: which files are results, which are left out and why, and under which names they are sent.
//!
//! The container's content is not trusted. Links are never followed, nothing but regular files is opened, no path is
//! resolved out of the workspace, and a file is sent only if what was opened is what was found (P3).
//!
//! Hard links are no way out. The kernel makes none across two mounts, not even where both show the same file system
//! (link(2), EXDEV), and of the workspace's mount a container sees nothing but the workspace. So whatever has a name
//! in the workspace was made there, or was put there by us.
//!
//! However many files there are, only as many as may be delivered are held in memory, and a bounded number of names of
//! the others (P7).

pub mod unpack;

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use walkdir::{DirEntry, WalkDir};

use crate::config::{OutputsConfig, WORKSPACE};
use crate::os::platform;
use crate::server::protocol::LeftOut;

/// How many files that are left out are named; the others are counted.
const NAMED: usize = 1000;

/// A file to deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputFile {
    /// The folder that it may not lead out of.
    root: Arc<Path>,
    /// Where it lies in that folder.
    relative: PathBuf,
    /// Its path relative to the workspace, with `/`, as the Server is told.
    pub name: String,
    /// Its bytes when it was found.
    pub size: u64,
    identity: (u64, u64),
}

/// Files under `output/` go first, then by name: where not all can be delivered, these are.
impl Ord for OutputFile {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |found: &Self| !found.name.starts_with("output/");
        key(self).cmp(&key(other)).then_with(|| self.name.cmp(&other.name))
    }
}

impl PartialOrd for OutputFile {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Something that our uid can't look into; the engine can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Its path relative to the workspace; empty for the workspace itself.
    pub path: PathBuf,
    /// The name under which it would be sent.
    pub name: String,
}

/// What was found in a workspace.
#[derive(Debug, Default)]
pub struct Scan {
    /// The results, in the order in which they are sent.
    pub files: Vec<OutputFile>,
    /// What else is there, and why it isn't a result.
    pub left_out: Skipped,
    /// What may hold results and can't be read.
    pub unreadable: Vec<Unreadable>,
}

/// What stays here: some by name, the rest as a number.
#[derive(Debug, Default)]
pub struct Skipped {
    /// Files that are no results, such as links.
    pub non_results: Vec<LeftOut>,
    /// Files that are results and go beyond what may be delivered; somebody may want to fetch them here.
    pub undelivered: Vec<LeftOut>,
    /// How many more there are of both kinds.
    pub unnamed: u64,
}

impl Skipped {
    /// Adds a file that is no result.
    pub fn skip(&mut self, name: String, reason: impl Into<String>) {
        self.push(false, name, reason.into());
    }

    /// Adds a result that can't be delivered.
    pub fn skip_deliverable(&mut self, name: String, reason: impl Into<String>) {
        self.push(true, name, reason.into());
    }

    /// Takes in what was left out elsewhere.
    pub fn add(&mut self, other: Self) {
        other.non_results.into_iter().for_each(|left| self.skip(left.file, left.reason));
        other.undelivered.into_iter().for_each(|left| self.skip_deliverable(left.file, left.reason));
        self.unnamed += other.unnamed;
    }

    fn push(&mut self, kept_back: bool, file: String, reason: String) {
        if self.non_results.len() + self.undelivered.len() >= NAMED {
            self.unnamed += 1;
        } else if kept_back {
            self.undelivered.push(LeftOut { file, reason });
        } else {
            self.non_results.push(LeftOut { file, reason });
        }
    }
}

/// Tells results from what we put into a workspace ourselves: `task.json`, `input/`, and what a mount inside it hid.
#[derive(Debug, Clone)]
pub struct ReservedPaths(Vec<PathBuf>);

impl ReservedPaths {
    /// `mount_targets` are paths in the container.
    pub fn new<'m>(mount_targets: impl IntoIterator<Item = &'m str>) -> Self {
        let mut paths = vec![PathBuf::from("task.json"), PathBuf::from("input")];
        paths.extend(mount_targets.into_iter().filter_map(|target| below_workspace(target).map(PathBuf::from)));
        Self(paths)
    }

    /// Whether a path relative to the workspace is one of them. What lies below one is not looked at.
    pub fn is(&self, relative: &Path) -> bool {
        self.0.iter().any(|path| path == relative)
    }

    /// Whether a path is one of them or lies below one.
    pub fn holds(&self, relative: &Path) -> bool {
        self.0.iter().any(|path| relative.starts_with(path))
    }
}

/// Looks through a workspace for results: every regular file that isn't ours and may leave this machine.
pub fn scan(workspace: &Path, ours: &ReservedPaths, limits: &OutputsConfig) -> Scan {
    let mut found = Scan::default();
    let mut best = Selection::new(limits);
    let root: Arc<Path> = workspace.into();
    let relative = |path: &Path| path.strip_prefix(workspace).unwrap_or(path).to_owned();
    let mut excluded = Skipped::default();
    let may_go = |entry: &DirEntry| {
        let relative = relative(entry.path());
        if ours.is(&relative) {
            return false;
        }
        let pattern = limits.exclude.pattern_for(&relative, entry.file_type().is_dir());
        if let Some(pattern) = pattern {
            // A folder is named once for all that is in it.
            let slash = if entry.file_type().is_dir() { "/" } else { "" };
            excluded.skip(wire_name(workspace, entry.path()) + slash, excluded_by(pattern));
        }
        pattern.is_none()
    };
    for entry in WalkDir::new(workspace).min_depth(1).follow_links(false).into_iter().filter_entry(may_go) {
        match entry {
            Ok(entry) => found.note(&mut best, &root, &entry),
            Err(error) => {
                let path = error.path().unwrap_or(workspace);
                let name = wire_name(workspace, path);
                match error.io_error() {
                    Some(why) if why.kind() == io::ErrorKind::PermissionDenied => {
                        found.unreadable.push(Unreadable { path: relative(path), name });
                    }
                    Some(why) => found.left_out.skip_deliverable(name, format!("can't be read: {why}")),
                    None => found.left_out.skip_deliverable(name, "can't be read"),
                }
            }
        }
    }
    found.left_out.add(excluded);
    found.files = best.take(&mut found.left_out);
    found.left_out.non_results.sort_by(|a, b| a.file.cmp(&b.file));
    found
}

/// The results that may be delivered, of those that it was given so far.
pub struct Selection<'l> {
    limits: &'l OutputsConfig,
    heap: BinaryHeap<OutputFile>,
    beyond: Skipped,
}

impl<'l> Selection<'l> {
    /// Nothing yet.
    pub fn new(limits: &'l OutputsConfig) -> Self {
        Self { limits, heap: BinaryHeap::new(), beyond: Skipped::default() }
    }

    /// One more result.
    pub fn push(&mut self, found: OutputFile) {
        if let Err(reason) = fits(found.size, self.limits) {
            self.beyond.skip_deliverable(found.name, reason);
            return;
        }
        self.heap.push(found);
        if self.heap.len() > self.limits.max_files {
            if let Some(last) = self.heap.pop() {
                let reason =
                    format!("beyond the {} files that are delivered (`outputs.max_files`)", self.limits.max_files);
                self.beyond.skip_deliverable(last.name, reason);
            }
        }
    }

    /// The results in the order in which they are sent. What goes beyond the limits is added to `left_out`.
    pub fn take(self, left_out: &mut Skipped) -> Vec<OutputFile> {
        let Self { limits, heap, beyond } = self;
        let mut total = 0;
        let mut files = heap.into_sorted_vec();
        files.retain(|found| {
            if total + found.size <= limits.max_total {
                total += found.size;
                return true;
            }
            let reason =
                format!("beyond the {} MB that are delivered (`outputs.max_total_mb`)", limits.max_total >> 20);
            left_out.skip_deliverable(found.name.clone(), reason);
            false
        });
        for left in beyond.undelivered {
            left_out.skip_deliverable(left.file, left.reason);
        }
        left_out.unnamed += beyond.unnamed;
        left_out.undelivered.sort_by(|a, b| a.file.cmp(&b.file));
        files
    }
}

/// Whether one file may be delivered at all; the error is the reason for leaving it out.
pub fn fits(size: u64, limits: &OutputsConfig) -> Result<(), String> {
    if size <= limits.max_file {
        return Ok(());
    }
    Err(format!("{size} bytes are more than the {} MB of `outputs.max_file_mb`", limits.max_file >> 20))
}

impl Scan {
    fn note(&mut self, best: &mut Selection<'_>, root: &Arc<Path>, entry: &DirEntry) {
        let kind = entry.file_type();
        if kind.is_dir() {
            return;
        }
        let name = wire_name(root, entry.path());
        if kind.is_symlink() {
            self.left_out.skip(name, SYMBOLIC_LINK);
        } else if !kind.is_file() {
            self.left_out.skip(name, NOT_REGULAR);
        } else {
            let relative = entry.path().strip_prefix(root).unwrap_or(entry.path());
            match OutputFile::open_at(root, relative) {
                Ok(opened) if !opened.metadata.is_file() => self.left_out.skip(name, NOT_REGULAR),
                Ok(opened) => best.push(OutputFile::new(root, relative, name, &opened)),
                Err(why) if why.kind() == io::ErrorKind::PermissionDenied => {
                    self.unreadable.push(Unreadable { path: relative.to_owned(), name });
                }
                Err(why) => self.left_out.skip_deliverable(name, format!("can't be read: {why}")),
            }
        }
    }
}

/// Why something is left out that matches a pattern of `outputs.exclude`.
pub fn excluded_by(pattern: &str) -> String {
    format!("excluded by `{pattern}` (`outputs.exclude`)")
}

/// Why links are left out.
pub const SYMBOLIC_LINK: &str = "a symbolic link";
/// Why sockets, FIFOs and devices are left out.
pub const NOT_REGULAR: &str = "not a regular file";

/// A file, and what it is.
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

    /// A file that lies outside the workspace, where no container can change it.
    pub fn fetched(dir: &Path, file: &Path, name: &str) -> io::Result<Self> {
        Ok(Self::new(&dir.into(), file, name.to_owned(), &Self::open_at(dir, file)?))
    }

    /// What was opened, not what the path may lead to now, says what it is.
    fn open_at(root: &Path, relative: &Path) -> io::Result<Opened> {
        let file = platform::open_beneath(root, relative)?;
        Ok(Opened { metadata: file.metadata()?, identity: platform::identity(&file)?, file })
    }

    /// Opens the file for sending and returns its size at that moment. The error is the reason for leaving it out.
    pub fn open(&self) -> Result<(File, u64), String> {
        let opened = Self::open_at(&self.root, &self.relative);
        let opened = opened.map_err(|error| format!("can't be read: {error}"))?;
        if !opened.metadata.is_file() || opened.identity != self.identity {
            return Err("it was replaced by something else while it was looked at".to_owned());
        }
        Ok((opened.file, opened.metadata.len()))
    }
}

/// Where a container's path lies in the workspace, if it is inside.
fn below_workspace(target: &str) -> Option<&str> {
    target.strip_prefix(WORKSPACE)?.strip_prefix('/').filter(|rest| !rest.is_empty())
}

/// The path below the workspace, with `/` between its parts, spelled so that it can stand in a multipart header.
pub fn wire_name(workspace: &Path, path: &Path) -> String {
    let relative = path.strip_prefix(workspace).unwrap_or(path);
    let parts: Vec<String> = relative
        .components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(spell(name)),
            _ => None,
        })
        .collect();
    parts.join("/")
}

/// Percent-encodes what can't stand between quotes in a header: quotes, backslashes, control characters, and bytes
/// that are no UTF-8. A `%` is encoded where it would look like one of ours, so that the spelling can be undone.
fn spell(name: &OsStr) -> String {
    let bytes = platform::to_bytes(name);
    let mut spelled = String::with_capacity(bytes.len());
    let mut rest = &bytes[..];
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            rest = &rest[c.len_utf8()..];
            let looks_encoded = c == '%' && rest.len() >= 2 && rest[..2].iter().all(u8::is_ascii_hexdigit);
            if c.is_control() || matches!(c, '"' | '\\' | '\u{2028}' | '\u{2029}') || looks_encoded {
                encode(&mut spelled, c.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                spelled.push(c);
            }
        }
        rest = &rest[chunk.invalid().len()..];
        encode(&mut spelled, chunk.invalid());
    }
    spelled
}

fn encode(into: &mut String, bytes: &[u8]) {
    for byte in bytes {
        into.push_str(&format!("%{byte:02X}"));
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::{ReservedPaths, Scan, scan, spell, wire_name};
    use crate::config::{Exclude, OutputsConfig};
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    const MIB: u64 = 1 << 20;
    fn limits() -> OutputsConfig {
        OutputsConfig { max_file: 50 * MIB, max_files: 1000, max_total: 2048 * MIB, exclude: Exclude::default() }
    }

    fn names(found: &Scan) -> Vec<&str> {
        found.files.iter().map(|file| file.name.as_str()).collect()
    }

    #[test]
    fn files_below_output_come_first_when_limits_are_exceeded() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("output")).unwrap();
        for (name, size) in [("a", 1), ("b", 1), ("output/c", 3), ("output/d", 2), ("output/large", 9)] {
            fs::write(dir.path().join(name), vec![b'x'; size]).unwrap();
        }
        let scan_with = |limits| scan(dir.path(), &ReservedPaths::new([]), &limits);
        let few = scan_with(OutputsConfig { max_file: 8, max_files: 3, max_total: 100, ..limits() });
        assert_eq!(names(&few), ["output/c", "output/d", "a"]);
        let kept: Vec<&str> = few.left_out.undelivered.iter().map(|left| left.file.as_str()).collect();
        assert_eq!((kept, few.left_out.unnamed), (vec!["b", "output/large"], 0));
        assert!(few.left_out.undelivered[0].reason.contains("outputs.max_files"));
        assert!(few.left_out.undelivered[1].reason.contains("9 bytes") && few.left_out.non_results.is_empty());
        let little = scan_with(OutputsConfig { max_file: 8, max_files: 10, max_total: 4, ..limits() });
        assert_eq!(names(&little), ["output/c", "a"], "what still fits is delivered");
        assert!(little.left_out.undelivered[0].reason.contains("outputs.max_total_mb"));
    }

    #[test]
    fn a_scan_keeps_a_bounded_number_of_names() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..3000 {
            fs::write(dir.path().join(format!("f{number:04}")), "x").unwrap();
        }
        let found = scan(dir.path(), &ReservedPaths::new([]), &OutputsConfig { max_files: 10, ..limits() });
        assert_eq!((names(&found)[0], names(&found).len()), ("f0000", 10));
        assert_eq!((found.left_out.undelivered.len(), found.left_out.unnamed), (1000, 1990));
    }

    #[test]
    fn results_are_all_regular_files_except_inputs_and_mounts() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for folder in ["input", "output/deep/er", "mnt/data", "other"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        for file in
            ["task.json", "input/a", "output/r.md", "output/deep/er/x", "mnt/data/secret", "top", "other/task.json"]
        {
            fs::write(root.join(file), "x").unwrap();
        }
        symlink("/etc/passwd", root.join("output/link")).unwrap();
        symlink("/etc", root.join("output/dirlink")).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(root.join("output/socket")).unwrap();
        let found = scan(root, &ReservedPaths::new(["/workspace/mnt/data", "/elsewhere", "/workspace-not"]), &limits());
        assert_eq!(names(&found), ["output/deep/er/x", "output/r.md", "other/task.json", "top"]);
        let left: Vec<(&str, &str)> =
            found.left_out.non_results.iter().map(|l| (l.file.as_str(), l.reason.as_str())).collect();
        assert_eq!(
            left,
            [
                ("output/dirlink", "a symbolic link"),
                ("output/link", "a symbolic link"),
                ("output/socket", "not a regular file")
            ]
        );
    }

    #[test]
    fn a_file_that_becomes_a_link_after_the_scan_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r");
        fs::write(&path, "x").unwrap();
        let found = scan(dir.path(), &ReservedPaths::new([]), &limits());
        fs::remove_file(&path).unwrap();
        symlink("/etc/passwd", &path).unwrap();
        assert!(found.files[0].open().is_err());
        fs::remove_file(&path).unwrap();
        fs::write(dir.path().join("other"), "y").unwrap();
        fs::write(&path, "z").unwrap();
        // A new file may get the old one's inode number; what is sent is a regular file of the workspace either way.
        assert!(found.files[0].open().is_ok() || found.files[0].open().unwrap_err().contains("replaced"));
    }

    #[test]
    fn characters_unsafe_in_headers_are_percent_encoded() {
        for (name, spelled) in [
            (&b"report.md"[..], "report.md"),
            ("名 前.csv".as_bytes(), "名 前.csv"),
            (b"a\"b\\c\r\nd", "a%22b%5Cc%0D%0Ad"),
            (b"100%.txt", "100%.txt"),
            (b"a%41%4", "a%2541%4"),
            (b"\xff\xfe.bin", "%FF%FE.bin"),
            (b"%\xffab", "%%FFab"),
        ] {
            assert_eq!(spell(OsStr::from_bytes(name)), spelled);
        }
        assert_eq!(wire_name(Path::new("/w"), Path::new("/w/a/b")), "a/b");
    }
}
