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

use std::cell::RefCell;
use std::io;
use std::time::Instant;

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

/// Writes an archive. Files that can't be read now, or have grown since they were found, aren't in it. Returns `None` where
/// there is no room for it on the disk, of which `keep_free` bytes are left to others, where none of its files is in it, or
/// where the task was cancelled meanwhile.
pub fn pack(task: &mut TaskHandle, planned: &Planned<'_>, keep_free: u64) -> Result<Option<Packed>, StepError> {
    let began = Instant::now();
    let made = match make(task, planned, keep_free)? {
        Ok(Some(packed)) => packed,
        Ok(None) => return Ok(None),
        Err(why) => {
            log::warn!(task:% = task.key(); "`{}` can't be written, its files are sent one by one: {why}", planned.name);
            return Ok(None);
        }
    };
    let (count, size, time) = (made.members.len(), Bytes(made.size), Span(began.elapsed()));
    log::info!(task:% = task.key(); "`{}` holds {count} result file(s), {size}, written in {time}", made.archive);
    Ok(Some(made))
}

/// The inner error says why there is no archive.
fn make(
    task: &mut TaskHandle,
    planned: &Planned<'_>,
    keep_free: u64,
) -> Result<Result<Option<Packed>, String>, StepError> {
    let dir = task.files.archives_dir();
    let path = dir.join(&planned.name);
    if let Err(error) = make_dirs(&dir) {
        return Ok(Err(error.to_string()));
    }
    match platform::free_disk(&dir) {
        Ok(free) if free < planned.size.saturating_add(keep_free) => {
            return Ok(Err(format!("the disk has {} left", Bytes(free))));
        }
        // Writing it says the same, where that is so.
        _ => {}
    }
    let mut files = planned.files.clone();
    for _ in 0..TRIES {
        let state = RefCell::new((Ok(()), &mut *task));
        let ended = write(&path, &files, &mut || {
            let (commands, task) = &mut *state.borrow_mut();
            *commands = task.check_commands();
            commands.is_ok() && !task.is_cancel_requested()
        });
        state.into_inner().0?;
        match ended {
            Ok(Ended::Written(members)) if members.is_empty() => return Ok(Ok(None)),
            Ok(Ended::Written(members)) => {
                let size = match open_at(task, &planned.name) {
                    Ok(archive) => archive.size,
                    Err(error) => return Ok(Err(error.to_string())),
                };
                return Ok(Ok(Some(Packed { archive: planned.name.clone(), size, members })));
            }
            Ok(Ended::Stopped) => return Ok(Ok(None)),
            Ok(Ended::Unreadable(file)) => files.retain(|other| other.name != file),
            Err(error) => return Ok(Err(error.to_string())),
        }
    }
    Ok(Err("files that are to be in it change while they are read".to_owned()))
}

fn open_at(task: &TaskHandle, name: &str) -> io::Result<OutputFile> {
    OutputFile::copied(&task.files.archives_dir(), name.as_ref(), name)
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
