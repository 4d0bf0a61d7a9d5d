//! How many columns of a terminal a text takes.

use super::characters::is_joiner;
use super::marks::is_mark;

/// The columns of a text that is escaped. Marks and joiners take none, wide characters two: those of East Asian scripts and
/// emoji (Unicode's `EastAsianWidth.txt`, classes W and F, in whole blocks).
pub fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// A text of at most so many columns: a longer one ends in `…`.
pub fn fit(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let (mut shown, mut left) = (String::new(), room.saturating_sub(1));
    for c in text.chars() {
        let Some(rest) = left.checked_sub(columns(c)) else { break };
        left = rest;
        shown.push(c);
    }
    if room > 0 {
        shown.push('…');
    }
    shown
}

fn columns(c: char) -> usize {
    if is_mark(c) || is_joiner(c) {
        return 0;
    }
    let is_wide = matches!(c, '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{303e}' | '\u{3041}'..='\u{a4cf}'
        | '\u{a960}'..='\u{a97f}' | '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}' | '\u{ffe0}'..='\u{ffe6}' | '\u{1f300}'..='\u{1f64f}' | '\u{1f680}'..='\u{1f6ff}'
        | '\u{1f900}'..='\u{1faff}' | '\u{20000}'..='\u{3fffd}');
    if is_wide { 2 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::{fit, width};

    #[test]
    fn wide_characters_take_two_columns_and_marks_none() {
        assert_eq!((width(""), width("abc"), width("世界"), width("e\u{301}"), width("👩\u{200d}👧")), (0, 3, 4, 1, 4));
    }

    #[test]
    fn a_text_is_cut_to_its_room() {
        assert_eq!([fit("abc", 3), fit("abcd", 3), fit("a", 0)], ["abc", "ab…", ""]);
        assert_eq!([fit("世界x", 4), fit("世界x", 3)], ["世…", "世…"]);
    }
}
