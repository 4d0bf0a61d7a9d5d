//! `try --out`: copies the results to a folder, and overwrites nothing.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::copier::copy_with_progress;
use crate::command::failure::Failure;
use crate::command::output::eprint_line;
use crate::os::digest::fnv;
use crate::os::folder::Folder;
use crate::os::platform;
use crate::os::trust::FolderPlace;
use crate::task::outputs::OutputFile;
use crate::text::escape;

/// How many results that can't be copied are named.
const NAMED: usize = 20;
/// How many bytes a name has at most on any file system.
const LONGEST_PART: usize = 255;
/// How many bytes of a name every file system takes; eCryptfs takes 143.
const SHORTEST_LIMIT: usize = 140;

/// What happens to files that the folder has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// The folder isn't taken.
    Refused,
    /// One with the name of a result is replaced; others stay.
    Replaced,
}

pub struct OutFolder {
    path: PathBuf,
    existing: Existing,
    place: FolderPlace,
}

impl OutFolder {
    /// Fails unless the folder is new or empty, or files in it may be replaced.
    pub fn new(dir: &Path, existing: Existing) -> Result<Self, Failure> {
        let wrong = |why: &str| Failure::usage(format!("`{}` {why} (`--out`)", dir.display()));
        match fs::read_dir(dir).map(|mut entries| entries.next().is_some()) {
            Ok(true) if existing == Existing::Refused => {
                return Err(wrong(
                    "isn't empty, and nothing is overwritten; name a new folder, empty that one, or replace files in it with \
                     `--force`",
                ));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(wrong(&format!("can't be used: {error}"))),
        }
        let place = FolderPlace::find(dir).map_err(|why| wrong(&format!("isn't safe from other users: {why}")))?;
        Ok(Self { path: dir.to_owned(), existing, place })
    }

    /// Copies the files that would be sent, each under the name that the Server would get. There is a folder also where
    /// there is no file.
    pub fn copy(self, files: &[OutputFile], interrupted: &AtomicBool) -> Result<(), Failure> {
        let Self { path, existing, place } = self;
        let folder = place.make().map_err(Failure::with_path(&path, "can't be made"))?;
        // The task may have done that, by a mount that it may write to.
        if folder.is_replaced() {
            return Err(Failure::new(format!("`{}` was replaced while the container ran (`--out`)", path.display())));
        }
        let (mut failed, mut unnamed) = (Vec::new(), 0);
        // An encrypted home takes shorter names than most.
        let longest = platform::longest_name(&path).clamp(SHORTEST_LIMIT, LONGEST_PART);
        for output in files {
            let local = local_name(&output.name, longest);
            let copied = output.open().map_err(|why| why.to_string()).and_then(|(file, _)| {
                create(&folder, Path::new(&local), existing)
                    .and_then(|new| copy_with_progress(&output.name, file, new, interrupted))
                    .map_err(|error| format!("can't be written to `{}`: {error}", path.join(&local).display()))
            });
            match copied {
                Ok(_) if local != output.name => {
                    eprint_line(format_args!("A name was too long for a file; it is `{}`", escape(&local)));
                }
                Ok(_) => {}
                Err(_) if failed.len() == NAMED => unnamed += 1,
                Err(why) => failed.push(format!("the result `{}` {why}", escape(&output.name))),
            }
            if interrupted.load(Ordering::Relaxed) && !failed.is_empty() {
                break;
            }
        }
        if files.is_empty() {
            eprint_line(format_args!("Nothing to copy to {}", path.display()));
        } else {
            eprint_line(format_args!("Copied to: {}", path.display()));
        }
        if unnamed > 0 {
            failed.push(format!("{unnamed} more can't be copied"));
        }
        if failed.is_empty() { Ok(()) } else { Err(Failure::new(failed.join("\n"))) }
    }
}

/// The name of a result in the folder. The Server's names may have parts that are longer than a file system takes: what
/// isn't plain text has three characters for a byte there.
fn local_name(name: &str, longest: usize) -> String {
    let short = |part: &str| {
        if part.len() <= longest {
            part.to_owned()
        } else {
            format!("{}~{:016x}", cut(part, longest - 17), fnv(part.bytes()))
        }
    };
    name.split('/').map(short).collect::<Vec<_>>().join("/")
}

/// The beginning of a text, of so many bytes at most.
fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

/// Makes a file and the folders above it, each in the one that was opened before it. The name has plain parts only.
fn create(folder: &Folder, name: &Path, existing: Existing) -> io::Result<File> {
    let (Some(parents), Some(last)) = (name.parent(), name.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mut folder = folder.clone();
    for parent in parents {
        folder = folder.make_folder_by_umask(parent)?;
    }
    match folder.create_new_by_umask(last) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && existing == Existing::Replaced => {
            folder.remove(last)?;
            folder.create_new_by_umask(last)
        }
        created => created,
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::{Existing, LONGEST_PART, OutFolder, local_name};
    use crate::task::outputs::OutputFile;
    use std::fs;
    use std::path::Path;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn one_result_that_can_not_be_copied_stops_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let (source, out) = (dir.path().join("source"), dir.path().join("out"));
        fs::create_dir(&source).unwrap();
        fs::write(source.join("0"), "x").unwrap();
        let long = format!("output/{}", "%E9".repeat(90));
        let results: Vec<OutputFile> = ["output/a", &long, "output/a/b", "output/c"]
            .map(|name| OutputFile::copied(&source, Path::new("0"), name).unwrap())
            .into();
        let failed =
            OutFolder::new(&out, Existing::Refused).unwrap().copy(&results, &AtomicBool::new(false)).unwrap_err();
        assert!(failed.to_string().starts_with("the result `output/a/b` can't be written"), "{failed}");
        let mut names: Vec<String> = fs::read_dir(out.join("output"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort_by_key(|name| (name.len(), name.clone()));
        assert_eq!(names[..2], ["a", "c"].map(str::to_owned));
        assert!(names.len() == 3 && names[2].len() <= LONGEST_PART && names[2].starts_with("%E9%E9"), "{names:?}");
    }

    #[test]
    fn a_used_folder_is_taken_and_its_files_replaced_only_on_request() {
        let dir = tempfile::tempdir().unwrap();
        let (source, out) = (dir.path().join("source"), dir.path().join("out"));
        fs::create_dir(&source).unwrap();
        fs::write(source.join("0"), "new").unwrap();
        fs::create_dir_all(out.join("output")).unwrap();
        fs::write(out.join("output/a"), "old and longer").unwrap();
        fs::write(out.join("mine"), "stays").unwrap();
        let refused = OutFolder::new(&out, Existing::Refused).err().expect("it isn't empty");
        assert!(refused.to_string().contains("`--force`"), "{refused}");
        let results = [OutputFile::copied(&source, Path::new("0"), "output/a").unwrap()];
        OutFolder::new(&out, Existing::Replaced).unwrap().copy(&results, &AtomicBool::new(false)).unwrap();
        let text = |name: &str| fs::read_to_string(out.join(name)).unwrap();
        assert_eq!((text("output/a"), text("mine")), ("new".to_owned(), "stays".to_owned()));
    }

    #[test]
    fn long_names_stay_different_and_short_ones_as_they_are() {
        let (one, other) = ("n".repeat(300), "n".repeat(301));
        assert_ne!(local_name(&one, 255), local_name(&other, 255));
        assert_eq!(local_name("output/a b", 143), "output/a b");
        assert_eq!(local_name(&"\u{e9}".repeat(200), LONGEST_PART).len(), LONGEST_PART);
        assert_eq!(local_name(&"n".repeat(144), 143).len(), 143);
    }
}
