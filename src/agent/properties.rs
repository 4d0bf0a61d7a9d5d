use std::fs;

use proptest::prelude::*;

use super::status_file::State;
use crate::arbitrary::changed_bytes;
use crate::data_dir::DataDir;
use crate::os::trust::make_folder;

const STATUS: &str = r#"{"pid":5,"started_at":"2026-11-01T09:30:00Z","last_heartbeat_at":"2026-11-01T09:30:00Z",
"server_tried":true,"server_trouble":{"unauthorized":true,"message":"m"},"last_error":{"at":"2026-11-01T09:30:00Z",
"message":"m"},"engine":"ready","not_accepting":"w","put_off":{"t":"w"}}"#;

proptest! {
    #[test]
    fn a_status_file_of_any_bytes_is_read_or_ignored(bytes in changed_bytes(STATUS)) {
        let dir = tempfile::tempdir().expect("make a folder");
        let data_dir = DataDir::new(dir.path());
        fs::write(data_dir.status_file(), &bytes).expect("write it");
        if let Some(state) = State::load(&data_dir) {
            state.save(&make_folder(&data_dir).expect("open the folder")).expect("save it");
            prop_assert_eq!(State::load(&data_dir), Some(state));
        }
    }
}
