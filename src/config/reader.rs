//! Reads a TOML file key by key and gathers everything that is wrong with it, each with line and column, so that a
//! person mends it in one go.

use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use strsim::levenshtein;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::Secret;

/// One thing that is wrong with a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// Line and column, counted from 1; `None` where something is missing altogether.
    pub place: Option<(usize, usize)>,
    /// What is wrong, with the key's full name and the remedy.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some((line, column)) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// A value and where it stands in the text.
#[derive(Debug, Clone)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Its bytes in the text.
    pub span: Range<usize>,
}

/// A whole file.
pub struct Reader<'t> {
    file: &'t Path,
    text: &'t str,
    root: Spanned<DeTable<'t>>,
}

impl<'t> Reader<'t> {
    /// Parses the text. What isn't TOML at all ends here, with every place that isn't.
    pub fn parse(file: &'t Path, text: &'t str) -> Result<Self, Vec<Problem>> {
        let (root, errors) = DeTable::parse_recoverable(text);
        let reader = Self { file, text, root };
        if errors.is_empty() {
            return Ok(reader);
        }
        Err(errors.iter().map(|error| reader.problem(error.span(), error.message().replace('\n', ", "))).collect())
    }

    /// A problem at a place in this file.
    pub fn problem(&self, span: Option<Range<usize>>, message: impl Into<String>) -> Problem {
        let place = span.map(|span| line_and_column(self.text, span.start));
        Problem { file: self.file.to_owned(), place, message: message.into() }
    }

    /// The whole file as a section, whose keys are the names of sections.
    pub fn root(&self) -> Section<'_> {
        Section {
            reader: self,
            name: String::new(),
            entries: Some(self.root.get_ref()),
            span: None,
            known: Vec::new(),
            problems: Vec::new(),
        }
    }
}

/// A table of the file, or an absent one. Getters remember which keys were asked for; [`Section::finish`] names the
/// others.
pub struct Section<'r> {
    reader: &'r Reader<'r>,
    name: String,
    entries: Option<&'r DeTable<'r>>,
    span: Option<Range<usize>>,
    known: Vec<&'static str>,
    problems: Vec<Problem>,
}

/// See [`Section::text_or_section`].
pub enum TextOrSection<'r> {
    /// A text.
    Text(Located<String>),
    /// A section.
    Section(Section<'r>),
}

/// What a file's sections had to say.
#[derive(Debug, Default)]
pub struct Findings {
    /// The file can't be used.
    pub errors: Vec<Problem>,
    /// It can, but something in it has no effect.
    pub warnings: Vec<Problem>,
    /// Every key that the program knows, for the test that compares them with the manual's and the template's.
    #[cfg(test)]
    pub known: Vec<String>,
}

impl Findings {
    /// All of them in the order of the file, what is missing altogether first. Warnings too: a key that is missing and
    /// one that isn't known may be the same, misspelt.
    pub fn in_order(self) -> Vec<Problem> {
        let mut all = self.errors;
        all.extend(self.warnings);
        all.sort_by_key(|problem| problem.place);
        all
    }
}

impl<'r> Section<'r> {
    /// The table `key`, or an empty one if the file has none.
    pub fn section(&mut self, key: &'static str) -> Section<'r> {
        let mut section = Section {
            reader: self.reader,
            name: self.full(key),
            entries: None,
            span: None,
            known: Vec::new(),
            problems: Vec::new(),
        };
        if let Some(value) = self.get(key) {
            match value.get_ref() {
                DeValue::Table(entries) => {
                    section.entries = Some(entries);
                    section.span = Some(value.span());
                }
                other => self.refuse(key, value.span(), &format!("must be a section, not {}", a(other))),
            }
        }
        section
    }

    /// The tables of `[[key]]`, in order.
    pub fn sections(&mut self, key: &'static str) -> Vec<Section<'r>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            let name = self.full(key);
            self.refuse(key, value.span(), &format!("must be written as `[[{name}]]`"));
            return Vec::new();
        };
        let mut sections = Vec::new();
        for item in items.iter() {
            if let DeValue::Table(entries) = item.get_ref() {
                sections.push(Section {
                    reader: self.reader,
                    name: self.full(key),
                    entries: Some(entries),
                    span: Some(item.span()),
                    known: Vec::new(),
                    problems: Vec::new(),
                });
            } else {
                let name = self.full(key);
                self.refuse(key, item.span(), &format!("must be written as `[[{name}]]`"));
            }
        }
        sections
    }

    /// A text.
    pub fn string(&mut self, key: &'static str) -> Option<Located<String>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(Located { value: text.to_string(), span: value.span() }),
            other => {
                let message = format!("must be a text in quotes, not {}", a(other));
                self.refuse(key, value.span(), &message);
                None
            }
        }
    }

    /// A whole number within bounds.
    pub fn integer(&mut self, key: &'static str, bounds: RangeInclusive<u64>) -> Option<Located<u64>> {
        let value = self.get(key)?;
        let within = format!("must be a whole number from {} to {}", bounds.start(), bounds.end());
        match value.get_ref() {
            DeValue::Integer(number) => {
                let parsed = u64::from_str_radix(number.as_str(), number.radix()).ok().filter(|n| bounds.contains(n));
                if parsed.is_none() {
                    self.refuse(key, value.span(), &format!("{within}, not {}", number.as_str()));
                }
                parsed.map(|n| Located { value: n, span: value.span() })
            }
            other => {
                self.refuse(key, value.span(), &format!("{within}, not {}", a(other)));
                None
            }
        }
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Boolean(yes) => Some(*yes),
            other => {
                self.refuse(key, value.span(), &format!("must be true or false, not {}", a(other)));
                None
            }
        }
    }

    /// A list of texts.
    pub fn strings(&mut self, key: &'static str) -> Option<Located<Vec<String>>> {
        let value = self.get(key)?;
        let DeValue::Array(items) = value.get_ref() else {
            let message = format!("must be a list of texts, not {}", a(value.get_ref()));
            self.refuse(key, value.span(), &message);
            return None;
        };
        let mut texts = Vec::new();
        for item in items.iter() {
            match item.get_ref() {
                DeValue::String(text) => texts.push(text.to_string()),
                other => {
                    self.refuse(key, item.span(), &format!("must be a list of texts, but has {} in it", a(other)));
                    return None;
                }
            }
        }
        Some(Located { value: texts, span: value.span() })
    }

    /// A number, as its digits: written as a number, whole or not, or as a text.
    pub fn number_text(&mut self, key: &'static str) -> Option<Located<String>> {
        let value = self.get(key)?;
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
            DeValue::Float(number) => number.as_str().to_owned(),
            other => {
                self.refuse(key, value.span(), &format!("must be a number, not {}", a(other)));
                return None;
            }
        };
        Some(Located { value: text, span: value.span() })
    }

    /// A list of words, each a text or a whole number, or a single one.
    pub fn words(&mut self, key: &'static str) -> Option<Located<Vec<String>>> {
        let value = self.get(key)?;
        let word = |value: &DeValue<'_>| match value {
            DeValue::String(text) => Some(text.to_string()),
            DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
            _ => None,
        };
        let words = match value.get_ref() {
            DeValue::Array(items) => items.iter().map(|item| word(item.get_ref())).collect(),
            single => word(single).map(|word| vec![word]),
        };
        if words.is_none() {
            self.refuse(key, value.span(), "must be a list of texts or numbers, or one of them");
        }
        Some(Located { value: words?, span: value.span() })
    }

    /// The texts of the table `key`, whose names are free, each with its name. They may be secret: what is wrong is said
    /// without them, and without names, since a value may have got there.
    pub fn secrets(&mut self, key: &'static str) -> Vec<(Located<String>, Located<Secret>)> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let DeValue::Table(entries) = value.get_ref() else {
            let name = self.full(key);
            self.refuse(key, value.span(), &format!("must be a section, `[{name}]`, with a line for each variable"));
            return Vec::new();
        };
        let mut secrets = Vec::new();
        for (name, value) in entries.iter() {
            let DeValue::String(text) = value.get_ref() else {
                self.refuse(
                    key,
                    value.span(),
                    "must hold nothing but texts in quotes, each with a name in front of it",
                );
                continue;
            };
            let name = Located { value: name.get_ref().to_string(), span: name.span() };
            secrets.push((name, Located { value: Secret::new(text.to_string()), span: value.span() }));
        }
        secrets
    }

    /// What is written as a text or as a section.
    pub fn text_or_section(&mut self, key: &'static str) -> Option<TextOrSection<'r>> {
        Some(if matches!(self.get(key)?.get_ref(), DeValue::String(_)) {
            TextOrSection::Text(self.string(key)?)
        } else {
            TextOrSection::Section(self.section(key))
        })
    }

    /// Notes that the value of `key` can't be used.
    pub fn refuse(&mut self, key: &str, span: Range<usize>, message: &str) {
        let name = self.full(key);
        self.problems.push(self.reader.problem(Some(span), format!("`{name}` {message}")));
    }

    /// Notes that the value of `key`, which the file has, can't be used.
    pub fn refuse_written(&mut self, key: &str, message: &str) {
        let span = self.entries.and_then(|entries| entries.get(key)).map(Spanned::span).unwrap_or_default();
        self.refuse(key, span, message);
    }

    /// Notes that `key` has to be there and isn't; at the section's head if there is one.
    pub fn miss(&mut self, key: &str, remedy: &str) {
        let name = self.full(key);
        self.problems.push(self.reader.problem(self.span.clone(), format!("`{name}` is missing; {remedy}")));
    }

    /// Whether the section was refused something so far.
    pub fn has_problems(&self) -> bool {
        !self.problems.is_empty()
    }

    /// Hands over what was found, with a warning for each key that nobody asked for.
    pub fn finish(self, findings: &mut Findings) {
        for (key, _) in self.entries.into_iter().flatten() {
            let written: &Spanned<DeString<'_>> = key;
            let written_name = written.get_ref().as_ref();
            if self.known.contains(&written_name) {
                continue;
            }
            let hint = match nearest(written_name, &self.known) {
                Some(near) => format!("did you mean `{}`?", self.full(near)),
                None => "it has no effect".to_owned(),
            };
            let message = format!("`{}` is not a known key; {hint}", self.full(written_name));
            findings.warnings.push(self.reader.problem(Some(written.span()), message));
        }
        #[cfg(test)]
        findings.known.extend(self.known.iter().map(|key| self.full(key)));
        findings.errors.extend(self.problems);
    }

    fn get(&mut self, key: &'static str) -> Option<&'r Spanned<DeValue<'r>>> {
        self.known.push(key);
        self.entries?.get(key)
    }

    fn full(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }
}

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

fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    (line, String::from_utf8_lossy(&before[line_start..]).chars().count() + 1)
}

/// The known key that was probably meant: at most two letters away, or a third of a long one.
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
