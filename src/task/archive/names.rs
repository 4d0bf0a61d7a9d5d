//! Which names can be beside each other in one archive, wherever that is unpacked.

use std::collections::{HashMap, HashSet};

/// The longest part of a name, and the longest name, that file systems take with a folder before it, in bytes.
const PART: usize = 255;
const NAME: usize = 1024;

/// The names that are in archives so far.
#[derive(Default)]
pub struct Names {
    files: HashSet<String>,
    folders: HashSet<String>,
    /// Outlines, and whether a name with this outline has a combining character.
    outlines: HashMap<String, bool>,
}

impl Names {
    /// Adds a name. Returns whether it can be unpacked beside the others, also on file systems that take names for the same
    /// which differ in case only, or in how their accents are encoded.
    pub fn add(&mut self, name: &str) -> bool {
        let lower = name.to_lowercase();
        let (outline, is_combined) = outline(&lower);
        let has_same_outline = self.outlines.get(&outline).is_some_and(|other| *other || is_combined);
        let is_long = name.len() > NAME || name.split('/').any(|part| part.len() > PART);
        let folders = || lower.match_indices('/').map(|(end, _)| &lower[..end]);
        let is_taken = self.files.contains(&lower) || self.folders.contains(&lower);
        if is_long || is_taken || has_same_outline || folders().any(|folder| self.files.contains(folder)) {
            return false;
        }
        for folder in folders() {
            if !self.folders.contains(folder) {
                self.folders.insert(folder.to_owned());
            }
        }
        *self.outlines.entry(outline).or_default() |= is_combined;
        self.files.insert(lower);
        true
    }
}

/// A name with one sign for each letter with an accent, however that is encoded, and for each other run of letters that
/// aren't ASCII; and whether it has characters that combine with the letter before them. Names that are the same in another
/// Unicode normalization have one outline, and all but one of them have such characters.
fn outline(name: &str) -> (String, bool) {
    const SIGN: char = '\u{fffd}';
    let (mut outline, mut is_combined) = (String::with_capacity(name.len()), false);
    for c in name.chars() {
        if c.is_ascii() {
            outline.push(c);
            continue;
        }
        if combines(c) {
            is_combined = true;
            if outline.ends_with(|last: char| last.is_ascii() && last != '/') {
                outline.pop();
            }
        }
        if !outline.ends_with(SIGN) {
            outline.push(SIGN);
        }
    }
    (outline, is_combined)
}

/// Whether a character is a part of one that can also be written as a single character.
fn combines(c: char) -> bool {
    matches!(c,
        '\u{300}'..='\u{36f}' | '\u{653}'..='\u{655}' | '\u{93c}'..='\u{94d}' | '\u{9bc}'..='\u{9d7}'
        | '\u{a3c}' | '\u{b3c}'..='\u{b57}' | '\u{bbe}'..='\u{bd7}' | '\u{c56}' | '\u{cc2}'..='\u{cd6}'
        | '\u{d3e}'..='\u{d57}' | '\u{dca}'..='\u{ddf}' | '\u{f71}'..='\u{fb7}' | '\u{102e}' | '\u{1100}'..='\u{11ff}'
        | '\u{1ab0}'..='\u{1aff}' | '\u{1b35}' | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}'
        | '\u{3099}' | '\u{309a}' | '\u{fe20}'..='\u{fe2f}')
}

#[cfg(test)]
mod tests {
    use super::Names;

    /// Which of the names are taken, in this order.
    fn taken<const N: usize>(names: [&str; N]) -> [bool; N] {
        let mut all = Names::default();
        names.map(|name| all.add(name))
    }

    #[test]
    fn names_that_differ_in_case_only_are_not_packed_together() {
        assert_eq!(taken(["output/a", "output/A", "Output/b", "OUTPUT/B"]), [true, false, true, false]);
        assert_eq!(taken(["Ä", "ä", "É.csv", "é.csv"]), [true, false, true, false]);
    }

    #[test]
    fn names_in_two_normalizations_are_not_packed_together() {
        assert_eq!(taken(["caf\u{e9}.csv", "cafe\u{301}.csv", "cafe.csv"]), [true, false, true]);
        assert_eq!(taken(["e\u{301}e\u{301}", "\u{e9}\u{e9}"]), [true, false]);
        assert_eq!(taken(["\u{d55c}", "\u{1112}\u{1161}\u{11ab}"]), [true, false]);
        assert_eq!(taken(["\u{30ac}", "\u{30ab}\u{3099}"]), [true, false]);
        assert_eq!(taken(["图1.png", "表1.png", "結果/é", "结果/é"]), [true; 4], "other letters are other names");
    }

    #[test]
    fn a_file_is_not_packed_beside_a_folder_of_its_name() {
        assert_eq!(taken(["a/b", "A", "c", "C/d", "c/e"]), [true, false, true, false, false]);
    }

    #[test]
    fn names_that_no_file_system_takes_are_not_packed() {
        let (part, long) = ("x".repeat(255), "x/".repeat(600));
        assert_eq!(
            taken([&part, &(part.clone() + "x"), &long, "%FF".repeat(86).as_str()]),
            [true, false, false, false]
        );
    }
}
