//! One task's lines in the ledger.

use std::io;

use super::{Record, TaskFiles};
use crate::ledger::{Entry, Ledger, Line, Peer};

/// One task's lines in the ledger.
pub struct TaskLedger<'t> {
    pub ledger: &'t Ledger,
    pub task_id: &'t str,
    /// Its name on this machine.
    pub key: &'t str,
    pub peer: Peer<'t>,
}

impl<'t> TaskLedger<'t> {
    /// For a task whose lines name the Server of its record.
    pub fn new(ledger: &'t Ledger, files: &'t TaskFiles, record: &'t Record) -> Self {
        let peer = Peer { server: &record.base_url, service_id: &record.service_id };
        Self { ledger, task_id: &record.task.id, key: files.key().as_str(), peer }
    }

    /// Appends all of these lines, or none.
    pub fn append(&self, entries: Vec<Entry>) -> io::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let lines: Vec<Line> =
            entries.into_iter().map(|entry| Line::new(self.task_id, self.peer, entry).named(self.key)).collect();
        self.ledger.append(&lines)
    }
}
