//! Reads `multipart/form-data` part by part, as the Server's upload call does.

use std::io::{self, BufRead, BufReader, ErrorKind, Read};

/// One field of the form.
pub struct Part {
    pub name: String,
    pub filename: Option<String>,
    pub content_type: Option<String>,
    pub bytes: Vec<u8>,
}

/// The parts of a body, one after the other.
pub struct Parts<R> {
    input: BufReader<R>,
    delimiter: Vec<u8>,
    ended: bool,
}

impl<R: Read> Parts<R> {
    /// Starts to read a body with this `Content-Type`; fails if that is no multipart form.
    pub fn new(body: R, content_type: &str) -> io::Result<Self> {
        let (kind, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
        if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
            return Err(invalid("the Content-Type is not multipart/form-data"));
        }
        let boundary =
            parameter(parameters, "boundary").ok_or_else(|| invalid("the Content-Type names no boundary"))?;
        let mut parts = Self {
            input: BufReader::with_capacity(64 * 1024, body),
            delimiter: format!("--{boundary}").into_bytes(),
            ended: false,
        };
        // The text before the first delimiter is a comment and is skipped.
        parts.content(u64::MAX)?;
        Ok(parts)
    }

    /// The next part, or `None` after the last. A part of more than `limit` bytes is read to its end and returned as
    /// `Err(FileTooLarge)`.
    pub fn next(&mut self, limit: u64) -> io::Result<Option<Part>> {
        if self.ended {
            return Ok(None);
        }
        let mut part = Part { name: String::new(), filename: None, content_type: None, bytes: Vec::new() };
        loop {
            let mut line = Vec::new();
            self.input.read_until(b'\n', &mut line)?;
            let line = String::from_utf8(line).map_err(|_| invalid("a header is not UTF-8"))?;
            let Some(line) = line.strip_suffix("\r\n") else {
                return Err(invalid("a part's headers break off"));
            };
            if line.is_empty() {
                break;
            }
            let (name, value) =
                line.split_once(':').ok_or_else(|| invalid("a part has a header line without a colon"))?;
            if name.eq_ignore_ascii_case("content-disposition") {
                part.name = parameter(value, "name").unwrap_or_default();
                part.filename = extended(value).or_else(|| parameter(value, "filename"));
            } else if name.eq_ignore_ascii_case("content-type") {
                part.content_type = Some(value.trim().to_owned());
            }
        }
        part.bytes = self.content(limit)?;
        Ok(Some(part))
    }

    /// Reads up to the next delimiter at the start of a line. The line end before it belongs to the delimiter.
    fn content(&mut self, limit: u64) -> io::Result<Vec<u8>> {
        let mut content: Vec<u8> = Vec::new();
        let mut too_large = false;
        let mut at_line_start = true;
        loop {
            let start = content.len();
            if self.input.read_until(b'\n', &mut content)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let line = &content[start..];
            let line_ends = line.ends_with(b"\r\n");
            if at_line_start && line.starts_with(&self.delimiter) {
                match &line[self.delimiter.len()..] {
                    b"\r\n" => {}
                    rest if rest.starts_with(b"--") => self.ended = true,
                    _ => return Err(invalid("a delimiter is followed by something else")),
                }
                content.truncate(start.saturating_sub(2));
                return match too_large || content.len() as u64 > limit {
                    true => Err(ErrorKind::FileTooLarge.into()),
                    false => Ok(content),
                };
            }
            at_line_start = line_ends;
            if content.len() as u64 > limit.saturating_add(2) {
                too_large = true;
                content.clear();
            }
        }
    }
}

/// The value of `name` in `form-data; name="file"; filename="a;b.txt"`. In quotes `\"` is a quote.
fn parameter(text: &str, name: &str) -> Option<String> {
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', ';', '\t']);
        if rest.is_empty() {
            return None;
        }
        let key_end = rest.find(['=', ';']).unwrap_or(rest.len());
        let key = rest[..key_end].trim();
        let after = &rest[key_end..];
        let Some(value) = after.strip_prefix('=') else {
            rest = after;
            continue;
        };
        let (value, left) = match value.strip_prefix('"') {
            Some(quoted) => quoted_string(quoted)?,
            None => {
                let end = value.find(';').unwrap_or(value.len());
                (value[..end].trim().to_owned(), &value[end..])
            }
        };
        if key.eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = left;
    }
}

fn quoted_string(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' if text[at + 1..].starts_with('"') => {
                characters.next();
                value.push('"');
            }
            other => value.push(other),
        }
    }
    None
}

/// `filename*=UTF-8''%E6%8A%A5.md` of RFC 8187.
fn extended(text: &str) -> Option<String> {
    let value = parameter(text, "filename*")?;
    let encoded = value.strip_prefix("UTF-8''").or_else(|| value.strip_prefix("utf-8''"))?;
    Some(percent_decoded(encoded))
}

/// Decodes `%41`; a `%` without two hexadecimal digits is kept.
pub fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, others)) = rest.split_first() {
        let code = others
            .get(..2)
            .filter(|_| first == b'%')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = &others[2..];
            }
            None => {
                bytes.push(first);
                rest = others;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, text.to_owned())
}
