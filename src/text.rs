//! Text from outside, for terminals and logs.

/// Escapes control characters, and characters that change the direction of text.
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
    !c.is_control() && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn text_from_outside_stays_on_one_line() {
        assert_eq!(escape("a\nINFO b\r\t\u{1b}[31m\u{202e}"), "a\\nINFO b\\r\\t\\u{1b}[31m\\u{202e}");
        assert_eq!(escape("héllo — 世界"), "héllo — 世界");
    }
}
