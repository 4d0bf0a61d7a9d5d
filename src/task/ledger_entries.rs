//! What the steps of a task tell the ledger.
//!
//! An upload or a report that has begun is noted in the task's own record first, so that whoever comes after a crash
//! knows of it and writes the line that is missing.

use std::io;

use super::report::of_record;
use super::uploads::Uploads;
use super::{StepError, TaskRunner};
use crate::ledger::{Direction, Entry, Ledger, Line, Outcome, Peer, Transfer};
use crate::task::record::{Record, TaskFiles, UploadEvent};

/// Why the end of an upload or a report isn't known.
pub(super) const INTERRUPTED: &str = "the agent was interrupted before it knew";

impl TaskRunner<'_> {
    /// Adds lines to the ledger. Nothing may go on as if they were there when they aren't.
    pub(super) fn enter(&self, entries: Vec<Entry>) -> Result<(), StepError> {
        if entries.is_empty() {
            return Ok(());
        }
        let peer = Peer { server: self.context.client.base_url(), service_id: self.context.client.service_id() };
        let lines: Vec<Line> = entries.into_iter().map(|entry| Line::now(&self.record.task.id, peer, entry)).collect();
        let written = self.files.with_reserve(|| self.context.ledger.append(&lines));
        written.map_err(|error| StepError::retry(format!("the ledger can't be written: {error}")))
    }

    /// Tells of a file that is sent, or was tried to be.
    pub(super) fn enter_upload(&self, uploads: &Uploads, transfer: Transfer) -> Result<(), StepError> {
        let attempt = transfer.file.as_ref().and_then(|file| uploads.attempts.get(file)).copied();
        self.enter(vec![Entry::File(Transfer { attempt, ..transfer })])
    }

    /// Tells of an upload that may or may not have arrived, and notes that this is told.
    pub(super) fn enter_doubt(&self, uploads: &mut Uploads, transfer: Transfer) -> Result<(), StepError> {
        let told = transfer.file.clone().map(|file| UploadEvent::Reported { file });
        self.enter_upload(uploads, transfer)?;
        self.note_all(uploads, told.into_iter().collect())
    }

    /// Tells of uploads whose end nobody has seen: there was a crash, or the ledger couldn't be written.
    pub(super) fn enter_interrupted(&self, uploads: &mut Uploads) -> Result<(), StepError> {
        self.enter(interrupted(uploads))?;
        self.note_all(uploads, told(uploads))
    }
}

/// Tells of what was under way when the agent ended whose task isn't worked on any more, such as another service's.
pub fn log_abandoned(ledger: &Ledger, files: &TaskFiles, record: &mut Record) -> io::Result<()> {
    let uploads = Uploads::from_events(files.load_uploads()?);
    let mut entries = interrupted(&uploads);
    if record.report_open {
        entries.extend(of_record(files, record, &uploads));
    }
    if entries.is_empty() {
        return Ok(());
    }
    let peer = Peer { server: &record.base_url, service_id: &record.service_id };
    let lines: Vec<Line> = entries.into_iter().map(|entry| Line::now(&record.task.id, peer, entry)).collect();
    files.with_reserve(|| ledger.append(&lines))?;
    files.append_uploads(&told(&uploads))?;
    record.report_open = false;
    files.save(record)
}

fn interrupted(uploads: &Uploads) -> Vec<Entry> {
    let entry = |(file, began): (&String, &Option<_>)| {
        Entry::File(Transfer {
            bytes: uploads.in_doubt.get(file).copied(),
            attempt: uploads.attempts.get(file).copied(),
            began: *began,
            reason: Some(INTERRUPTED.to_owned()),
            ..Transfer::new(Direction::Out, Outcome::Unknown, file)
        })
    };
    uploads.untold.iter().map(entry).collect()
}

fn told(uploads: &Uploads) -> Vec<UploadEvent> {
    uploads.untold.keys().map(|file| UploadEvent::Reported { file: file.clone() }).collect()
}
