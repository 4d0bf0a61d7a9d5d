//! Tests of the scan.

use super::ReservedPaths;
use super::scan::{self, Pulse, ScanResult};
use crate::config::{Archive, Exclude, OutputsConfig};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

const MIB: u64 = 1 << 20;

fn limits() -> OutputsConfig {
    OutputsConfig {
        max_file: 50 * MIB,
        max_files: 1000,
        max_total: 2048 * MIB,
        exclude: Exclude::default(),
        notes: true,
        archive: Archive::Never,
    }
}

fn scan(workspace: &Path, reserved: &ReservedPaths, limits: &OutputsConfig) -> ScanResult {
    scan::scan(workspace, reserved, limits, || Pulse::GoOn)
}

fn names(found: &ScanResult) -> Vec<&str> {
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
    let kept: Vec<&str> = few.skipped.undelivered.iter().map(|left| left.file.as_str()).collect();
    assert_eq!((kept, few.skipped.unnamed), (vec!["b", "output/large"], 0));
    assert!(few.skipped.undelivered[0].reason.contains("outputs.max_files"));
    assert!(few.skipped.undelivered[1].reason.contains("9 bytes") && few.skipped.non_results.is_empty());
    let little = scan_with(OutputsConfig { max_file: 8, max_files: 10, max_total: 4, ..limits() });
    assert_eq!(names(&little), ["output/c", "a"], "what still fits is delivered");
    assert!(little.skipped.undelivered[0].reason.contains("outputs.max_total_mb"));
}

#[test]
fn a_folder_with_nothing_in_it_is_noticed() {
    let reserved = ReservedPaths::new(["/workspace/mounted"]);
    let table: [(&[&str], bool); 7] = [
        (&["f"], false),
        (&["output/f", "a/b/c/f"], false),
        (&["output/"], true),
        (&["output/f", "output/sub/"], true),
        (&["a/b/c/", "f", "output/f"], true),
        (&["a/1/", "a/2/", "a/f"], true),
        (&["mounted/", "f"], false),
    ];
    for (paths, expected) in table {
        let dir = tempfile::tempdir().unwrap();
        for path in paths {
            let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
            fs::create_dir_all(dir.path().join(folder)).unwrap();
            if !file.is_empty() {
                fs::write(dir.path().join(path), "x").unwrap();
            }
        }
        assert_eq!(scan(dir.path(), &reserved, &limits()).has_empty_folder, expected, "{paths:?}");
    }
}

#[test]
fn a_scan_keeps_a_bounded_number_of_names() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..3000 {
        fs::write(dir.path().join(format!("f{number:04}")), "x").unwrap();
    }
    let found = scan(dir.path(), &ReservedPaths::new([]), &OutputsConfig { max_files: 10, ..limits() });
    assert_eq!((names(&found)[0], names(&found).len()), ("f0000", 10));
    assert_eq!((found.skipped.undelivered.len(), found.skipped.unnamed), (1000, 1990));
}

#[test]
fn many_links_take_no_room_from_results_that_are_not_delivered() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..1100 {
        symlink("x", dir.path().join(format!("a{number:04}"))).unwrap();
    }
    fs::write(dir.path().join("zz-large"), vec![b'x'; 9]).unwrap();
    let found = scan(dir.path(), &ReservedPaths::new([]), &OutputsConfig { max_file: 8, ..limits() });
    assert_eq!((found.skipped.non_results.len(), found.skipped.unnamed), (1000, 100));
    assert_eq!(found.skipped.undelivered[0].file, "zz-large");
}

#[test]
fn results_are_all_regular_files_except_inputs_and_mounts() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for folder in ["input", "output/deep/er", "mnt/data", "other"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    for file in ["task.json", "input/a", "output/r.md", "output/deep/er/x", "mnt/data/secret", "top", "other/task.json"]
    {
        fs::write(root.join(file), "x").unwrap();
    }
    symlink("/etc/passwd", root.join("output/link")).unwrap();
    symlink("/etc", root.join("output/dirlink")).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(root.join("output/socket")).unwrap();
    let found = scan(root, &ReservedPaths::new(["/workspace/mnt/data", "/elsewhere", "/workspace-not"]), &limits());
    assert_eq!(names(&found), ["output/deep/er/x", "output/r.md", "other/task.json", "top"]);
    let left: Vec<(&str, &str)> =
        found.skipped.non_results.iter().map(|l| (l.file.as_str(), l.reason.as_str())).collect();
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
    assert!(found.files[0].open().is_ok() || found.files[0].open().unwrap_err().to_string().contains("replaced"));
}

#[test]
fn a_scan_that_takes_too_long_says_so() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..100 {
        fs::write(dir.path().join(format!("f{number:04}")), "x").unwrap();
    }
    let scan_for = |entries: usize, end: Pulse| {
        let mut left = entries;
        scan::scan(dir.path(), &ReservedPaths::new([]), &limits(), || {
            left = left.saturating_sub(1);
            if left == 0 { end } else { Pulse::GoOn }
        })
    };
    let found = scan_for(41, Pulse::TooLate);
    assert_eq!((found.is_cut, found.files.len()), (true, 40));
    let left = &found.skipped.undelivered;
    assert!(left.len() == 1 && left[0].file == "." && left[0].reason.contains("took too long"), "{left:?}");
    assert!(!scan_for(41, Pulse::Stop).is_cut);
    let whole = scan_for(1000, Pulse::TooLate);
    assert_eq!((whole.is_cut, whole.files.len(), whole.skipped.undelivered.len()), (false, 100, 0));
}
