//! What must hold for all ids, names and answers that are read from outside. [`crate::arbitrary`] makes the inputs.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use crate::arbitrary::{json, text};
use crate::config::{Exclude, OutputsConfig};
use crate::server::protocol::{ErrorBody, FileList, InputFile, PollAnswer, Registration, Task, Uploaded};
use crate::shell::shell_line;
use crate::task::outputs::ReservedPaths;
use crate::task::outputs::unpack::{ExtractOptions, Extracted, LimitedReader};
use crate::task::record::TaskKey;
use crate::task::workspace::input_names;
use crate::text::is_shown;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

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
            prop_assert!(!name.is_empty() && name.len() <= 255 && name != "." && name != "..", "{name:?}");
            prop_assert!(!name.contains(['/', '\\', '\0']) && !name.chars().any(char::is_control), "{name:?}");
            prop_assert!(!name.starts_with('-'), "{name:?}");
        }
        let different: HashSet<String> = safe.iter().map(|name| name.to_lowercase()).collect();
        prop_assert_eq!(different.len(), safe.len());
    }

    #[test]
    fn answers_of_any_shape_parse_or_fail(value in json(), bytes in vec(any::<u8>(), 0..200)) {
        for text in [value.to_string().into_bytes(), bytes] {
            // An offer that is one says the same when it is read back from the record.
            if let Ok(task) = serde_json::from_slice::<Task>(&text) {
                let again: Task = serde_json::from_str(&serde_json::to_string(&task).expect("write it")).expect("read it");
                prop_assert_eq!(again, task);
            }
            let _: Result<PollAnswer, _> = serde_json::from_slice(&text);
            let _: Result<FileList, _> = serde_json::from_slice(&text);
            let _: Result<ErrorBody, _> = serde_json::from_slice(&text);
            let _: Result<Registration, _> = serde_json::from_slice(&text);
            let _: Result<Uploaded, _> = serde_json::from_slice(&text);
        }
    }

    #[test]
    fn shell_lines_of_any_words_split_into_the_same_words(words in vec(text(), 1..6)) {
        let shown = words.iter().all(|word| word.chars().all(is_shown));
        if shown {
            let line = shell_line(words.iter().map(String::as_str));
            prop_assert_eq!(shlex::split(&line), Some(words));
        } else if !words.iter().any(|word| word.contains('\0')) {
            let line = shell_line(words.iter().map(String::as_str));
            prop_assert!(line.chars().all(is_shown), "{line:?}");
        }
    }

    #[test]
    fn archives_of_any_bytes_unpack_within_the_limits(
        kinds in vec((any::<u8>(), text(), 0..3000usize), 0..6),
        changes in vec((any::<Index>(), any::<u8>()), 0..6),
        cut in any::<Index>(),
    ) {
        let archive = archive(&kinds, &changes, cut);
        let dir = tempfile::tempdir().expect("make a folder");
        let limits = OutputsConfig { max_file: 1000, max_files: 3, max_total: 1500, exclude: Exclude::default() };
        let reserved = ReservedPaths::new([]);
        let (into, base) = (dir.path(), Path::new("base"));
        let options = ExtractOptions { into, base, reserved: &reserved, limits: &limits, keep_free: 0 };
        let mut extracted = Extracted::default();
        let reader = LimitedReader { source: &archive[..], bytes_read: &AtomicU64::new(0), limit: 1 << 20 };
        let done = extracted.unpack(reader, &options);
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
}

/// A tar archive of entries of these kinds, names and sizes, with some bytes of it changed, and cut off.
fn archive(entries: &[(u8, String, usize)], changes: &[(Index, u8)], cut: Index) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, name, size) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::new(b"0012345xgLKSV"[usize::from(*kind) % 13]));
        let name = format!("base/{name}");
        let length = name.len().min(100);
        header.as_mut_bytes()[..length].copy_from_slice(&name.as_bytes()[..length]);
        header.set_size(*size as u64);
        header.set_cksum();
        builder.append(&header, &vec![b'x'; *size][..]).expect("write to memory");
    }
    let mut bytes = builder.into_inner().expect("write to memory");
    for (at, byte) in changes {
        let at = at.index(bytes.len());
        bytes[at] = *byte;
    }
    let kept = cut.index(bytes.len() * 2).min(bytes.len());
    bytes.truncate(kept);
    bytes
}
