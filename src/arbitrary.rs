//! Random inputs for the tests of properties, which stand beside the code in files `properties.rs`.
//!
//! Each property is tried on some hundred inputs: by `scripts/test` on the same each time, by `cargo test` on others.
//! `PROPTEST_CASES=1000000 cargo test properties` tries more. An input that breaks one is kept in
//! `proptest-regressions/` and tried first from then on.

use jiff::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::Value;

/// Texts as people write them, and any other text.
pub fn text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[a-zA-Z0-9._/ %\\\\:*-]{0,40}", "(CON|nul|Com1|LPT9|\\.\\.|~|-)[. a-z]{0,5}"]
}

/// JSON of any shape, with keys that the Server uses.
pub fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    let key = prop_oneof![
        "(id|filename|size_bytes|task_prompt|input_files|has_task|task|should_cancel|cancel_task_id|files|error)",
        "(Id|State|Status|Running|ExitCode|OOMKilled|StartedAt|FinishedAt|Labels|Error|message|file_id)",
        any::<String>(),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            vec((key.clone(), inner), 0..6).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

/// The text with a part of it replaced by another text.
pub fn changed(base: &'static str) -> impl Strategy<Value = String> {
    (any::<Index>(), any::<Index>(), text()).prop_map(move |(from, to, piece)| {
        let places: Vec<usize> = base.char_indices().map(|(at, _)| at).collect();
        let (from, to) = (*from.get(&places), *to.get(&places));
        let (from, to) = (from.min(to), from.max(to).min(from.min(to) + 60));
        let to = (to..=base.len()).find(|at| base.is_char_boundary(*at)).unwrap_or(base.len());
        format!("{}{piece}{}", &base[..from], &base[to..])
    })
}

/// Bytes of any kind, and the text with a part of it replaced by such bytes, perhaps cut off.
pub fn changed_bytes(base: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![vec(any::<u8>(), 0..30), changed(base).prop_map(String::into_bytes)];
    let changed = (piece, any::<Index>(), any::<Index>()).prop_map(move |(piece, at, end)| {
        let mut bytes = base.as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes.splice(at..(at + 20).min(base.len()), piece);
        let kept = end.index(bytes.len() * 2 + 1).min(bytes.len());
        bytes.truncate(kept);
        bytes
    });
    prop_oneof![vec(any::<u8>(), 0..200), changed]
}

/// Any time that there is, also the first and the last.
pub fn timestamp() -> impl Strategy<Value = Timestamp> {
    let (first, last) = (Timestamp::MIN.as_nanosecond(), Timestamp::MAX.as_nanosecond());
    prop_oneof![
        Just(Timestamp::MIN),
        Just(Timestamp::MAX),
        (first..=last).prop_map(|at| Timestamp::from_nanosecond(at).expect("a time within the bounds")),
    ]
}

/// The kinds, names and sizes of an archive's entries.
pub fn archive_entries() -> impl Strategy<Value = Vec<(u8, String, usize)>> {
    vec((any::<u8>(), text(), 0..3000usize), 0..6)
}

/// A tar archive of such entries, with some bytes of it changed, and perhaps cut off.
pub fn archive(entries: impl Strategy<Value = Vec<(u8, String, usize)>>) -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((any::<Index>(), any::<u8>()), 0..6);
    (entries, changes, any::<Index>()).prop_map(|(entries, changes, cut)| {
        let mut builder = tar::Builder::new(Vec::new());
        for (kind, name, size) in &entries {
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
            bytes[at] = byte;
        }
        let kept = cut.index(bytes.len() * 2).min(bytes.len());
        bytes.truncate(kept);
        bytes
    })
}
