use super::{Direction, Entry, Ledger, Line, Outcome, Peer, Reader, Transfer};
use crate::config::Secret;
use crate::data_dir::DataDir;
use crate::os::trust::make_folder;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const PEER: Peer<'static> = Peer { server: "http://h", service_id: "s" };

fn line(file: &str) -> Line {
    Line::new("t", PEER, Entry::File(Transfer::new(Direction::Out, Outcome::Sent, file)))
}

/// A ledger whose files are full after two of these lines.
fn small(dir: &Path, max_numbered: u32) -> Ledger {
    let two = 2 * serde_json::to_string(&line("00")).unwrap().len() as u64;
    Ledger { max_bytes: two, max_numbered, ..Ledger::new(&make_folder(dir).unwrap(), Secret::new(""), Arc::default()) }
}

/// The names in all files, the oldest first, and how many lines can't be read.
fn read(mut reader: Reader) -> (Vec<String>, u64) {
    let mut names = Vec::new();
    while let Some((text, line)) = reader.next_line().unwrap() {
        assert_eq!(serde_json::from_str::<Line>(text).unwrap(), line);
        let Entry::File(transfer) = line.entry else { panic!("{line:?}") };
        names.extend(transfer.file);
    }
    (names, reader.damaged())
}

fn read_all(dir: &Path) -> (Vec<String>, u64) {
    read(Reader::open(&DataDir::new(dir)).unwrap().unwrap())
}

fn names(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|number| format!("{number:02}")).collect()
}

#[test]
fn lines_are_appended_to_a_private_file() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Reader::open(&DataDir::new(dir.path())).unwrap().is_none());
    let ledger = Ledger::new(&make_folder(dir.path()).unwrap(), Secret::new(""), Arc::default());
    ledger.append(&[line("a"), line("b")]).unwrap();
    ledger.append(&[line("c")]).unwrap();
    assert_eq!(read_all(dir.path()), (["a", "b", "c"].map(str::to_owned).to_vec(), 0));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(DataDir::new(dir.path()).ledger(0)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn a_truncated_line_stays_and_the_next_one_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::new(&make_folder(dir.path()).unwrap(), Secret::new(""), Arc::default());
    ledger.append(&[line("a")]).unwrap();
    let path = DataDir::new(dir.path()).ledger(0);
    let cut = fs::read_to_string(&path).unwrap() + "{\"time\":\"2026-";
    fs::write(&path, &cut).unwrap();
    assert_eq!(read_all(dir.path()), (vec!["a".to_owned()], 1));
    ledger.append(&[line("b")]).unwrap();
    assert_eq!(read_all(dir.path()), (vec!["a".to_owned(), "b".to_owned()], 1));
    assert!(fs::read_to_string(&path).unwrap().starts_with(&cut), "nothing is removed");
}

#[test]
fn invalid_lines_are_skipped_with_bounded_memory() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::new(&make_folder(dir.path()).unwrap(), Secret::new(""), Arc::default());
    let garbage = [vec![b'x'; 3 << 20], b"\n\n\xff\xfe\n{}\n[1]\n".to_vec()].concat();
    fs::write(DataDir::new(dir.path()).ledger(0), garbage).unwrap();
    ledger.append(&[line("a")]).unwrap();
    let mut reader = Reader::open(&DataDir::new(dir.path())).unwrap().unwrap();
    assert!(reader.next_line().unwrap().is_some() && reader.next_line().unwrap().is_none());
    assert_eq!(reader.damaged(), 4);
    assert!(reader.buffer_size() <= 2 << 20, "{}", reader.buffer_size());
}

#[test]
fn full_files_are_numbered_and_the_oldest_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = small(dir.path(), 3);
    for name in names(0..8) {
        ledger.append(&[line(&name)]).unwrap();
    }
    assert_eq!(read_all(dir.path()), (names(0..8), 0));
    assert!(DataDir::new(dir.path()).ledger(3).exists() && !DataDir::new(dir.path()).ledger(4).exists());
    ledger.append(&[line("08")]).unwrap();
    assert_eq!(read_all(dir.path()), (names(2..9), 0));
    assert!(!DataDir::new(dir.path()).ledger(4).exists());
}

#[test]
fn a_crash_between_two_renames_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = small(dir.path(), 3);
    for name in names(0..6) {
        ledger.append(&[line(&name)]).unwrap();
    }
    // The older of two full files has moved, the younger not yet.
    fs::rename(DataDir::new(dir.path()).ledger(2), DataDir::new(dir.path()).ledger(3)).unwrap();
    assert_eq!(read_all(dir.path()), (names(0..6), 0));
    ledger.append(&[line("06")]).unwrap();
    assert_eq!(read_all(dir.path()), (names(0..7), 0));
    assert!((0..=3).all(|number| DataDir::new(dir.path()).ledger(number).exists()), "the free number is taken");
}

#[test]
fn a_full_file_that_can_not_be_renamed_keeps_growing() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = small(dir.path(), 1);
    fs::create_dir_all(DataDir::new(dir.path()).ledger(1).join("x")).unwrap();
    for name in names(0..4) {
        ledger.append(&[line(&name)]).unwrap();
    }
    fs::remove_dir_all(DataDir::new(dir.path()).ledger(1)).unwrap();
    assert_eq!(read_all(dir.path()), (names(0..4), 0));
    ledger.append(&[line("04")]).unwrap();
    assert_eq!(read_all(dir.path()), (names(0..5), 0));
    assert!(DataDir::new(dir.path()).ledger(1).exists());
}

#[test]
fn reading_during_renames_misses_and_repeats_no_line() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = small(dir.path(), 20);
    ledger.append(&[line("00")]).unwrap();
    let (written, done) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            for name in names(1..40) {
                ledger.append(&[line(&name)]).unwrap();
            }
            done.store(true, Ordering::SeqCst);
        });
        while !done.load(Ordering::SeqCst) {
            let (seen, damaged) = read_all(dir.path());
            // The last line may be half there while it is written.
            assert!(damaged <= 1);
            assert_eq!(seen, names(0..u32::try_from(seen.len()).unwrap()));
            written.store(true, Ordering::SeqCst);
        }
    });
    assert!(written.load(Ordering::SeqCst));
    assert_eq!(read_all(dir.path()), (names(0..40), 0));
}

#[test]
fn concurrent_writers_lose_no_line() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = small(dir.path(), 20);
    thread::scope(|scope| {
        for start in [0, 10, 20, 30] {
            let ledger = &ledger;
            scope.spawn(move || names(start..start + 10).iter().for_each(|name| ledger.append(&[line(name)]).unwrap()));
        }
    });
    let (mut seen, damaged) = read_all(dir.path());
    seen.sort();
    assert_eq!((seen, damaged), (names(0..40), 0));
}

#[test]
fn the_api_key_is_never_written() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::new(&make_folder(dir.path()).unwrap(), Secret::new("ak_0123456789"), Arc::default());
    ledger.append(&[line("a-ak_0123456789-b")]).unwrap();
    assert_eq!(read_all(dir.path()), (vec!["a-[api_key]-b".to_owned()], 0));
}

#[test]
fn left_out_files_beyond_their_share_are_counted_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::new(&make_folder(dir.path()).unwrap(), Secret::new(""), Arc::default());
    ledger.append(&[line("sent before")]).unwrap();
    let left_out = |number: usize| {
        let name = format!("{number}{}", "\u{1}".repeat(150));
        Line::new("t", PEER, Entry::File(Transfer::new(Direction::Out, Outcome::LeftOut, &name)))
    };
    let task: Vec<Line> = (0..2000).map(left_out).collect();
    // Four times as much as such names may fill.
    (0..30).for_each(|_| ledger.append(&task).unwrap());
    ledger.append(&[line("sent after")]).unwrap();
    let mut reader = Reader::open(&DataDir::new(dir.path())).unwrap().unwrap();
    let (mut sent, mut named, mut counted, mut bytes) = (Vec::new(), 0, 0, 0);
    while let Some((text, line)) = reader.next_line().unwrap() {
        bytes += text.len();
        let Entry::File(transfer) = line.entry else { panic!("{line:?}") };
        match (transfer.outcome, transfer.file) {
            (Outcome::Sent, file) => sent.extend(file),
            (_, Some(_)) => named += 1,
            (_, None) => counted += transfer.count.unwrap(),
        }
    }
    assert_eq!(sent, ["sent before", "sent after"]);
    assert_eq!(named + counted, 60_000);
    assert!(named >= 2000 && bytes < 20 << 20, "{named} names, {bytes} bytes");
}
