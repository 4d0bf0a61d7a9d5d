//! Output of programs for a terminal.

use std::io::{self, Write};

use super::characters::{is_joiner, is_seen, is_space};
use super::marks::MarkLimit;

/// Passes text on and escapes what isn't seen, but for line ends, tabs, all spaces and joiners: the text has any number of
/// lines, so that spaces can't forge one, and programs draw tables and trees with them. Bytes that aren't UTF-8, and too
/// many marks at one character, are escaped, too.
pub struct Escaper<W: Write> {
    out: W,
    /// The begin of a character whose other bytes haven't come yet.
    part: Vec<u8>,
    marks: MarkLimit,
}

impl<W: Write> Escaper<W> {
    pub fn new(out: W) -> Self {
        Self { out, part: Vec::new(), marks: MarkLimit::default() }
    }
}

impl<W: Write> Write for Escaper<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut all = std::mem::take(&mut self.part);
        all.extend_from_slice(bytes);
        let mut chunks = all.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            self.out.write_all(escape_lines(chunk.valid(), &mut self.marks).as_bytes())?;
            let invalid = chunk.invalid();
            let is_part = chunks.peek().is_none() && is_begin_of_char(invalid);
            if is_part {
                self.part = invalid.to_vec();
            } else {
                write!(self.out, "{}", invalid.escape_ascii())?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl<W: Write> Drop for Escaper<W> {
    fn drop(&mut self) {
        // An error means that the terminal is closed.
        let _ = write!(self.out, "{}", self.part.escape_ascii()).and_then(|()| self.out.flush());
    }
}

/// Whether more bytes could make a character of these.
fn is_begin_of_char(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

fn escape_lines(text: &str, marks: &mut MarkLimit) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        let is_admitted = marks.admits(c);
        if is_admitted && (is_seen(c) || is_space(c) || is_joiner(c) || matches!(c, '\n' | '\t')) {
            shown.push(c);
        } else {
            shown.extend(c.escape_default());
        }
    }
    shown
}

/// What a program printed for a terminal, as plain text: without colours and movements of the cursor, with `\n` as the end
/// of each line, and with everything else escaped that a terminal would obey.
pub fn plain(text: &str) -> String {
    let (mut shown, mut marks) = (String::with_capacity(text.len()), MarkLimit::default());
    let mut rest = text;
    while let Some(begin) = rest.find(['\u{1b}', '\r']) {
        shown += &escape_lines(&rest[..begin], &mut marks);
        rest = &rest[begin..];
        if let Some(end) = sequence_length(rest) {
            rest = &rest[end..];
        } else if let Some(after) = rest.strip_prefix('\r') {
            shown.push('\n');
            rest = after.strip_prefix('\n').unwrap_or(after);
        } else {
            shown += &escape_lines("\u{1b}", &mut marks);
            rest = &rest[1..];
        }
    }
    shown + &escape_lines(rest, &mut marks)
}

/// The length of the control sequence that a text begins with (ECMA-48, 5.4).
fn sequence_length(text: &str) -> Option<usize> {
    let body = text.strip_prefix("\u{1b}[")?;
    let end = body.bytes().position(|byte| !matches!(byte, 0x20..=0x3f))?;
    matches!(body.as_bytes()[end], 0x40..=0x7e).then_some(2 + end + 1)
}

#[cfg(test)]
mod tests {
    use super::{Escaper, plain};
    use std::io::Write;

    #[test]
    fn plain_text_has_no_colours_and_one_kind_of_line_end() {
        for (printed, shown) in [
            ("a\r\nb\rc\n", "a\nb\nc\n"),
            ("\u{1b}[1;31mred\u{1b}[0m \u{1b}[2K\u{1b}[?25l世界", "red 世界"),
            ("\u{1b}]0;title\u{7}x\u{1b}", "\\u{1b}]0;title\\u{7}x\\u{1b}"),
            ("\u{1b}[12", "\\u{1b}[12"),
            ("\u{1b}[1世", "\\u{1b}[1世"),
            ("e\u{301}\u{301}\u{301}\u{301}\u{301}", "e\u{301}\u{301}\u{301}\u{301}\\u{301}"),
            ("\u{9b}31m\u{202e}\t|", "\\u{9b}31m\\u{202e}\t|"),
        ] {
            assert_eq!(plain(printed), shown, "{printed:?}");
        }
    }

    #[test]
    fn a_terminal_gets_text_and_no_commands() {
        let text = "a\tb\n\u{1b}]52;c;aGk=\u{7}\u{9b}2J 世界 👩\u{200d}👧 ├──\u{a0}\u{3164}\u{202e}x\r\n".as_bytes();
        let expected =
            "a\tb\n\\u{1b}]52;c;aGk=\\u{7}\\u{9b}2J 世界 👩\u{200d}👧 ├──\u{a0}\\u{3164}\\u{202e}x\\r\n\\xff\\xe4\\xb8";
        let all = [text, b"\xff", b"\xe4\xb8"].concat();
        for size in [1, 2, 3, 5, 1000] {
            let mut shown = Vec::new();
            let mut escaper = Escaper::new(&mut shown);
            all.chunks(size).for_each(|piece| escaper.write_all(piece).unwrap());
            drop(escaper);
            assert_eq!(String::from_utf8(shown).unwrap(), expected, "in pieces of {size} bytes");
        }
    }
}
