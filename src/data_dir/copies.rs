//! A data_dir that was copied, with the id of the one it was copied from.
//!
//! Two agents with one id follow the same containers, and each delivers their results. So `instance_id.place` holds the
//! machine and the path where the id was last used. A folder that was moved, or restored in place of a lost one, goes on
//! with its id.

use std::fs;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::INSTANCE_ID;
use crate::os::files::{Durability, read_text};
use crate::os::folder::Folder;
use crate::os::platform;
use crate::shell::shell_line;

const PLACE: &str = "instance_id.place";

/// A data_dir has the id of another one.
#[derive(Debug, Error)]
#[error(
    "the data_dir `{}` is a copy of `{}`: both have the same id, and their agents would follow the same containers; remove \
     the one that isn't needed, or make the copy an agent of its own, without tasks, with `{}`",
    copy.display(), original.display(), remedy(copy)
)]
pub struct Copied {
    copy: PathBuf,
    original: PathBuf,
}

fn remedy(copy: &Path) -> String {
    let names = [INSTANCE_ID, PLACE, "tasks", "workspaces"].map(|name| copy.join(name).to_string_lossy().into_owned());
    shell_line(["rm", "-rf"].into_iter().chain(names.iter().map(String::as_str)))
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
        Some(last) if is_another_folder(&last.path, folder) => {
            let other_id = read_text(&last.path.join(INSTANCE_ID));
            if other_id.is_ok_and(|other| other.trim() == id) {
                return Err(Copied { copy: place.path, original: last.path });
            }
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
fn machine() -> String {
    fs::read_to_string("/etc/machine-id").unwrap_or_default().trim().to_owned()
}

fn is_another_folder(path: &Path, folder: &Folder) -> bool {
    let here = folder.dir().identity_of(Path::new("."));
    platform::folder_identity(path).is_ok_and(|there| here.is_ok_and(|here| there != here))
}
