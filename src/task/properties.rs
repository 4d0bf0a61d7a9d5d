//! Ids, names and archives from outside.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use percent_encoding::percent_decode_str;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::outputs::unpack::{ExtractOptions, Extracted, LimitedReader};
use super::outputs::{ReservedPaths, upload_name};
use super::record::TaskKey;
use super::workspace::input_names;
use crate::arbitrary::text;
use crate::config::{Exclude, OutputsConfig};
use crate::os::platform;
use crate::server::protocol::{InputFile, Task};

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
    fn result_names_are_safe_in_headers_and_reversible(name in vec(any::<u8>(), 1..60)) {
        let name: Vec<u8> = name.into_iter().filter(|byte| !b"/\0".contains(byte)).collect();
        prop_assume!(!name.is_empty() && name != b"." && name != b"..");
        let encoded = upload_name(platform::from_bytes(&name).unwrap_or(Path::new("")));
        prop_assert!(!encoded.contains(['"', '\\']) && !encoded.chars().any(char::is_control), "{encoded:?}");
        prop_assert_eq!(percent_decode_str(&encoded).collect::<Vec<u8>>(), name);
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
