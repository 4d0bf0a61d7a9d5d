//! The names under which results are sent.

use std::ffi::OsStr;
use std::path::{Component, Path};

use percent_encoding::{NON_ALPHANUMERIC, percent_encode, utf8_percent_encode};

use crate::os::platform;

/// The name on the Server of a path relative to the workspace, with `/` between its parts, encoded so that it can stand
/// in a multipart header.
pub fn upload_name(relative: &Path) -> String {
    let parts: Vec<String> = relative
        .components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(encode(name)),
            _ => None,
        })
        .collect();
    parts.join("/")
}

/// Percent-encodes what can't stand between quotes in a header: quotes, backslashes, control characters, and bytes
/// that are no UTF-8. A `%` is encoded where it would look like an encoded byte, so that the encoding can be undone.
fn encode(name: &OsStr) -> String {
    let bytes = platform::to_bytes(name);
    // Most names, and there may be a million of them.
    if let Some(plain) = name.to_str().filter(|_| bytes.iter().all(is_plain)) {
        return plain.to_owned();
    }
    let mut encoded = String::with_capacity(bytes.len());
    let mut rest = &bytes[..];
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            rest = &rest[c.len_utf8()..];
            let looks_encoded = c == '%' && rest.len() >= 2 && rest[..2].iter().all(u8::is_ascii_hexdigit);
            if c.is_control() || matches!(c, '"' | '\\' | '\u{2028}' | '\u{2029}') || looks_encoded {
                encoded.extend(utf8_percent_encode(c.encode_utf8(&mut [0; 4]), NON_ALPHANUMERIC));
            } else {
                encoded.push(c);
            }
        }
        rest = &rest[chunk.invalid().len()..];
        encoded.extend(percent_encode(chunk.invalid(), NON_ALPHANUMERIC));
    }
    encoded
}

/// Whether a byte stands for itself in any name.
fn is_plain(byte: &u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b' ')
}

#[cfg(all(test, unix))]
mod tests {
    use super::upload_name;
    use crate::os::platform;

    #[test]
    fn characters_unsafe_in_headers_are_percent_encoded() {
        for (name, encoded) in [
            (&b"report.md"[..], "report.md"),
            ("名 前.csv".as_bytes(), "名 前.csv"),
            (b"a\"b\\c\r\nd", "a%22b%5Cc%0D%0Ad"),
            ("\u{85}\u{2028}".as_bytes(), "%C2%85%E2%80%A8"),
            (b"100%.txt", "100%.txt"),
            (b"a%41%4", "a%2541%4"),
            (b"\xff\xfe.bin", "%FF%FE.bin"),
            (b"%\xffab", "%%FFab"),
            (b"a/./b", "a/b"),
        ] {
            assert_eq!(upload_name(platform::from_bytes(name).unwrap()), encoded);
        }
    }
}
