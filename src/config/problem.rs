//! Mistakes in a configuration file.

use std::fmt;
use std::path::{Path, PathBuf};

/// One mistake in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub file: PathBuf,
    /// Line and column, counted from 1; `None` for a key whose section is missing, too.
    pub place: Option<(usize, usize)>,
    /// The mistake, with the key's full name and the remedy.
    pub message: String,
}

impl Problem {
    /// A mistake at a byte of the file's text.
    pub(super) fn at(file: &Path, text: &[u8], offset: usize, message: impl Into<String>) -> Self {
        let before = &text[..offset.min(text.len())];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let column = String::from_utf8_lossy(&before[line_start..]).chars().count() + 1;
        Self { file: file.to_owned(), place: Some((line, column)), message: message.into() }
    }
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

/// All mistakes of a file.
#[derive(Debug, Default)]
pub struct Findings {
    /// With one of these, the file can't be used.
    pub errors: Vec<Problem>,
    /// Parts of the file that have no effect.
    pub warnings: Vec<Problem>,
}

impl Findings {
    /// Errors and warnings in the order of the file, those without a place first. Warnings too: an unknown key may be
    /// the misspelt name of one that is missing.
    pub fn in_order(self) -> Vec<Problem> {
        let mut all = self.errors;
        all.extend(self.warnings);
        all.sort_by_key(|problem| problem.place);
        all
    }
}
