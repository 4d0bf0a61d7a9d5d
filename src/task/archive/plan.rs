//! Which results are in which archive.

use crate::config::{Archive, OutputsConfig};
use crate::task::outputs::OutputFile;
use crate::task::outputs::sending::Rank;

use super::names::Names;

/// More files than this are many, for `outputs.archive = "many"`.
const MANY: usize = 20;
/// What clients unpack at most: members, bytes of a member, and bytes of all members.
const MEMBERS: usize = 1000;
const MEMBER_BYTES: u64 = 50_000_000;
const MEMBERS_BYTES: u64 = 100_000_000;
/// How many bytes the names in one archive have at most: they are a line of `uploads.jsonl`, too.
const NAME_BYTES: usize = 256 * 1024;
/// What the format adds for a member beside its name, which is there twice, and for the archive. So small an archive has
/// nothing of Zip64.
const MEMBER_HEADERS: u64 = 30 + 46;
const END: u64 = 22;
/// How many names are tried for an archive.
const TRIED: usize = 100_000;

/// An archive to be written.
pub struct Planned<'f> {
    /// Its name on the Server.
    pub name: String,
    pub files: Vec<&'f OutputFile>,
    /// The most bytes that it has.
    pub size: u64,
}

impl Planned<'_> {
    fn empty() -> Self {
        Self { name: String::new(), files: Vec::new(), size: END }
    }
}

/// Whether the results of a task with so many files are sent in archives.
pub fn is_wanted(limits: &OutputsConfig, files: usize) -> bool {
    match limits.archive {
        Archive::Never => false,
        Archive::Many => files > MANY,
        Archive::Always => files > 0,
    }
}

/// Distributes results among archives. Those that clients show as the answer are in the first one, and are sent beside it by
/// their caller, as are the files that no archive can hold. `is_taken` says which names the task uses itself.
pub fn plan<'f>(
    files: impl Iterator<Item = &'f OutputFile>,
    limits: &OutputsConfig,
    is_taken: impl Fn(&str) -> bool,
) -> Vec<Planned<'f>> {
    let is_answer = |file: &OutputFile| Rank::of(&file.name) >= Rank::RootAnswer;
    let mut files: Vec<&OutputFile> = files.collect();
    files.sort_by(|a, b| is_answer(b).cmp(&is_answer(a)).then_with(|| a.cmp(b)));
    let (mut names, mut archives) = (Names::default(), Vec::new());
    let (mut archive, mut bytes, mut name_bytes) = (Planned::empty(), 0, 0);
    for file in files {
        let size = file.size + MEMBER_HEADERS + 2 * file.name.len() as u64;
        if file.size > MEMBER_BYTES || size + END > limits.max_file || !names.add(&file.name) {
            continue;
        }
        let is_full = archive.files.len() >= MEMBERS
            || bytes + file.size > MEMBERS_BYTES
            || name_bytes + file.name.len() > NAME_BYTES
            || archive.size + size > limits.max_file;
        if is_full {
            archives.push(std::mem::replace(&mut archive, Planned::empty()));
            (bytes, name_bytes) = (0, 0);
        }
        archive.files.push(file);
        archive.size += size;
        bytes += file.size;
        name_bytes += file.name.len();
    }
    archives.push(archive);
    archives.retain(|archive| archive.files.iter().any(|file| !is_answer(file)));
    let names = (1..TRIED).map(name).filter(|name| !is_taken(name));
    archives.into_iter().zip(names).map(|(archive, name)| Planned { name, ..archive }).collect()
}

/// The name of an archive. The first one is the one that clients take which look for a zip.
fn name(number: usize) -> String {
    if number == 1 { "results.zip".to_owned() } else { format!("results-{number}.zip") }
}

#[cfg(all(test, unix))]
mod tests {
    use super::{END, MEMBER_HEADERS, Planned, is_wanted, plan};
    use crate::config::{Archive, Exclude, OutputsConfig};
    use crate::task::outputs::OutputFile;
    use std::fs::File;
    use std::path::Path;

    fn limits(max_file: u64) -> OutputsConfig {
        let (max_files, max_total, exclude) = (10_000, u64::MAX, Exclude::default());
        OutputsConfig { max_file, max_files, max_total, exclude, notes: true, archive: Archive::Always }
    }

    /// Files of holes.
    fn files(dir: &Path, files: &[(&str, u64)]) -> Vec<OutputFile> {
        let make = |(number, (name, size)): (usize, &(&str, u64))| {
            let local = number.to_string();
            File::create(dir.join(&local)).and_then(|file| file.set_len(*size)).expect("make a file");
            OutputFile::copied(dir, local.as_ref(), name).expect("open it")
        };
        files.iter().enumerate().map(make).collect()
    }

    fn shown<'p>(plan: &'p [Planned<'_>]) -> Vec<(&'p str, Vec<&'p str>)> {
        let names = |planned: &'p Planned<'_>| planned.files.iter().map(|file| file.name.as_str()).collect();
        plan.iter().map(|planned| (planned.name.as_str(), names(planned))).collect()
    }

    #[test]
    fn few_files_are_packed_only_where_that_is_always_wanted() {
        let wanted = |archive, files| is_wanted(&OutputsConfig { archive, ..limits(1) }, files);
        assert_eq!([0, 1, 20, 21, 9000].map(|files| wanted(Archive::Never, files)), [false; 5]);
        assert_eq!([0, 20, 21].map(|files| wanted(Archive::Many, files)), [false, false, true]);
        assert_eq!([0, 1].map(|files| wanted(Archive::Always, files)), [false, true]);
    }

    #[test]
    fn an_archive_holds_what_clients_unpack_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let mb = 1_000_000;
        let large = files(dir.path(), &[("a", 50 * mb), ("b", 50 * mb + 1), ("c", 50 * mb), ("d", 1), ("e", 0)]);
        let found = plan(large.iter(), &limits(1 << 40), |_| false);
        assert_eq!(shown(&found), [("results.zip", vec!["a", "c"]), ("results-2.zip", vec!["d", "e"])]);
        let many: Vec<OutputFile> = {
            let empty = files(dir.path(), &[("x", 0)]);
            let named = |number| {
                let mut file = empty[0].clone();
                file.name = format!("output/{number:04}");
                file
            };
            (0..2001).map(named).collect()
        };
        let found = plan(many.iter(), &limits(1 << 40), |_| false);
        assert_eq!(found.iter().map(|planned| planned.files.len()).collect::<Vec<_>>(), [1000, 1000, 1]);
        assert_eq!(found[2].name, "results-3.zip");
    }

    #[test]
    fn an_archive_is_no_larger_than_a_file_may_be() {
        let dir = tempfile::tempdir().unwrap();
        let fits = 10_000 - END - MEMBER_HEADERS - 2;
        let both = files(dir.path(), &[("a", fits), ("b", fits + 1)]);
        let found = plan(both.iter(), &limits(10_000), |_| false);
        assert_eq!(shown(&found), [("results.zip", vec!["a"])], "the other one goes alone");
        assert_eq!(found[0].size, 10_000);
    }

    #[test]
    fn the_answer_is_in_the_first_archive_and_never_alone_there() {
        let dir = tempfile::tempdir().unwrap();
        let all = files(dir.path(), &[("output/a", 6000), ("output/b", 6000), ("output/response.md", 1)]);
        let found = plan(all.iter(), &limits(10_000), |_| false);
        let expected = [("results.zip", vec!["output/response.md", "output/a"]), ("results-2.zip", vec!["output/b"])];
        assert_eq!(shown(&found), expected);
        assert!(plan(all[2..].iter(), &limits(10_000), |_| false).is_empty());
    }

    #[test]
    fn an_archive_takes_no_name_that_the_task_uses() {
        let dir = tempfile::tempdir().unwrap();
        let own = files(dir.path(), &[("results.zip", 5)]);
        let found = plan(own.iter(), &limits(1 << 20), |name| name == "results.zip");
        assert_eq!(shown(&found), [("results-2.zip", vec!["results.zip"])]);
    }
}
