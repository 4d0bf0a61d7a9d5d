use proptest::prelude::*;

use super::time_range::TimeRange;
use crate::arbitrary::{changed, text};

proptest! {
    #[test]
    fn since_of_any_text_is_a_time_or_refused(
        written in prop_oneof![
            text(),
            changed("2026-11-01T12:00:00+01:00"),
            "-?[0-9]{1,6}-[0-9]{2}(-[0-9]{2})?",
            "[0-9]{1,25}(min|h|d|w)",
        ],
    ) {
        if let Err(why) = TimeRange::parse(Some(&written), Some(&written)) {
            prop_assert!(why.to_string().contains("--since"));
        }
    }
}
