//! Archives of results, for tasks with more files than their submitters can fetch one by one (`outputs.archive`).
//!
//! Members are stored, not compressed. So the size of an archive is known before it is written, no member can be taken for
//! a bomb (clients refuse what unpacks to more than 500 times its size), and what an archive holds of a result are the bytes
//! that the workspace has.
//!
//! An archive is complete on this machine, and `uploads.jsonl` says what is in it, before its upload begins. After a restart
//! the same bytes are sent under the same name, so that [`super::upload`] finds out whether they have arrived. One that has
//! no line there was never sent, and is made anew. There is one at a time, which is removed when it has arrived.

mod names;
mod plan;
mod write;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::Level;

use super::beside::{Wake, Work};
use super::outputs::OutputFile;
use super::record::Packed;
use super::{StepError, TaskFiles, TaskHandle};
use crate::os::files::make_dirs;
use crate::os::platform;
use crate::units::{Bytes, Span};
pub use plan::{Planned, is_wanted, plan};
use write::{Ended, write};

/// How often an archive is begun anew without a file that became shorter while it was read.
const TRIES: usize = 3;
/// How often it is looked at whether an archive is still wanted, if no command comes.
const INTERVAL: Duration = Duration::from_secs(1);
/// The tasks of which the log says that no archive can be written, by the folders of their archives.
static SAID: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
/// How many of them are remembered.
const SAID_MAX: usize = 1000;

/// Writes an archive. Files that can't be read now, or have grown since they were found, aren't in it. Returns `None` where
/// there is no room for it on the disk, of which `keep_free` bytes are left to others, where none of its files is in it, or
/// where the task was cancelled meanwhile.
///
/// # Errors
/// A command ends the step, or a disk that gives no answer does.
pub fn pack(task: &mut TaskHandle, planned: &Planned<'_>, keep_free: u64) -> Result<Option<Packed>, StepError> {
    let (began, is_wanted) = (Instant::now(), Arc::new(AtomicBool::new(true)));
    let work = {
        let (dir, is_wanted) = (task.files.archives_dir(), Arc::clone(&is_wanted));
        let draft = Draft {
            name: planned.name.clone(),
            files: planned.files.iter().map(|&file| file.clone()).collect(),
            room: planned.size.saturating_add(keep_free),
        };
        move || draft.make(&dir, &mut || is_wanted.load(Ordering::Relaxed))
    };
    let made = task.run_beside(("packing", INTERVAL), work, |_, wake| {
        is_wanted.store(wake == Wake::Interval, Ordering::Relaxed);
        if wake == Wake::Command { Work::IsToEnd } else { Work::GoesOn }
    })?;
    let made = match made {
        Ok(Some(packed)) => packed,
        Ok(None) => return Ok(None),
        Err(why) => {
            // Each turn of the task's worker tries it again.
            let level = if is_first(task) { Level::Warn } else { Level::Debug };
            log::log!(level, task:% = task.key(); "`{}` can't be written, its files are sent one by one: {why}", planned.name);
            return Ok(None);
        }
    };
    let (count, size, time) = (made.members.len(), Bytes(made.size), Span(began.elapsed()));
    log::info!(task:% = task.key(); "`{}` holds {count} result file(s), {size}, written in {time}", made.archive);
    Ok(Some(made))
}

/// Whether it is the first time that no archive of this task can be written.
fn is_first(task: &TaskHandle) -> bool {
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if said.len() >= SAID_MAX {
        said.clear();
    }
    said.insert(task.files.archives_dir())
}

/// An archive to be written by a thread of its own.
struct Draft {
    name: String,
    files: Vec<OutputFile>,
    /// How many bytes the disk must have.
    room: u64,
}

impl Draft {
    /// The error says why there is no archive.
    fn make(self, dir: &Path, goes_on: &mut dyn FnMut() -> bool) -> Result<Option<Packed>, String> {
        let path = dir.join(&self.name);
        make_dirs(dir).map_err(|error| error.to_string())?;
        // Where that can't be asked, writing it says the same.
        if platform::free_disk(dir).is_ok_and(|free| free < self.room) {
            return Err("the disk has no room for it".to_owned());
        }
        let mut files: Vec<&OutputFile> = self.files.iter().collect();
        for _ in 0..TRIES {
            match write(&path, &files, goes_on).map_err(|error| error.to_string())? {
                Ended::Written(members) if members.is_empty() => return Ok(None),
                Ended::Written(members) => {
                    let archive = OutputFile::copied(dir, self.name.as_ref(), &self.name);
                    let size = archive.map_err(|error| error.to_string())?.size;
                    return Ok(Some(Packed { archive: self.name, size, members }));
                }
                Ended::Stopped => return Ok(None),
                Ended::Unreadable(file) => files.retain(|other| other.name != file),
            }
        }
        Err("files that are to be in it change while they are read".to_owned())
    }
}

/// The file of an archive that was written before.
///
/// # Errors
/// It isn't there any more, or isn't what was written.
pub fn open(files: &TaskFiles, packed: &Packed) -> io::Result<OutputFile> {
    let file = OutputFile::copied(&files.archives_dir(), packed.archive.as_ref(), &packed.archive)?;
    if file.size != packed.size {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it has another size than it was written with"));
    }
    Ok(file)
}

#[cfg(all(test, unix))]
mod tests {
    use super::{is_first, open, pack, plan};
    use crate::config::{Archive, Exclude, OutputsConfig};
    use crate::data_dir::DataDir;
    use crate::server::protocol::Task;
    use crate::task::outputs::OutputFile;
    use crate::task::{Job, Record, Store, TaskHandle, TaskKey, Workspace};
    use crossbeam_channel::unbounded;
    use std::fs;
    use std::sync::Arc;

    /// The worker of a task gives others their turn, and tries it again in the next one: each had a line in the log.
    #[test]
    fn a_disk_without_room_for_an_archive_is_said_once_a_task() {
        let dir = tempfile::tempdir().unwrap();
        let (data_dir, key) = (DataDir::new(dir.path()), TaskKey::from_id("t").unwrap());
        let record = Record::from_offer(Task { id: "t".to_owned(), ..Task::default() }, "s", "u");
        let files = Store::open(&data_dir).unwrap().create(&key, &record).unwrap();
        let (_sender, commands) = unbounded();
        let job = Job { files, record, commands, is_worker_wanted: Arc::default() };
        let mut task = TaskHandle::new(job, Workspace::new(&data_dir, &key), None);
        fs::write(dir.path().join("a"), "a").unwrap();
        let file = OutputFile::copied(dir.path(), "a".as_ref(), "output/a").unwrap();
        let (max_files, max_total, exclude) = (10, 1 << 20, Exclude::default());
        let limits =
            OutputsConfig { max_file: 1 << 20, max_files, max_total, exclude, notes: true, archive: Archive::Always };
        let planned = &plan([&file].into_iter(), &limits, |_| false)[0];
        assert_eq!(pack(&mut task, planned, u64::MAX).unwrap(), None);
        assert!(!is_first(&task));
        let packed = pack(&mut task, planned, 0).unwrap().unwrap();
        assert_eq!((packed.archive.as_str(), packed.members.len()), ("results.zip", 1));
        assert!(open(&task.files, &packed).is_ok());
    }
}
