use proptest::collection::vec;
use proptest::prelude::*;

use super::shell_line;
use crate::arbitrary::text;
use crate::text::{escape, is_mark, is_seen};

proptest! {
    #[test]
    fn shell_lines_of_any_words_split_into_the_same_words(words in vec(text(), 1..6)) {
        let is_plain = |c| is_seen(c) && !is_mark(c);
        let shown = words.iter().all(|word| word.chars().all(is_plain) && !word.contains("         "));
        if shown {
            let line = shell_line(words.iter().map(String::as_str));
            prop_assert_eq!(shlex::split(&line), Some(words));
        } else if !words.iter().any(|word| word.contains('\0')) {
            let line = shell_line(words.iter().map(String::as_str));
            prop_assert_eq!(escape(&line), line);
        }
    }

    #[test]
    fn escaped_texts_have_shown_characters_only(text in text()) {
        let escaped = escape(&text);
        let is_joiner = |c| matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe0e}' | '\u{fe0f}');
        prop_assert!(escaped.chars().all(|c| is_seen(c) || is_joiner(c)), "{escaped:?}");
        prop_assert_eq!(escape(&escaped), escaped);
    }
}
