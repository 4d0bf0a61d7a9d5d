//! In which order results are sent: what people should see comes last.
//!
//! The Server lists the newest file first, and clients that name no file take the first of that list, the first `.md`
//! or the first `.zip`. Which files are sent where not all may be is another question: [`OutputFile`]'s own order.

use std::cmp::Reverse;
use std::io::{self, Read};

use super::OutputFile;

/// The file that clients show as the answer, by this name.
pub const ANSWER: &str = "output/response.md";
/// Where some images leave a copy of it.
pub const ANSWER_COPY: &str = "response.md";
/// Why a copy of the answer isn't sent.
pub const SAME_AS_ANSWER: &str = "the same as output/response.md";

/// How much a person wants to see a result: the greater, the later it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Its name, or that of a folder around it, begins with a dot.
    Hidden,
    /// Several clients unpack the first `.zip` of the list in place of the answer, and one stops at a zip that it refuses.
    Zip,
    /// Outside `output/`.
    Elsewhere,
    /// In `output/`.
    Output,
    /// A Markdown text in `output/`.
    Text,
    /// [`ANSWER_COPY`], the answer of images that know no `output/`.
    RootAnswer,
    /// [`ANSWER`].
    Answer,
}

impl Rank {
    /// The rank of the file with this name on the Server.
    pub fn of(name: &str) -> Self {
        // Names of folders may look like a file's extension.
        let has_extension = |extension: &str| {
            let last = name.rsplit('/').next().unwrap_or_default();
            last.rsplit_once('.').is_some_and(|(_, found)| found.eq_ignore_ascii_case(extension))
        };
        match name {
            ANSWER => Self::Answer,
            ANSWER_COPY => Self::RootAnswer,
            _ if name.split('/').any(|part| part.starts_with('.')) => Self::Hidden,
            _ if has_extension("zip") => Self::Zip,
            _ if !name.starts_with("output/") => Self::Elsewhere,
            _ if has_extension("md") => Self::Text,
            _ => Self::Output,
        }
    }
}

/// Sorts results for sending: by rank, and within one rank the deeper ones first, each folder from its last name to its
/// first, so that the Server's list reads alphabetically.
pub fn sort(files: &mut [OutputFile]) {
    files.sort_by(|a, b| key(&a.name).cmp(&key(&b.name)));
}

fn key(name: &str) -> impl Ord + use<'_> {
    (Rank::of(name), Reverse(name.matches('/').count()), Reverse(name))
}

/// Takes the copy of the answer out of the results, if both are there and have the same bytes.
///
/// # Errors
/// One of them can't be read.
pub fn take_copy(files: &mut Vec<OutputFile>) -> Result<Option<OutputFile>, String> {
    let find = |name| files.iter().position(|file| file.name == name);
    let (Some(answer), Some(copy)) = (find(ANSWER), find(ANSWER_COPY)) else { return Ok(None) };
    let is_same = files[answer].size == files[copy].size && has_same_bytes(&files[answer], &files[copy])?;
    Ok(is_same.then(|| files.remove(copy)))
}

fn has_same_bytes(one: &OutputFile, other: &OutputFile) -> Result<bool, String> {
    let open = |file: &OutputFile| file.open().map_err(|why| why.to_string());
    let ((one, one_size), (other, other_size)) = (open(one)?, open(other)?);
    let same = one_size == other_size && are_equal(one.take(one_size), other.take(other_size)).map_err(read_error)?;
    Ok(same)
}

fn read_error(error: io::Error) -> String {
    format!("can't be read: {error}")
}

/// Whether both give the same bytes, read in pieces.
fn are_equal(one: impl Read, mut other: impl Read) -> io::Result<bool> {
    const PIECE: usize = 16 * 1024;
    let mut one = one;
    let (mut here, mut there) = (Vec::with_capacity(PIECE), Vec::with_capacity(PIECE));
    loop {
        here.clear();
        there.clear();
        one.by_ref().take(PIECE as u64).read_to_end(&mut here)?;
        other.by_ref().take(PIECE as u64).read_to_end(&mut there)?;
        if here != there || here.is_empty() {
            return Ok(here == there);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Rank, are_equal, key};

    #[test]
    fn names_have_the_rank_of_what_people_look_for() {
        for (name, rank) in [
            ("output/.z.md", Rank::Hidden),
            (".cache/response.md", Rank::Hidden),
            ("output/a.Zip", Rank::Zip),
            ("a.zip/b", Rank::Elsewhere),
            ("zip", Rank::Elsewhere),
            ("outputs/a.md", Rank::Elsewhere),
            ("output/md", Rank::Output),
            ("output/a/b.MD", Rank::Text),
            ("response.md", Rank::RootAnswer),
            ("output/response.md", Rank::Answer),
        ] {
            assert_eq!(Rank::of(name), rank, "{name}");
        }
    }

    #[test]
    fn deeper_files_are_sent_first_and_names_backwards() {
        let mut names = ["output/a", "output/b", "output/x/c", "output/x/y/d", "output/x/b"];
        names.sort_by(|a, b| key(a).cmp(&key(b)));
        assert_eq!(names, ["output/x/y/d", "output/x/c", "output/x/b", "output/b", "output/a"]);
    }

    #[test]
    fn files_are_compared_to_their_last_byte() {
        let long = vec![7; 40_000];
        assert!(are_equal(&long[..], &long[..]).unwrap() && are_equal(&b""[..], &b""[..]).unwrap());
        assert!(!are_equal(&long[..], &long[1..]).unwrap());
        let mut other = long.clone();
        other[39_999] = 8;
        assert!(!are_equal(&long[..], &other[..]).unwrap());
    }
}
