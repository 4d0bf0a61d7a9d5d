//! Files that are removed from this machine, although the Server doesn't have them.

use super::{StepError, Upload};
use crate::task::ledger_entries::{removed_file, stays_here};
use crate::task::outputs::Skipped;

impl Upload<'_> {
    /// Writes down that a file isn't sent, unless that is known, and that it is removed from this machine. To be called before
    /// it is removed.
    pub fn note_removed(&mut self, name: &str, reason: &str) -> Result<(), StepError> {
        let mut skipped = Skipped::default();
        skipped.skip_deliverable(name.to_owned(), reason);
        self.note_skipped(skipped)?;
        self.append_to_ledger(vec![removed_file(name, reason)])
    }

    /// Writes down that such a file stays here all the same.
    pub fn note_kept(&mut self, name: &str, reason: &str) -> Result<(), StepError> {
        log::warn!(task:% = self.task.key(); "`{name}` stays here: {reason}");
        self.append_to_ledger(vec![stays_here(name, reason)])
    }
}
