//! Room on a full disk for results that have to be copied: files of the same task that are too large to be delivered.
//!
//! They stay on this machine in most cases. But where the task has filled the disk with them, its results could never be
//! copied, and in the end all of its workspace would be removed to make room.
//!
//! The largest are removed first, until there is room for what may be delivered. Each is written down before.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::os::platform::{self, Dir, EntryKind, Found, Next};
use crate::task::outcome::FULL;
use crate::task::outputs::{ReservedPaths, shown_name};
use crate::task::upload::Upload;
use crate::task::{StepError, TaskHandle};
use crate::units::Bytes;

/// How long other room is waited for first: what settled tasks have left is removed within ten seconds or so.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is looked for meanwhile.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long files are looked for.
const TIME: Duration = Duration::from_secs(60);
/// How many files are removed at most.
const FILES: usize = 1000;
/// The longest path of a file that is removed, in bytes: no longer one can be opened, and none is in practice.
const PATH_MAX: usize = 4095;
/// After so many files that can't be removed, the others are left alone, too.
const FAILURES: usize = 3;
const REASON: &str = "it is larger than `outputs.max_file_mb`, and is removed since it fills this machine's disk";

/// A file that is too large to be delivered. The larger is the one that takes more of the disk.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct TooLarge {
    /// How many bytes of the disk it takes.
    allocated: u64,
    /// The path in the workspace.
    place: PathBuf,
}

/// The room that a copy of so many bytes needs: half of what stays free is for results that have to leave, and any of them
/// needs some room itself.
fn needed(config: &Config, bytes: u64) -> u64 {
    (config.paths.keep_free() / 2).saturating_add(bytes.max(FULL))
}

/// Whether the disk has no room for a copy of so many bytes. One that can't be asked has.
pub fn is_full(workspace: &Path, config: &Config, bytes: u64) -> bool {
    platform::free_disk(workspace).is_ok_and(|free| free < needed(config, bytes))
}

/// Removes files of the task that are too large to be delivered, if its disk stays without room for a copy of so many
/// bytes. A command ends that.
pub fn make(upload: &mut Upload<'_>, reserved: &ReservedPaths, config: &Config, bytes: u64) -> Result<(), StepError> {
    let workspace = upload.task.workspace.dir().to_owned();
    if !stays_full(upload.task, config, bytes)? {
        return Ok(());
    }
    let mut commands = Ok(());
    let deadline = Instant::now() + TIME;
    let files = find(&workspace, reserved, config.outputs.max_file, || {
        commands = upload.task.check_commands();
        commands.is_ok() && !upload.task.is_cancel_requested() && Instant::now() < deadline
    });
    commands?;
    // Where it would not help, nothing is removed.
    let free = platform::free_disk(&workspace).unwrap_or(u64::MAX);
    if files.iter().fold(free, |room, file| room.saturating_add(file.allocated)) < needed(config, bytes) {
        return Ok(());
    }
    let wanted = config.paths.keep_free().saturating_add(config.outputs.max_total);
    let archived = upload.archived();
    let (mut count, mut freed, mut failures) = (0, 0u64, 0);
    for TooLarge { allocated, place } in files {
        upload.task.check_commands()?;
        let has_room = platform::free_disk(&workspace).is_ok_and(|free| free >= wanted);
        if has_room || failures == FAILURES || upload.task.is_cancel_requested() {
            break;
        }
        let name = shown_name(&place);
        // What was sent under an earlier limit isn't missing on the Server.
        if upload.has(&name) || archived.contains(&name) {
            continue;
        }
        upload.note_removed(&name, REASON)?;
        match remove(&workspace, &place) {
            Ok(()) => (count, freed) = (count + 1, freed.saturating_add(allocated)),
            Err(error) => {
                failures += 1;
                upload.note_kept(&name, &format!("it can't be removed: {error}"))?;
            }
        }
    }
    if count > 0 {
        log::error!(
            task:% = upload.task.key();
            "{count} file(s) of {} that are too large to be delivered are removed: the disk is full, and its results could \
             not be copied",
            Bytes(freed)
        );
    }
    Ok(())
}

/// Waits for other room. Returns whether there is none, and the task's results are still wanted.
fn stays_full(task: &mut TaskHandle, config: &Config, bytes: u64) -> Result<bool, StepError> {
    let deadline = Instant::now() + PATIENCE;
    while is_full(task.workspace.dir(), config, bytes) && !task.is_cancel_requested() {
        if Instant::now() >= deadline {
            return Ok(true);
        }
        task.wait(INTERVAL)?;
    }
    Ok(false)
}

/// The task's files of more than `max_file` bytes that can be removed, those first that take most of the disk. No link is
/// followed. `goes_on` is asked for each entry; what was found before it says no is returned.
fn find(workspace: &Path, reserved: &ReservedPaths, max_file: u64, mut goes_on: impl FnMut() -> bool) -> Vec<TooLarge> {
    let mut largest = BinaryHeap::new();
    platform::walk_contents(workspace, &mut |found| {
        if !goes_on() {
            return Next::Stop;
        }
        // What can't be looked at is named with the results.
        let Found::Entry(entry) = found else { return Next::GoOn };
        if reserved.contains(entry.path) {
            return Next::Skip;
        }
        if entry.kind == EntryKind::File && entry.path.as_os_str().len() <= PATH_MAX {
            // A file that has no size any more isn't there.
            let size = entry.removable().ok().flatten();
            // A file of holes takes no room.
            if let Some(size) = size.filter(|size| size.length > max_file && size.allocated > 0) {
                largest.push(Reverse(TooLarge { allocated: size.allocated, place: entry.path.to_owned() }));
                if largest.len() > FILES {
                    largest.pop();
                }
            }
        }
        Next::GoOn
    });
    largest.into_sorted_vec().into_iter().map(|Reverse(file)| file).collect()
}

/// Removes a file, folder by folder, so that no link leads elsewhere.
fn remove(workspace: &Path, place: &Path) -> io::Result<()> {
    let mut folder = Dir::WORKING.open_folder(workspace.as_os_str())?;
    for name in place.parent().into_iter().flat_map(Path::components) {
        folder = folder.open_folder(name.as_os_str())?;
    }
    folder.remove_file(Path::new(place.file_name().unwrap_or_default()))
}

#[cfg(all(test, unix))]
mod tests {
    use super::{FILES, find, remove};
    use crate::task::outputs::ReservedPaths;
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;
    use std::path::Path;

    /// The places of the files of more than 9 bytes.
    fn found(workspace: &Path) -> Vec<String> {
        let files = find(workspace, &ReservedPaths::new([]), 9, || true);
        files.iter().map(|file| file.place.display().to_string()).collect()
    }

    fn write(workspace: &Path, place: &str, length: usize) {
        let path = workspace.join(place);
        fs::create_dir_all(path.parent().expect("write a file")).expect("write a file");
        fs::write(path, vec![b'x'; length]).expect("write a file");
    }

    #[test]
    fn too_large_files_are_found_at_any_depth_but_not_behind_links() {
        let dir = tempfile::tempdir().unwrap();
        let (workspace, outside) = (dir.path().join("w"), dir.path().join("outside"));
        write(&outside, "PATIENT", 100_000);
        write(&workspace, "top", 50_000);
        write(&workspace, "a/b/deep", 200_000);
        write(&workspace, "small", 9);
        write(&workspace, "input/data", 100_000);
        File::create(workspace.join("holes")).unwrap().set_len(1 << 30).unwrap();
        symlink(&outside, workspace.join("output")).unwrap();
        symlink(outside.join("PATIENT"), workspace.join("a/link")).unwrap();
        assert_eq!(found(&workspace), ["a/b/deep", "top"]);
    }

    #[test]
    fn no_file_behind_a_link_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (workspace, outside) = (dir.path().join("w"), dir.path().join("outside"));
        write(&outside, "PATIENT", 1);
        write(&workspace, "a/b/deep", 1);
        symlink(&outside, workspace.join("output")).unwrap();
        assert!(remove(&workspace, Path::new("output/PATIENT")).is_err());
        assert!(outside.join("PATIENT").exists());
        remove(&workspace, Path::new("a/b/deep")).unwrap();
        assert!(!workspace.join("a/b/deep").exists());
    }

    #[test]
    fn of_many_too_large_files_a_bounded_number_is_held() {
        let dir = tempfile::tempdir().unwrap();
        (0..FILES + 10).for_each(|number| write(dir.path(), &format!("output/{number}"), 10));
        write(dir.path(), "output/largest", 100_000);
        let found = found(dir.path());
        assert_eq!((found.len(), found[0].as_str()), (FILES, "output/largest"));
    }

    #[test]
    fn a_search_for_too_large_files_ends_when_it_is_told_to() {
        let dir = tempfile::tempdir().unwrap();
        (0..10).for_each(|number| write(dir.path(), &number.to_string(), 10));
        let mut looks = 0;
        let files = find(dir.path(), &ReservedPaths::new([]), 9, || {
            looks += 1;
            looks <= 3
        });
        assert_eq!((files.len(), looks), (3, 4));
    }
}
