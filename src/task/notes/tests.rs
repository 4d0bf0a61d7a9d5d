//! Tests of which notes there are, without what they say.

use super::{Left, Notes, Stayed};
use crate::config::{Archive, Exclude, OutputsConfig};
use crate::data_dir::DataDir;
use crate::server::protocol::Task;
use crate::server::{FinalStatus, LeftOut};
use crate::task::outputs::OutputFile;
use crate::task::{Ending, Record, Store, TaskKey};
use jiff::Timestamp;
use std::fs;
use std::io::Read;
use std::path::Path;

fn limits(max_files: usize) -> OutputsConfig {
    OutputsConfig {
        max_file: 1 << 20,
        max_files,
        max_total: 1 << 20,
        exclude: Exclude::default(),
        notes: true,
        archive: Archive::Never,
    }
}

fn notes<'l>(dir: &Path, status: FinalStatus, limits: &'l OutputsConfig, left: Left) -> Notes<'l> {
    let task = Task { id: "t".to_owned(), ..Task::default() };
    let store = Store::open(&DataDir::new(dir)).unwrap();
    let files = store.create(&TaskKey::from_id("t").unwrap(), &Record::from_offer(task, "s", "u")).unwrap();
    let (exit_code, error_message) = (Some(0), None);
    let ending = Ending { status, exit_code, error_message, duration_secs: 1.0, at: Timestamp::UNIX_EPOCH };
    Notes { files, ending, limits, left }
}

fn text(note: &OutputFile) -> String {
    let mut text = String::new();
    note.open().unwrap().0.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_note_is_written_once_and_keeps_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let names = ["failure.md".to_owned(), "failure-2.md".to_owned()].into();
    let limits = limits(10);
    let mut notes = notes(dir.path(), FinalStatus::Failed, &limits, Left { names, ..Left::default() });
    let first = notes.failure(Stayed { files: &[], unnamed: 0 }).unwrap();
    assert_eq!(first.name, "failure-3.md");
    // By now another file stays here, among the others the note itself.
    notes.left.names.insert("failure-3.md".to_owned());
    let files = [LeftOut { file: "a".to_owned(), reason: "b".to_owned() }];
    let again = notes.failure(Stayed { files: &files, unnamed: 0 }).unwrap();
    assert_eq!((&again.name, again.size, text(&again)), (&first.name, first.size, text(&first)));
}

#[test]
fn without_a_free_name_or_room_there_is_no_note() {
    let nothing = Stayed { files: &[], unnamed: 0 };
    let taken = (2..=100).map(|number| format!("failure-{number}.md")).chain(["failure.md".to_owned()]).collect();
    let few = limits(3);
    for left in [
        Left { names: taken, ..Left::default() },
        Left { count: 3, ..Left::default() },
        Left { bytes: (1 << 20) - 10, ..Left::default() },
    ] {
        let dir = tempfile::tempdir().unwrap();
        assert!(notes(dir.path(), FinalStatus::Failed, &few, left.clone()).failure(nothing).is_none(), "{left:?}");
        assert!(!dir.path().join("tasks/t/notes").exists());
    }
}

#[test]
fn each_note_belongs_to_one_kind_of_end() {
    let stayed = Stayed { files: &[], unnamed: 1 };
    for (status, expected) in [
        (FinalStatus::Completed, [false, true, true]),
        (FinalStatus::Failed, [true, false, false]),
        (FinalStatus::Cancelled, [false; 3]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let limits = limits(10);
        let notes = notes(dir.path(), status, &limits, Left::default());
        fs::write(notes.files.stdout(), "words").unwrap();
        let made = [notes.failure(stayed), notes.not_delivered(stayed), notes.printed()].map(|note| note.is_some());
        assert_eq!(made, expected, "{status:?}");
    }
}
