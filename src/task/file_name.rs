//! File names made of texts from outside (P4).

/// The longest file name, in bytes. File systems take 255, but eCryptfs, as in encrypted homes, takes 143, and a number may
/// be added.
const NAME_MAX: usize = 132;

/// One plain file name that reads the same to a person: without separators, control characters and characters that
/// change the direction of text, without a beginning that makes it hidden or an option, and such that Windows can store
/// it.
pub fn safe_name(written: &str) -> String {
    let mut name: String = written
        .chars()
        .take(4 * NAME_MAX)
        .map(|c| {
            let confusing = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if c.is_control() || confusing || r#"/\<>:"|?*"#.contains(c) { '_' } else { c }
        })
        .collect();
    if name.starts_with(['.', '-', '~', ' ']) {
        name.replace_range(..1, "_");
    }
    let kept = name.trim_end_matches(['.', ' ']).len();
    name.truncate(kept);
    if name.is_empty() || is_windows_device(&name) {
        name.insert(0, '_');
    }
    shorten(&name)
}

/// Whether Windows takes a name for a device, with any extension.
pub fn is_windows_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$")
        || (stem.chars().count() == 4 && (stem.starts_with("COM") || stem.starts_with("LPT")))
}

/// The part before the extension, and the extension with its dot.
pub fn split_extension(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(at) if at > 0 => name.split_at(at),
        _ => (name, ""),
    }
}

/// Shortens the part before the extension, between characters.
fn shorten(name: &str) -> String {
    if name.len() <= NAME_MAX {
        return name.to_owned();
    }
    let (stem, extension) = split_extension(name);
    let extension = if extension.len() <= 20 { extension } else { "" };
    let mut end = NAME_MAX - extension.len();
    while !stem.is_char_boundary(end.min(stem.len())) {
        end -= 1;
    }
    format!("{}{extension}", &stem[..end.min(stem.len())])
}

#[cfg(test)]
mod tests {
    use super::safe_name;

    #[test]
    fn safe_names_are_kept_unchanged() {
        for name in ["data.csv", "名前 (1).tar.gz", "a.b", "x", "it's 5%", "UPPER.TXT"] {
            assert_eq!(safe_name(name), name);
        }
    }

    #[test]
    fn hostile_names_become_plain_names() {
        for (written, expected) in [
            ("../../etc/passwd", "_._.._etc_passwd"),
            ("/abs", "_abs"),
            ("..", "_"),
            (".", "_"),
            ("", "_"),
            ("-rf", "_rf"),
            (".bashrc", "_bashrc"),
            ("a\0b\nc", "a_b_c"),
            ("C:\\x", "C__x"),
            ("nul.txt", "_nul.txt"),
            ("evil\u{202e}gpj.exe", "evil_gpj.exe"),
            ("dots...", "dots"),
        ] {
            assert_eq!(safe_name(written), expected, "{written:?}");
        }
        let long = safe_name(&format!("{}.csv", "ü".repeat(5_000_000)));
        assert!(long.len() <= 132 && long.starts_with("üü"), "{}", long.len());
        assert!(safe_name(&format!("{}.csv", "ü".repeat(150))).ends_with("ü.csv"));
    }
}
