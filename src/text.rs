//! Text from outside, for terminals, logs and programs.
//!
//! A terminal obeys more than the characters below U+0020, and text can be turned around, hidden, or moved to the next
//! line of the screen, where it looks like a line of its own. `text/characters.rs` says which characters are shown. What
//! only changes how letters join or emoji look is shown to people behind a character that isn't ASCII, so that ordinary
//! text stays readable; for programs it is escaped like the rest, since a JSON parser gives it back. Of the marks that are
//! drawn over a character (`text/marks.rs`), a few are shown.

mod characters;
mod gist;
mod marks;
mod terminal;
mod width;

use std::borrow::Cow;
use std::fmt::Write;

use characters::is_joiner;
pub use characters::is_seen;
pub use gist::gist;
use marks::MarkLimit;
pub use marks::is_mark;
pub use terminal::{Escaper, plain};
pub use width::{fit, width};

/// How many plain spaces stand behind each other, at most: more of them would move what follows to the next line of the
/// screen.
const SPACES_MAX: usize = 8;
/// How many joiners stand behind each other in text that was written for people, as in a heart on fire.
const JOINERS_MAX: usize = 2;

/// Escapes what [`is_seen`] refuses, and counts plain spaces where there are many. Joiners behind a character that isn't
/// ASCII are left as they are, and so are a few marks behind each letter.
pub fn escape(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let (mut spaces, mut joiners_left, mut marks) = (0, 0, MarkLimit::default());
    for c in text.chars().map(Some).chain([None]) {
        if c == Some(' ') {
            spaces += 1;
        } else {
            push_spaces(&mut shown, std::mem::take(&mut spaces));
        }
        let is_admitted = c.is_none_or(|c| marks.admits(c));
        match c {
            None | Some(' ') => joiners_left = 0,
            Some(c) if is_seen(c) && is_admitted => {
                shown.push(c);
                joiners_left = if c.is_ascii() { 0 } else { JOINERS_MAX };
            }
            Some(c) if is_joiner(c) && joiners_left > 0 => {
                shown.push(c);
                joiners_left -= 1;
            }
            Some(c) => {
                shown.extend(c.escape_default());
                joiners_left = 0;
            }
        }
    }
    shown
}

/// Escapes each line of a text, as [`escape`] does. Spaces at its beginning stay.
pub fn escape_lines(text: &str) -> String {
    let escape_line = |line: &str| {
        let rest = line.trim_start_matches(' ');
        line[..line.len() - rest.len()].to_owned() + &escape(rest)
    };
    text.split('\n').map(escape_line).collect::<Vec<_>>().join("\n")
}

fn push_spaces(shown: &mut String, count: usize) {
    if count > SPACES_MAX {
        // Writing to a string can't fail.
        let _ = write!(shown, " [{count} spaces] ");
    } else {
        shown.extend(std::iter::repeat_n(' ', count));
    }
}

/// Escapes in JSON what serde_json leaves as it is and [`is_seen`] refuses, the spaces of a row behind the first eight, and
/// the marks of a character behind the first few.
/// All these stand only within strings, where `\u` and four digits mean the same; outside of them are the line ends, and
/// the spaces behind them, of JSON in lines.
pub fn escape_json(json: &str) -> Cow<'_, str> {
    let is_kept = |c: char, marks: &mut MarkLimit| marks.admits(c) && (c == '\n' || is_seen(c));
    let mut marks = MarkLimit::default();
    if json.chars().all(|c| is_kept(c, &mut marks)) && !has_long_space(json) {
        return Cow::Borrowed(json);
    }
    let mut escaped = String::with_capacity(json.len() + 64);
    let (mut spaces, mut marks) = (0, MarkLimit::default());
    let mut is_indentation = true;
    for c in json.chars() {
        spaces = if c == ' ' { spaces + 1 } else { 0 };
        is_indentation = c == '\n' || (c == ' ' && is_indentation);
        if is_kept(c, &mut marks) && (is_indentation || spaces <= SPACES_MAX) {
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

/// Whether there are more spaces in a row than are shown.
fn has_long_space(text: &str) -> bool {
    text.split(|c| c != ' ').any(|spaces| spaces.len() > SPACES_MAX)
}

/// An id from outside, short and in single quotes, so that it can't be taken for a key or for the words around it, and that a
/// shell to which it is pasted runs nothing of it. What isn't shown, [`escape`] escapes afterwards.
pub fn quote_foreign(id: &str) -> String {
    /// How much of the id is shown, in characters.
    const SHOWN: usize = 80;
    let shown: String = id.chars().take(SHOWN).map(|c| if c == '\'' { '’' } else { c }).collect();
    format!("'{shown}'")
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
    fn padding_does_not_move_a_text_to_the_next_line() {
        let forged = "2026-12-01 INFO all well";
        for pad in "\u{a0}\u{2003}\u{3000}\u{2800}\u{3164}\u{115f}\u{ffa0}\u{1d159}\u{ad}\u{34f}\u{200b}".chars() {
            let shown = escape(&format!("t{}{forged}", pad.to_string().repeat(100)));
            assert!(shown.starts_with(&format!("t\\u{{{:x}}}\\u", u32::from(pad))), "{shown}");
        }
        assert_eq!(escape(&format!("t{}{forged}", " ".repeat(100))), format!("t [100 spaces] {forged}"));
        assert_eq!(escape("a        b"), "a        b");
        assert_eq!(escape("a         "), "a [9 spaces] ");
        // Joiners that join nothing, or very many of them.
        assert_eq!(escape("a\u{200d}b 世\u{200d}\u{200d}\u{200d}"), "a\\u{200d}b 世\u{200d}\u{200d}\\u{200d}");
        let name = "e\u{301}".to_owned() + &"\u{302}".repeat(5);
        assert_eq!(escape(&name), "e\u{301}\u{302}\u{302}\u{302}\\u{302}\\u{302}");
        assert_eq!(escape("`\u{338}`"), "`\\u{338}`");
        assert_eq!(escape("\u{e000}\u{fff9}\u{ffff}\u{e0100}"), "\\u{e000}\\u{fff9}\\u{ffff}\\u{e0100}");
    }

    #[test]
    fn text_of_any_language_is_shown_as_it_is() {
        let persian = "می\u{200c}خواهم";
        let family = "👩\u{200d}👩\u{200d}👧 ❤\u{fe0f}";
        for text in [
            "héllo — 世界",
            "שלום עולם",
            "مرحبا بالعالم",
            persian,
            "क्\u{200d}ष",
            family,
            "ไทย",
            "Tiếng Việt",
            "Tie\u{302}\u{301}ng Vie\u{323}\u{302}t",
            "မြို့ကျွန်ုပ် བསྒྲུབས ស្ត្រី দুর্গন্ধ བརྒྱུད",
            "בְּרֵאשִׁ֖ית اَلسَّلَامُ",
            "\u{1112}\u{1161}\u{11ab}",
            "❤\u{fe0f}\u{200d}🔥",
        ] {
            assert_eq!(escape(text), text);
        }
    }

    #[test]
    fn json_has_no_character_that_a_terminal_obeys_and_the_same_meaning() {
        let text = "a\u{7f}\u{9b}31m\u{61c}\u{200b}\u{200d}\u{2028}\u{202e}\u{2066}\u{feff}\u{e0041} 世界 \u{1b}\n\"";
        let json = serde_json::to_string_pretty(&serde_json::json!({ text: [text] })).unwrap();
        let escaped = escape_json(&json);
        assert!(escaped.contains("\\u007f\\u009b31m\\u061c") && escaped.contains("\\udb40\\udc41 世界"), "{escaped}");
        let unseen = |c: char| c != '\n' && !super::is_seen(c);
        assert!(!escaped.contains(unseen), "{escaped:?}");
        let back: serde_json::Value = serde_json::from_str(&escaped).unwrap();
        assert_eq!(back[text][0], text);
        let marked = format!("\"e{}\"", "\u{301}".repeat(6));
        assert_eq!(escape_json(&marked), format!("\"e{}\\u0301\\u0301\"", "\u{301}".repeat(4)));
        assert!(matches!(escape_json("{\n  \"a\": \"世\"\n}"), std::borrow::Cow::Borrowed(_)));
        let deep = "{\n            \"a\": \"b          c\"\n}";
        assert_eq!(escape_json(deep), "{\n            \"a\": \"b        \\u0020\\u0020c\"\n}");
    }

    #[test]
    fn a_foreign_id_stays_within_its_quotes() {
        assert_eq!(quote_foreign("t-1': settled $(id)"), "'t-1’: settled $(id)'");
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
