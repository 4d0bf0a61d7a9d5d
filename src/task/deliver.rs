//! In which order what a task left is sent, and where the agent's own notes stand: [`super::upload`] sends one file, this
//! file says which is next.

use super::StepError;
use super::notes::{Notes, Stayed};
use super::outputs::OutputFile;
use super::outputs::sending::{ANSWER, SAME_AS_ANSWER};
use super::results::Results;
use super::upload::Upload;
use crate::config::OutputsConfig;
use crate::server::LeftOut;

/// Sends the results of a task that hasn't been cancelled, and ends the delivery. It is interrupted after a file that was
/// sent where `is_turn_over` says so.
pub fn deliver(
    mut upload: Upload<'_>,
    results: &Results,
    limits: &OutputsConfig,
    is_turn_over: impl Fn() -> bool,
) -> Result<(), StepError> {
    let notes = Notes::new(upload.task, limits, &results.left, upload.left_out().0);
    let (files, answers) = results.split();
    for file in files {
        upload.send(file)?;
        if upload.has_sent() && is_turn_over() {
            return Err(StepError::TurnOver);
        }
    }
    // Only then is it known what the Server doesn't take, and whether it has the answer, of which no copy is sent.
    upload.check_held()?;
    send_note(&mut upload, &notes, Notes::not_delivered)?;
    for answer in answers {
        upload.send(answer)?;
    }
    upload.check_held()?;
    send_note(&mut upload, &notes, |notes, _| notes.printed())?;
    if let Some(copy) = &results.copy {
        if upload.has(ANSWER) {
            upload.skip_equal(&copy.name, SAME_AS_ANSWER)?;
        } else {
            upload.send(copy)?;
            upload.check_held()?;
        }
    }
    // An answer that the Server doesn't take is known only now.
    send_note(&mut upload, &notes, Notes::not_delivered)?;
    send_note(&mut upload, &notes, Notes::failure)?;
    upload.finish(results.files.iter().chain(&results.copy))
}

fn send_note<'n>(
    upload: &mut Upload<'_>,
    notes: &Option<Notes<'n>>,
    note: impl FnOnce(&Notes<'n>, Stayed<'_>) -> Option<OutputFile>,
) -> Result<(), StepError> {
    let Some(notes) = notes.as_ref().filter(|_| !upload.is_cancelled()) else { return Ok(()) };
    let (left_out, unnamed) = upload.left_out();
    let missing: Vec<LeftOut> = left_out.iter().filter(|left| left.reason != SAME_AS_ANSWER).cloned().collect();
    match note(notes, Stayed { files: &missing, unnamed }) {
        Some(note) => upload.send_note(&note),
        None => Ok(()),
    }
}
