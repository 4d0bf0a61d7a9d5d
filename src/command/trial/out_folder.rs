//! `try --out`: copies the results to a folder, and overwrites nothing.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::copier::copy_with_progress;
use crate::command::failure::Failure;
use crate::command::output::eprint_line;
use crate::os::trust::{check_folder, make_folder_by_umask};
use crate::task::outputs::OutputFile;
use crate::text::escape;

pub struct OutFolder(PathBuf);

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
        check_folder(dir).map_err(|why| wrong(&format!("isn't safe from other users: {why}")))?;
        Ok(Self(dir.to_owned()))
    }

    /// Copies the files that would be sent, each under the name that the Server would get.
    pub fn copy(&self, files: &[OutputFile], interrupted: &AtomicBool) -> Result<(), Failure> {
        for output in files {
            // The name has plain components only, so the path stays below the folder.
            let place = self.0.join(&output.name);
            let copied = output.open().map_err(|why| why.to_string()).and_then(|(file, _)| {
                create(&place)
                    .and_then(|new| copy_with_progress(&output.name, file, new, interrupted))
                    .map_err(|error| format!("can't be written to `{}`: {error}", place.display()))
            });
            copied.map_err(|why| Failure::new(format!("the result `{}` {why}", escape(&output.name))))?;
        }
        // There is a folder also where there is no file.
        make_folder_by_umask(&self.0).map_err(Failure::with_path(&self.0, "can't be made"))?;
        eprint_line(format_args!("Copied to: {}", self.0.display()));
        Ok(())
    }
}

/// Makes a file and the folders above it. Another user may have made one of the folders while the container ran.
fn create(place: &Path) -> io::Result<File> {
    let (Some(folder), Some(name)) = (place.parent(), place.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    make_folder_by_umask(folder).map_err(io::Error::other)?.create_new_by_umask(name)
}
