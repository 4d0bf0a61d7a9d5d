//! What must hold for all answers and words that are read from outside. [`crate::arbitrary`] makes the inputs.

use crate::arbitrary::{json, text};
use crate::server::protocol::{ErrorBody, FileList, PollAnswer, Registration, Task, Uploaded};
use crate::shell::shell_line;
use crate::text::is_shown;
use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #[test]
    fn answers_of_any_shape_parse_or_fail(value in json(), bytes in vec(any::<u8>(), 0..200)) {
        for text in [value.to_string().into_bytes(), bytes] {
            // An offer that is one says the same when it is read back from the record.
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

    #[test]
    fn shell_lines_of_any_words_split_into_the_same_words(words in vec(text(), 1..6)) {
        let shown = words.iter().all(|word| word.chars().all(is_shown));
        if shown {
            let line = shell_line(words.iter().map(String::as_str));
            prop_assert_eq!(shlex::split(&line), Some(words));
        } else if !words.iter().any(|word| word.contains('\0')) {
            let line = shell_line(words.iter().map(String::as_str));
            prop_assert!(line.chars().all(is_shown), "{line:?}");
        }
    }
}
