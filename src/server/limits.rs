//! How much of an answer is read and kept. A Server, or a proxy before it, may send anything.

use std::fmt;
use std::io::{self, Read};
use std::ops::Deref;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::text::begin;

/// How many bytes of an answer are read where little is expected.
pub(super) const SMALL_ANSWER: u64 = 64 * 1024;
/// How many bytes of an offer or of a list of files are read.
pub(super) const LARGE_ANSWER: u64 = 8 * 1024 * 1024;
/// The longest id or name of the Server, in bytes.
pub const NAME_MAX: usize = 512;
/// The longest id by which a task can be accepted and reported, in bytes.
pub(super) const RAW_ID_MAX: usize = 4096;
/// The longest text in a list of files, in bytes as it is written: a path of 4096 bytes, each escaped twice.
const LISTED_TEXT_MAX: usize = 64 * 1024;
/// How deep the values of a list of files may be nested.
const LISTED_DEPTH_MAX: usize = 64;

/// An id or a name of the Server, of at most [`NAME_MAX`] bytes. A longer one is an error of its answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ShortText(String);

impl ShortText {
    pub fn into_string(self) -> String {
        self.0
    }
}

impl Deref for ShortText {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for ShortText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = CutText::deserialize(deserializer)?;
        match text.whole() {
            Some(_) => Ok(Self(text.begin)),
            None => {
                let length = text.length;
                Err(D::Error::custom(format_args!("an id or a name of {length} bytes; {NAME_MAX} are the most")))
            }
        }
    }
}

/// The id of a task, as the Server wrote it: of up to [`RAW_ID_MAX`] bytes, which may be too many for a name, and not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawId(String);

impl RawId {
    pub fn into_string(self) -> String {
        self.0
    }
}

impl Deref for RawId {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for RawId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = |text: &str| match text.len() {
            1..=RAW_ID_MAX => Ok(Self(text.to_owned())),
            length => Err(length),
        };
        deserializer
            .deserialize_str(TextVisitor(read))?
            .map_err(|length| D::Error::custom(format_args!("a task's id of {length} bytes; it has 1 to {RAW_ID_MAX}")))
    }
}

/// A text of the Server of which no more than [`NAME_MAX`] bytes are copied.
#[derive(Debug)]
pub struct CutText {
    /// The text, or the first bytes of a long one.
    pub begin: String,
    /// How many bytes the whole text has.
    pub length: usize,
}

impl CutText {
    /// The text, unless it is too long.
    pub fn whole(&self) -> Option<&str> {
        (self.length == self.begin.len()).then_some(&self.begin)
    }
}

impl<'de> Deserialize<'de> for CutText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let cut = |text: &str| Self { begin: begin(text, NAME_MAX).to_owned(), length: text.len() };
        deserializer.deserialize_str(TextVisitor(cut))
    }
}

/// Makes a value of a text that is read where it lies.
struct TextVisitor<F>(F);

impl<T, F: FnOnce(&str) -> T> Visitor<'_> for TextVisitor<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a text of at most {NAME_MAX} bytes")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        Ok((self.0)(text))
    }
}

/// The name of a submitter's file, of which the middle is left out where it has more than [`NAME_MAX`] bytes: its end says
/// what kind of file it is.
#[derive(Debug)]
pub(super) struct LongName(pub String);

impl<'de> Deserialize<'de> for LongName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor(Self::new))
    }
}

impl LongName {
    fn new(name: &str) -> Self {
        const MARK: &str = "…";
        /// How much of the end is kept, in bytes.
        const END_MAX: usize = 64;
        if name.len() <= NAME_MAX {
            return Self(name.to_owned());
        }
        let end = name.char_indices().map(|(at, _)| at).find(|at| name.len() - at <= END_MAX).unwrap_or(name.len());
        Self(format!("{}{MARK}{}", begin(name, NAME_MAX - END_MAX - MARK.len()), &name[end..]))
    }
}

/// A value that should be a flag or a number. What else stands there is neither kept nor quoted in an error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Scalar {
    Flag(bool),
    Count(u64),
    #[default]
    Null,
    Other,
}

impl Scalar {
    /// Whether the flag is set; `null` is a flag that isn't.
    pub fn is_set(self, name: &str) -> serde_json::Result<bool> {
        match self {
            Self::Flag(flag) => Ok(flag),
            Self::Null => Ok(false),
            Self::Count(_) | Self::Other => {
                Err(serde_json::Error::custom(format_args!("`{name}` is neither true nor false")))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a flag or a number")
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Scalar, E> {
        Ok(Scalar::Flag(flag))
    }

    fn visit_u64<E: Error>(self, count: u64) -> Result<Scalar, E> {
        Ok(Scalar::Count(count))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    fn visit_unit<E: Error>(self) -> Result<Scalar, E> {
        Ok(Scalar::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Scalar, A::Error> {
        IgnoredAny.visit_seq(seq).map(|_| Scalar::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Scalar, A::Error> {
        IgnoredAny.visit_map(map).map(|_| Scalar::Other)
    }
}

/// Passes JSON on, and fails at a text so long or at values nested so deep that the parser would need much memory for
/// them.
pub(super) struct BoundedJson<R> {
    inner: R,
    depth: usize,
    /// How many bytes of a text were read, inside one.
    text: Option<usize>,
    is_escaped: bool,
}

impl<R> BoundedJson<R> {
    pub fn new(inner: R) -> Self {
        Self { inner, depth: 0, text: None, is_escaped: false }
    }

    fn look_at(&mut self, byte: u8) {
        match (&mut self.text, byte) {
            (Some(_), _) if self.is_escaped => self.is_escaped = false,
            (Some(_), b'\\') => self.is_escaped = true,
            (Some(_), b'"') => self.text = None,
            (Some(length), _) => *length += 1,
            (None, b'"') => self.text = Some(0),
            (None, b'[' | b'{') => self.depth += 1,
            (None, b']' | b'}') => self.depth = self.depth.saturating_sub(1),
            (None, _) => {}
        }
    }
}

impl<R: Read> Read for BoundedJson<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        for byte in &buffer[..count] {
            self.look_at(*byte);
            if self.text.is_some_and(|length| length > LISTED_TEXT_MAX) {
                return Err(io::Error::other("a text of more than 64 KiB"));
            }
            if self.depth > LISTED_DEPTH_MAX {
                return Err(io::Error::other("values nested too deep"));
            }
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::{BoundedJson, LISTED_DEPTH_MAX, LISTED_TEXT_MAX, NAME_MAX, ShortText};
    use std::io::{self, Read};

    #[test]
    fn an_id_has_at_most_512_bytes() {
        let parse = |length| serde_json::from_value::<ShortText>("x".repeat(length).into());
        assert_eq!(parse(NAME_MAX).unwrap().len(), NAME_MAX);
        let error = parse(NAME_MAX + 1).unwrap_err().to_string();
        assert!(error.contains("513 bytes"), "{error}");
        let error = serde_json::from_str::<ShortText>("7").unwrap_err().to_string();
        assert!(error.contains("at most 512 bytes"), "{error}");
    }

    #[test]
    fn long_texts_and_deep_values_are_refused_before_they_are_parsed() {
        let read = |text: String| {
            let mut all = String::new();
            let count = BoundedJson::new(text.as_bytes()).read_to_string(&mut all)?;
            assert_eq!((count, &all), (text.len(), &text));
            io::Result::Ok(())
        };
        assert!(read(format!(r#"{{"a\\\"[[[{{":["{}"]}}"#, "x".repeat(LISTED_TEXT_MAX))).is_ok());
        assert!(read(format!("[\"{}\"]", "\\\"".repeat(1000))).is_ok());
        assert!(read("[]".repeat(1000)).is_ok());
        assert!(read(format!("[\"{}", "x".repeat(LISTED_TEXT_MAX + 1))).is_err());
        assert!(read(format!("[\"{}", "\\u0000".repeat(LISTED_TEXT_MAX))).is_err());
        assert!(read("[".repeat(LISTED_DEPTH_MAX + 1)).is_err());
        assert!(read(r#"{"":"#.repeat(LISTED_DEPTH_MAX + 1)).is_err());
    }
}
