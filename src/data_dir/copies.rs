//! A data_dir that was copied, with the id of the one it was copied from.
//!
//! Two agents with one id follow the same containers, and each delivers their results. So `instance_id.place` holds the
//! machine and the path where the id was last used. A folder that was moved, or restored in place of a lost one, goes on
//! with its id.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::{INSTANCE_ID, TASKS};
use crate::os::files::{Durability, if_exists};
use crate::os::folder::Folder;
use crate::os::trust;
use crate::shell::shell_line;

const PLACE: &str = "instance_id.place";

/// A data_dir has the id of another one.
#[derive(Debug, Error)]
#[error(
    "the data_dir `{}` is a copy of `{}`: both have the same id, and their agents would follow the same containers; if this \
     one is to go on with the tasks, give the other another name, with `{}`; to run an agent beside the other, {}",
    copy.display(), original.display(), rename(original), separate(copy, *has_tasks)
)]
pub struct Copied {
    copy: PathBuf,
    original: PathBuf,
    /// Whether a task has a record here, so that the copy can't become another agent's.
    has_tasks: bool,
}

fn rename(original: &Path) -> String {
    let original = original.to_string_lossy();
    shell_line(["mv", "-n", &original, &format!("{original}.old")])
}

/// How the copy becomes an agent of its own. Nothing of a task is ever removed for that.
fn separate(copy: &Path, has_tasks: bool) -> String {
    if has_tasks {
        return "let `paths.data_dir` be a new folder: the tasks here are the other agent's".to_owned();
    }
    let names = [INSTANCE_ID, PLACE].map(|name| copy.join(name).to_string_lossy().into_owned());
    let remove = shell_line(["rm", "-f"].into_iter().chain(names.iter().map(String::as_str)));
    format!("let this one have an id of its own, with `{remove}`")
}

/// Checks that the folder isn't a copy of one that is still there, and notes its place.
pub(super) fn check(folder: &Folder, id: &str) -> Result<(), Copied> {
    let place = Place { machine: machine(), path: folder.path().to_owned() };
    // A place that can't be read is as unknown as a missing one.
    let last = folder.read(PLACE).ok().flatten().and_then(|text| Place::parse(&text));
    if last.as_ref() == Some(&place) {
        return Ok(());
    }
    match last {
        Some(last) if last.machine != place.machine => log::warn!(
            "the data_dir `{}` was used on another machine, as `{}`; if an agent still runs there, stop it: both would \
             deliver the same results",
            place.path.display(),
            last.path.display()
        ),
        Some(last) if has_id(&last.path, id, folder) => {
            let has_tasks = has_tasks(folder);
            return Err(Copied { copy: place.path, original: last.path, has_tasks });
        }
        _ => {}
    }
    if let Err(error) = folder.replace(PLACE, place.text().as_bytes(), Durability::PowerCut) {
        log::debug!("`{PLACE}` can't be written, so a copy of this data_dir isn't noticed: {error}");
    }
    Ok(())
}

/// Where an id was used.
#[derive(PartialEq, Eq)]
struct Place {
    machine: String,
    path: PathBuf,
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        let (machine, path) = text.trim_end_matches('\n').split_once('\n')?;
        Some(Self { machine: machine.to_owned(), path: PathBuf::from(path) })
    }

    fn text(&self) -> String {
        format!("{}\n{}\n", self.machine, self.path.display())
    }
}

/// The machine's id, where it has one (machine-id(5)).
pub(super) fn machine() -> String {
    fs::read_to_string("/etc/machine-id").unwrap_or_default().trim().to_owned()
}

/// Whether another folder of this user's has the id. Every user can learn the id, and put it into a folder in a place that
/// this one has left.
fn has_id(path: &Path, id: &str, folder: &Folder) -> bool {
    let Ok(Some(other)) = trust::open_folder(path) else { return false };
    let identity = |folder: &Folder| folder.dir().identity_of(Path::new("."));
    let is_another = identity(&other).is_ok_and(|there| identity(folder).is_ok_and(|here| there != here));
    let is_ours = other.dir().other_owner().is_ok_and(|owner| owner.is_none());
    is_another && is_ours && other.read(INSTANCE_ID).is_ok_and(|text| text.is_some_and(|text| text.trim() == id))
}

/// What can't be read counts as a task.
fn has_tasks(folder: &Folder) -> bool {
    let tasks = folder.dir().open_folder(OsStr::new(TASKS));
    match if_exists(tasks.and_then(|tasks| tasks.names())) {
        Ok(names) => names.is_some_and(|names| !names.is_empty()),
        Err(_) => true,
    }
}
