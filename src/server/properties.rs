use proptest::collection::vec;
use proptest::prelude::*;

use super::protocol::{ErrorBody, FileList, PollAnswer, Registration, Task, Uploaded};
use crate::arbitrary::json;

proptest! {
    #[test]
    fn answers_of_any_shape_parse_or_fail(value in json(), bytes in vec(any::<u8>(), 0..200)) {
        for text in [value.to_string().into_bytes(), bytes] {
            // A valid offer is the same after it was read back from the record.
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
}
