use jiff::Timestamp;
use proptest::prelude::*;

use super::container::parse_inspect;
use super::container::tests::EXITED;
use super::exit_events::parse_exit_events;
use crate::arbitrary::{changed, json};

proptest! {
    #[test]
    fn inspect_output_of_any_text_parses_or_fails(
        text in prop_oneof![any::<String>(), changed(EXITED)],
        value in json(),
    ) {
        for text in [text, value.to_string()] {
            if let Ok(container) = parse_inspect(&text) {
                container.ran_for(Timestamp::now());
            }
            parse_exit_events(&text, "c1");
        }
    }
}
