//! `try --out`: copies the results to a folder, and overwrites nothing.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::copier::copy_with_progress;
use crate::command::failure::Failure;
use crate::command::output::eprint_line;
use crate::os::folder::Folder;
use crate::os::trust::FolderPlace;
use crate::task::outputs::OutputFile;
use crate::text::escape;

pub struct OutFolder {
    path: PathBuf,
    place: FolderPlace,
}

impl OutFolder {
    /// Fails unless the folder is new or empty.
    pub fn new(dir: &Path) -> Result<Self, Failure> {
        let wrong = |why: &str| Failure::usage(format!("`{}` {why} (`--out`)", dir.display()));
        match fs::read_dir(dir).map(|mut entries| entries.next().is_some()) {
            Ok(true) => {
                return Err(wrong("isn't empty, and nothing is overwritten; name a new folder or empty that one"));
            }
            Ok(false) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(wrong(&format!("can't be used: {error}"))),
        }
        let place = FolderPlace::find(dir).map_err(|why| wrong(&format!("isn't safe from other users: {why}")))?;
        Ok(Self { path: dir.to_owned(), place })
    }

    /// Copies the files that would be sent, each under the name that the Server would get. There is a folder also where
    /// there is no file.
    pub fn copy(self, files: &[OutputFile], interrupted: &AtomicBool) -> Result<(), Failure> {
        let Self { path, place } = self;
        let folder = place.make().map_err(Failure::with_path(&path, "can't be made"))?;
        // The task may have done that, by a mount that it may write to.
        if folder.is_replaced() {
            return Err(Failure::new(format!("`{}` was replaced while the container ran (`--out`)", path.display())));
        }
        for output in files {
            let copied = output.open().map_err(|why| why.to_string()).and_then(|(file, _)| {
                create(&folder, Path::new(&output.name))
                    .and_then(|new| copy_with_progress(&output.name, file, new, interrupted))
                    .map_err(|error| format!("can't be written to `{}`: {error}", path.join(&output.name).display()))
            });
            copied.map_err(|why| Failure::new(format!("the result `{}` {why}", escape(&output.name))))?;
        }
        eprint_line(format_args!("Copied to: {}", path.display()));
        Ok(())
    }
}

/// Makes a file and the folders above it, each in the one that was opened before it. The name has plain parts only.
fn create(folder: &Folder, name: &Path) -> io::Result<File> {
    let (Some(parents), Some(last)) = (name.parent(), name.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mut folder = folder.clone();
    for parent in parents {
        folder = folder.make_folder_by_umask(parent)?;
    }
    folder.create_new_by_umask(last)
}
