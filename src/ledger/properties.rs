use std::fs;

use proptest::prelude::*;

use super::{Line, Reader};
use crate::arbitrary::changed_bytes;
use crate::data_dir::DataDir;

const LINES: &str = r#"{"time":"2026-11-01T09:30:00.125Z","task":"t","kind":"file","direction":"in","outcome":"received","file":"a","bytes":18446744073709551615,"server":"http://x","service_id":"s"}
{"time":"2026-11-01T09:30:00.125Z","task":"t","kind":"report","direction":"out","outcome":"sent","status":"failed","bytes":5,"stdout_bytes":1,"stderr_bytes":2,"error_bytes":3,"server":"http://x","service_id":"s"}
{"time":"2026-11-01T09:30:00.125Z","task":"t","kind":"task","status":"failed","exit_code":null,"duration_secs":1.5,"files_sent":1,"files_left_out":2,"stdout_bytes":1,"stderr_bytes":2,"error_bytes":3,"server":"http://x","service_id":"s"}
"#;

proptest! {
    #[test]
    fn every_line_of_any_bytes_is_read_or_counted(older in changed_bytes(LINES), younger in changed_bytes(LINES)) {
        let dir = tempfile::tempdir().expect("make a folder");
        let data_dir = DataDir::new(dir.path());
        fs::write(data_dir.ledger(1), &older).expect("write it");
        fs::write(data_dir.ledger(0), &younger).expect("write it");
        let mut reader = Reader::open(&data_dir).expect("open it").expect("it is there");
        let mut read = 0;
        while let Some((text, line)) = reader.next_line().expect("read it") {
            read += 1;
            prop_assert!(!text.contains('\n'), "{text:?}");
            let again: Line = serde_json::from_str(&serde_json::to_string(&line).expect("write it")).expect("read it");
            prop_assert_eq!(again.task, line.task);
        }
        let lines = |bytes: &[u8]| bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).count();
        prop_assert_eq!(read + reader.damaged(), (lines(&older) + lines(&younger)) as u64);
    }
}
