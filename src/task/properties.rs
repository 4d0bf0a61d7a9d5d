//! Ids, names and archives from outside.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use percent_encoding::percent_decode_str;
use proptest::collection::vec;
use proptest::prelude::*;

use super::outputs::unpack::{Budget, ExtractOptions, Extracted, Pass};
use super::outputs::{ReservedPaths, upload_name};
use super::record::{KnownIds, Member, Packed, Record, Store, TaskFiles, TaskKey, UploadEvent};
use super::uploads::Uploads;
use super::workspace::input_names;
use crate::arbitrary::{archive, archive_entries, changed_bytes, text};
use crate::config::{Archive, Exclude, OutputsConfig};
use crate::data_dir::DataDir;
use crate::os::platform;
use crate::server::protocol::{InputFile, LeftOut, Task};

fn is_safe_key(key: &str) -> bool {
    !key.is_empty()
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
        && !key.starts_with(['.', '-'])
        && !key.ends_with('.')
        && key.len() < 255
}

proptest! {
    #[test]
    fn ids_become_safe_and_unique_keys(a in text(), b in text()) {
        let (key, other) = (TaskKey::from_id(&a), TaskKey::from_id(&b));
        if let Some(key) = &key {
            prop_assert!(is_safe_key(key.as_str()), "{key}");
            prop_assert_eq!(TaskKey::parse(key.as_str()), Some(key.clone()));
        }
        if a != b && key.is_some() {
            prop_assert_ne!(key, other);
        }
    }

    #[test]
    fn input_files_get_plain_and_unique_names(names in vec(text(), 0..20)) {
        let file = |name: &String| InputFile {
            id: "f".to_owned(), filename: name.clone(), mime_type: None, size_bytes: 1,
        };
        let task = Task {
            id: "t".to_owned(), task_prompt: String::new(), output_prompt: None, session_id: None,
            input_files: names.iter().map(file).collect(),
        };
        let safe = input_names(&task);
        prop_assert_eq!(safe.len(), names.len());
        for name in &safe {
            prop_assert!(!name.is_empty() && name.len() <= 143 && name != "." && name != "..", "{name:?}");
            prop_assert!(!name.contains(['/', '\\', '\0']) && !name.chars().any(char::is_control), "{name:?}");
            prop_assert!(!name.starts_with('-'), "{name:?}");
        }
        let different: HashSet<String> = safe.iter().map(|name| name.to_lowercase()).collect();
        prop_assert_eq!(different.len(), safe.len());
    }

    #[test]
    fn result_names_are_safe_in_headers_and_reversible(name in vec(any::<u8>(), 1..60)) {
        let name: Vec<u8> = name.into_iter().filter(|byte| !b"/\0".contains(byte)).collect();
        prop_assume!(!name.is_empty() && name != b"." && name != b"..");
        let encoded = upload_name(platform::from_bytes(&name).unwrap_or(Path::new("")));
        prop_assert!(!encoded.contains(['"', '\\']) && !encoded.chars().any(char::is_control), "{encoded:?}");
        prop_assert_eq!(percent_decode_str(&encoded).collect::<Vec<u8>>(), name);
    }

    #[test]
    fn archives_of_any_bytes_unpack_within_the_limits(archive in archive(archive_entries())) {
        let dir = tempfile::tempdir().expect("make a folder");
        let limits = OutputsConfig { max_file: 1000, max_files: 3, max_total: 1500, exclude: Exclude::default(), notes: true, archive: Archive::Never };
        let reserved = ReservedPaths::new([]);
        let (into, base) = (dir.path(), Path::new("base"));
        let (workspace, budget) = (Path::new("/nonexistent"), &Budget::new(1 << 20));
        let (done, pass, reserved, limits) = (None, Pass::Results, &reserved, &limits);
        let (keep_free, leaves_out) = (0, false);
        let options =
            ExtractOptions { into, workspace, base, done, pass, reserved, limits, keep_free, leaves_out, budget };
        let mut extracted = Extracted::default();
        let done = extracted.unpack(&archive[..], &options);
        let mut bytes = 0;
        for entry in fs::read_dir(dir.path()).expect("list it") {
            let entry = entry.expect("an entry");
            let name = entry.file_name().into_string().expect("a plain name");
            prop_assert!(name.parse::<usize>().is_ok(), "{name}");
            bytes += entry.metadata().expect("look at it").len();
        }
        prop_assert!(extracted.files.len() <= 3 && bytes <= 1500 + 1000, "{done:?}");
        for file in &extracted.files {
            prop_assert!(file.file.starts_with("base") && !file.file.contains(['"', '\n', '\r']), "{file:?}");
        }
    }

    #[test]
    fn records_of_any_bytes_load_or_fail(bytes in changed_bytes(RECORD)) {
        let (_dir, files) = task_files();
        fs::write(files.stdout().with_file_name("record.json"), &bytes).expect("write it");
        if let Ok(Some(record)) = files.load() {
            prop_assert_eq!(record.task.id.as_str(), "t1");
            files.save(&record).expect("save it");
            let again = files.load().expect("load it again").expect("it is there");
            prop_assert_eq!(format!("{again:?}"), format!("{record:?}"));
        }
    }

    #[test]
    fn every_written_event_of_an_upload_is_read_back(
        name in text(), other in text(), repeats in 0usize..40, number in any::<u64>(),
        ids in vec(text(), 0..20),
    ) {
        let (_dir, files) = task_files();
        let (file, reason) = (name.repeat(repeats), other.repeat(repeats));
        let mut known = KnownIds::default();
        ids.iter().for_each(|id| known.insert(id));
        let (size, at, attempt) = (number, None, Some(number));
        let members = vec![Member { file: file.clone(), size }];
        let packed = UploadEvent::Packed(Packed { archive: other.clone(), size, members });
        let events = [
            UploadEvent::Before(known),
            UploadEvent::Begin { file: file.clone(), size, at, attempt },
            UploadEvent::Logged { file: file.clone() },
            UploadEvent::Failed { file: file.clone() },
            UploadEvent::Done { file: file.clone(), size, file_id: reason.clone() },
            UploadEvent::LeftOut(LeftOut { file, reason }),
            UploadEvent::Unnamed { count: number },
            packed,
        ];
        let mut written = Vec::new();
        for event in events {
            if files.append_uploads(std::slice::from_ref(&event)).is_ok() {
                written.push(event);
            }
        }
        let mut read = Vec::new();
        files.load_uploads(&mut |event| read.push(event)).expect("read them back");
        prop_assert!(read == written && read.len() >= 2);
    }

    #[test]
    fn uploads_of_any_bytes_load_or_fail(bytes in changed_bytes(UPLOADS)) {
        let (_dir, files) = task_files();
        let path = files.stdout().with_file_name("uploads.jsonl");
        fs::write(&path, &bytes).expect("write it");
        let mut read = Vec::new();
        let is_read = files.read_uploads(&mut |event| read.push(event)).is_ok();
        prop_assert_eq!(fs::read(&path).expect("read it"), bytes.clone());
        let mut events = Vec::new();
        if files.load_uploads(&mut |event| events.push(event)).is_ok() {
            prop_assert!(is_read && read == events);
            let uploads = Uploads::load(&files).expect("load it again");
            prop_assert!(uploads.done.len() + uploads.left_out.len() <= events.len());
            // The next line is appended to whole lines.
            let kept = fs::read(&path).expect("read it");
            prop_assert!(bytes.starts_with(&kept) && (kept.is_empty() || kept.ends_with(b"\n")));
        }
    }
}

/// The files of the task `t1`, which has a record.
fn task_files() -> (tempfile::TempDir, TaskFiles) {
    let dir = tempfile::tempdir().expect("make a folder");
    let store = Store::open(&DataDir::new(dir.path())).expect("open it");
    let task = Task { id: "t1".to_owned(), ..Task::default() };
    let key = TaskKey::from_id("t1").expect("a plain id");
    let files = store.create(&key, &Record::from_offer(task, "s", "http://server")).expect("make a record");
    (dir, files)
}

const RECORD: &str = r#"{"task":{"id":"t1","task_prompt":"p","input_files":[{"id":"f","filename":"a","size_bytes":3}]},
"service_id":"s","base_url":"http://x","phase":"exited","phase_since":"2026-01-02T03:04:05Z",
"offered_at":"2026-01-02T03:04:05Z","client":{"id":5,"started":"7"},"replacing":false,"stop":{"timeout":{"minutes":5}},
"ending":{"status":"failed","exit_code":3,"error_message":"e","duration_secs":1.5,"at":"2026-01-02T03:04:05Z"},
"report_in_doubt":true,"report_open":false,"kept_back":false,"discarded":{"untold":null},
"fetched":[{"file":"a","number":0}],"container_removed":true,"settled_at":null}"#;

const UPLOADS: &str = r#"{"event":"before","ids":["x"]}
{"event":"begin","file":"a","size":18446744073709551615,"at":"2026-01-02T03:04:05Z"}
{"event":"told","file":"a"}
{"event":"done","file":"a","size":18446744073709551615,"file_id":"y"}
{"event":"done","file":"b","size":5,"file_id":"z"}
{"event":"left_out","file":"c","reason":"r"}
{"event":"unnamed","count":18446744073709551615}
"#;
