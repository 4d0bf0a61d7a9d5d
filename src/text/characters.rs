//! Which characters a terminal may be sent: those that it shows, each as what it is.

/// Whether a character is seen where it stands, so that text with it can neither hide nor turn anything, nor end its
/// line.
///
/// What isn't seen is listed by Unicode 16.0, in `DerivedCoreProperties.txt`, `PropList.txt` and
/// `DerivedGeneralCategory.txt`:
///
/// - `Default_Ignorable_Code_Point`: soft hyphens, joiners, marks of direction, fillers, variation selectors, tags;
/// - `White_Space` but for the plain space: a terminal ends a line behind it, so that what follows looks like a line;
/// - the general categories of control, format and private use characters, of surrogates, and of separators of lines;
/// - `Noncharacter_Code_Point`, and the planes 4 to 16, which have only the above and what isn't assigned yet.
///
/// Five characters more are blank, although Unicode counts them among symbols, letters and marks: the empty Braille
/// pattern, the Khitan filler, the null notehead, and two blank hieroglyphs.
pub fn is_seen(c: char) -> bool {
    !is_unseen_in_plane_0(c)
        && !matches!(c, '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{13442}' | '\u{16fe4}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d159}' | '\u{1d173}'..='\u{1d17a}' | '\u{1fffe}' | '\u{1ffff}' | '\u{2fffe}' | '\u{2ffff}'
            | '\u{3fffe}'..)
}

fn is_unseen_in_plane_0(c: char) -> bool {
    let is_below_2000 = matches!(c, '\0'..='\u{1f}' | '\u{7f}'..='\u{a0}' | '\u{ad}' | '\u{34f}'
        | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}' | '\u{891}' | '\u{8e2}' | '\u{115f}'
        | '\u{1160}' | '\u{1680}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}');
    is_below_2000
        || matches!(c, '\u{2000}'..='\u{200f}' | '\u{2028}'..='\u{202f}' | '\u{205f}'..='\u{206f}' | '\u{2800}'
            | '\u{3000}' | '\u{3164}' | '\u{e000}'..='\u{f8ff}' | '\u{fdd0}'..='\u{fdef}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}')
}

/// Whether a character only says how its neighbours are drawn: the joiners of Persian, of Indian scripts and of emoji,
/// and what makes an emoji of a symbol or a symbol of it.
pub fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe0e}' | '\u{fe0f}')
}

/// Whether a character is a space within a line (the general category Zs).
pub fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}')
}

#[cfg(test)]
mod tests {
    use super::{is_joiner, is_seen, is_space};

    #[test]
    fn invisible_and_blank_characters_are_not_seen() {
        let ranges = [
            (0xad, 0xad),
            (0x34f, 0x34f),
            (0x115f, 0x1160),
            (0x17b4, 0x17b5),
            (0x180b, 0x180f),
            (0x2000, 0x200f),
            (0x202f, 0x202f),
            (0x2800, 0x2800),
            (0x3164, 0x3164),
            (0xe000, 0xf8ff),
            (0xfe00, 0xfe0f),
            (0xffa0, 0xffa0),
            (0xfff0, 0xfffb),
            (0x1_d173, 0x1_d17a),
            (0xe_0000, 0x10_ffff),
        ];
        for c in ranges.into_iter().flat_map(|(first, last)| first..=last).filter_map(char::from_u32) {
            assert!(!is_seen(c), "{}", c.escape_unicode());
        }
        // The standard library knows the same spaces and controls, from its own table.
        for c in ('\0'..=char::MAX).filter(|c| c.is_whitespace() || c.is_control()) {
            assert_eq!(is_seen(c), c == ' ', "{}", c.escape_unicode());
        }
        assert!(('\0'..=char::MAX).filter(|c| is_joiner(*c)).all(|c| !is_seen(c)));
        assert!(('\0'..=char::MAX).filter(|c| is_space(*c)).all(|c| c.is_whitespace()));
    }

    #[test]
    fn letters_digits_and_marks_of_all_languages_are_seen() {
        let wrong = |c: &char| c.is_alphanumeric() && !is_seen(*c);
        let unseen: String = ('\0'..='\u{3ffff}').filter(wrong).collect();
        // Four fillers without a shape, and two blank hieroglyphs where the library's Unicode knows them.
        assert!(unseen.starts_with("\u{115f}\u{1160}\u{3164}\u{ffa0}") && unseen.chars().count() <= 6, "{unseen:?}");
        for c in "—„“”«»…€°§¿αßжשم世ก\u{301}\u{94d}█├✓★👩🏽𝕏".chars() {
            assert!(is_seen(c), "{c}");
        }
    }
}
