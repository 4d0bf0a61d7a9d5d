//! Which folders of a workspace the scan has listed.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::os::platform;

/// The folders that were asked about last. Those of an archive come one below the other.
#[derive(Debug, Clone, Default)]
pub struct ListedFolders {
    /// The folder that was asked about last.
    last: Option<PathBuf>,
    /// The first folder on the way to it that can't be listed.
    closed: Option<PathBuf>,
}

impl ListedFolders {
    /// Whether this agent's user can list a folder of the workspace and every folder above it. A folder that can be
    /// passed, and not listed, hides from the scan what is below it, also where that could be listed.
    pub fn contains(&mut self, folder: &Path, workspace: &Path) -> bool {
        if self.closed.as_deref().is_some_and(|closed| folder.starts_with(closed)) {
            return false;
        }
        // The closed folder is elsewhere, so all folders on the way that both have in common can be listed.
        let known = self.last.take().map_or(0, |last| 1 + common(&last, folder));
        let mut way: Vec<&Path> = folder.ancestors().collect();
        way.reverse();
        let can_list = |path: &Path| match path.as_os_str().is_empty() {
            true => File::open(workspace).is_ok(),
            false => platform::open_beneath(workspace, path).is_ok(),
        };
        self.closed = way.into_iter().skip(known).find(|path| !can_list(path)).map(Path::to_owned);
        self.last = Some(folder.to_owned());
        self.closed.is_none()
    }
}

/// How many names both paths begin with.
fn common(one: &Path, other: &Path) -> usize {
    one.components().zip(other.components()).take_while(|(one, other)| one == other).count()
}

#[cfg(all(test, unix))]
mod tests {
    use super::ListedFolders;
    use std::fs;
    use std::path::Path;

    #[test]
    fn each_folder_on_the_way_is_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b/c")).unwrap();
        fs::create_dir_all(dir.path().join("a/d")).unwrap();
        let mut listed = ListedFolders::default();
        let folders =
            [("a/b/c", true), ("a/b/x", false), ("a/b/x/y", false), ("a/d", true), ("", true), ("x/a", false)];
        for (folder, is_listed) in folders {
            assert_eq!(listed.contains(Path::new(folder), dir.path()), is_listed, "{folder}");
        }
        assert!(!ListedFolders::default().contains(Path::new(""), Path::new("/nonexistent")));
    }
}
