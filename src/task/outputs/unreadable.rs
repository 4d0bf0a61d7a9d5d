//! What this agent's user can't read in a workspace; the engine can.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::shown_name;

/// The folder whose files are chosen first.
pub const OUTPUT: &str = "output";
/// How many places are fetched one by one. Where there are more, the whole workspace is one place.
const PLACES: usize = 32;
/// How many of the unreadable files and folders are named; the others are counted.
const NAMED: usize = 100;
/// How many bytes these names have at most.
const NAMED_BYTES: usize = 64 * 1024;

/// Files and folders that can't be read. However many there are, little of them is held.
#[derive(Debug, Default)]
pub struct Unreadable {
    /// The entries of the workspace that can't be read, or hold what can't.
    tops: BTreeSet<OsString>,
    /// Whether the whole workspace has to be fetched.
    is_all: bool,
    /// Whether there may be something of it in [`OUTPUT`].
    has_output: bool,
    names: Vec<String>,
    named_bytes: usize,
    unnamed: u64,
}

impl Unreadable {
    /// Adds a path relative to the workspace; it is empty for the workspace itself.
    pub fn add(&mut self, path: &Path) {
        let top = path.components().next().map(|top| top.as_os_str());
        self.has_output |= top.is_none_or(|top| top == OUTPUT);
        match top {
            // A client of docker can't name another place.
            Some(top) if !self.is_all && top.to_str().is_some() => drop(self.tops.insert(top.to_owned())),
            _ => self.is_all = true,
        }
        if self.tops.len() > PLACES {
            self.is_all = true;
        }
        let name = shown_name(path);
        if self.names.len() < NAMED && self.named_bytes + name.len() <= NAMED_BYTES {
            self.named_bytes += name.len();
            self.names.push(name);
        } else {
            self.unnamed += 1;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// How many files and folders can't be read.
    pub fn count(&self) -> u64 {
        self.names.len() as u64 + self.unnamed
    }

    /// The names of some of them, as they would be sent, and the number of the others.
    pub fn named(&self) -> (&[String], u64) {
        (&self.names, self.unnamed)
    }

    /// What has to be fetched: entries of the workspace itself, so that the engine follows no path that a task has made,
    /// or the workspace (an empty path). [`OUTPUT`] is a place of its own, and the first one.
    pub fn places(&self) -> Vec<PathBuf> {
        let output = self.has_output.then(|| PathBuf::from(OUTPUT));
        let others = self.tops.iter().filter(|top| !self.is_all && *top != OUTPUT).map(PathBuf::from);
        output.into_iter().chain(others).chain(self.is_all.then(PathBuf::new)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{NAMED, PLACES, Unreadable};
    use std::path::{Path, PathBuf};

    #[test]
    fn entries_of_the_workspace_are_fetched_and_all_of_it_if_they_are_many() {
        let mut unreadable = Unreadable::default();
        assert!(unreadable.is_empty());
        for path in ["output/a", "output/deep/b", "c"] {
            unreadable.add(Path::new(path));
        }
        assert_eq!(unreadable.places(), ["output", "c"].map(PathBuf::from));
        assert_eq!(unreadable.named().0, ["output/a", "output/deep/b", "c"]);
        for number in 0..PLACES {
            unreadable.add(Path::new(&format!("d{number}")));
        }
        assert_eq!(unreadable.places(), ["output", ""].map(PathBuf::from));
    }

    #[cfg(unix)]
    #[test]
    fn a_name_that_is_no_text_is_fetched_with_the_whole_workspace() {
        use std::os::unix::ffi::OsStrExt;
        let mut unreadable = Unreadable::default();
        unreadable.add(Path::new(std::ffi::OsStr::from_bytes(b"r\xe9sultat")));
        assert_eq!(unreadable.places(), [PathBuf::new()]);
    }

    #[test]
    fn a_workspace_that_is_closed_itself_is_fetched_whole() {
        let mut unreadable = Unreadable::default();
        unreadable.add(Path::new(""));
        let places = ["output", ""].map(PathBuf::from).to_vec();
        assert_eq!((unreadable.places(), unreadable.named().0), (places, &[".".to_owned()][..]));
    }

    #[test]
    fn a_bounded_number_of_names_is_held() {
        let mut unreadable = Unreadable::default();
        for number in 0..100_000 {
            unreadable.add(Path::new(&format!("output/{number}")));
        }
        unreadable.add(Path::new(&"n".repeat(200_000)));
        let (names, unnamed) = unreadable.named();
        assert_eq!((names.len(), unnamed, unreadable.count()), (NAMED, 99_901, 100_001));
    }
}
