//! What a task wrote: which files are results, which are left out and why, and under which names they are sent.
//!
//! The container's content is not trusted. Links are never followed, nothing but regular files is opened, and a file
//! is sent only if what was opened is what was found (P3). Hard links are no way out: a link can't be made across a
//! mount, and the workspace is all that the container sees of this file system as writable.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::path::{Component, Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use crate::config::WORKSPACE;
use crate::platform;
use crate::protocol::LeftOut;

/// A file to deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it lies.
    pub path: PathBuf,
    /// Its path relative to the workspace, with `/`, as the Server is told.
    pub name: String,
    identity: Option<(u64, u64)>,
}

/// What was found in a workspace.
#[derive(Debug, Default)]
pub struct Scan {
    /// The results, by name.
    pub files: Vec<Found>,
    /// What else is there, and why it isn't a result.
    pub left_out: Vec<LeftOut>,
}

/// Looks through a workspace for results: every regular file but `task.json`, what is under `input/`, and what a
/// mount inside the workspace hid. `mount_targets` are paths in the container.
pub fn scan<'m>(workspace: &Path, mount_targets: impl IntoIterator<Item = &'m str>) -> Scan {
    let mut ours = vec![PathBuf::from("task.json"), PathBuf::from("input")];
    ours.extend(mount_targets.into_iter().filter_map(|target| below_workspace(target).map(PathBuf::from)));
    let mut found = Scan::default();
    let is_result = |entry: &DirEntry| {
        let relative = entry.path().strip_prefix(workspace).unwrap_or(entry.path());
        !ours.iter().any(|path| path == relative)
    };
    let walk = WalkDir::new(workspace).min_depth(1).follow_links(false).sort_by_file_name();
    for entry in walk.into_iter().filter_entry(is_result) {
        match entry {
            Ok(entry) => found.note(workspace, &entry),
            Err(error) => {
                let path = error.path().unwrap_or(workspace);
                let reason = match error.io_error() {
                    Some(error) => format!("can't be read: {error}"),
                    None => "can't be read".to_owned(),
                };
                found.left_out.push(LeftOut { file: wire_name(workspace, path), reason });
            }
        }
    }
    found
}

impl Scan {
    fn note(&mut self, workspace: &Path, entry: &DirEntry) {
        let kind = entry.file_type();
        if kind.is_dir() {
            return;
        }
        let name = wire_name(workspace, entry.path());
        let mut leave_out =
            |reason: &str| self.left_out.push(LeftOut { file: name.clone(), reason: reason.to_owned() });
        if kind.is_symlink() {
            leave_out("a symbolic link");
        } else if !kind.is_file() {
            leave_out("not a regular file");
        } else {
            match entry.metadata() {
                Ok(metadata) => {
                    let identity = identity(&metadata);
                    self.files.push(Found { path: entry.path().to_owned(), name, identity });
                }
                Err(error) => leave_out(&format!("can't be read: {error}")),
            }
        }
    }
}

impl Found {
    /// Opens the file for sending and returns its size at that moment. The error is the reason for leaving it out.
    pub fn open(&self) -> Result<(File, u64), String> {
        let file = platform::open_unfollowed(&self.path).map_err(|error| format!("can't be read: {error}"))?;
        let metadata = file.metadata().map_err(|error| format!("can't be read: {error}"))?;
        if !metadata.is_file() || identity(&metadata) != self.identity {
            return Err("it was replaced by something else while it was looked at".to_owned());
        }
        Ok((file, metadata.len()))
    }
}

/// Where a container's path lies in the workspace, if it is inside.
fn below_workspace(target: &str) -> Option<&str> {
    target.strip_prefix(WORKSPACE)?.strip_prefix('/').filter(|rest| !rest.is_empty())
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(_metadata: &Metadata) -> Option<(u64, u64)> {
    None
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
    use super::{scan, spell, wire_name};
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    #[test]
    fn results_are_all_regular_files_but_what_we_put_there() {
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
        let found = scan(root, ["/workspace/mnt/data", "/elsewhere", "/workspace-not"]);
        let names: Vec<&str> = found.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["other/task.json", "output/deep/er/x", "output/r.md", "top"]);
        let left: Vec<(&str, &str)> = found.left_out.iter().map(|l| (l.file.as_str(), l.reason.as_str())).collect();
        assert_eq!(left, [("output/dirlink", "a symbolic link"), ("output/link", "a symbolic link")]);
    }

    #[test]
    fn a_file_that_becomes_a_link_after_the_scan_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r");
        fs::write(&path, "x").unwrap();
        let found = scan(dir.path(), []);
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
    fn spelling_is_safe_and_can_be_undone() {
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
            assert_eq!(unspell(spelled), name);
        }
        assert_eq!(wire_name(Path::new("/w"), Path::new("/w/a/b")), "a/b");
    }

    fn unspell(text: &str) -> Vec<u8> {
        let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
        while at < bytes.len() {
            let hex = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
            match hex.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
                Some(byte) if bytes[at] == b'%' => {
                    out.push(byte);
                    at += 3;
                }
                _ => {
                    out.push(bytes[at]);
                    at += 1;
                }
            }
        }
        out
    }
}
