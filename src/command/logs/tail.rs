//! The last lines of a file.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// How much is read at a time, from the end on.
const BLOCK: u64 = 64 * 1024;

/// Sets the place in a file from which on it has so many lines; without a number its begin.
pub fn tail_start(file: &mut File, lines: Option<usize>) -> io::Result<()> {
    let Some(lines) = lines else { return Ok(()) };
    let mut end = file.metadata()?.len();
    let mut left = lines;
    let mut is_last = true;
    while end > 0 && left > 0 {
        let begin = end.saturating_sub(BLOCK);
        let mut block = Vec::new();
        file.seek(SeekFrom::Start(begin))?;
        file.by_ref().take(end - begin).read_to_end(&mut block)?;
        // The end of the last line begins none.
        let body = if std::mem::take(&mut is_last) { block.strip_suffix(b"\n").unwrap_or(&block) } else { &block };
        for (at, _) in body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            left -= 1;
            if left == 0 {
                return file.seek(SeekFrom::Start(begin + at as u64 + 1)).map(drop);
            }
        }
        end = begin;
    }
    let from = if lines == 0 { SeekFrom::End(0) } else { SeekFrom::Start(0) };
    file.seek(from).map(drop)
}

#[cfg(test)]
mod tests {
    use super::tail_start;
    use std::fs::{self, File};
    use std::io::Read;

    fn tail(text: &str, lines: Option<usize>) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, text).unwrap();
        let mut file = File::open(&path).unwrap();
        tail_start(&mut file, lines).unwrap();
        let mut rest = String::new();
        file.read_to_string(&mut rest).unwrap();
        rest
    }

    #[test]
    fn the_last_lines_are_those_that_were_asked_for() {
        for text in ["a\nb\nc\n", "a\nb\nc"] {
            assert_eq!(tail(text, None), text);
            assert_eq!(tail(text, Some(2)).trim_end(), "b\nc");
            assert_eq!(tail(text, Some(3)), text);
            assert_eq!(tail(text, Some(9)), text);
            assert_eq!(tail(text, Some(0)), "");
        }
        assert_eq!((tail("", Some(3)), tail("\n\n", Some(1))), (String::new(), "\n".to_owned()));
    }

    #[test]
    fn lines_may_be_longer_than_a_block() {
        let long = "x".repeat(100_000);
        let text = format!("{long}\n{long}\ny\n");
        assert_eq!(tail(&text, Some(2)), format!("{long}\ny\n"));
        assert_eq!(tail(&text, Some(3)), text);
    }
}
