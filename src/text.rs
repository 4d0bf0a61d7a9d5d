//! Text from outside, for terminals, logs and programs.
//!
//! A terminal obeys more than the characters below U+0020, and text can be turned around or hidden. What only changes how
//! letters of a language join (U+200C and U+200D, in Persian, in Indian scripts, in emoji) is shown to people as it is;
//! for programs it is escaped like the rest, since a JSON parser gives it back.

mod terminal;

use std::borrow::Cow;
use std::fmt::Write;

pub use terminal::Escaper;

/// Escapes control characters, and characters that change the direction of text, break lines or can't be seen.
pub fn escape(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_shown(c) {
            shown.push(c);
        } else {
            shown.extend(c.escape_default());
        }
    }
    shown
}

/// Whether [`escape`] leaves a character as it is. A command in the log must have only such characters, or it can't be
/// pasted.
pub fn is_shown(c: char) -> bool {
    is_harmless(c) || matches!(c, '\u{200c}' | '\u{200d}')
}

/// Whether a character is neither obeyed by a terminal nor able to turn, break or hide text.
fn is_harmless(c: char) -> bool {
    // The ranges have the Arabic letter mark; zero-width spaces and joiners and the marks of direction; separators of
    // lines, embeddings and overrides; invisible operators, isolates and old format characters; the byte order mark;
    // annotations; and tags, which are letters without a shape.
    !c.is_control()
        && !matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Escapes in JSON what serde_json leaves as it is and a terminal may obey. Such characters stand only within strings,
/// where `\u` and four digits mean the same.
pub fn escape_json(json: &str) -> Cow<'_, str> {
    let is_kept = |c: char| c.is_ascii_control() && c != '\u{7f}' || is_harmless(c);
    if json.chars().all(is_kept) {
        return Cow::Borrowed(json);
    }
    let mut escaped = String::with_capacity(json.len() + 64);
    for c in json.chars() {
        if is_kept(c) {
            escaped.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string can't fail.
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        }
    }
    Cow::Owned(escaped)
}

/// An id that isn't a task's of this machine, short and in backticks, so that it can't be taken for a key or for the
/// words around it.
pub fn quote_foreign(id: &str) -> String {
    /// How much of the id is shown, in characters.
    const SHOWN: usize = 80;
    let shown: String = id.chars().take(SHOWN).map(|c| if c == '`' { '\'' } else { c }).collect();
    format!("`{shown}`")
}

/// The first characters of a text, of at most so many bytes together.
pub fn begin(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A text of at most so many bytes, and behind it how many were cut off.
pub fn cut(text: &str, bytes: usize) -> Cow<'_, str> {
    let begin = begin(text, bytes);
    match text.len() - begin.len() {
        0 => Cow::Borrowed(text),
        more => Cow::Owned(format!("{begin}… ({more} more bytes)")),
    }
}

#[cfg(test)]
mod tests {
    use super::{cut, escape, escape_json, quote_foreign};

    #[test]
    fn text_from_outside_stays_on_one_line() {
        assert_eq!(escape("a\nINFO b\r\t\u{1b}[31m\u{202e}"), "a\\nINFO b\\r\\t\\u{1b}[31m\\u{202e}");
        assert_eq!(
            escape("a\u{61c}b\u{2028}\u{9b}31m\u{feff}\u{e0041}"),
            "a\\u{61c}b\\u{2028}\\u{9b}31m\\u{feff}\\u{e0041}"
        );
    }

    #[test]
    fn text_of_any_language_is_shown_as_it_is() {
        let persian = "می\u{200c}خواهم";
        let family = "👩\u{200d}👩\u{200d}👧 ❤\u{fe0f}";
        for text in ["héllo — 世界", "שלום עולם", "مرحبا بالعالم", persian, "क्\u{200d}ष", family, "ไทย", "Tiếng Việt"]
        {
            assert_eq!(escape(text), text);
        }
    }

    #[test]
    fn json_has_no_character_that_a_terminal_obeys_and_the_same_meaning() {
        let text = "a\u{7f}\u{9b}31m\u{61c}\u{200b}\u{200d}\u{2028}\u{202e}\u{2066}\u{feff}\u{e0041} 世界 \u{1b}\n\"";
        let json = serde_json::to_string_pretty(&serde_json::json!({ text: [text] })).unwrap();
        let escaped = escape_json(&json);
        assert!(escaped.contains("\\u007f\\u009b31m\\u061c") && escaped.contains("\\udb40\\udc41 世界"), "{escaped}");
        let obeyed = |c: char| c != '\n' && !super::is_harmless(c);
        assert!(!escaped.contains(obeyed), "{escaped:?}");
        let back: serde_json::Value = serde_json::from_str(&escaped).unwrap();
        assert_eq!(back[text][0], text);
        assert!(matches!(escape_json("{\n  \"a\": \"世\"\n}"), std::borrow::Cow::Borrowed(_)));
    }

    #[test]
    fn a_foreign_id_stays_within_its_backticks() {
        assert_eq!(quote_foreign("t-1`: settled"), "`t-1': settled`");
        assert_eq!(quote_foreign(&"x".repeat(1000)).len(), 82);
    }
    #[test]
    fn a_long_text_is_cut_between_two_characters() {
        assert_eq!((cut("abc", 3), cut("", 0)), ("abc".into(), "".into()));
        assert_eq!(cut("abcd", 3), "abc… (1 more bytes)");
        assert_eq!(cut("世界", 4), "世… (3 more bytes)");
        assert_eq!(cut("世界", 2), "… (6 more bytes)");
    }
}
