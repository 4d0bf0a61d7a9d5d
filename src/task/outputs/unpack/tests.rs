use super::{Budget, ExtractOptions, Extracted, Pass, UnpackError};
use crate::config::{Archive, Exclude, OutputsConfig};
use crate::task::outputs::ReservedPaths;
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use tar::{Builder, EntryType, Header};

fn add(builder: &mut Builder<Vec<u8>>, kind: EntryType, path: &str, bytes: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    // Write the raw header: the `tar` builder rejects such paths, an attacker wouldn't.
    header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
    header.set_size(bytes.len() as u64);
    if kind == EntryType::Link || kind == EntryType::Symlink {
        header.set_link_name("secret/a").expect("a short name");
    }
    header.set_mode(0o4777);
    header.set_cksum();
    builder.append(&header, bytes).expect("write to memory");
}

fn unpack(archive: impl Read, into: &Path, limit: u64) -> (Extracted, Result<(), UnpackError>) {
    unpack_beside(archive, into, limit, (0, false))
}

/// The same with these values of `keep_free` and `leaves_out`.
fn unpack_beside(
    archive: impl Read,
    into: &Path,
    limit: u64,
    (keep_free, leaves_out): (u64, bool),
) -> (Extracted, Result<(), UnpackError>) {
    let mut extracted = Extracted::default();
    let reserved = ReservedPaths::new(["/workspace/out/secret/mnt"]);
    let exclude = Exclude::new(&["*.raw".to_owned(), "scratch/".to_owned()]).expect("patterns");
    let limits =
        OutputsConfig { max_file: 1000, max_files: 4, max_total: 1500, exclude, notes: true, archive: Archive::Never };
    let base = Path::new("out/secret");
    let (workspace, budget) = (Path::new("/nonexistent"), &Budget::new(limit));
    let (done, pass, reserved, limits) = (None, Pass::Results, &reserved, &limits);
    let options = ExtractOptions { into, workspace, base, done, pass, reserved, limits, keep_free, leaves_out, budget };
    let done = extracted.unpack(archive, &options);
    (extracted, done)
}

#[test]
fn only_regular_files_are_unpacked_under_numbers() {
    let mut builder = Builder::new(Vec::new());
    add(&mut builder, EntryType::Directory, "secret/", b"");
    add(&mut builder, EntryType::Regular, "secret/a", b"one");
    add(&mut builder, EntryType::Regular, "secret/mnt/data", b"not a result");
    add(&mut builder, EntryType::Symlink, "secret/link", b"");
    add(&mut builder, EntryType::Link, "secret/b", b"");
    add(&mut builder, EntryType::Fifo, "secret/pipe", b"");
    add(&mut builder, EntryType::Regular, "secret/x.raw", b"stays here");
    add(&mut builder, EntryType::Directory, "secret/scratch/", b"");
    add(&mut builder, EntryType::Regular, "secret/scratch/deep/y", b"stays here");
    add(&mut builder, EntryType::Char, "secret/null", b"");
    add(&mut builder, EntryType::Regular, "secret/../../x", b"x");
    add(&mut builder, EntryType::Regular, "secret/large", &[b'x'; 1001]);
    add(&mut builder, EntryType::Regular, "secret/deep/c", &[b'c'; 1000]);
    add(&mut builder, EntryType::Regular, "secret/d", &[b'd'; 900]);
    let dir = tempfile::tempdir().unwrap();
    let (extracted, done) = unpack(&builder.into_inner().unwrap()[..], dir.path(), u64::MAX);
    done.unwrap();
    let files: Vec<(&str, usize)> = extracted.files.iter().map(|one| (one.file.as_str(), one.number)).collect();
    assert_eq!(files, [("out/secret/a", 0), ("out/secret/b", 0), ("out/secret/deep/c", 2)]);
    assert_eq!(fs::read(dir.path().join("0")).unwrap(), b"one");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    let named: Vec<&str> = extracted.skipped.non_results.iter().map(|left| left.file.as_str()).collect();
    assert_eq!(
        named,
        [
            "out/secret/link",
            "out/secret/pipe",
            "out/secret/x.raw",
            "out/secret/scratch/",
            "out/secret/null",
            "secret/../../x"
        ]
    );
    let kept: Vec<&str> = extracted.skipped.undelivered.iter().map(|left| left.reason.as_str()).collect();
    assert!(kept[0].contains("1001 bytes") && kept[1].contains("outputs.max_total_mb"), "{kept:?}");
}

#[test]
fn a_truncated_archive_is_an_error() {
    let mut builder = Builder::new(Vec::new());
    add(&mut builder, EntryType::Regular, "secret/a", &[b'a'; 900]);
    let bytes = builder.into_inner().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (extracted, done) = unpack(&bytes[..1000], dir.path(), u64::MAX);
    assert!(matches!(done, Err(UnpackError::Archive(_))) && extracted.files.is_empty(), "{done:?}");
    let (_, done) = unpack(&b"no archive"[..], dir.path(), u64::MAX);
    assert!(matches!(done, Err(UnpackError::Archive(_))), "{done:?}");
}

#[test]
fn what_a_failed_try_has_written_is_removed_for_the_next_one() {
    let mut builder = Builder::new(Vec::new());
    add(&mut builder, EntryType::Regular, "secret/a", b"one");
    add(&mut builder, EntryType::Regular, "secret/b", &[b'b'; 900]);
    let bytes = builder.into_inner().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (mut extracted, done) = unpack(&bytes[..2000], dir.path(), u64::MAX);
    assert!(matches!(done, Err(UnpackError::Archive(_))), "{done:?}");
    assert_eq!((extracted.files.len(), fs::read_dir(dir.path()).unwrap().count()), (1, 2));
    extracted.revert(Extracted::default(), dir.path()).unwrap();
    assert_eq!((extracted.files.len(), fs::read_dir(dir.path()).unwrap().count()), (0, 0));
    let (extracted, done) = unpack(&bytes[..], dir.path(), u64::MAX);
    done.unwrap();
    assert_eq!(extracted.files.len(), 2);
}

#[test]
fn an_endless_archive_is_read_up_to_the_limit() {
    let mut builder = Builder::new(Vec::new());
    add(&mut builder, EntryType::Regular, "secret/a", b"one");
    let begun = builder.into_inner().unwrap()[..1024].to_vec();
    let mut header = Header::new_gnu();
    header.set_path("secret/endless").unwrap();
    header.set_size(1 << 40);
    header.set_cksum();
    let endless = io::Cursor::new(begun).chain(io::Cursor::new(header.as_bytes().to_vec())).chain(io::repeat(0));
    let dir = tempfile::tempdir().unwrap();
    let (extracted, done) = unpack(endless, dir.path(), 1 << 20);
    assert!(matches!(done, Err(UnpackError::TooLarge)), "{done:?}");
    assert_eq!(extracted.files.len(), 1);
    let reasons: Vec<&str> = extracted.skipped.undelivered.iter().map(|left| left.reason.as_str()).collect();
    assert!(reasons.len() == 1 && reasons[0].contains("outputs.max_file_mb"), "{reasons:?}");
}

#[test]
fn files_without_room_are_left_out_one_by_one() {
    let mut builder = Builder::new(Vec::new());
    add(&mut builder, EntryType::Regular, "secret/a", b"one");
    add(&mut builder, EntryType::Regular, "secret/b", b"two");
    let (archive, dir) = (builder.into_inner().unwrap(), tempfile::tempdir().unwrap());
    let (_, done) = unpack_beside(&archive[..], dir.path(), u64::MAX, (u64::MAX, false));
    assert!(matches!(done, Err(UnpackError::NoRoom(3))), "{done:?}");
    let (extracted, done) = unpack_beside(&archive[..], dir.path(), u64::MAX, (u64::MAX, true));
    done.unwrap();
    let named: Vec<&str> = extracted.skipped.undelivered.iter().map(|left| left.file.as_str()).collect();
    assert_eq!((named.as_slice(), extracted.files.len()), (&["out/secret/a", "out/secret/b"][..], 0));
}
