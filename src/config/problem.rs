//! Mistakes in a configuration file.

use std::fmt;
use std::path::PathBuf;

/// One mistake in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub file: PathBuf,
    /// Line and column, counted from 1; `None` for a key whose section is missing, too.
    pub place: Option<(usize, usize)>,
    /// The mistake, with the key's full name and the remedy.
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
