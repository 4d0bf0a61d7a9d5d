//! Reads a TOML file key by key and collects all mistakes, each with line and column, so that a person can correct them
//! in one go. Kinds and defaults of the keys come from [`super::keys`].

use std::fmt;
use std::ops::Range;
use std::path::Path;

use strsim::levenshtein;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::Secret;
use super::keys::{Kind, kind_of, names_in};
use super::problem::{Findings, Problem};
use super::syntax::explain;

/// A whole file.
pub struct Reader<'t> {
    file: &'t Path,
    text: &'t str,
    root: Spanned<DeTable<'t>>,
}

impl<'t> Reader<'t> {
    /// Parses the text. The error is each place where it isn't TOML.
    pub fn parse(file: &'t Path, text: &'t str) -> Result<Self, Vec<Problem>> {
        let (root, errors) = DeTable::parse_recoverable(text);
        let reader = Self { file, text, root };
        if errors.is_empty() {
            return Ok(reader);
        }
        let explain = |error: &toml::de::Error| explain(text, error.span(), error.message());
        Err(errors.iter().map(|error| reader.problem(error.span(), explain(error))).collect())
    }

    fn problem(&self, span: Option<Range<usize>>, message: impl Into<String>) -> Problem {
        match span {
            Some(span) => Problem::at(self.file, self.text.as_bytes(), span.start, message),
            None => Problem { file: self.file.to_owned(), place: None, message: message.into() },
        }
    }

    /// The whole file as a section, whose keys are the names of sections.
    pub fn root(&self) -> Section<'_> {
        let (name, entries) = (String::new(), Some(self.root.get_ref()));
        Section { reader: self, name, entries, span: None, problems: Vec::new() }
    }
}

/// A table of the file, or an absent one.
///
/// A getter records a wrong value as a problem and returns the key's default in its place.
pub struct Section<'r> {
    reader: &'r Reader<'r>,
    name: String,
    entries: Option<&'r DeTable<'r>>,
    span: Option<Range<usize>>,
    problems: Vec<Problem>,
}

impl<'r> Section<'r> {
    /// The table `key`, or an empty one if the file has none.
    pub fn section(&mut self, key: &str) -> Section<'r> {
        match self.get(key).map(|value| (value, value.get_ref())) {
            Some((value, DeValue::Table(entries))) => self.inner(key, Some(entries), Some(value.span())),
            Some((_, other)) => {
                self.refuse(key, format_args!("must be a section, not {}", a(other)));
                self.inner(key, None, None)
            }
            None => self.inner(key, None, None),
        }
    }

    /// The tables of `[[key]]`, in order.
    pub fn sections(&mut self, key: &str) -> Vec<Section<'r>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let expected = format!("must be written as `[[{}]]`", self.full(key));
        let DeValue::Array(items) = value.get_ref() else {
            self.refuse(key, expected);
            return Vec::new();
        };
        let mut sections = Vec::new();
        for item in items.iter() {
            match item.get_ref() {
                DeValue::Table(entries) => sections.push(self.inner(key, Some(entries), Some(item.span()))),
                _ => self.refuse_at(key, item.span(), &expected),
            }
        }
        sections
    }

    fn inner(&self, key: &str, entries: Option<&'r DeTable<'r>>, span: Option<Range<usize>>) -> Section<'r> {
        Section { reader: self.reader, name: self.full(key), entries, span, problems: Vec::new() }
    }

    /// A text that has no default.
    pub fn optional_text(&mut self, key: &str) -> Option<String> {
        self.valid_text(key, |_| true, "")
    }

    /// A text that has a default.
    pub fn text(&mut self, key: &str) -> String {
        self.optional_text(key).unwrap_or_default()
    }

    /// A text without which the file can't be used.
    pub fn required_text(&mut self, key: &str, remedy: &str) -> Option<String> {
        if !self.has(key) {
            self.miss(key, remedy);
        }
        self.optional_text(key)
    }

    /// A text that is valid; otherwise the message says what it `must` be.
    pub fn valid_text(&mut self, key: &str, is_valid: impl Fn(&str) -> bool, must: &str) -> Option<String> {
        let Kind::Text(default) = kind_of(&self.full(key)) else { unreachable!("`{key}` isn't a text") };
        match self.get(key).map(Spanned::get_ref) {
            Some(DeValue::String(text)) if is_valid(text) => return Some(text.to_string()),
            Some(DeValue::String(text)) => self.refuse(key, format_args!("{must}, not `{text}`")),
            Some(other) => self.refuse(key, format_args!("must be a text in quotes, not {}", a(other))),
            None => {}
        }
        default.map(str::to_owned)
    }

    /// A text that is one of some words, as what that word means.
    pub fn choice<T: Copy>(&mut self, key: &str, words: &[(&str, T)]) -> Option<T> {
        let find = |text: &str| words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
        let quoted: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let (last, others) = quoted.split_last()?;
        let must = format!("must be {} or {last}", others.join(", "));
        find(&self.valid_text(key, |text| find(text).is_some(), &must)?)
    }

    /// Whether the file has the key.
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The value of a key that can be a text or a section, if it is a text.
    pub fn as_text(&self, key: &str) -> Option<String> {
        match self.get(key)?.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            _ => None,
        }
    }

    /// A whole number that has no default.
    pub fn optional_integer(&mut self, key: &str) -> Option<u64> {
        let Kind::Integer(least, most, default) = kind_of(&self.full(key)) else {
            unreachable!("`{key}` isn't an integer")
        };
        let Some(value) = self.get(key) else { return default };
        let shown = match value.get_ref() {
            DeValue::Integer(number) => match u64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) if (least..=most).contains(&number) => return Some(number),
                _ => number.as_str().to_owned(),
            },
            other => a(other),
        };
        self.refuse(key, format_args!("must be a whole number from {least} to {most}, not {shown}"));
        default
    }

    /// A whole number that has a default.
    pub fn integer(&mut self, key: &str) -> u64 {
        self.optional_integer(key).unwrap_or_default()
    }

    /// A whole number that has a default, as a size in memory.
    pub fn size(&mut self, key: &str) -> usize {
        usize::try_from(self.integer(key)).unwrap_or(usize::MAX)
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, key: &str) -> bool {
        let Kind::Boolean(default) = kind_of(&self.full(key)) else { unreachable!("`{key}` isn't a boolean") };
        match self.get(key).map(Spanned::get_ref) {
            Some(DeValue::Boolean(yes)) => return *yes,
            Some(other) => self.refuse(key, format_args!("must be true or false, not {}", a(other))),
            None => {}
        }
        default
    }

    /// A list of texts.
    pub fn texts(&mut self, key: &str) -> Option<Vec<String>> {
        let value = self.get(key)?.get_ref();
        let DeValue::Array(items) = value else {
            self.refuse(key, format_args!("must be a list of texts, not {}", a(value)));
            return None;
        };
        let mut texts = Vec::new();
        for item in items.iter() {
            match item.get_ref() {
                DeValue::String(text) => texts.push(text.to_string()),
                other => {
                    let message = format!("must be a list of texts, but has {} in it", a(other));
                    self.refuse_at(key, item.span(), &message);
                    return None;
                }
            }
        }
        Some(texts)
    }

    /// A number as its digits. It may be written as a number, whole or not, or as a text.
    pub fn decimal(&mut self, key: &str) -> Option<String> {
        match self.get(key)?.get_ref() {
            DeValue::Float(number) => Some(number.as_str().to_owned()),
            other => word(other).or_else(|| {
                self.refuse(key, format_args!("must be a number, not {}", a(other)));
                None
            }),
        }
    }

    /// A list of words, each a text or a whole number, or a single word.
    pub fn words(&mut self, key: &str) -> Option<Vec<String>> {
        let words = match self.get(key)?.get_ref() {
            DeValue::Array(items) => items.iter().map(|item| word(item.get_ref())).collect(),
            single => word(single).map(|word| vec![word]),
        };
        if words.is_none() {
            self.refuse(key, "must be a list of texts or numbers, or one of them");
        }
        words
    }

    /// The texts of the table `key`, each with its name. They may be secret, so messages show no value, and no name
    /// either, since a person may have written the value in its place.
    pub fn secrets(&mut self, key: &str) -> Vec<(Spanned<String>, Spanned<Secret>)> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let DeValue::Table(entries) = value.get_ref() else {
            let name = self.full(key);
            self.refuse(key, format_args!("must be a section, `[{name}]`, with a line for each variable"));
            return Vec::new();
        };
        let mut secrets = Vec::new();
        for (name, value) in entries.iter() {
            let DeValue::String(text) = value.get_ref() else {
                let message = "must hold nothing but texts in quotes, each with a name in front of it";
                self.refuse_at(key, value.span(), message);
                continue;
            };
            let name = Spanned::new(name.span(), name.get_ref().to_string());
            secrets.push((name, Spanned::new(value.span(), Secret::new(text.to_string()))));
        }
        secrets
    }

    /// Records that `key` is missing, at the section's head if there is one.
    pub fn miss(&mut self, key: &str, remedy: &str) {
        let message = format!("`{}` is missing; {remedy}", self.full(key));
        self.problems.push(self.reader.problem(self.span.clone(), message));
    }

    /// Records that the value of `key` can't be used.
    pub fn refuse(&mut self, key: &str, message: impl fmt::Display) {
        let name = self.full(key);
        let span = self.get(key).map(Spanned::span);
        self.problems.push(self.reader.problem(span, format!("`{name}` {message}")));
    }

    /// Records that a part of the value of `key` can't be used.
    pub fn refuse_at(&mut self, key: &str, span: Range<usize>, message: &str) {
        let name = self.full(key);
        self.problems.push(self.reader.problem(Some(span), format!("`{name}` {message}")));
    }

    /// Whether a problem has been recorded.
    pub fn has_problems(&self) -> bool {
        !self.problems.is_empty()
    }

    /// Hands over the problems, and a warning for each unknown key.
    pub fn finish(self, findings: &mut Findings) {
        let known: Vec<&str> = names_in(&self.name).collect();
        for (key, _) in self.entries.into_iter().flatten() {
            let key: &Spanned<DeString<'_>> = key;
            let written = key.get_ref().as_ref();
            if known.contains(&written) {
                continue;
            }
            let hint = match nearest(written, &known) {
                Some(near) => format!("did you mean `{}`?", self.full(near)),
                None => "it has no effect".to_owned(),
            };
            let message = format!("`{}` is not a known key; {hint}", self.full(written));
            findings.warnings.push(self.reader.problem(Some(key.span()), message));
        }
        findings.errors.extend(self.problems);
    }

    fn get(&self, key: &str) -> Option<&'r Spanned<DeValue<'r>>> {
        self.entries?.get(key)
    }

    fn full(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }
}

/// A text, or the digits of a whole number.
fn word(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        _ => None,
    }
}

/// A value as messages name it.
fn a(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(_) => "a text".to_owned(),
        DeValue::Integer(number) => format!("the number {}", number.as_str()),
        DeValue::Float(number) => format!("the number {}", number.as_str()),
        DeValue::Boolean(yes) => yes.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a section".to_owned(),
    }
}

/// The known key that was probably meant: one that differs in at most two letters, or in a third of a long name.
fn nearest<'k>(written: &str, known: &[&'k str]) -> Option<&'k str> {
    known
        .iter()
        .map(|candidate| (levenshtein(written, candidate), *candidate))
        .filter(|(far, candidate)| *far <= 2.max(candidate.len() / 3))
        .min_by_key(|(far, _)| *far)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests;
