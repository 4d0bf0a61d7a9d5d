//! The type that a file is sent with.
//!
//! Clients decode a `text/*` type without a charset as ISO-8859-1 (RFC 2616, 3.7.1, still the habit of several
//! libraries), and bytes without a known type as UTF-8 or not at all. So text names its charset, and bytes that aren't
//! UTF-8 aren't called text.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

/// A line for each type: the type, and the extensions of the files that have it. From the table of the crate
/// mime_guess 2.0.5 (MIT), of which it has the first type of each extension. A table of Rust's needs seven times the room.
const TYPES: &str = include_str!("media_types.txt");

/// What no more is known of than that it is bytes.
const BYTES: &str = "application/octet-stream";
/// A text of more bytes isn't looked at, and counts as bytes: the Server takes 50 MB (PROTOCOL 7).
const LOOKED_AT: u64 = 64 << 20;
/// How much of a file is in memory at once.
const PIECE: usize = 16 * 1024;

/// The type of a file by the extension of its name, without regard to case.
pub fn known_type(filename: &str) -> Option<&'static str> {
    let extension =
        Path::new(filename).extension().and_then(OsStr::to_str).filter(|extension| !extension.is_empty())?;
    TYPES.lines().find_map(|line| {
        let (media_type, extensions) = line.split_once(' ')?;
        extensions.split(' ').any(|known| known.eq_ignore_ascii_case(extension)).then_some(media_type)
    })
}

/// The value of `Content-Type` for a file of this name and size. The file is open at its beginning, and is so again.
///
/// # Errors
/// The file can't be read.
pub(super) fn media_type(filename: &str, mut file: &File, size: u64) -> io::Result<String> {
    let known = known_type(filename).unwrap_or(BYTES);
    if !known.starts_with("text/") {
        return Ok(known.to_owned());
    }
    let is_text = size <= LOOKED_AT && is_utf8(file.take(size))?;
    file.rewind()?;
    Ok(if is_text { format!("{known}; charset=utf-8") } else { BYTES.to_owned() })
}

/// Whether all of this is text in UTF-8. A zero byte is none: the letters of UTF-16 without a mark have one each.
fn is_utf8(mut bytes: impl Read) -> io::Result<bool> {
    let mut piece = [0; PIECE];
    // Of a character whose end hasn't been read yet, at most three bytes.
    let mut open = 0;
    loop {
        let read = match bytes.read(&mut piece[open..]) {
            Ok(0) => return Ok(open == 0),
            Ok(count) => open + count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let valid = match std::str::from_utf8(&piece[..read]) {
            Ok(_) => read,
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(_) => return Ok(false),
        };
        if piece[..valid].contains(&0) {
            return Ok(false);
        }
        piece.copy_within(valid..read, 0);
        open = read - valid;
    }
}

#[cfg(test)]
mod tests {
    use super::{LOOKED_AT, PIECE, TYPES, is_utf8, known_type, media_type};
    use std::fs::{self, File};
    use std::io::{self, Read};

    /// Gives its bytes in pieces of one size.
    struct Slow<'b>(&'b [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(buffer.len());
            (&mut self.0).take(count as u64).read(buffer)
        }
    }

    #[test]
    fn a_character_across_two_pieces_is_no_error() {
        let text = "a你é👩\u{200d}👧".repeat(50);
        for size in [1, 2, 3, 4, 7, 1000] {
            assert!(is_utf8(Slow(text.as_bytes(), size)).unwrap(), "in pieces of {size}");
            assert!(!is_utf8(Slow(&text.as_bytes()[..text.len() - 1], size)).unwrap(), "cut, in pieces of {size}");
        }
        for before in PIECE - 4..=PIECE {
            let text = "a".repeat(before) + "👧" + &"b".repeat(PIECE);
            assert!(is_utf8(text.as_bytes()).unwrap(), "{before} bytes before the character");
        }
    }

    #[test]
    fn other_encodings_and_bytes_are_no_utf8() {
        for bytes in [&b"\xc4\xe3\xba\xc3"[..], b"\xff\xfea\0", b"\0a\0b", b"a\0", b"\xed\xa0\x80", b"\xc0\xaf"] {
            assert!(!is_utf8(bytes).unwrap(), "{bytes:?}");
        }
        assert!(is_utf8(&b""[..]).unwrap() && is_utf8("\u{feff}a\r\n".as_bytes()).unwrap());
    }

    #[test]
    fn only_text_is_looked_at_and_the_file_is_at_its_begin_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "# 你好\n").unwrap();
        let mut file = File::open(&path).unwrap();
        let size = file.metadata().unwrap().len();
        for (name, expected) in [
            ("output/a.md", "text/markdown; charset=utf-8"),
            ("a.CSV", "text/csv; charset=utf-8"),
            ("a.json", "application/json"),
            ("a.png", "image/png"),
            ("a", "application/octet-stream"),
        ] {
            assert_eq!(media_type(name, &file, size).unwrap(), expected);
        }
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "# 你好\n");
        assert_eq!(media_type("a.md", &file, LOOKED_AT + 1).unwrap(), "application/octet-stream");
    }

    #[test]
    fn a_type_is_known_by_the_last_extension_in_any_case() {
        for (name, expected) in [
            ("a.tar.gz", Some("application/gzip")),
            ("Ü.PDF", Some("application/pdf")),
            ("output/x.d/table.Csv", Some("text/csv")),
            (".csv", None),
            ("a.", None),
            ("a.csv ", None),
            ("a.text/csv", None),
            ("a.b.unheard-of", None),
        ] {
            assert_eq!(known_type(name), expected, "{name}");
        }
    }

    #[test]
    fn every_extension_of_the_table_has_one_type() {
        let extensions = TYPES.lines().flat_map(|line| line.split(' ').skip(1));
        let mut extensions: Vec<&str> = extensions.collect();
        let all = extensions.len();
        extensions.sort_unstable();
        extensions.dedup();
        assert_eq!((all, extensions.len()), (1408, 1408));
        assert!(TYPES.lines().all(|line| line.split(' ').all(|word| !word.is_empty()) && line.contains('/')));
    }
}
