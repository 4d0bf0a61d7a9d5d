//! Random inputs for the tests of properties, which stand beside the code in files `properties.rs`.
//!
//! Each property is tried on some hundred inputs, which are others each time; `PROPTEST_CASES=1000000 cargo test
//! properties` tries more. An input that breaks one is kept in `proptest-regressions/` and tried first from then on.

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
