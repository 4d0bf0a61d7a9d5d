use std::fs;

use proptest::prelude::*;

use super::status_file::StatusFile;
use crate::arbitrary::changed_bytes;
use crate::data_dir::DataDir;

const STATUS: &str = r#"{"pid":5,"started_at":"2026-11-01T09:30:00Z","last_heartbeat_at":"2026-11-01T09:30:00Z",
"server_tried":true,"server_trouble":{"unauthorized":true,"message":"m"},"last_error":{"at":"2026-11-01T09:30:00Z",
"message":"m"},"engine":"ready","not_accepting":"w","put_off":{"t":"w"}}"#;

proptest! {
    #[test]
    fn a_status_file_of_any_bytes_is_read_or_ignored(bytes in changed_bytes(STATUS)) {
        let dir = tempfile::tempdir().expect("make a folder");
        let data_dir = DataDir::new(dir.path());
        fs::write(data_dir.status_file(), &bytes).expect("write it");
        let file = StatusFile::new(&data_dir);
        if let Some(state) = file.load() {
            file.save(&state).expect("save it");
            prop_assert_eq!(file.load(), Some(state));
        }
    }
}
