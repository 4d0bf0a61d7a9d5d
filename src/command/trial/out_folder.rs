//! `try --out`: copies the results to a folder, and overwrites nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::copier::copy_with_progress;
use crate::command::failure::Failure;
use crate::command::output::eprint_line;
use crate::os::files::{create_new_by_umask, make_dirs_by_umask};
use crate::task::outputs::OutputFile;
use crate::text::escape;

pub struct OutFolder(PathBuf);

impl OutFolder {
    /// Fails unless the folder is new or empty.
    pub fn new(dir: &Path) -> Result<Self, Failure> {
        let wrong = |why: &str| Failure::usage(format!("`{}` {why} (`--out`)", dir.display()));
        match fs::read_dir(dir) {
            Ok(mut entries) => match entries.next() {
                Some(_) => Err(wrong("isn't empty, and nothing is overwritten; name a new folder or empty that one")),
                None => Ok(Self(dir.to_owned())),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self(dir.to_owned())),
            Err(error) => Err(wrong(&format!("can't be used: {error}"))),
        }
    }

    /// Copies the files that would be sent, each under the name that the Server would get.
    pub fn copy(&self, files: &[OutputFile], interrupted: &AtomicBool) -> Result<(), Failure> {
        for output in files {
            // The name has plain components only, so the path stays below the folder.
            let place = self.0.join(&output.name);
            let copied = output.open().and_then(|(file, _)| {
                let parent = place.parent().map_or(Ok(()), make_dirs_by_umask);
                parent
                    .and_then(|()| create_new_by_umask(&place))
                    .and_then(|new| copy_with_progress(&output.name, file, new, interrupted))
                    .map_err(|error| format!("can't be written to `{}`: {error}", place.display()))
            });
            copied.map_err(|why| Failure::new(format!("the result `{}` {why}", escape(&output.name))))?;
        }
        // There is a folder also where there is no file.
        make_dirs_by_umask(&self.0).map_err(Failure::with_path(&self.0, "can't be made"))?;
        eprint_line(format_args!("Copied to: {}", self.0.display()));
        Ok(())
    }
}
