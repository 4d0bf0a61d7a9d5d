use proptest::prelude::*;

use super::ledger::parse_since;
use crate::arbitrary::{changed, text};

proptest! {
    #[test]
    fn since_of_any_text_is_a_time_or_refused(
        written in prop_oneof![text(), changed("2026-11-01T12:00:00+01:00"), "-?[0-9]{1,6}-[0-9]{2}-[0-9]{2}"],
    ) {
        if let Err(why) = parse_since(&written) {
            prop_assert!(why.contains("--since"));
        }
    }
}
