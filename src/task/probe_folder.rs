//! A folder where workspaces are made, with a file of random content: a container that sees the file sees the data_dir.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::data_dir::{DataDir, permissions};
use crate::docker::probe::MAX_AGE;
use crate::os::files::{create_for_containers, make_dir_for_containers, make_new_dir};
use crate::os::platform;
use crate::os::random::random_u64;
use crate::os::timeout::{timeout_message, with_timeout};
use crate::os::trust::check_place;

/// Dropping the value removes the folder, and the parents that had to be made for it.
pub struct ProbeFolder {
    pub dir: PathBuf,
    /// The content of [`ProbeFolder::FILE`].
    pub content: String,
    made: Vec<PathBuf>,
}

impl ProbeFolder {
    /// The name of the file in the folder.
    pub const FILE: &str = "seen";

    pub fn create(data_dir: &DataDir) -> io::Result<Self> {
        let parent = data_dir.workspaces();
        let missing: Vec<PathBuf> = parent.ancestors().take_while(|path| !path.exists()).map(Path::to_owned).collect();
        for folder in Self::all_old(data_dir) {
            if let Err(error) = platform::remove_tree(&folder) {
                log::warn!("`{}` can't be removed: {error}", folder.display());
            }
        }
        let name = DataDir::probe_name(format_args!("{:016x}", random_u64()));
        let content = format!("{name} {:016x}\n", random_u64());
        let mut folder = Self { dir: parent.join(name), content, made: Vec::new() };
        for path in missing.into_iter().rev() {
            match make_new_dir(&path) {
                Ok(()) => folder.made.push(path),
                // An agent that is starting has made it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        // Another user may have made one of the folders just before.
        permissions::find(data_dir).map_err(io::Error::other)?;
        check_place(&folder.dir).map_err(io::Error::other)?;
        make_dir_for_containers(&folder.dir)?;
        let mut file = create_for_containers(&folder.dir.join(Self::FILE))?;
        file.write_all(folder.content.as_bytes())?;
        file.sync_all()?;
        Ok(folder)
    }

    /// The folders that killed processes have left. A younger one may be in use.
    pub fn all_old(data_dir: &DataDir) -> Vec<PathBuf> {
        let entries = fs::read_dir(data_dir.workspaces()).into_iter().flatten().flatten();
        let old = entries.filter(|entry| {
            let made = entry.metadata().and_then(|metadata| metadata.modified());
            DataDir::is_probe_name(&entry.file_name().to_string_lossy())
                && made.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > MAX_AGE))
        });
        old.map(|entry| entry.path()).collect()
    }

    pub fn has_made_data_dir(&self) -> bool {
        self.made.len() > 1
    }
}

impl Drop for ProbeFolder {
    fn drop(&mut self) {
        let (dir, made) = (self.dir.clone(), std::mem::take(&mut self.made));
        let removed = with_timeout(move || {
            let removed = if dir.exists() { platform::remove_tree(&dir) } else { Ok(()) };
            for path in made.iter().rev() {
                // A parent that another process uses by now isn't empty and stays.
                let _ = fs::remove_dir(path);
            }
            removed
        });
        if let Err(error) = removed.unwrap_or_else(|| Err(io::Error::other(timeout_message()))) {
            log::warn!("`{}` can't be removed: {error}", self.dir.display());
        }
    }
}
